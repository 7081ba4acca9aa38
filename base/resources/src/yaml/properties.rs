//! Properties of the YAML reader, of manifests and of Configuration files.
//!
//! *Job:* write random values as YAML and read them back; feed broken text to everything that reads files. `PROPTEST_CASES` sets
//! the number of cases. *Invariant:* nothing panics, a value that was written comes back, and each finding names a line that exists.

use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Number, Value as Json};

use super::{Chunk, Scalar, parse, split};
use crate::{LoadOptions, expand_environment, read_document, validate_text};

/// Text as people and machines write it, with everything that means something in YAML.
fn texts() -> impl Strategy<Value = String> {
    let words = vec![
        "yes",
        "no",
        "null",
        "~",
        "0777",
        "1_000",
        "1e3",
        "- a",
        "a: b",
        "#x",
        "'",
        "\"",
        "\\",
        "{",
        "[",
        "%",
        "&a",
        "*a",
        "!!str",
        "---",
        "|",
        ">",
        " ",
        "<<",
        "@",
        "`",
        "?",
        "é",
        "\u{2028}",
        "\u{85}",
        "\u{feff}",
        "\u{1f600}",
        "\t",
        "\n",
        "\r",
        "\0",
        "\u{7f}",
    ];
    let word = prop::sample::select(words).prop_map(str::to_owned);
    prop_oneof![3 => word.clone(), 2 => vec(word, 0..5).prop_map(|words| words.concat()), 3 => "[a-zA-Z0-9 ._-]{0,12}", 1 => any::<String>()]
}

fn keys() -> impl Strategy<Value = String> {
    texts().prop_filter("a merge key is none of the map", |key| key != "<<")
}

fn values() -> impl Strategy<Value = Json> {
    let number = prop_oneof![any::<i64>().prop_map(Number::from), any::<u64>().prop_map(Number::from)];
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::Bool),
        2 => number.prop_map(Json::Number),
        4 => texts().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::Array),
            btree_map(keys(), inner, 0..4).prop_map(|entries| Json::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A value in block style: two spaces a level, scalars and keys as JSON writes them.
fn block(value: &Json, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Json::Array(items) if !items.is_empty() => {
            items.iter().map(|item| format!("\n{indent}-{}", block(item, depth + 1))).collect()
        }
        Json::Object(entries) if !entries.is_empty() => entries
            .iter()
            .map(|(key, value)| format!("\n{indent}{}:{}", Json::from(key.as_str()), block(value, depth + 1)))
            .collect(),
        other => format!(" {other}"),
    }
}

fn read(text: &str) -> Result<Json, String> {
    let parsed = parse(Chunk { line: 1, text }).map_err(|error| format!("{}: {}", error.line, error.message))?;
    Ok(parsed.root.map_or(Json::Null, |root| root.to_json()))
}

/// Pieces of manifests in any order.
fn broken() -> impl Strategy<Value = String> {
    let pieces = vec![
        "apiVersion: dapr.io/v1alpha1\n",
        "kind: Component\n",
        "kind: Configuration\n",
        "kind: Resiliency\n",
        "kind: Subscription\n",
        "metadata:\n",
        "  name: a\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "  type: state.in-memory\n",
        "  version: v1\n",
        "  metadata:\n",
        "  - name: x\n    value: y\n",
        "  - {name: x, secretKeyRef: {name: s}}\n",
        "scopes: [a, b]\n",
        "---\n",
        "- ",
        "  ",
        "\t",
        "? ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        "&a ",
        "*a",
        "<<: *a\n",
        "!!",
        "|\n",
        ">-\n",
        "# c\n",
        "a",
        "\n",
        "\r\n",
        "%YAML 1.1\n",
        "...\n",
        "é",
        "\0",
        "\u{feff}",
        "\u{85}",
        "  policies:\n",
        "    retries: {r: {policy: constant, maxRetries: -1}}\n",
        "  tracing: {samplingRate: 2, otel: {timeout: x}}\n",
        "  features: [{name: HotReload}]\n",
        "  topic: t\n",
        "  routes: {default: /x}\n",
    ];
    prop_oneof![6 => vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat()), 1 => any::<String>()]
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn json_is_yaml(value in values()) {
        prop_assert_eq!(read(&value.to_string()), Ok(value.clone()), "{}", value);
    }

    #[test]
    fn blocks_come_back(value in values()) {
        let text = block(&value, 0);
        prop_assert_eq!(read(&text), Ok(value), "{}", text);
    }

    #[test]
    fn whole_numbers_are_read_in_every_base(number in any::<u64>(), negative in any::<bool>()) {
        let signed = if negative { -i128::from(number) } else { i128::from(number) };
        let wanted = if signed >= i128::from(i64::MIN) { Some(signed) } else { None };
        let sign = if negative { "-" } else { "" };
        let forms = [format!("{number}"), format!("0x{number:x}"), format!("0X{number:X}"), format!("0o{number:o}"), format!("0b{number:b}")];
        for form in forms {
            match Scalar::resolve(&format!("{sign}{form}")) {
                Scalar::Integer(read) => prop_assert_eq!(Some(read), wanted),
                other => prop_assert!(wanted.is_none() && !matches!(other, Scalar::Bool(_) | Scalar::Null), "{}: {:?}", form, other),
            }
        }
    }

    #[test]
    fn a_scalar_is_a_number_only_when_it_can_be_one(text in "[-+.0-9eExob_a-fn~]{0,10}") {
        match Scalar::resolve(&text) {
            Scalar::Float(float) => prop_assert_eq!(text.replace('_', "").parse::<f64>().ok(), Some(float)),
            Scalar::Integer(integer) => {
                let canonical = Scalar::Integer(integer).canonical(&text);
                prop_assert_eq!(Scalar::resolve(&canonical), Scalar::Integer(integer), "{}", canonical);
            }
            _ => {}
        }
        prop_assert!(!matches!(Scalar::resolve(&text).to_json(&text), Json::Array(_) | Json::Object(_)));
    }

    #[test]
    fn splitting_loses_only_separators(text in broken()) {
        let chunks = split(&text);
        let kept: usize = chunks.iter().map(|chunk| chunk.text.len()).sum();
        let dropped: usize = text
            .split_inclusive('\n')
            .enumerate()
            .filter(|(number, line)| *number > 0 && line.starts_with("---"))
            .map(|(_, line)| line.len())
            .sum();
        prop_assert_eq!(kept + dropped, text.len());
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for chunk in chunks.iter().filter(|chunk| !chunk.text.is_empty()) {
            prop_assert!(chunk.text.starts_with(lines[chunk.line - 1]), "{:?}", chunk);
        }
    }

    #[test]
    fn whatever_is_in_a_file_is_a_finding_or_a_value(text in broken()) {
        let last = text.split('\n').count() + 1;
        let file = Path::new("file.yaml");
        for finding in validate_text(file, &text, &LoadOptions::default()) {
            prop_assert!(finding.line <= last, "{} of {:?}", finding, text);
        }
        let _ = read_document(file, &text);
    }

    #[test]
    fn variables_are_replaced_once(text in "[a-zA-Z0-9 ${}_*é\n-]{0,24}", value in "[a-z${}]{0,4}") {
        let mut lines_end = true;
        let mut names = 0;
        let expanded = expand_environment(&text, &mut |name, line| {
            lines_end &= line >= 1 && line <= text.split('\n').count();
            names += usize::from(!name.is_empty());
            Some(value.clone())
        });
        prop_assert!(lines_end);
        prop_assert!(text.contains('$') || (expanded == text && names == 0));
        // What a value holds is not looked at again: the result is the text with each name cut out and a value put in.
        prop_assert!(expanded.len() <= text.len() + names * value.len());
    }
}
