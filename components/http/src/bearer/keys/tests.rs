//! Signatures of every algorithm; the RSA ones were made with OpenSSL, whose private key is gone.

use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use ring::signature;

use super::*;

const RSA_MODULUS: &str = "m2pgn3N6XD6ZGA0l8QCTqLR4j8ZLASXPpHNRn-CEzmjMmnJFjHsUTu3bSPYljRS1YF_AqbIDKStJedlhLua873k1GKuYMXhcXmlY\
    _l4HRf5yJffRw8NCrJJPBPWuB0G5zw7zWNw3OUT1NIhPe0CSTXZkkHsyDLQLMgKGvPUxQtY7eW4ePQVkZBkzawpiwJukpn-\
    f1Ygh_3-nE6ctxrEmX_P069LoMazLAueQevKxsPqCiP3u6ihaQHtfhodwkJM-\
    MN011yqOnzT7a1zNG7YPgTb-8fTVXDf4LmEUL9beq7_HDQLAQh0fGJGWZPShIGWgWDcFZ-UOG6XHPzWaGY2yaQ";
const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciIsImF1ZCI6Im1lIn0.D2B8mTyPBojZ72N\
    Bc7p7w4SBCuT2ugSWKoGN6vAWXNHfITQ02ZuQKwAWhSRZgEytmh0O6xCPYkExpu6cuj9P44_xSAl25oUkUdphxEsLAwQhwzT_bdg\
    Gk_oT4COtryOBNaNDTyePmuXpVbyaFZIflhUQ5_otLxOgLNIG0fkujWbi5Zz_SdnuNCw1fLRvjfa0sIzinvS4fDoW7pHSiRWCrWE\
    GN59XhyFLVPb0nt_lnPMsDSdmrvRajZCT569fm52NWiZexvDfILXDlfxxUvkrW5lnLZIix3yiTEXQqQr9SU683lY7GYnbmbWRnuD\
    ZjFgjr5RX5xqzRlb1AFVBqxpWTg";
const PS256_TOKEN: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciIsImF1ZCI6Im1lIn0.VPCZzaUxQEXw3TE\
    NvMcxfp7rZ_z4UezQIyPs-Fa41_M-ZkeZ2gsh5BuhQT5Ee-X0XvGal_WaU69dOBV1QEyBY8JS83RzVylzwN5DifK-\
    vRmvdYDTy7yVu8y6OlbRjJmtHJaeKen01-Nv0Ceq36fRNH6rNtqKay3Mv3ruPtlXzaupOm-oLYxeJjYQZns714ArN_JgTuaesYLd\
    A7rurGxcgfbkbUesQdJzFx5WPWVjy9-xpdRHCvbUN2AE9Ys9NRWlfTxSE8s8LjZtYmCMWYwrh1JMUvpPnddAuNCkmIRp9mkiFV-\
    g-E-GpT0oHgMqW1_uOdHku0jRWwsYuTHx85biIQ";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn message(algorithm: &str, kid: &str) -> String {
    let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"JWT"}}"#);
    format!("{}.{}", encode(header), encode("{}"))
}

fn keys(keys: &[String]) -> Keys {
    Keys::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
}

fn rsa(more: &str) -> String {
    format!(r#"{{"kty":"RSA","kid":"rsa","n":"{RSA_MODULUS}","e":"AQAB"{more}}}"#)
}

#[test]
fn rsa_signatures_are_checked() {
    let set = keys(&[rsa("")]);
    assert_eq!(set.verify(RS256_TOKEN).unwrap(), br#"{"iss":"https://issuer","aud":"me"}"#);
    assert!(set.verify(PS256_TOKEN).is_ok());
    let changed = RS256_TOKEN.replacen("eyJpc3Mi", "eyJpc3Mj", 1);
    assert_eq!(set.verify(&changed), Err(Refused::Invalid));
    let only = keys(&[rsa(r#","alg":"RS256","use":"sig""#)]);
    assert!(only.verify(RS256_TOKEN).is_ok());
    assert_eq!(only.verify(PS256_TOKEN), Err(Refused::Invalid));
    assert_eq!(keys(&[rsa(r#","use":"enc""#)]).verify(RS256_TOKEN), Err(Refused::UnknownKey));
}

#[test]
fn elliptic_curves_and_secrets_are_checked() {
    let random = SystemRandom::new();
    let mut tokens = Vec::new();
    let mut set = Vec::new();
    for (name, curve, algorithm, length) in [
        ("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING, 32),
        ("ES384", "P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING, 48),
    ] {
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(length);
        set.push(format!(r#"{{"kty":"EC","crv":"{curve}","kid":"{name}","x":"{}","y":"{}"}}"#, encode(x), encode(y)));
        let message = message(name, name);
        let signed = pair.sign(&random, message.as_bytes()).unwrap();
        tokens.push(format!("{message}.{}", encode(signed)));
    }
    let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    set.push(format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{}"}}"#, encode(pair.public_key())));
    let signed_by_ed = message("EdDSA", "ed");
    tokens.push(format!("{signed_by_ed}.{}", encode(pair.sign(signed_by_ed.as_bytes()))));
    set.push(format!(r#"{{"kty":"oct","kid":"secret","k":"{}"}}"#, encode("a secret of some length")));
    let secret = hmac::Key::new(hmac::HMAC_SHA512, b"a secret of some length");
    let signed_by_secret = message("HS512", "secret");
    tokens.push(format!("{signed_by_secret}.{}", encode(hmac::sign(&secret, signed_by_secret.as_bytes()))));

    let set = keys(&set);
    for token in &tokens {
        assert_eq!(set.verify(token).unwrap(), b"{}", "{token}");
        let (message, signed) = token.rsplit_once('.').unwrap();
        let mut signed = URL_SAFE_NO_PAD.decode(signed).unwrap();
        signed[5] ^= 1;
        assert_eq!(set.verify(&format!("{message}.{}", encode(signed))), Err(Refused::Invalid));
    }
}

#[test]
fn a_public_key_is_no_secret() {
    // The old trick: sign with the public key as if it were a secret.
    let set = keys(&[rsa("")]);
    let forged = message("HS256", "rsa");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(RSA_MODULUS).unwrap());
    let forged = format!("{forged}.{}", encode(hmac::sign(&key, forged.as_bytes())));
    assert_eq!(set.verify(&forged), Err(Refused::Invalid));
    assert_eq!(set.verify(&format!("{}.", message("none", "rsa"))), Err(Refused::Invalid));
    assert_eq!(set.verify(&format!("{}.", message("none", "other"))), Err(Refused::UnknownKey));
    for token in ["", "a.b", "a.b.c", "....", RS256_TOKEN.rsplit_once('.').unwrap().0] {
        assert_eq!(set.verify(token), Err(Refused::Invalid), "{token}");
    }
    let without_kid = format!("{}.e30.AAAA", encode(r#"{"alg":"RS256"}"#));
    assert_eq!(set.verify(&without_kid), Err(Refused::Invalid));
}

#[test]
fn key_sets_may_hold_keys_of_other_kinds() {
    let set = keys(&[rsa(""), r#"{"kty":"EC","crv":"P-521","kid":"big","x":"AA","y":"AA"}"#.to_owned()]);
    assert_eq!(set.notes().len(), 1);
    assert!(set.notes()[0].contains(r#"the key "big" of kind EC P-521 is not usable"#));
    assert!(Keys::parse(rsa("").as_bytes()).unwrap().verify(RS256_TOKEN).is_ok());
    assert!(Keys::parse(b"[]").is_err());
    assert!(Keys::parse(b"{}").is_err());
}
