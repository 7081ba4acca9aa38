//! `crypto.md5`, `crypto.sha1`, `crypto.sha256`, `crypto.hmac.*`: digests of texts, in hexadecimal digits.

use md5::{Digest as _, Md5};
use regorus::Value;
use ring::{digest, hmac};

use crate::functions::{hex, text};

/// `crypto.md5`.
pub(crate) fn md5(arguments: &[Value]) -> Option<Value> {
    Some(hex(&Md5::digest(text(arguments, 0)?)).into())
}

/// `crypto.sha1`.
pub(crate) fn sha1(arguments: &[Value]) -> Option<Value> {
    digest_with(&digest::SHA1_FOR_LEGACY_USE_ONLY, arguments)
}

/// `crypto.sha256`.
pub(crate) fn sha256(arguments: &[Value]) -> Option<Value> {
    digest_with(&digest::SHA256, arguments)
}

fn digest_with(algorithm: &'static digest::Algorithm, arguments: &[Value]) -> Option<Value> {
    Some(hex(digest::digest(algorithm, text(arguments, 0)?.as_bytes()).as_ref()).into())
}

/// `crypto.hmac.sha1`: message, key.
pub(crate) fn hmac_sha1(arguments: &[Value]) -> Option<Value> {
    hmac_with(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, arguments)
}

/// `crypto.hmac.sha256`: message, key.
pub(crate) fn hmac_sha256(arguments: &[Value]) -> Option<Value> {
    hmac_with(hmac::HMAC_SHA256, arguments)
}

/// `crypto.hmac.sha512`: message, key.
pub(crate) fn hmac_sha512(arguments: &[Value]) -> Option<Value> {
    hmac_with(hmac::HMAC_SHA512, arguments)
}

fn hmac_with(algorithm: hmac::Algorithm, arguments: &[Value]) -> Option<Value> {
    let (message, key) = (text(arguments, 0)?, text(arguments, 1)?);
    Some(hex(hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), message.as_bytes()).as_ref()).into())
}

/// `crypto.hmac.md5`: message, key. *Source:* RFC 2104; `ring` has no MD5.
pub(crate) fn hmac_md5(arguments: &[Value]) -> Option<Value> {
    const BLOCK: usize = 64;
    let (message, key) = (text(arguments, 0)?, text(arguments, 1)?.as_bytes());
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..16].copy_from_slice(&Md5::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Md5::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    let outer = Md5::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize();
    Some(hex(&outer).into())
}

/// `crypto.hmac.equal`: whether two digests are the same. How long it takes tells nothing of where they differ.
pub(crate) fn hmac_equal(arguments: &[Value]) -> Option<Value> {
    let (left, right) = (text(arguments, 0)?.as_bytes(), text(arguments, 1)?.as_bytes());
    let difference = left.iter().zip(right).fold(0, |found, (left, right)| found | (left ^ right));
    Some((left.len() == right.len() && difference == 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_published_vectors() {
        // RFC 1321, FIPS 180; RFC 2202 and RFC 4231, test case 2; RFC 2202, a key longer than a block.
        let jefe = ["what do ya want for nothing?", "Jefe"].map(Value::from);
        let long = ["Test Using Larger Than Block-Size Key - Hash Key First", &"k".repeat(80)].map(Value::from);
        let abc = ["abc"].map(Value::from);
        let text = |value: Option<Value>| value.unwrap().as_string().unwrap().to_string();
        assert_eq!(text(md5(&abc)), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(text(sha1(&abc)), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(text(sha256(&abc)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(text(hmac_md5(&jefe)), "750c783e6ab0b503eaa86e310a5db738");
        assert_eq!(text(hmac_sha1(&jefe)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(text(hmac_sha256(&jefe)), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(
            text(hmac_sha512(&jefe)).starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554")
        );
        assert_eq!(text(hmac_md5(&long)), LONG_KEY_MD5);
    }

    /// From Python's `hmac`.
    const LONG_KEY_MD5: &str = "01bc5b88dc6a56018686a956c14c8d08";

    #[test]
    fn only_texts_and_only_equals() {
        assert_eq!(md5(&[Value::from(1)]), None);
        assert_eq!(hmac_sha256(&[Value::from("a")]), None);
        for (left, right, expected) in [("ab", "ab", true), ("ab", "ac", false), ("ab", "abc", false), ("", "", true)] {
            assert_eq!(hmac_equal(&[left, right].map(Value::from)), Some(Value::from(expected)), "{left} {right}");
        }
    }
}
