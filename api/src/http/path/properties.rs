//! Properties of what a client may write into a path, a query and the headers of an invocation.
//!
//! *Job:* try random and hostile input against simple second implementations. `PROPTEST_CASES` sets the number of cases.
//! *Invariant:* nothing panics, what was escaped comes back, and both implementations agree.

use base64::Engine as _;
use http::header::{AUTHORIZATION, CONNECTION};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use pillion_runtime::message::{check_escapes, normalize_method, strip_hop_by_hop};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http::invoke::find_target;

/// Paths of the parts that matter, and anything at all.
fn paths() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(vec!["/", ".", "..", "//", "a", "%2F", "%2e", "%", "%4", "v1.0", "é", "/method/", "invoke", "+"])
            .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop_oneof![4 => vec(part, 0..12).prop_map(|parts| parts.concat()), 1 => any::<String>()]
}

/// Go's `path.Clean` of a rooted path, byte by byte, as its documentation describes it.
fn go_clean(path: &str) -> String {
    let text: Vec<char> = format!("/{path}").chars().collect();
    let mut out = vec!['/'];
    let mut read = 1;
    while read < text.len() {
        let end = text[read..].iter().position(|c| *c == '/').map_or(text.len(), |at| read + at);
        match &text[read..end] {
            [] | ['.'] => {}
            ['.', '.'] => {
                while out.len() > 1 && out.pop() != Some('/') {}
                if out.is_empty() {
                    out.push('/');
                }
            }
            segment => {
                if out.len() > 1 {
                    out.push('/');
                }
                out.extend(segment);
            }
        }
        read = end + 1;
    }
    out.into_iter().collect()
}

fn query(pairs: &[(String, String)], blank: &str) -> String {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replace("%20", blank);
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    pairs.join("&")
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn cleaning_is_that_of_go_and_settles(path in paths()) {
        let cleaned = clean(&path);
        prop_assert_eq!(&cleaned, &go_clean(&path));
        prop_assert_eq!(&clean(&cleaned), &cleaned, "cleaned again");
        prop_assert!(cleaned.starts_with('/') && (cleaned.len() == 1 || !cleaned.ends_with('/')));
        prop_assert!(cleaned.split('/').skip(1).all(|segment| segment != "." && segment != ".."));
    }

    #[test]
    fn escapes_are_judged_alike_everywhere(path in paths()) {
        let good = has_valid_escapes(&path);
        prop_assert_eq!(check_escapes(&path).is_ok(), good);
        let decoded = percent_decode(path.replace('+', " ").as_bytes()).decode_utf8().map(|text| text.into_owned());
        let read = unescape_parameter(&path);
        prop_assert_eq!(read.clone().ok(), decoded.ok().filter(|_| good), "{:?}", read);
    }

    #[test]
    fn what_was_escaped_comes_back(text in any::<String>(), blank in prop::sample::select(vec!["+", "%20"])) {
        let escaped = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
        prop_assert!(has_valid_escapes(&escaped));
        prop_assert_eq!(decode_path(&escaped), text.as_str());
        prop_assert_eq!(unescape_parameter(&escaped.replace("%20", blank)).unwrap(), text);
    }

    #[test]
    fn pairs_of_a_query_come_back(
        pairs in vec((any::<String>(), any::<String>()), 0..6),
        blank in prop::sample::select(vec!["+", "%20"]),
    ) {
        let read: Vec<_> = query_pairs(&query(&pairs, blank)).collect();
        prop_assert_eq!(read, pairs);
    }

    #[test]
    fn any_query_gives_what_its_pairs_say(
        text in any::<String>(),
        parts in vec(prop::sample::select(vec!["metadata.", "metadata%2E", "a", "=", "&", ";", "%", "%zz", "+", "%C3"]), 0..12),
    ) {
        for query in [text, parts.concat()] {
            let mut wanted = std::collections::BTreeMap::new();
            for (key, value) in query_pairs(&query) {
                if let Some(name) = key.strip_prefix("metadata.") {
                    wanted.entry(name.to_owned()).or_insert(value);
                }
            }
            prop_assert_eq!(query_metadata(&query), wanted, "{}", query);
        }
    }

    #[test]
    fn a_target_is_found_in_one_place(
        path in paths(),
        id in "[a-z][a-z0-9-]{0,12}",
        credentials in vec(any::<u8>(), 0..24),
        bytes in vec(any::<u8>(), 0..24),
    ) {
        // Whatever stands there: no panic, and never an empty target.
        let mut headers = HeaderMap::new();
        let encoded = base64::engine::general_purpose::STANDARD.encode(&credentials);
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Basic {encoded}")).unwrap());
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            headers.insert("dapr-app-id", value);
        }
        let _ = find_target(&path, &mut headers);
        if let Some((target, _)) = find_target(&path, &mut HeaderMap::new()) {
            prop_assert!(!target.is_empty());
        }

        // The method is cleaned whichever way the target is told.
        let method = clean(&path)[1..].to_owned();
        let mut headers = HeaderMap::new();
        headers.insert("dapr-app-id", HeaderValue::from_str(&id).unwrap());
        prop_assert_eq!(find_target(&path, &mut headers), Some((id.clone(), method.clone())));
        prop_assert!(headers.is_empty());
        let long = format!("/v1.0/invoke/{id}/method/{path}");
        prop_assert_eq!(find_target(&long, &mut headers), Some((id, method)));
    }

    #[test]
    fn a_method_never_leaves_the_app(path in paths()) {
        if let Ok(method) = normalize_method(&path) {
            prop_assert_eq!(method.starts_with('/'), path.starts_with('/'));
            prop_assert!(!method.split('/').any(|segment| segment == ".."), "{}", method);
        }
    }

    #[test]
    fn hop_by_hop_headers_end_here(
        named in vec(any::<u8>(), 0..24),
        names in vec("[a-z][a-z-]{0,10}(-bin)?", 0..8),
    ) {
        let mut headers = HeaderMap::new();
        for name in &names {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        }
        let kept: Vec<&String> = names.iter().filter(|name| !name.ends_with("-bin") && *name != "te").collect();
        let removed = names.first().filter(|name| *name != "connection").cloned().unwrap_or_default();
        let connection = [named.as_slice(), b",", removed.as_bytes()].concat();
        let Ok(connection) = HeaderValue::from_bytes(&connection) else { return Ok(()) };
        let is_text = connection.to_str().is_ok();
        headers.insert(CONNECTION, connection);
        strip_hop_by_hop(&mut headers);
        prop_assert!(!headers.contains_key(CONNECTION) && !headers.keys().any(|name| name.as_str().ends_with("-bin")));
        if is_text && !removed.is_empty() {
            prop_assert!(!headers.contains_key(&removed));
        }
        let listed: Vec<String> =
            String::from_utf8_lossy(&named).split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        for name in kept {
            let fixed = ["upgrade", "trailer", "keep-alive", "connection"].contains(&name.as_str());
            prop_assert!(fixed || *name == removed || listed.contains(name) || headers.contains_key(name), "{} is gone", name);
        }
    }
}
