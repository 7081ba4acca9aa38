//! A JSON Web Key Set, and checking the signature of a compact token with it.
//!
//! *Source:* RFC 7515, 7517, 7518; as in the original a token must name its key, and the key decides on the algorithm.
//! *Invariant:* a public key never serves as a secret: the algorithm of the header must be one of the key's kind.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use pillion_security::jwk::PublicKey;
use ring::hmac;
use serde::Deserialize;

/// Keys by their id.
pub(super) struct Keys {
    keys: Vec<Key>,
    notes: Vec<String>,
}

struct Key {
    id: String,
    /// The only algorithm, when the set says so.
    algorithm: Option<String>,
    material: Material,
}

enum Material {
    Public(PublicKey),
    Secret(Vec<u8>),
}

/// Why a token's signature is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It names a key that is not in the set.
    UnknownKey,
    /// Anything else.
    Invalid,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
    k: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    crit: Option<serde_json::Value>,
}

impl Keys {
    /// Reads a key set, or a single key; keys of unknown kinds are left out and noted.
    ///
    /// # Errors
    /// A text when it is neither.
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        let jwks = match serde_json::from_slice::<Set>(document) {
            Ok(set) => set.keys,
            Err(error) => match serde_json::from_slice::<Jwk>(document) {
                Ok(key) if !key.kty.is_empty() => vec![key],
                _ => return Err(format!("not a JSON Web Key Set: {error}")),
            },
        };
        let mut keys = Vec::with_capacity(jwks.len());
        let mut notes = Vec::new();
        for jwk in jwks {
            if jwk.usage.as_deref().is_some_and(|usage| !usage.is_empty() && usage != "sig") {
                continue;
            }
            match material(&jwk) {
                Some(material) => {
                    let algorithm = jwk.alg.filter(|algorithm| !algorithm.is_empty());
                    keys.push(Key { id: jwk.kid, algorithm, material });
                }
                None => notes.push(format!(
                    "the key {:?} of kind {} {} is not usable; expected RSA, EC with P-256 or P-384, OKP with Ed25519, or oct",
                    jwk.kid, jwk.kty, jwk.crv
                )),
            }
        }
        Ok(Self { keys, notes })
    }

    /// What was left out of the set.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Checks the signature of a compact token and returns its payload.
    pub(super) fn verify(&self, token: &str) -> Result<Vec<u8>, Refused> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refused::Invalid)?;
        let (header, payload) = message.split_once('.').ok_or(Refused::Invalid)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Invalid);
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| Refused::Invalid)?;
        // Extensions that must be understood and are not.
        if header.kid.is_empty() || header.crit.is_some() {
            return Err(Refused::Invalid);
        }
        let mut found = Err(Refused::UnknownKey);
        for key in self.keys.iter().filter(|key| key.id == header.kid) {
            if key.accepts(&header.alg, message.as_bytes(), &signature) {
                return Ok(payload);
            }
            found = Err(Refused::Invalid);
        }
        found
    }
}

impl Key {
    fn accepts(&self, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
        if self.algorithm.as_deref().is_some_and(|only| only != algorithm) {
            return false;
        }
        match &self.material {
            Material::Public(key) => key.verify(algorithm, message, signed),
            Material::Secret(secret) => {
                let algorithm = match algorithm {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => return false,
                };
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signed).is_ok()
            }
        }
    }
}

fn material(jwk: &Jwk) -> Option<Material> {
    let bytes = |text: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
        (!decoded.is_empty()).then_some(decoded)
    };
    // ring wants numbers without zeros before them.
    let number = |text: &str| bytes(text).map(|all| all.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
    let coordinate = |text: &str, length: usize| number(text).filter(|number| number.len() <= length);
    let point = |curve: &str, length: usize| {
        let (x, y) = (coordinate(&jwk.x, length)?, coordinate(&jwk.y, length)?);
        Some(PublicKey::Ec { curve: curve.to_owned(), x, y })
    };
    let public = match (jwk.kty.as_str(), jwk.crv.as_str()) {
        ("RSA", _) => PublicKey::Rsa { modulus: number(&jwk.n)?, exponent: number(&jwk.e)? },
        ("EC", "P-256") => point("P-256", 32)?,
        ("EC", "P-384") => point("P-384", 48)?,
        ("OKP", "Ed25519") => PublicKey::Ed25519(bytes(&jwk.x).filter(|key| key.len() == 32)?),
        ("oct", _) => return bytes(&jwk.k).map(Material::Secret),
        _ => return None,
    };
    Some(Material::Public(public))
}

#[cfg(test)]
mod tests;
