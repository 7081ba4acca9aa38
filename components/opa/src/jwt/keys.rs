//! The keys a policy gives: a certificate or public key in PEM, a JSON Web Key, or a set of them.

use base64::Engine as _;
use pillion_security::jwk::{JwkSet, PublicKey};
use pillion_security::{Certificate, pem};
use ring::hmac;
use serde_json::Value as Json;

use super::{BASE64, Header};

/// What signatures are checked with.
pub(super) enum Material {
    Public(PublicKey),
    Secret(Vec<u8>),
}

/// A key and what its set says of it.
pub(super) struct Key {
    id: String,
    /// Empty when it says nothing.
    algorithm: String,
    material: Material,
}

impl Material {
    /// Whether this key signed the message with the algorithm; never with an algorithm of another kind of key.
    pub(super) fn signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify(algorithm, message, signature),
            Self::Secret(secret) => {
                let algorithm = match algorithm {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => return false,
                };
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok()
            }
        }
    }
}

/// Reads keys; `None` for a text that is none of the forms.
pub(super) fn read(text: &str) -> Option<Vec<Key>> {
    if text.contains("-----BEGIN ") {
        let blocks = pem::decode(text.as_bytes()).ok()?;
        let [block] = &blocks[..] else { return None };
        let public = match block.label.as_str() {
            "CERTIFICATE" => PublicKey::from_info(Certificate::from_der(&block.content).ok()?.public_key_info())?,
            "PUBLIC KEY" => PublicKey::from_info(&block.content)?,
            _ => return None,
        };
        return Some(vec![Key { id: String::new(), algorithm: String::new(), material: Material::Public(public) }]);
    }
    let json: Json = serde_json::from_str(text).ok()?;
    match json.get("keys") {
        Some(Json::Array(keys)) => keys.iter().map(web_key).collect(),
        Some(_) => None,
        None => Some(vec![web_key(&json)?]),
    }
}

fn web_key(json: &Json) -> Option<Key> {
    let text = |name: &str| json.get(name).and_then(Json::as_str);
    let material = if text("kty") == Some("oct") {
        Material::Secret(BASE64.decode(text("k")?).ok()?)
    } else {
        let set = JwkSet::parse(json.to_string().as_bytes()).ok()?;
        Material::Public(set.keys.first()?.public_key().clone())
    };
    let owned = |name: &str| text(name).unwrap_or_default().to_owned();
    Some(Key { id: owned("kid"), algorithm: owned("alg"), material })
}

/// Whether the key the token names signed it; when the set has no key of that name, whether any key did whose algorithm is
/// that of the token.
pub(super) fn any_signed(keys: &[Key], header: &Header<'_>, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
    let signed = |key: &Key| key.material.signed(algorithm, message, signature);
    if !header.key_id.is_empty()
        && let Some(key) = keys.iter().find(|key| key.id == header.key_id)
    {
        return signed(key);
    }
    keys.iter().any(|key| (key.algorithm.is_empty() || key.algorithm == header.algorithm) && signed(key))
}
