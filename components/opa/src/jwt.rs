//! `io.jwt.*`: decodes tokens and checks their signatures and claims.
//!
//! *Neighbours:* `keys` reads what a policy gives as keys, `constraints` is `io.jwt.decode_verify`. *Source:* OPA 1.4
//! `v1/topdown/tokens.go`. *Difference:* keys of P-521 (ES512) verify nothing, since `ring` does not know the curve.

mod constraints;
mod keys;

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use regorus::Value;

use crate::functions::{field, hex, text};

pub(crate) use constraints::decode_verify;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Tokens within tokens; the original has no limit.
const NESTING_MAX: usize = 8;

/// A token taken apart.
struct Token<'a> {
    header: Value,
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// What is signed.
    message: &'a [u8],
}

/// What the header of a token says.
struct Header<'a> {
    algorithm: &'a str,
    key_id: &'a str,
    content_type: &'a str,
    /// It asks for something nobody here understands.
    is_critical: bool,
}

impl<'a> Token<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        let mut parts = token.split('.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            header: object(&BASE64.decode(header).ok()?)?,
            payload: BASE64.decode(payload).ok()?,
            signature: BASE64.decode(signature).ok()?,
            message: &token.as_bytes()[..header.len() + 1 + payload.len()],
        })
    }

    /// `None` when a field has a wrong form.
    fn header(&self) -> Option<Header<'_>> {
        let text = |name: &str| match field(&self.header, name) {
            None => Some(""),
            Some(Value::String(text)) => Some(&**text),
            Some(_) => None,
        };
        text("typ")?;
        let mut is_critical = false;
        if let Some(critical) = field(&self.header, "crit") {
            let names = critical.as_array().ok().filter(|names| !names.is_empty())?;
            let known = ["alg", "kid", "typ", "cty", "crit"].map(Value::from);
            is_critical = names.iter().any(|name| !known.contains(name) && has(&self.header, name));
        }
        Some(Header { algorithm: text("alg")?, key_id: text("kid")?, content_type: text("cty")?, is_critical })
    }
}

fn has(object: &Value, name: &Value) -> bool {
    object.as_object().is_ok_and(|fields| fields.get(name).is_some())
}

fn object(bytes: &[u8]) -> Option<Value> {
    Value::from_json_str(std::str::from_utf8(bytes).ok()?).ok().filter(|value| value.as_object().is_ok())
}

/// `io.jwt.decode`: `[header, payload, signature]` of a token, the signature in hex; undefined when it is no token. Nothing
/// is checked.
pub(crate) fn decode(arguments: &[Value]) -> Option<Value> {
    let mut nested = text(arguments, 0)?.to_owned();
    for _ in 0..NESTING_MAX {
        let token = Token::parse(&nested)?;
        if field(&token.header, "cty") != Some(&Value::from("JWT")) {
            return Some(Value::from(vec![token.header, object(&token.payload)?, hex(&token.signature).into()]));
        }
        nested = String::from_utf8(token.payload).ok()?.trim_matches(['"', '\'']).to_owned();
    }
    None
}

/// `io.jwt.verify_rs256` and its like: token, and a certificate, public key (PEM), or JSON Web Key (set).
pub(crate) fn verify(algorithm: &str, arguments: &[Value]) -> Option<Value> {
    let token = Token::parse(text(arguments, 0)?)?;
    let keys = keys::read(text(arguments, 1)?)?;
    let header = token.header()?;
    Some(keys::any_signed(&keys, &header, algorithm, token.message, &token.signature).into())
}

/// `io.jwt.verify_hs256` and its like: token, secret.
pub(crate) fn verify_secret(algorithm: &str, arguments: &[Value]) -> Option<Value> {
    let token = Token::parse(text(arguments, 0)?)?;
    let secret = keys::Material::Secret(text(arguments, 1)?.as_bytes().to_vec());
    Some(secret.signed(algorithm, token.message, &token.signature).into())
}
