//! `io.jwt.decode`, which policies use to look into a token that another middleware has checked.
//!
//! The functions that check signatures (`io.jwt.verify_*`, `io.jwt.decode_verify`) are not there: a policy that calls them does
//! not pass. `middleware.http.bearer` checks tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use regorus::Value;

/// The name policies call it by.
pub(crate) const DECODE: &str = "io.jwt.decode";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `[header, payload, signature]` of a token, the signature in hex; undefined when it is no token.
pub(crate) fn decode(token: &str) -> Value {
    parts(token).unwrap_or(Value::Undefined)
}

fn parts(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let json = |part: &str| {
        let text = String::from_utf8(BASE64.decode(part).ok()?).ok()?;
        Value::from_json_str(&text).ok().filter(|value| value.as_object().is_ok())
    };
    let signature: String = BASE64.decode(signature).ok()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Value::from(vec![json(header)?, json(payload)?, Value::from(signature)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqb2UiLCJuIjoxfQ.AP8";
        let expected = r#"[{"alg": "HS256"}, {"sub": "joe", "n": 1}, "00ff"]"#;
        assert_eq!(decode(token), Value::from_json_str(expected).unwrap());
        for wrong in ["", "a.b", "e30.e30.AP8.x", "W10.e30.AP8", "e30.!.AP8"] {
            assert_eq!(decode(wrong), Value::Undefined, "{wrong}");
        }
    }
}
