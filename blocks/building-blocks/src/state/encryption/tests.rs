use super::*;

fn item(field: &str, secret: &str) -> NameValue {
    NameValue {
        name: field.to_owned(),
        secret_key_ref: Some((secret.to_owned(), secret.to_owned())),
        ..NameValue::default()
    }
}

/// A key of bytes 0, 1, 2 …
fn counting(length: usize) -> String {
    (0..length).map(|byte| format!("{byte:02x}")).collect()
}

fn encryption(primary: (&str, &str), secondary: Option<(&str, &str)>) -> Encryption {
    let mut pairs = vec![(PRIMARY, primary.1)];
    let mut items = vec![item(PRIMARY, primary.0)];
    if let Some((name, key)) = secondary {
        pairs.push((SECONDARY, key));
        items.push(item(SECONDARY, name));
    }
    Encryption::of("store", &Metadata::new(pairs), &items).unwrap().unwrap()
}

fn problem(result: Result<Bytes, ComponentError>) -> String {
    result.unwrap_err().to_string()
}

/// Made with the original's algorithm: Go's crypto/aes and crypto/cipher, nonce `defghijklmno`, key bytes 0, 1, 2 …
const VECTORS: [(usize, &str, &str); 6] = [
    (16, "value1", "ZGVmZ2hpamtsbW5vbAMi0L4zhRzKobLZuD6Tx0hCNtiVLQ==||key"),
    (16, "", "ZGVmZ2hpamtsbW5vZYKsBeBHEagmvf4uFERAqw==||key"),
    (24, "value1", "ZGVmZ2hpamtsbW5vnwnXCTee9bdtHsrnqN4wNqTml/dVwQ==||key"),
    (24, "", "ZGVmZ2hpamtsbW5vzQJZCCgUdaIVUZ4ETF772w==||key"),
    (32, "value1", "ZGVmZ2hpamtsbW5vPnqyExzYqf62GUCU1gHv99s8FKykJA==||key"),
    (32, "", "ZGVmZ2hpamtsbW5vYJvVD2rXbfZl8Ei6jF/XBg==||key"),
];

#[test]
fn values_of_the_original_are_read_and_written() {
    for (length, value, stored) in VECTORS {
        let encryption = encryption(("key", &counting(length)), None);
        assert_eq!(encryption.decrypt("store", stored.as_bytes()).unwrap(), value, "{length}");
        let sealed = encryption.primary.cipher.seal(*b"defghijklmno", value.as_bytes()).unwrap();
        assert_eq!(format!("{}||key", STANDARD.encode(sealed)), stored, "{length}");
    }
}

#[test]
fn what_is_encrypted_differs_each_time_and_comes_back() {
    for length in [16, 24, 32] {
        let encryption = encryption(("my-secret", &counting(length)), None);
        let value: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        let stored = [encryption.encrypt("store", &value).unwrap(), encryption.encrypt("store", &value).unwrap()];
        assert_ne!(stored[0], stored[1]);
        for stored in stored {
            assert!(stored.ends_with(b"||my-secret"));
            assert_eq!(encryption.decrypt("store", &stored).unwrap(), value);
        }
    }
}

#[test]
fn a_key_that_became_the_secondary_one_still_decrypts() {
    let (old, new) = (counting(16), counting(32));
    let before = encryption(("old", &old), None).encrypt("store", b"v").unwrap();
    let rotated = encryption(("new", &new), Some(("old", &old)));
    assert_eq!(rotated.decrypt("store", &before).unwrap(), "v");
    let after = rotated.encrypt("store", b"v").unwrap();
    assert!(after.ends_with(b"||new"));
    let text = problem(encryption(("new", &new), None).decrypt("store", &before));
    assert!(text.starts_with("could not decrypt data for state store store: ") && text.contains("\"old\""), "{text}");
}

#[test]
fn a_value_that_cannot_be_decrypted_is_an_error() {
    let encryption = encryption(("key", &counting(16)), None);
    assert!(encryption.decrypt("store", b"").unwrap().is_empty());
    let not_found = "could not decrypt data for state store store: encryption key name not found on record";
    for stored in [&b"in clear"[..], b"x", b"x||"] {
        assert_eq!(problem(encryption.decrypt("store", stored)), not_found);
    }
    assert!(problem(encryption.decrypt("store", b"%%||key")).starts_with("illegal base64 data"));
    let changed = VECTORS[0].2.replacen("ZG", "ZH", 1);
    for stored in [changed.as_bytes(), b"||key", b"QUJD||key"] {
        assert_eq!(problem(encryption.decrypt("store", stored)), "cipher: message authentication failed");
    }
    let other = super::tests::encryption(("key", &counting(32)), None);
    assert_eq!(problem(other.decrypt("store", VECTORS[0].2.as_bytes())), "cipher: message authentication failed");
}

#[test]
fn keys_that_cannot_be_used_are_told_without_them() {
    let of = |key: &str, items: &[NameValue]| Encryption::of("store", &Metadata::new([(PRIMARY, key)]), items);
    for key in ["", "123", "zz", &counting(18), &counting(64), "ключ"] {
        let error = of(key, &[item(PRIMARY, "s")]).unwrap_err().to_string();
        assert!(error.contains("32, 48 or 64 hexadecimal digits") && error.contains("\"s\""), "{error}");
        assert!(key.is_empty() || !error.contains(key), "{error}");
    }
    let error = of(&counting(16), &[NameValue { name: PRIMARY.to_owned(), ..NameValue::default() }]).unwrap_err();
    assert!(error.to_string().contains("secretKeyRef cannot be empty"), "{error}");
    let of_secondary = Metadata::new([(SECONDARY, counting(16))]);
    assert!(Encryption::of("store", &of_secondary, &[item(SECONDARY, "s")]).unwrap().is_none());
    assert!(!format!("{:?}", encryption(("key", &counting(16)), None)).contains("0102"));
}
