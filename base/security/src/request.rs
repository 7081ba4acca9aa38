//! Certificate signing requests: a client makes one for its key, sentry reads it.

use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::der;
use crate::{Error, PrivateKey, pem};

/// Makes a request without a name, as PEM: sentry takes names from the token, and the key from the request.
///
/// # Errors
/// When the system has no randomness.
pub fn make(key: &PrivateKey) -> Result<String, Error> {
    let info =
        der::sequence(&[&der::integer(&[0]), &der::sequence(&[]), &key.public_key_info(), &der::value(0xa0, &[])]);
    let signature = key.sign(&info)?;
    let request = der::sequence(&[&info, &key.signature_algorithm(), &der::bit_string(&signature)]);
    Ok(pem::encode("CERTIFICATE REQUEST", &request))
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not PEM of a request.
    #[error("invalid certificate signing request")]
    NotARequest,
    /// PEM, but not of what it says.
    #[error("failed to parse certificate signing request: {0}")]
    Unreadable(String),
    /// Not signed with the key it holds.
    #[error("invalid signature")]
    Signature,
}

/// The public key (SubjectPublicKeyInfo) of a request in PEM, after its signature was checked.
///
/// # Errors
/// Says which of the three steps failed. *Source:* the texts of the original.
pub fn public_key(text: &[u8]) -> Result<Vec<u8>, RequestError> {
    let block = pem::decode(text).ok().and_then(|blocks| blocks.into_iter().next()).ok_or(RequestError::NotARequest)?;
    // Clients before 1.12 wrote the second word.
    if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "CERTIFICATE") {
        return Err(RequestError::NotARequest);
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.content)
        .map_err(|error| RequestError::Unreadable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(RequestError::Unreadable("bytes follow its end".to_owned()));
    }
    request.verify_signature().map_err(|_| RequestError::Signature)?;
    Ok(request.certification_request_info.subject_pki.raw.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gives_its_key() {
        for key in [PrivateKey::generate().unwrap(), PrivateKey::generate_p256().unwrap()] {
            let text = make(&key).unwrap();
            assert_eq!(public_key(text.as_bytes()).unwrap(), key.public_key_info());
        }
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let text = make(&key).unwrap();
        let mut request = pem::decode(text.as_bytes()).unwrap().remove(0).content;
        let place = request.windows(32).position(|bytes| bytes == key.public_bytes()).unwrap();
        request[place..place + 32].copy_from_slice(other.public_bytes());
        let forged = pem::encode("CERTIFICATE REQUEST", &request);
        assert_eq!(public_key(forged.as_bytes()), Err(RequestError::Signature));
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(public_key(b""), Err(RequestError::NotARequest));
        assert_eq!(public_key(key_pem().as_bytes()), Err(RequestError::NotARequest));
        let junk = pem::encode("CERTIFICATE REQUEST", b"junk");
        assert!(matches!(public_key(junk.as_bytes()), Err(RequestError::Unreadable(_))));
    }

    fn key_pem() -> String {
        PrivateKey::generate().unwrap().to_pem()
    }
}
