//! Makes certificates: a root, an issuer under it, and workload certificates (SVIDs) under the issuer.
//!
//! *Source:* spec internals.md §5.4 for names, usages and lifetimes.

use std::time::{Duration, SystemTime};

use ring::digest;
use time::OffsetDateTime;

use crate::der::{
    self, BOOLEAN, GENERALIZED_TIME, OCTET_STRING, PRINTABLE_STRING, SEQUENCE, SET, UTC_TIME, UTF8_STRING,
};
use crate::key::random;
use crate::spiffe::SpiffeId;
use crate::{Certificate, Error, PrivateKey};

const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTHENTICATION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTHENTICATION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// digitalSignature, keyCertSign (two bits unused).
const ROOT_USAGE: &[u8] = &[0x03, 2, 2, 0x84];
/// digitalSignature, keyCertSign, cRLSign (one bit unused).
const ISSUER_USAGE: &[u8] = &[0x03, 2, 1, 0x86];
/// digitalSignature (seven bits unused).
const LEAF_USAGE: &[u8] = &[0x03, 2, 7, 0x80];
const KEY_ID_BYTES: usize = 20;

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The time it is made.
    pub now: SystemTime,
    /// How long it holds from then.
    pub ttl: Duration,
    /// How long it holds before, for clocks that are behind.
    pub clock_skew: Duration,
}

/// Who signs.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// Its certificate.
    pub certificate: &'a Certificate,
    /// The key of that certificate.
    pub key: &'a PrivateKey,
}

/// A root that signs itself, with the organization `trust_domain`.
///
/// # Errors
/// When the system has no randomness.
pub fn root(key: &PrivateKey, trust_domain: &str, validity: Validity) -> Result<Certificate, Error> {
    let name = organization(trust_domain);
    let public = key.public_key_info();
    let extensions = [
        extension(KEY_USAGE, true, ROOT_USAGE),
        authority(),
        extension(SUBJECT_KEY_ID, false, &der::value(OCTET_STRING, &key_id(&public))),
    ];
    sign(key, &name, &name, &public, validity, &extensions.concat())
}

/// An issuer under a root, with the organization `organization_name`.
///
/// # Errors
/// When the system has no randomness.
pub fn issuer(
    public: &[u8],
    organization_name: &str,
    signer: Signer<'_>,
    validity: Validity,
) -> Result<Certificate, Error> {
    let extensions = [
        extension(KEY_USAGE, true, ISSUER_USAGE),
        authority(),
        extension(SUBJECT_KEY_ID, false, &der::value(OCTET_STRING, &key_id(public))),
        authority_key_id(signer.certificate),
    ];
    let subject = organization(organization_name);
    sign(signer.key, signer.certificate.subject(), &subject, public, validity, &extensions.concat())
}

/// A workload certificate: no name but the SPIFFE id and the DNS names.
///
/// # Errors
/// When the system has no randomness.
pub fn workload(
    public: &[u8],
    id: &SpiffeId,
    dns_names: &[String],
    signer: Signer<'_>,
    validity: Validity,
) -> Result<Certificate, Error> {
    let dns = dns_names.iter().flat_map(|name| der::value(0x82, name.as_bytes()));
    let names: Vec<u8> = dns.chain(der::value(0x86, id.to_string().as_bytes())).collect();
    let usages = der::sequence(&[&der::oid(SERVER_AUTHENTICATION), &der::oid(CLIENT_AUTHENTICATION)]);
    let extensions = [
        extension(KEY_USAGE, true, LEAF_USAGE),
        extension(EXTENDED_KEY_USAGE, false, &usages),
        authority_key_id(signer.certificate),
        // Critical, because the certificate has no other name.
        extension(SUBJECT_ALTERNATIVE_NAME, true, &der::value(SEQUENCE, &names)),
    ];
    sign(signer.key, signer.certificate.subject(), &der::sequence(&[]), public, validity, &extensions.concat())
}

fn sign(
    key: &PrivateKey,
    issuer: &[u8],
    subject: &[u8],
    public: &[u8],
    validity: Validity,
    extensions: &[u8],
) -> Result<Certificate, Error> {
    let algorithm = key.signature_algorithm();
    let mut serial: [u8; 16] = random()?;
    serial[0] |= 1; // never zero
    let from = validity.now.checked_sub(validity.clock_skew).unwrap_or(validity.now);
    let period = der::sequence(&[&time(from)?, &time(validity.now + validity.ttl)?]);
    let signed = der::sequence(&[
        &der::value(0xa0, &der::integer(&[2])),
        &der::integer(&serial),
        &algorithm,
        issuer,
        &period,
        subject,
        public,
        &der::value(0xa3, &der::value(SEQUENCE, extensions)),
    ]);
    let signature = key.sign(&signed)?;
    Certificate::from_der(&der::sequence(&[&signed, &algorithm, &der::bit_string(&signature)]))
}

fn extension(oid: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical = if critical { der::value(BOOLEAN, &[0xff]) } else { Vec::new() };
    der::sequence(&[&der::oid(oid), &critical, &der::value(OCTET_STRING, content)])
}

fn authority() -> Vec<u8> {
    extension(BASIC_CONSTRAINTS, true, &der::sequence(&[&der::value(BOOLEAN, &[0xff])]))
}

fn authority_key_id(signer: &Certificate) -> Vec<u8> {
    let id = signer.subject_key_id();
    id.map(|id| extension(AUTHORITY_KEY_ID, false, &der::sequence(&[&der::value(0x80, id)]))).unwrap_or_default()
}

fn key_id(public: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, public).as_ref()[..KEY_ID_BYTES].to_vec()
}

/// A name with one organization, as the original writes it.
fn organization(name: &str) -> Vec<u8> {
    let printable = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
    let text = der::value(if printable { PRINTABLE_STRING } else { UTF8_STRING }, name.as_bytes());
    let attribute = der::sequence(&[&der::oid(ORGANIZATION), &text]);
    der::sequence(&[&der::value(SET, &attribute)])
}

/// A point in time; certificates write years before 2050 with two digits.
fn time(at: SystemTime) -> Result<Vec<u8>, Error> {
    let at = OffsetDateTime::from(at);
    let rest =
        format!("{:02}{:02}{:02}{:02}{:02}Z", u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second());
    match at.year() {
        year @ 1950..2050 => Ok(der::value(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes())),
        year @ 2050..=9999 => Ok(der::value(GENERALIZED_TIME, format!("{year}{rest}").as_bytes())),
        year => Err(Error::Certificate(format!(
            "a certificate cannot name the year {year}; check the clock and the lifetime"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrustDomain;

    fn validity() -> Validity {
        let (ttl, clock_skew) = (Duration::from_secs(3600), Duration::from_secs(60));
        Validity { now: SystemTime::now(), ttl, clock_skew }
    }

    #[test]
    fn a_chain_holds_for_every_kind_of_key() {
        let keys = [
            PrivateKey::generate().unwrap(),
            PrivateKey::generate_p256().unwrap(),
            PrivateKey::generate_rsa().unwrap(),
        ];
        for key in &keys {
            let root = root(key, "example.org", validity()).unwrap();
            assert!(root.is_signed_by(&root) && root.may_sign());
            let issuer_key = PrivateKey::generate().unwrap();
            let signer = Signer { certificate: &root, key };
            let issuer = issuer(&issuer_key.public_key_info(), "spiffe://a/ns/b/c_d", signer, validity()).unwrap();
            assert!(issuer.is_signed_by(&root) && issuer.may_sign() && !issuer.is_signed_by(&issuer));
            let id = SpiffeId::new(TrustDomain::public(), "default", "app").unwrap();
            let signer = Signer { certificate: &issuer, key: &issuer_key };
            let leaf = workload(&keys[0].public_key_info(), &id, &["a.svc".to_owned()], signer, validity()).unwrap();
            assert!(leaf.is_signed_by(&issuer) && !leaf.may_sign() && !leaf.is_signed_by(&root));
            assert_eq!(leaf.spiffe_id().unwrap(), id);
            assert_eq!(leaf.public_key_info(), keys[0].public_key_info());
        }
    }

    #[test]
    fn the_validity_is_told() {
        let key = PrivateKey::generate().unwrap();
        let validity = Validity { ttl: Duration::from_secs(40 * 365 * 86_400), ..validity() };
        let root = root(&key, "a", validity).unwrap();
        let second = Duration::from_secs(1);
        assert!(root.is_valid_at(validity.now - Duration::from_secs(59)) && root.is_valid_at(validity.now));
        assert!(!root.is_valid_at(validity.now - Duration::from_secs(62)));
        assert!(
            root.not_after() + second >= validity.now + validity.ttl && root.not_after() <= validity.now + validity.ttl
        );
    }
}
