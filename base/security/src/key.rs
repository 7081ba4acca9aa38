//! Private keys: Ed25519, ECDSA on P-256 and P-384, RSA. Reads every usual PEM form, writes PKCS#8.

use std::fmt;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::rand_core::OsRng;

use crate::der::{self, INTEGER, OCTET_STRING};
use crate::{Error, pem};

const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const NULL: &[u8] = &[0x05, 0x00];
/// *Source:* the original's signing key of tokens.
const RSA_BITS: usize = 2048;

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 to 4096 bits.
    Rsa,
}

/// A private key. Clones share it; `Debug` does not show it.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Arc<[u8]>,
    pair: Arc<Pair>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa { kind: KeyKind, asn1: EcdsaKeyPair, fixed: Box<EcdsaKeyPair> },
    Rsa(RsaKeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?})", self.kind())
    }
}

impl PrivateKey {
    /// Makes an Ed25519 key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, Error> {
        let seed: [u8; 32] = random()?;
        let inner = der::value(OCTET_STRING, &der::value(OCTET_STRING, &seed));
        Self::from_pkcs8(&der::sequence(&[ZERO, &algorithm(ED25519, &[]), &inner]))
    }

    /// Makes an ECDSA key on P-256.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate_p256() -> Result<Self, Error> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| no_randomness())?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Makes an RSA key of 2048 bits; takes up to some seconds, so it belongs on a thread for blocking work.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate_rsa() -> Result<Self, Error> {
        let key = rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|error| Error::Key(error.to_string()))?;
        let pkcs1 = key.to_pkcs1_der().map_err(|error| Error::Key(error.to_string()))?;
        Self::from_pkcs8(&wrap(&algorithm(RSA, NULL), pkcs1.as_bytes()))
    }

    /// Reads the first private key of a PEM text: PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
    ///
    /// # Errors
    /// Names the block that was found and the accepted ones.
    pub fn from_pem(text: &[u8]) -> Result<Self, Error> {
        let blocks = pem::decode(text)?;
        let block = blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY")).ok_or_else(|| {
            Error::Key("no private key: expected a PEM block PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY".to_owned())
        })?;
        match block.label.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(&block.content),
            "RSA PRIVATE KEY" => Self::from_pkcs8(&wrap(&algorithm(RSA, NULL), &block.content)),
            "EC PRIVATE KEY" => [P256, P384]
                .iter()
                .find_map(|curve| Self::from_pkcs8(&wrap(&ec_algorithm(curve), &block.content)).ok())
                .ok_or_else(|| Error::Key("an EC private key of another curve than P-256 and P-384".to_owned())),
            other => {
                Err(Error::Key(format!("a private key in a PEM block {other:?}: expected one without a password")))
            }
        }
    }

    /// Reads PKCS#8.
    ///
    /// # Errors
    /// When it is none of the kinds of [`KeyKind`].
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Error> {
        let pair = Self::pair(pkcs8).ok_or_else(|| {
            Error::Key(
                "a private key that is not Ed25519, ECDSA on P-256 or P-384, or RSA of 2048 to 4096 bits".to_owned(),
            )
        })?;
        Ok(Self { pkcs8: pkcs8.into(), pair: Arc::new(pair) })
    }

    fn pair(pkcs8: &[u8]) -> Option<Pair> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            return Some(Pair::Ed25519(pair));
        }
        if let Ok(pair) = RsaKeyPair::from_pkcs8(pkcs8) {
            return Some(Pair::Rsa(pair));
        }
        let random = SystemRandom::new();
        let curves = [
            (KeyKind::P256, &ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (KeyKind::P384, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING),
        ];
        curves.into_iter().find_map(|(kind, asn1, fixed)| {
            let asn1 = EcdsaKeyPair::from_pkcs8(asn1, pkcs8, &random).ok()?;
            let fixed = EcdsaKeyPair::from_pkcs8(fixed, pkcs8, &random).ok()?;
            Some(Pair::Ecdsa { kind, asn1, fixed: Box::new(fixed) })
        })
    }

    /// What the key is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        match &*self.pair {
            Pair::Ed25519(_) => KeyKind::Ed25519,
            Pair::Ecdsa { kind, .. } => *kind,
            Pair::Rsa(_) => KeyKind::Rsa,
        }
    }

    /// The key as PKCS#8.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key as a PEM block `PRIVATE KEY`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The public key as it stands in certificates (SubjectPublicKeyInfo).
    #[must_use]
    pub fn public_key_info(&self) -> Vec<u8> {
        let algorithm = match self.kind() {
            KeyKind::Ed25519 => algorithm(ED25519, &[]),
            KeyKind::P256 => ec_algorithm(P256),
            KeyKind::P384 => ec_algorithm(P384),
            KeyKind::Rsa => algorithm(RSA, NULL),
        };
        der::sequence(&[&algorithm, &der::bit_string(self.public_bytes())])
    }

    /// The bare public key: 32 bytes, a point, or PKCS#1.
    #[must_use]
    pub fn public_bytes(&self) -> &[u8] {
        match &*self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa { asn1, .. } => asn1.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public().as_ref(),
        }
    }

    /// The algorithm certificates name for signatures of this key.
    pub(crate) fn signature_algorithm(&self) -> Vec<u8> {
        match self.kind() {
            KeyKind::Ed25519 => algorithm(ED25519, &[]),
            KeyKind::P256 => algorithm(ECDSA_SHA256, &[]),
            KeyKind::P384 => algorithm(ECDSA_SHA384, &[]),
            KeyKind::Rsa => algorithm(RSA_SHA256, NULL),
        }
    }

    /// Signs as certificates are signed.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &*self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa { asn1, .. } => ecdsa(asn1, message),
            Pair::Rsa(_) => self.sign_token("RS256", message),
        }
    }

    /// Whether the key can make signatures of a JSON Web Algorithm.
    #[must_use]
    pub fn suits(&self, algorithm: &str) -> bool {
        match self.kind() {
            KeyKind::Ed25519 => algorithm == "EdDSA",
            KeyKind::P256 => algorithm == "ES256",
            KeyKind::P384 => algorithm == "ES384",
            KeyKind::Rsa => matches!(algorithm, "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512"),
        }
    }

    /// Signs as tokens are signed.
    pub(crate) fn sign_token(&self, algorithm: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
        if !self.suits(algorithm) {
            return Err(Error::Key(format!("a key of kind {:?} cannot sign with {algorithm}", self.kind())));
        }
        match &*self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa { fixed, .. } => ecdsa(fixed, message),
            Pair::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut out).map_err(|_| no_randomness())?;
                Ok(out)
            }
        }
    }
}

const ZERO: &[u8] = &[INTEGER, 1, 0];

fn ecdsa(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>, Error> {
    pair.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec()).map_err(|_| no_randomness())
}

fn algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::oid(oid), parameters])
}

fn ec_algorithm(curve: &[u8]) -> Vec<u8> {
    algorithm(EC, &der::oid(curve))
}

/// PKCS#8 around a key of an older form.
fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    der::sequence(&[ZERO, algorithm, &der::value(OCTET_STRING, key)])
}

fn no_randomness() -> Error {
    Error::Key("the system gives no random numbers".to_owned())
}

/// Bytes nobody can guess.
///
/// # Errors
/// When the system has no randomness.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| no_randomness())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_pem() {
        for key in [PrivateKey::generate().unwrap(), PrivateKey::generate_p256().unwrap()] {
            let again = PrivateKey::from_pem(key.to_pem().as_bytes()).unwrap();
            assert_eq!(again.kind(), key.kind());
            assert_eq!(again.public_key_info(), key.public_key_info());
        }
    }

    #[test]
    fn older_forms_are_read() {
        // The inner key of PKCS#8 is the older form itself.
        let rsa = PrivateKey::generate_rsa().unwrap();
        let pkcs1 = &rsa.pkcs8()[26..];
        let text = pem::encode("RSA PRIVATE KEY", pkcs1);
        assert_eq!(PrivateKey::from_pem(text.as_bytes()).unwrap().public_bytes(), rsa.public_bytes());
        let ec = PrivateKey::generate_p256().unwrap();
        let text = pem::encode("EC PRIVATE KEY", &ec.pkcs8()[29..]);
        assert_eq!(PrivateKey::from_pem(text.as_bytes()).unwrap().public_bytes(), ec.public_bytes());
    }

    #[test]
    fn other_keys_are_refused_and_none_is_shown() {
        assert!(PrivateKey::from_pem(b"").unwrap_err().to_string().contains("no private key"));
        let locked = pem::encode("ENCRYPTED PRIVATE KEY", b"x");
        assert!(PrivateKey::from_pem(locked.as_bytes()).unwrap_err().to_string().contains("password"));
        assert!(PrivateKey::from_pem(pem::encode("PRIVATE KEY", b"x").as_bytes()).is_err());
        assert_eq!(format!("{:?}", PrivateKey::generate().unwrap()), "PrivateKey(Ed25519)");
    }
}
