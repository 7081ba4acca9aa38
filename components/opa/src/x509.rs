//! `crypto.x509.*`: reads certificates and checks their chain.
//!
//! *Neighbours:* `form` is what a policy sees of a certificate. *Source:* OPA 1.4 `v1/topdown/crypto.go`.

mod form;

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pillion_security::{Certificate, pem};
use regorus::Value;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::functions::text;

/// Names of uses and the last number of their identifiers 1.3.6.1.5.5.7.3.x.
#[rustfmt::skip] // a table
const USES: &[(&str, usize)] = &[
    ("KeyUsageServerAuth",      1),
    ("KeyUsageClientAuth",      2),
    ("KeyUsageCodeSigning",     3),
    ("KeyUsageEmailProtection", 4),
    ("KeyUsageIPSECEndSystem",  5),
    ("KeyUsageIPSECTunnel",     6),
    ("KeyUsageIPSECUser",       7),
    ("KeyUsageTimeStamping",    8),
    ("KeyUsageOCSPSigning",     9),
];
/// The identifiers above without their last number.
const USE: [usize; 8] = [1, 3, 6, 1, 5, 5, 7, 3];
/// The identifier of a certificate for every use.
const ANY_USE: [usize; 5] = [2, 5, 29, 37, 0];

/// What a chain is checked for.
struct Check {
    dns_name: Option<String>,
    at: SystemTime,
    /// One of these is enough; `None` for any.
    uses: Option<Vec<usize>>,
}

impl Check {
    /// As a server's certificate, now.
    fn new() -> Self {
        Self { dns_name: None, at: SystemTime::now(), uses: Some(vec![1]) }
    }

    /// `None` for an unknown option or a wrong form.
    fn parse(options: &Value) -> Option<Self> {
        let mut check = Self::new();
        for (name, value) in options.as_object().ok()?.iter() {
            let Value::String(name) = name else { continue };
            match &**name {
                "DNSName" => check.dns_name = Some(value.as_string().ok()?.to_string()),
                "CurrentTime" => check.at = UNIX_EPOCH + Duration::from_nanos(value.as_u64().ok()?),
                // How names are compared has a limit of its own here.
                "MaxConstraintComparisons" => _ = value.as_i64().ok()?,
                "KeyUsages" => check.uses = uses(value)?,
                _ => return None,
            }
        }
        Some(check)
    }
}

/// Numbers of the uses; `Some(None)` when any will do.
fn uses(value: &Value) -> Option<Option<Vec<usize>>> {
    let names: Vec<&Value> = match value {
        Value::Array(names) => names.iter().collect(),
        Value::Set(names) => names.iter().collect(),
        _ => return None,
    };
    let mut numbers = Vec::new();
    for name in names {
        let name = name.as_string().ok()?;
        if **name == *"KeyUsageAny" {
            return Some(None);
        }
        numbers.push(USES.iter().find(|(known, _)| **known == **name)?.1);
    }
    Some(Some(if numbers.is_empty() { vec![1] } else { numbers }))
}

impl ExtendedKeyUsageValidator for &Check {
    fn validate(&self, found: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let Some(wanted) = &self.uses else { return Ok(()) };
        let mut is_limited = false;
        for id in found {
            is_limited = true;
            let id = id?.to_decoded_oid();
            if id == ANY_USE || matches!(id.split_last(), Some((last, start)) if start == USE && wanted.contains(last))
            {
                return Ok(());
            }
        }
        // Which error it is does not matter: the answer is only that the chain does not hold.
        if is_limited { Err(webpki::Error::ExtensionValueInvalid) } else { Ok(()) }
    }
}

/// `crypto.x509.parse_certificates`: a list of objects; undefined when there is no certificate to read.
pub(crate) fn parse_certificates(arguments: &[Value]) -> Option<Value> {
    let certificates = read(text(arguments, 0)?)?;
    Some(certificates.iter().map(|der| form::of(der)).collect::<Option<Vec<_>>>()?.into())
}

/// `crypto.x509.parse_and_verify_certificates`: root first, leaf last; `[true, chain]` with the leaf first, or `[false, []]`.
pub(crate) fn parse_and_verify(arguments: &[Value]) -> Option<Value> {
    Some(outcome(text(arguments, 0)?, &Check::new()))
}

/// The same with options: `DNSName`, `CurrentTime` (nanoseconds), `KeyUsages`.
pub(crate) fn parse_and_verify_with_options(arguments: &[Value]) -> Option<Value> {
    Some(outcome(text(arguments, 0)?, &Check::parse(arguments.get(1)?)?))
}

fn outcome(text: &str, check: &Check) -> Value {
    let chain = read(text).and_then(|certificates| verify(&certificates, check));
    let chain = chain.and_then(|chain| chain.iter().map(|der| form::of(der)).collect::<Option<Vec<_>>>());
    vec![chain.is_some().into(), chain.unwrap_or_default().into()].into()
}

/// DER of each certificate: PEM, or base64 of PEM or of one DER after the other.
fn read(text: &str) -> Option<Vec<Vec<u8>>> {
    if text.starts_with("-----BEGIN") {
        return from_pem(text.as_bytes());
    }
    let decoded = STANDARD.decode(text.replace(['\r', '\n'], "")).ok()?;
    if decoded.starts_with(b"-----BEGIN") {
        return from_pem(&decoded);
    }
    let mut rest = &decoded[..];
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        let (after, _) = form::parse(rest)?;
        certificates.push(rest[..rest.len() - after.len()].to_vec());
        rest = after;
    }
    Some(certificates)
}

fn from_pem(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let blocks = pem::decode(text).ok()?;
    let certificate = |block: pem::Block| (block.label == "CERTIFICATE").then_some(block.content);
    blocks.into_iter().map(certificate).collect()
}

/// The chain from the leaf to the root.
fn verify(certificates: &[Vec<u8>], check: &Check) -> Option<Vec<Vec<u8>>> {
    let [root, between @ .., leaf] = certificates else { return None };
    let anchor = Certificate::from_der(root).ok().filter(|root| root.may_sign() && root.is_valid_at(check.at))?;
    let root_der = CertificateDer::from(root.as_slice());
    let anchors = [webpki::anchor_from_trusted_cert(&root_der).ok()?];
    let between: Vec<_> = between.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let leaf_der = CertificateDer::from(leaf.as_slice());
    let entity = EndEntityCert::try_from(&leaf_der).ok()?;
    let at = UnixTime::since_unix_epoch(check.at.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let path = entity.verify_for_usage(algorithms, &anchors, &between, at, check, None, None).ok()?;
    if let Some(name) = &check.dns_name {
        entity.verify_is_valid_for_subject_name(&ServerName::try_from(name.as_str()).ok()?).ok()?;
    }
    let mut chain = vec![leaf.clone()];
    chain.extend(path.intermediate_certificates().map(|certificate| certificate.der().to_vec()));
    chain.push(anchor.der().to_vec());
    Some(chain)
}
