//! JSON Web Tokens: signs JWT SVIDs, checks tokens of others, reads tokens somebody else has checked.
//!
//! *Source:* spec internals.md §5.3 and §5.5. *Invariant:* a token is only ever checked with the algorithm its key is for;
//! `none` and shared secrets are never accepted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value as Json, json};

use crate::jwk::JwkSet;
use crate::key::random;
use crate::{Error, PrivateKey, SpiffeId};

/// Signs tokens.
#[derive(Clone, Debug)]
pub struct TokenSigner {
    /// The key.
    pub key: PrivateKey,
    /// `kid` of the header.
    pub key_id: String,
    /// `alg` of the header; the key must suit it.
    pub algorithm: String,
    /// `iss`, when there is one.
    pub issuer: Option<String>,
}

/// How long a token holds.
#[derive(Clone, Copy, Debug)]
pub struct TokenTimes {
    /// The time it is made.
    pub now: SystemTime,
    /// How long it holds from then.
    pub ttl: Duration,
    /// How long it holds before, for clocks that are behind.
    pub clock_skew: Duration,
}

impl TokenSigner {
    /// A token for an identity and audiences.
    ///
    /// # Errors
    /// When the key does not suit the algorithm or the system has no randomness.
    pub fn sign(&self, id: &SpiffeId, audiences: &[String], times: TokenTimes) -> Result<String, Error> {
        let header = json!({"alg": self.algorithm, "kid": self.key_id, "typ": "JWT"});
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), json!(id.to_string()));
        claims.insert("aud".to_owned(), json!(audiences));
        claims.extend(self.issuer.iter().map(|issuer| ("iss".to_owned(), json!(issuer))));
        claims.insert("iat".to_owned(), json!(seconds(times.now)));
        claims.insert("nbf".to_owned(), json!(seconds(times.now.checked_sub(times.clock_skew).unwrap_or(times.now))));
        claims.insert("exp".to_owned(), json!(seconds(times.now + times.ttl)));
        claims.insert("use".to_owned(), json!("sig")); // one cloud asks for it
        let id: [u8; 16] = random()?;
        claims.insert("jti".to_owned(), json!(format!("{:032x}", u128::from_be_bytes(id))));
        let encode = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", encode(&header), encode(&Json::Object(claims)));
        let signature = self.key.sign_token(&self.algorithm, message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// One of its audiences.
    pub audience: &'a str,
    /// Its subject.
    pub subject: &'a str,
    /// The time it must hold at.
    pub now: SystemTime,
    /// How far clocks may be apart.
    pub clock_skew: Duration,
}

/// Whether the key set has no key of the token's id; it may be an older one.
#[must_use]
pub fn key_is_unknown(token: &str, keys: &JwkSet) -> bool {
    let header = token.split('.').next().and_then(|part| json_part(part, "header").ok());
    let key_id = header.as_ref().and_then(|header| header.get("kid")).and_then(Json::as_str);
    key_id.is_some_and(|id| keys.keys.iter().all(|key| key.key_id.as_deref() != Some(id)))
}

/// Checks a token against a key set.
///
/// # Errors
/// Says what does not hold.
pub fn verify(token: &str, keys: &JwkSet, expected: Expected<'_>) -> Result<(), Error> {
    let refused = |text: String| Error::Token(text);
    let parts: Vec<&str> = token.split('.').collect();
    let [header_part, claims_part, signature_part] = parts[..] else {
        return Err(refused("not a signed token: expected three parts separated by dots".to_owned()));
    };
    let header = json_part(header_part, "header")?;
    if header.get("crit").is_some() {
        return Err(refused("the token asks for extensions (\"crit\") that are not known".to_owned()));
    }
    let algorithm = header.get("alg").and_then(Json::as_str).unwrap_or_default();
    let key_id = header.get("kid").and_then(Json::as_str);
    let key_id = key_id.ok_or_else(|| refused("the token names no key (\"kid\")".to_owned()))?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature_part)
        .map_err(|error| refused(format!("the signature is not base64url: {error}")))?;
    let message = &token.as_bytes()[..header_part.len() + 1 + claims_part.len()];
    let mut candidates = keys.keys.iter().filter(|key| key.key_id.as_deref() == Some(key_id)).peekable();
    if candidates.peek().is_none() {
        return Err(refused(format!("failed to find key with key ID {key_id:?} in key set")));
    }
    if !candidates.any(|key| key.verify(algorithm, message, &signature)) {
        return Err(refused(format!("could not verify message using the key {key_id:?} and algorithm {algorithm:?}")));
    }
    check_claims(&json_part(claims_part, "claims")?, expected)
}

fn check_claims(claims: &Json, expected: Expected<'_>) -> Result<(), Error> {
    let failed = |claim: &str, why: &str| Err(Error::Token(format!("{claim:?} not satisfied: {why}")));
    let now = seconds(expected.now);
    let skew = i64::try_from(expected.clock_skew.as_secs()).unwrap_or(i64::MAX);
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(value) => Ok(Some(value as i64)),
            None => Err(Error::Token(format!("{name:?} is not a number"))),
        },
    };
    if time("exp")?.is_some_and(|at| at <= now.saturating_sub(skew)) {
        return failed("exp", "the token has expired");
    }
    if time("nbf")?.is_some_and(|at| at > now.saturating_add(skew)) {
        return failed("nbf", "the token does not hold yet");
    }
    if time("iat")?.is_some_and(|at| at > now.saturating_add(skew)) {
        return failed("iat", "the token was made in the future");
    }
    let audience_matches = match claims.get("aud") {
        Some(Json::Array(audiences)) => audiences.iter().any(|audience| audience == expected.audience),
        Some(audience) => audience == expected.audience,
        None => false,
    };
    if !audience_matches {
        return failed("aud", &format!("expected {}", expected.audience));
    }
    if claims.get("sub").is_none_or(|subject| subject != expected.subject) {
        return failed("sub", &format!("expected {}", expected.subject));
    }
    Ok(())
}

/// The claims of a token whose signature somebody else has checked; also of claims that come bare.
///
/// # Errors
/// When there are none.
pub fn claims_unverified(token: &str) -> Result<Json, Error> {
    if token.trim_start().starts_with('{') {
        return serde_json::from_str(token).map_err(|error| Error::Token(format!("the claims are not JSON: {error}")));
    }
    let part = token
        .split('.')
        .nth(1)
        .ok_or_else(|| Error::Token("not a token: expected parts separated by dots".to_owned()))?;
    json_part(part, "claims")
}

fn json_part(part: &str, what: &str) -> Result<Json, Error> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| Error::Token(format!("the {what} of the token is not base64url: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Token(format!("the {what} of the token is not JSON: {error}")))
}

fn seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrustDomain;
    use crate::jwk::Jwk;

    fn signer(key: PrivateKey, algorithm: &str) -> (TokenSigner, JwkSet) {
        let mut jwk = Jwk::of(&key);
        jwk.key_id = Some("k".to_owned());
        let signer = TokenSigner { key, key_id: "k".to_owned(), algorithm: algorithm.to_owned(), issuer: None };
        (signer, JwkSet { keys: vec![jwk] })
    }

    fn id() -> SpiffeId {
        SpiffeId::new(TrustDomain::public(), "default", "app").unwrap()
    }

    fn times() -> TokenTimes {
        TokenTimes { now: SystemTime::now(), ttl: Duration::from_secs(60), clock_skew: Duration::from_secs(5) }
    }

    fn expected<'a>() -> Expected<'a> {
        Expected {
            audience: "a",
            subject: "spiffe://public/ns/default/app",
            now: SystemTime::now(),
            clock_skew: Duration::from_secs(5),
        }
    }

    #[test]
    fn tokens_of_every_algorithm_hold() {
        let rsa = PrivateKey::generate_rsa().unwrap();
        let cases = [
            (PrivateKey::generate().unwrap(), "EdDSA"),
            (PrivateKey::generate_p256().unwrap(), "ES256"),
            (rsa.clone(), "RS256"),
            (rsa.clone(), "RS512"),
            (rsa, "PS384"),
        ];
        for (key, algorithm) in cases {
            let (signer, keys) = signer(key, algorithm);
            let token = signer.sign(&id(), &["x".to_owned(), "a".to_owned()], times()).unwrap();
            verify(&token, &keys, expected()).unwrap();
            assert_eq!(claims_unverified(&token).unwrap()["use"], "sig");
        }
    }

    #[test]
    fn what_does_not_hold_is_told() {
        let (signer, keys) = signer(PrivateKey::generate().unwrap(), "EdDSA");
        let token = signer.sign(&id(), &["a".to_owned()], times()).unwrap();
        let told =
            |keys: &JwkSet, token: &str, expected: Expected<'_>| verify(token, keys, expected).unwrap_err().to_string();
        assert!(told(&keys, &token, Expected { audience: "b", ..expected() }).contains("\"aud\""));
        assert!(told(&keys, &token, Expected { subject: "b", ..expected() }).contains("\"sub\""));
        let later = SystemTime::now() + Duration::from_secs(3600);
        assert!(told(&keys, &token, Expected { now: later, ..expected() }).contains("\"exp\""));
        let before = SystemTime::now() - Duration::from_secs(3600);
        assert!(told(&keys, &token, Expected { now: before, ..expected() }).contains("\"nbf\""));
        assert!(told(&JwkSet::default(), &token, expected()).contains("failed to find key"));
        assert!(key_is_unknown(&token, &JwkSet::default()) && !key_is_unknown(&token, &keys));
        assert!(told(&keys, "a.b", expected()).contains("three parts"));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let (signer, keys) = signer(PrivateKey::generate().unwrap(), "EdDSA");
        let token = signer.sign(&id(), &["a".to_owned()], times()).unwrap();
        let claims = token.split('.').nth(1).unwrap();
        for algorithm in ["none", "HS256", "RS256", "ES256", ""] {
            let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "kid": "k"}).to_string());
            for signature in ["", "AAAA", token.split('.').nth(2).unwrap()] {
                assert!(verify(&format!("{header}.{claims}.{signature}"), &keys, expected()).is_err());
            }
        }
        let mut encryption = keys.clone();
        encryption.keys[0].usage = Some("enc".to_owned());
        assert!(verify(&token, &encryption, expected()).is_err());
        let mut other = keys;
        other.keys[0].algorithm = Some("ES256".to_owned());
        assert!(verify(&token, &other, expected()).is_err());
    }

    #[test]
    fn claims_may_come_bare() {
        let claims = claims_unverified(r#"{"kubernetes.io":{"pod":{"name":"p"}}}"#).unwrap();
        assert_eq!(claims["kubernetes.io"]["pod"]["name"], "p");
        assert!(claims_unverified("x").is_err());
    }
}
