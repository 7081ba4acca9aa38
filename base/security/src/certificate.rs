//! Certificates: read once, asked often.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::spiffe::SpiffeId;
use crate::{Error, pem};

/// A certificate with what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key_info: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    not_before: i64,
    not_after: i64,
    may_sign: bool,
    uris: Vec<String>,
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// When it is not a certificate, or more than one.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::Certificate(format!("not a certificate: {error}"));
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| invalid(&error))?;
        if !rest.is_empty() {
            return Err(invalid(&"bytes follow its end"));
        }
        let names = parsed.subject_alternative_name().map_err(|error| invalid(&error))?;
        let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        let authority =
            parsed.basic_constraints().map_err(|error| invalid(&error))?.is_some_and(|found| found.value.ca);
        let usage = parsed.key_usage().map_err(|error| invalid(&error))?;
        let subject_key_id = parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Self {
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            public_key_info: parsed.public_key().raw.to_vec(),
            subject_key_id,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            may_sign: authority && usage.is_none_or(|usage| usage.value.key_cert_sign()),
            uris: uris.collect(),
            der: der.to_vec(),
        })
    }

    /// Reads all certificates of a PEM text, in order; other blocks are skipped.
    ///
    /// # Errors
    /// When there is none, or one cannot be read.
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, Error> {
        let blocks = pem::decode(text)?;
        let certificates: Vec<Self> = blocks
            .iter()
            .filter(|block| block.label == "CERTIFICATE")
            .map(|block| Self::from_der(&block.content))
            .collect::<Result<_, _>>()?;
        if certificates.is_empty() {
            return Err(Error::Certificate("no certificate: expected PEM blocks CERTIFICATE".to_owned()));
        }
        Ok(certificates)
    }

    /// The certificate as a PEM block.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// The certificate as DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The name of its holder, as DER.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The public key of its holder (SubjectPublicKeyInfo).
    #[must_use]
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }

    /// The id of the holder's key, when the certificate tells it.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// The end of its validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.not_after).unwrap_or_default())
    }

    /// The beginning of its validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.not_before).unwrap_or_default())
    }

    /// Whether it may sign other certificates.
    #[must_use]
    pub fn may_sign(&self) -> bool {
        self.may_sign
    }

    /// The identity of its holder.
    ///
    /// # Errors
    /// When it has no URI, several, or one that is not a SPIFFE id of Dapr.
    pub fn spiffe_id(&self) -> Result<SpiffeId, Error> {
        match &self.uris[..] {
            [uri] => SpiffeId::parse(uri),
            other => Err(Error::Spiffe(format!("a certificate with {} URIs: expected one SPIFFE id", other.len()))),
        }
    }

    /// Whether `signer` may sign certificates and has signed this one.
    #[must_use]
    pub fn is_signed_by(&self, signer: &Self) -> bool {
        let check = || {
            let (_, parsed) = X509Certificate::from_der(&self.der).ok()?;
            let (_, signer) = X509Certificate::from_der(&signer.der).ok()?;
            parsed.verify_signature(Some(signer.public_key())).ok()
        };
        signer.may_sign && self.issuer == signer.subject && check().is_some()
    }

    /// Whether the time lies in its validity.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before() <= now && now <= self.not_after()
    }
}

/// The certificates as PEM blocks one after another.
#[must_use]
pub fn chain_to_pem(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::to_pem).collect()
}
