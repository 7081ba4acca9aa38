//! What a token claims.

use serde_json::Value as Json;

/// Clocks may differ by so much. *Source:* the original, 5 minutes.
const SKEW_IN_SECONDS: f64 = 300.0;

/// The claims a token must have.
pub(super) struct Expected {
    pub(super) issuer: String,
    pub(super) audience: String,
}

impl Expected {
    /// Whether a payload was made by the issuer, for the audience, and is valid at `now` (seconds since 1970).
    ///
    /// *Source:* the original: a time that is absent does not limit; one that is no number refuses.
    pub(super) fn holds(&self, payload: &[u8], now: f64) -> bool {
        let Ok(Json::Object(claims)) = serde_json::from_slice(payload) else { return false };
        let audience = match claims.get("aud") {
            Some(Json::String(audience)) => *audience == self.audience,
            Some(Json::Array(all)) => all.iter().any(|audience| audience.as_str() == Some(&self.audience)),
            _ => false,
        };
        let issuer = claims.get("iss").and_then(Json::as_str) == Some(&self.issuer);
        // `None`: not a time.
        let time = |name: &str, absent: f64| match claims.get(name) {
            None => Some(absent),
            Some(Json::Number(number)) => number.as_f64(),
            Some(Json::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let expires = time("exp", f64::INFINITY).is_some_and(|expires| now < expires + SKEW_IN_SECONDS);
        let begins = ["nbf", "iat"]
            .iter()
            .all(|name| time(name, f64::NEG_INFINITY).is_some_and(|begins| begins.floor() <= now + SKEW_IN_SECONDS));
        audience && issuer && expires && begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_must_hold() {
        let expected = Expected { issuer: "https://issuer".to_owned(), audience: "me".to_owned() };
        let now = 1_000_000.0;
        for (claims, holds) in [
            (r#""aud":"me""#, true),
            (r#""aud":["you","me"],"exp":1000000,"nbf":1000300,"iat":1000300"#, true),
            (r#""aud":"you""#, false),
            (r#""aud":[]"#, false),
            (r#""exp":1000000"#, false),
            (r#""aud":"me","exp":999699"#, false),
            (r#""aud":"me","exp":999701.5"#, true),
            (r#""aud":"me","exp":"soon""#, false),
            (r#""aud":"me","exp":null"#, false),
            (r#""aud":"me","nbf":1000302"#, false),
            (r#""aud":"me","iat":1000302"#, false),
            (r#""aud":"me","iss":"https://other""#, false),
        ] {
            let payload = format!(r#"{{"iss":"https://issuer",{claims}}}"#);
            assert_eq!(expected.holds(payload.as_bytes(), now), holds, "{payload}");
        }
        assert!(!expected.holds(br#"{"aud":"me"}"#, now));
        assert!(!expected.holds(b"me", now));
    }
}
