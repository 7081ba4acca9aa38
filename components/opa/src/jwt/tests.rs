//! Tokens of keys made here, and of RFC 7515 and RFC 8037.

use std::time::{Duration, SystemTime};

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pillion_security::issue::{self, Validity};
use pillion_security::jwk::{Jwk, JwkSet};
use pillion_security::key::KeyKind;
use pillion_security::{PrivateKey, pem};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value as Json, json};

use super::*;

fn encode(json: &Json) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// A token of this header and these claims.
fn sign(key: &PrivateKey, header: &Json, claims: &Json) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = signature(key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signature(key: &PrivateKey, message: &[u8]) -> Vec<u8> {
    let (random, pkcs8) = (SystemRandom::new(), key.pkcs8());
    match key.kind() {
        KeyKind::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).unwrap().sign(message).as_ref().to_vec(),
        KeyKind::Rsa => {
            let key = RsaKeyPair::from_pkcs8(pkcs8).unwrap();
            let mut signature = vec![0; key.public().modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
            signature
        }
        _ => {
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).unwrap();
            key.sign(&random, message).unwrap().as_ref().to_vec()
        }
    }
}

fn sign_secret(secret: &str, header: &Json, claims: &Json) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn set(keys: &[(&PrivateKey, Option<&str>, Option<&str>)]) -> String {
    let key = |(key, id, algorithm): &(&PrivateKey, Option<&str>, Option<&str>)| {
        let mut jwk = Jwk::of(key);
        jwk.key_id = id.map(str::to_owned);
        jwk.algorithm = algorithm.map(str::to_owned);
        jwk
    };
    JwkSet { keys: keys.iter().map(key).collect() }.to_json()
}

fn verified(algorithm: &str, token: &str, key: &str) -> Option<bool> {
    verify(algorithm, &[token.into(), key.into()]).map(|value| *value.as_bool().unwrap())
}

fn joe() -> Json {
    json!({"sub": "joe"})
}

#[test]
fn every_kind_of_key_signs_for_its_algorithms_only() {
    let (rsa, p256, ed) =
        (PrivateKey::generate_rsa().unwrap(), PrivateKey::generate_p256().unwrap(), PrivateKey::generate().unwrap());
    let all = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    for (key, algorithm) in [(&rsa, "RS256"), (&p256, "ES256"), (&ed, "EdDSA")] {
        let token = sign(key, &json!({"alg": algorithm}), &joe());
        let validity =
            Validity { now: SystemTime::now(), ttl: Duration::from_secs(60), clock_skew: Duration::from_secs(60) };
        let certificate = issue::root(key, "public", validity).unwrap().to_pem();
        let public = pem::encode("PUBLIC KEY", &key.public_key_info());
        let single = Jwk::of(key).to_json().to_string();
        for form in [set(&[(key, None, None)]), set(&[(key, Some("k"), Some(algorithm))]), single, certificate, public]
        {
            assert_eq!(verified(algorithm, &token, &form), Some(true), "{algorithm} {form}");
            for other in all.iter().filter(|other| **other != algorithm) {
                assert_eq!(verified(other, &token, &form), Some(false), "{algorithm} as {other}");
            }
        }
        let other = PrivateKey::generate().unwrap();
        assert_eq!(verified(algorithm, &token, &set(&[(&other, None, None)])), Some(false), "another key");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{}.{}.{signature}", message.split_once('.').unwrap().0, encode(&json!({"sub": "eve"})));
        assert_eq!(verified(algorithm, &forged, &set(&[(key, None, None)])), Some(false), "other claims");
    }
}

#[test]
fn published_tokens() {
    // RFC 7515 A.3 (ES256) and RFC 8037 A.4 (Ed25519).
    let key = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert_eq!(verified("ES256", token, key), Some(true));
    // RFC 7515 A.1 (HS256).
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let keys = json!({"keys": [{"kty": "oct", "k": secret}]}).to_string();
    let constraints = json!({"cert": keys, "time": 1_300_819_379_000_000_000_u64});
    assert!(decoded(token, &constraints).unwrap().0);
}

#[test]
fn the_key_is_found_by_id_then_by_algorithm() {
    let (one, two) = (PrivateKey::generate_p256().unwrap(), PrivateKey::generate_p256().unwrap());
    let token = sign(&one, &json!({"alg": "ES256", "kid": "1"}), &joe());
    let cases = [
        (set(&[(&two, Some("2"), None), (&one, Some("1"), None)]), true),
        (set(&[(&two, Some("1"), None), (&one, Some("2"), None)]), false),
        (set(&[(&two, None, None), (&one, Some("3"), None)]), true),
        (set(&[(&one, Some("3"), Some("RS256"))]), false),
        (set(&[(&one, Some("3"), Some("ES256"))]), true),
    ];
    for (keys, expected) in cases {
        assert_eq!(verified("ES256", &token, &keys), Some(expected), "{keys}");
    }
    for wrong in ["", "{}", "no", r#"{"keys": 1}"#, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"] {
        assert_eq!(verified("ES256", &token, wrong), None, "{wrong}");
    }
    for wrong in ["", "a.b.c", "e30.e30", "W10.e30.AP8"] {
        assert_eq!(verified("ES256", wrong, &set(&[(&one, None, None)])), None, "{wrong}");
    }
}

#[test]
fn secrets() {
    let token = sign_secret("secret", &json!({"alg": "HS256"}), &joe());
    let verified = |algorithm: &str, secret: &str| verify_secret(algorithm, &[token.as_str().into(), secret.into()]);
    assert_eq!(verified("HS256", "secret"), Some(true.into()));
    assert_eq!(verified("HS256", "other"), Some(false.into()));
    assert_eq!(verified("HS512", "secret"), Some(false.into()));
}

/// Whether it holds, and the subject.
fn decoded(token: &str, constraints: &Json) -> Option<(bool, Json)> {
    let constraints = Value::from_json_str(&constraints.to_string()).unwrap();
    let answer: Json = serde_json::from_str(&decode_verify(&[token.into(), constraints])?.to_string()).unwrap();
    let holds = answer[0].as_bool().unwrap();
    assert_eq!(holds, answer[1] != json!({}), "{answer}");
    Some((holds, answer[2]["sub"].clone()))
}

#[test]
fn claims_and_constraints() {
    let header = json!({"alg": "HS256"});
    let with = |more: Json| {
        let mut constraints = json!({"secret": "s", "time": 100_000_000_000_u64});
        constraints.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        constraints
    };
    let cases = [
        (json!({}), json!({}), Some(true)),
        (json!({}), json!({"secret": "other"}), Some(false)),
        (json!({}), json!({"alg": "HS256"}), Some(true)),
        (json!({}), json!({"alg": "RS256"}), Some(false)),
        (json!({"iss": "a"}), json!({"iss": "a"}), Some(true)),
        (json!({"iss": "b"}), json!({"iss": "a"}), Some(false)),
        (json!({}), json!({"iss": "a"}), Some(false)),
        (json!({"aud": "a"}), json!({"aud": "a"}), Some(true)),
        (json!({"aud": ["b", "a"]}), json!({"aud": "a"}), Some(true)),
        (json!({"aud": ["b"]}), json!({"aud": "a"}), Some(false)),
        (json!({"aud": "a"}), json!({}), Some(false)),
        (json!({}), json!({"aud": "a"}), Some(false)),
        (json!({"exp": 101}), json!({}), Some(true)),
        (json!({"exp": 100}), json!({}), Some(false)),
        (json!({"exp": "101"}), json!({}), None),
        (json!({"nbf": 100}), json!({}), Some(true)),
        (json!({"nbf": 100.5}), json!({}), Some(false)),
        (json!({}), json!({"other": 1}), None),
        (json!({}), json!({"cert": "no"}), None),
        (json!({}), json!({"secret": ""}), None),
        (json!({}), json!({"time": -1}), None),
    ];
    for (mut claims, constraints, expected) in cases {
        claims["sub"] = json!("joe");
        let token = sign_secret("s", &header, &claims);
        let found = decoded(&token, &with(constraints.clone()));
        assert_eq!(found.as_ref().map(|(holds, _)| *holds), expected, "{claims} {constraints}");
        if let Some((true, subject)) = found {
            assert_eq!(subject, "joe");
        }
    }
    let past = sign_secret("s", &header, &json!({"exp": 1_700_000_000}));
    assert!(!decoded(&past, &json!({"secret": "s"})).unwrap().0, "the time of now");
    for (header, expected) in [
        (json!({}), Some(false)),
        (json!({"alg": "none"}), Some(false)),
        (json!({"alg": "HS256", "crit": ["b64"], "b64": true}), Some(false)),
        (json!({"alg": "HS256", "crit": []}), None),
        (json!({"alg": 1}), None),
    ] {
        let found = decoded(&sign_secret("s", &header, &joe()), &json!({"secret": "s"}));
        assert_eq!(found.map(|found| found.0), expected, "{header}");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let key = PrivateKey::generate_rsa().unwrap();
    let public = pem::encode("PUBLIC KEY", &key.public_key_info());
    let forged = sign_secret(&public, &json!({"alg": "HS256"}), &joe());
    assert!(!decoded(&forged, &json!({"cert": public})).unwrap().0);
    let token = sign(&key, &json!({"alg": "RS256", "kid": "k"}), &joe());
    assert_eq!(decoded(&token, &json!({"cert": set(&[(&key, Some("k"), None)])})), Some((true, json!("joe"))));
}

#[test]
fn tokens_within_tokens() {
    let inner = sign_secret("s", &json!({"alg": "HS256"}), &joe());
    let nest = |inner: &str| {
        let message = format!("{}.{}", encode(&json!({"alg": "HS256", "cty": "JWT"})), URL_SAFE_NO_PAD.encode(inner));
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s"), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let mut token = nest(&inner);
    assert_eq!(decoded(&token, &json!({"secret": "s"})), Some((true, json!("joe"))));
    assert_eq!(decode(&[token.as_str().into()]), decode(&[inner.as_str().into()]));
    for _ in 0..NESTING_MAX {
        token = nest(&token);
    }
    assert_eq!(decoded(&token, &json!({"secret": "s"})), None, "too deep");
    assert_eq!(decode(&[token.as_str().into()]), None);
}

#[test]
fn decoding_checks_nothing() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqb2UiLCJuIjoxfQ.AP8";
    let expected = r#"[{"alg": "HS256"}, {"sub": "joe", "n": 1}, "00ff"]"#;
    assert_eq!(decode(&[token.into()]), Some(Value::from_json_str(expected).unwrap()));
    for wrong in ["", "a.b", "e30.e30.AP8.x", "W10.e30.AP8", "e30.!.AP8"] {
        assert_eq!(decode(&[wrong.into()]), None, "{wrong}");
    }
}
