//! JSON Web Keys: the public half of a key, its thumbprint, and sets of them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use ring::digest;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Value as Json, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::key::KeyKind;
use crate::{Error, PrivateKey};

/// A public key of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// `kid`.
    pub key_id: Option<String>,
    /// `alg`.
    pub algorithm: Option<String>,
    /// `use`.
    pub usage: Option<String>,
    material: PublicKey,
}

/// The numbers of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Both without zeros before them.
    Rsa {
        /// `n`.
        modulus: Vec<u8>,
        /// `e`.
        exponent: Vec<u8>,
    },
    /// A point of a curve; zeros before its numbers may be missing.
    Ec {
        /// `P-256` or `P-384`.
        curve: String,
        /// `x`.
        x: Vec<u8>,
        /// `y`.
        y: Vec<u8>,
    },
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// A kind that signs nothing we check.
    Other,
}

impl PublicKey {
    /// The key of a SubjectPublicKeyInfo; `None` for bytes that are none.
    #[must_use]
    pub fn from_info(der: &[u8]) -> Option<Self> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let bytes: &[u8] = &info.subject_public_key.data;
        let parameters = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let found = match info.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => rsa_numbers(bytes),
            "1.3.101.112" => Self::Ed25519(bytes.to_vec()),
            "1.2.840.10045.2.1" => match parameters.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") if bytes.len() == 65 => point("P-256", bytes),
                Some("1.3.132.0.34") if bytes.len() == 97 => point("P-384", bytes),
                _ => Self::Other,
            },
            _ => Self::Other,
        };
        Some(found)
    }

    /// Whether `signature` is this key's over `message`, made with `algorithm` (RFC 7518). An algorithm of another kind of
    /// key is never accepted.
    #[must_use]
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { modulus, exponent } => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature).is_ok()
            }
            Self::Ec { curve, x, y } => {
                let (parameters, size) = match (algorithm, curve.as_str()) {
                    ("ES256", "P-256") => (&signature::ECDSA_P256_SHA256_FIXED, 32),
                    ("ES384", "P-384") => (&signature::ECDSA_P384_SHA384_FIXED, 48),
                    _ => return false,
                };
                let point = [&[4], &padded(x, size)[..], &padded(y, size)[..]].concat();
                UnparsedPublicKey::new(parameters, point).verify(message, signature).is_ok()
            }
            Self::Ed25519(x) => {
                algorithm == "EdDSA"
                    && UnparsedPublicKey::new(&signature::ED25519, x).verify(message, signature).is_ok()
            }
            Self::Other => false,
        }
    }
}

/// A set of public keys (JWKS).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwkSet {
    /// The keys, in order.
    pub keys: Vec<Jwk>,
}

impl Jwk {
    /// The public half of a private key, without id.
    #[must_use]
    pub fn of(key: &PrivateKey) -> Self {
        let bytes = key.public_bytes();
        let material = match key.kind() {
            KeyKind::Ed25519 => PublicKey::Ed25519(bytes.to_vec()),
            KeyKind::P256 => point("P-256", bytes),
            KeyKind::P384 => point("P-384", bytes),
            KeyKind::Rsa => rsa_numbers(bytes),
        };
        Self { key_id: None, algorithm: None, usage: None, material }
    }

    /// Base64 of the SHA-256 thumbprint (RFC 7638), the `kid` the original gives its own key.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // The members the RFC names, sorted, without spaces: what a sorted map prints.
        let text = json!(self.members()).to_string();
        STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
    }

    fn members(&self) -> BTreeMap<&'static str, String> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.material {
            PublicKey::Rsa { modulus, exponent } => {
                BTreeMap::from([("e", encode(exponent)), ("kty", "RSA".to_owned()), ("n", encode(modulus))])
            }
            PublicKey::Ec { curve, x, y } => {
                BTreeMap::from([("crv", curve.clone()), ("kty", "EC".to_owned()), ("x", encode(x)), ("y", encode(y))])
            }
            PublicKey::Ed25519(x) => {
                BTreeMap::from([("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", encode(x))])
            }
            PublicKey::Other => BTreeMap::new(),
        }
    }

    /// The key as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut members: BTreeMap<&str, &str> = BTreeMap::new();
        let own = self.members();
        members.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
        members.extend(self.key_id.as_deref().map(|value| ("kid", value)));
        members.extend(self.algorithm.as_deref().map(|value| ("alg", value)));
        members.extend(self.usage.as_deref().map(|value| ("use", value)));
        json!(members)
    }

    /// The numbers of the key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.material
    }

    /// Whether both are the same key, whatever they are called.
    #[must_use]
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.material != PublicKey::Other && self.material == other.material
    }

    /// Whether the key may check signatures.
    #[must_use]
    pub fn is_for_signatures(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
    }

    /// Whether `signature` is this key's over `message`, made with `algorithm`.
    pub(crate) fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        self.is_for_signatures()
            && self.algorithm.as_deref().is_none_or(|own| own == algorithm)
            && self.material.verify(algorithm, message, signature)
    }

    fn from_json(json: &Json) -> Result<Self, Error> {
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        let bytes = |name: &str| {
            let value = text(name).ok_or_else(|| Error::Token(format!("a key of the JWKS has no {name:?}")))?;
            URL_SAFE_NO_PAD
                .decode(value)
                .or_else(|_| URL_SAFE.decode(value))
                .map_err(|error| Error::Token(format!("{name:?} of a key of the JWKS is not base64url: {error}")))
        };
        let kind = text("kty").ok_or_else(|| Error::Token("a key of the JWKS has no \"kty\"".to_owned()))?;
        let material = match (kind, text("crv").unwrap_or_default()) {
            ("RSA", _) => PublicKey::Rsa { modulus: unpadded(bytes("n")?), exponent: unpadded(bytes("e")?) },
            ("EC", curve @ ("P-256" | "P-384")) => {
                PublicKey::Ec { curve: curve.to_owned(), x: bytes("x")?, y: bytes("y")? }
            }
            ("OKP", "Ed25519") => PublicKey::Ed25519(bytes("x")?),
            _ => PublicKey::Other,
        };
        let owned = |name: &str| text(name).map(str::to_owned);
        Ok(Self { key_id: owned("kid"), algorithm: owned("alg"), usage: owned("use"), material })
    }
}

impl JwkSet {
    /// Reads a set, or a single key.
    ///
    /// # Errors
    /// When it is not JSON of one.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let json: Json =
            serde_json::from_slice(text).map_err(|error| Error::Token(format!("failed to parse JWKS: {error}")))?;
        let keys = match json.get("keys") {
            Some(Json::Array(keys)) => keys.iter().map(Jwk::from_json).collect::<Result<_, _>>()?,
            Some(_) => return Err(Error::Token("failed to parse JWKS: \"keys\" is not a list".to_owned())),
            None => vec![Jwk::from_json(&json)?],
        };
        Ok(Self { keys })
    }

    /// The set as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({"keys": self.keys.iter().map(Jwk::to_json).collect::<Vec<_>>()}).to_string()
    }
}

/// The two numbers of an uncompressed point.
fn point(curve: &str, bytes: &[u8]) -> PublicKey {
    let numbers = bytes.get(1..).unwrap_or_default();
    let (x, y) = numbers.split_at(numbers.len() / 2);
    PublicKey::Ec { curve: curve.to_owned(), x: x.to_vec(), y: y.to_vec() }
}

/// The two numbers of a PKCS#1 public key.
fn rsa_numbers(bytes: &[u8]) -> PublicKey {
    let parsed = ring::signature::RsaPublicKeyComponents::<Vec<u8>>::from(&PublicRsa(bytes));
    PublicKey::Rsa { modulus: parsed.n, exponent: parsed.e }
}

/// PKCS#1: a SEQUENCE of two INTEGERs.
struct PublicRsa<'a>(&'a [u8]);

impl From<&PublicRsa<'_>> for RsaPublicKeyComponents<Vec<u8>> {
    fn from(key: &PublicRsa<'_>) -> Self {
        let (body, _) = content(key.0);
        let (n, rest) = content(body);
        let (e, _) = content(rest);
        Self { n: unpadded(n.to_vec()), e: unpadded(e.to_vec()) }
    }
}

/// The content of the first DER value, and what follows it; empty for bytes that are none.
fn content(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some(&first) = bytes.get(1) else { return (&[], &[]) };
    let digits = if first & 0x80 == 0 { 0 } else { usize::from(first & 0x7f) };
    let length = match bytes.get(2..2 + digits) {
        Some(_) if digits == 0 => usize::from(first),
        Some(long) if digits <= 4 => long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        _ => return (&[], &[]),
    };
    let start = 2 + digits;
    match bytes.get(start..start + length) {
        Some(found) => (found, &bytes[start + length..]),
        None => (&[], &[]),
    }
}

fn unpadded(bytes: Vec<u8>) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    bytes[start..].to_vec()
}

fn padded(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![0; size.saturating_sub(bytes.len())];
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        // RFC 7638 §3.1.
        let text = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
        let set = JwkSet::parse(text.as_bytes()).unwrap();
        let expected = URL_SAFE_NO_PAD.decode("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs").unwrap();
        assert_eq!(set.keys[0].thumbprint(), STANDARD.encode(expected));
    }

    #[test]
    fn sets_survive_json() {
        for key in
            [PrivateKey::generate().unwrap(), PrivateKey::generate_p256().unwrap(), PrivateKey::generate_rsa().unwrap()]
        {
            let mut jwk = Jwk::of(&key);
            jwk.key_id = Some("one".to_owned());
            let set = JwkSet { keys: vec![jwk.clone()] };
            let again = JwkSet::parse(set.to_json().as_bytes()).unwrap();
            assert_eq!(again, set);
            assert!(again.keys[0].is_same_key(&Jwk::of(&key)));
            assert_eq!(PublicKey::from_info(&key.public_key_info()).as_ref(), Some(jwk.public_key()));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "{}", "[]", r#"{"keys":1}"#, r#"{"keys":[{}]}"#, r#"{"kty":"RSA","n":"!"}"#] {
            assert!(JwkSet::parse(text.as_bytes()).is_err(), "{text}");
        }
        let unknown = JwkSet::parse(br#"{"keys":[{"kty":"oct","k":"AA"}]}"#).unwrap();
        assert!(!unknown.keys[0].is_same_key(&unknown.keys[0]));
        assert!(JwkSet::parse(br#"{"keys":[]}"#).unwrap().keys.is_empty());
        assert_eq!(PublicKey::from_info(b"no"), None);
    }
}
