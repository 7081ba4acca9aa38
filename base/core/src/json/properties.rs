//! Properties of the JSON reader.
//!
//! *Job:* write random values in all the ways a client may, read them back, and compare with `serde_json` alone.
//! `PROPTEST_CASES` sets the number of cases. *Invariant:* nothing panics; case of names, order of fields, unknown fields and
//! nulls change nothing else.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{first_of, from_slice};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Outer {
    entry_id: String,
    count: i64,
    ratio: f64,
    on: bool,
    etag: Option<String>,
    items: Vec<Inner>,
    nested: Option<Inner>,
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Inner {
    key: String,
    value: u32,
}

fn inner() -> impl Strategy<Value = Inner> {
    (any::<String>(), any::<u32>()).prop_map(|(key, value)| Inner { key, value })
}

fn outer() -> impl Strategy<Value = Outer> {
    (
        (any::<String>(), any::<i64>(), any::<i32>(), any::<bool>()),
        prop::option::of(any::<String>()),
        vec(inner(), 0..4),
        prop::option::of(inner()),
        btree_map(any::<String>(), any::<String>(), 0..4),
    )
        .prop_map(|((entry_id, count, ratio, on), etag, items, nested, metadata)| Outer {
            entry_id,
            count,
            ratio: f64::from(ratio) / 8.0,
            on,
            etag,
            items,
            nested,
            metadata,
        })
}

/// The members of an object with names in another case, in another order, with one more, and zero values as null or left out.
fn disguised(value: &Value, noise: &[u8], is_struct: bool) -> String {
    let mut noise = noise.iter().copied().cycle();
    let mut next = move || noise.next().unwrap_or_default();
    let Value::Object(members) = value else { return value.to_string() };
    let mut texts: Vec<String> = Vec::new();
    for (name, value) in members {
        let zero = matches!(value, Value::Null | Value::Bool(false))
            || (name != "etag" && ["0", "0.0", "\"\"", "[]", "{}"].contains(&value.to_string().as_str()));
        match (is_struct && zero, next() % 3) {
            (true, 0) => continue,
            (true, 1) => {
                texts.push(format!("{}:null", Value::from(cased(name, next()))));
                continue;
            }
            _ => {}
        }
        let name = if is_struct { cased(name, next()) } else { name.clone() };
        let rest = [next(), next(), next()];
        let text = match value {
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| disguised(item, &rest, true)).collect();
                format!("[ {} ]", items.join(" ,"))
            }
            Value::Object(_) => disguised(value, &rest, name.eq_ignore_ascii_case("nested")),
            other => other.to_string(),
        };
        texts.push(format!("{}:\t{text}", Value::from(name)));
    }
    if is_struct && next() % 2 == 0 {
        texts.push(r#""unknown" : {"key": [1, {"Key": null}]}"#.to_owned());
    }
    let turn = usize::from(next()) % texts.len().max(1);
    texts.rotate_left(turn);
    format!("{{{} }}", texts.join(",\n"))
}

fn cased(name: &str, mask: u8) -> String {
    let letter = |(index, letter): (usize, char)| {
        if mask >> (index % 8) & 1 == 1 { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    };
    name.chars().enumerate().map(letter).collect()
}

/// Pieces of JSON in any order.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"key\"",
        "\"KEY\"",
        "\"items\"",
        "\"nested\"",
        "\"count\"",
        "null",
        "true",
        "1",
        "-",
        "1e999",
        "0.5",
        "\\u12",
        "\\ud800",
        " ",
        "\n",
        "{\"key\":\"a\"}",
        "\"on\":true",
        "é",
    ];
    prop_oneof![
        4 => vec(prop::sample::select(pieces), 0..16).prop_map(|parts| parts.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_is_read(value in outer()) {
        let text = serde_json::to_vec(&value).unwrap();
        prop_assert_eq!(&from_slice::<Outer>(&text).unwrap(), &value);
        prop_assert_eq!(from_slice::<Value>(&text).unwrap(), serde_json::from_slice::<Value>(&text).unwrap());
        prop_assert_eq!(from_slice::<&RawValue>(&text).unwrap().get().as_bytes(), &text);
    }

    #[test]
    fn names_order_and_nulls_change_nothing(value in outer(), noise in vec(any::<u8>(), 1..24)) {
        let text = disguised(&serde_json::to_value(&value).unwrap(), &noise, true);
        prop_assert_eq!(from_slice::<Outer>(text.as_bytes()).unwrap(), value.clone(), "{}", text);
        let followed = format!(" {text} ]}} anything");
        prop_assert_eq!(first_of::<Outer>(followed.as_bytes()).unwrap().unwrap(), value);
        prop_assert!(from_slice::<Outer>(followed.as_bytes()).is_err());
    }

    #[test]
    fn a_text_that_breaks_off_is_refused(value in outer(), at in any::<prop::sample::Index>()) {
        let text = serde_json::to_vec(&value).unwrap();
        let cut = &text[..at.index(text.len())];
        prop_assert!(from_slice::<Outer>(cut).is_err());
        prop_assert!(first_of::<Outer>(cut).is_none_or(|read| read.is_err()));
    }

    #[test]
    fn whatever_comes_is_an_answer(text in broken()) {
        let plain = serde_json::from_slice::<Outer>(&text);
        let read = from_slice::<Outer>(&text);
        // Where the plain reader finds a value, so does ours; only names in another case may say more.
        if let Ok(plain) = plain {
            let read = read.as_ref().map_err(|error| TestCaseError::fail(error.to_string()))?;
            let renamed = String::from_utf8_lossy(&text).contains("KEY");
            prop_assert!(renamed || *read == plain, "{:?} {:?}", read, plain);
        }
        // What ours takes is JSON.
        if read.is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
        }
        prop_assert_eq!(from_slice::<Value>(&text).ok(), serde_json::from_slice::<Value>(&text).ok());
        let _ = first_of::<Outer>(&text).map(|read| read.map_err(|error| super::error_text(&error)));
        let _ = first_of::<Vec<Inner>>(&text);
    }
}
