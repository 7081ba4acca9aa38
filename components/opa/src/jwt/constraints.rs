//! `io.jwt.decode_verify`: the signature and the claims of a token at once.

use std::time::{SystemTime, UNIX_EPOCH};

use regorus::Value;

use super::keys::{self, Key, Material};
use super::{Header, NESTING_MAX, Token, object};
use crate::functions::{field, number, text};

/// What a token has to satisfy.
#[derive(Default)]
struct Constraints<'a> {
    keys: Option<Vec<Key>>,
    secret: &'a str,
    algorithm: &'a str,
    issuer: &'a str,
    audience: &'a str,
    /// Seconds since 1970.
    now: f64,
}

impl<'a> Constraints<'a> {
    /// `None` for an unknown constraint, a wrong form, or not exactly one kind of key.
    fn parse(value: &'a Value) -> Option<Self> {
        let mut constraints = Self::default();
        let mut nanoseconds = None;
        for (name, value) in value.as_object().ok()?.iter() {
            let text = value.as_string().ok().map(|text| &**text);
            match &**name.as_string().ok()? {
                "cert" => constraints.keys = Some(keys::read(text?)?),
                "secret" => constraints.secret = text?,
                "alg" => constraints.algorithm = text?,
                "iss" => constraints.issuer = text?,
                "aud" => constraints.audience = text?,
                "time" => nanoseconds = Some(number(value).filter(|time| *time >= 0.0)?),
                _ => return None,
            }
        }
        constraints.now = match nanoseconds {
            Some(nanoseconds) => nanoseconds / 1e9,
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        };
        (constraints.keys.is_some() == constraints.secret.is_empty()).then_some(constraints)
    }

    fn signed(&self, token: &Token<'_>, header: &Header<'_>) -> bool {
        match &self.keys {
            Some(keys) => keys::any_signed(keys, header, header.algorithm, token.message, &token.signature),
            None => {
                let secret = Material::Secret(self.secret.as_bytes().to_vec());
                secret.signed(header.algorithm, token.message, &token.signature)
            }
        }
    }

    /// Whether the claims hold; `None` when a time is no number.
    fn hold(&self, claims: &Value) -> Option<bool> {
        if !self.issuer.is_empty() && field(claims, "iss") != Some(&Value::from(self.issuer)) {
            return Some(false);
        }
        let audience = Value::from(self.audience);
        let is_for_us = match field(claims, "aud") {
            None => self.audience.is_empty(),
            // A token for somebody does not hold for a policy that names nobody.
            Some(Value::Array(audiences)) => audiences.contains(&audience),
            Some(other) => *other == audience,
        };
        let time = |name: &str| field(claims, name).map(number);
        let has_expired = match time("exp") {
            None => false,
            Some(time) => self.now >= time?,
        };
        let is_early = match time("nbf") {
            None => false,
            Some(time) => self.now < time?,
        };
        Some(is_for_us && !has_expired && !is_early)
    }
}

/// `[true, header, payload]` when the signature and all constraints hold, otherwise `[false, {}, {}]`; undefined when the token
/// or the constraints cannot be read.
pub(crate) fn decode_verify(arguments: &[Value]) -> Option<Value> {
    let refused = || Some(Value::from(vec![false.into(), Value::new_object(), Value::new_object()]));
    let constraints = Constraints::parse(arguments.get(1)?)?;
    let mut nested = text(arguments, 0)?.to_owned();
    for _ in 0..NESTING_MAX {
        let token = Token::parse(&nested)?;
        let header = token.header()?;
        let is_other = !constraints.algorithm.is_empty() && constraints.algorithm != header.algorithm;
        if header.algorithm.is_empty() || header.is_critical || is_other {
            return refused();
        }
        if !constraints.signed(&token, &header) {
            return refused();
        }
        if !header.content_type.eq_ignore_ascii_case("JWT") {
            let claims = object(&token.payload)?;
            if !constraints.hold(&claims)? {
                return refused();
            }
            return Some(Value::from(vec![true.into(), token.header, claims]));
        }
        nested = String::from_utf8(token.payload).ok()?;
    }
    None
}
