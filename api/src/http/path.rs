//! Paths of the HTTP front: cleaning, splitting, unescaping. *Source:* spec http_api.md §1.

use std::borrow::Cow;

/// Cleans an escaped path: empty segments and `.` vanish, `..` goes up, never above the root. The result begins with a
/// slash and has none at the end.
pub(crate) fn clean(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    let plain = bytes.first() == Some(&b'/')
        && !bytes.windows(2).any(|two| two == b"//" || two == b"/.")
        && (bytes.len() == 1 || bytes.last() != Some(&b'/'));
    if plain {
        return Cow::Borrowed(path);
    }
    Cow::Owned(format!("/{}", pillion_runtime::message::clean_path(path)))
}

/// Whether every `%` of a path begins an escape; a request with another path is refused before anything looks at it.
pub(crate) fn has_valid_escapes(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    })
}

/// Unescapes a route parameter as a query value: `+` is a blank, `%XX` a byte.
///
/// # Errors
/// The text of the 400 answer for an escape that is none.
pub(crate) fn unescape_parameter(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes.get(index + 1..index + 3).unwrap_or_default();
                let value = std::str::from_utf8(digits)
                    .ok()
                    .filter(|_| digits.len() == 2)
                    .and_then(|two| u8::from_str_radix(two, 16).ok());
                let Some(value) = value.filter(|_| digits.iter().all(u8::is_ascii_hexdigit)) else {
                    let shown = String::from_utf8_lossy(&bytes[index..bytes.len().min(index + 3)]).into_owned();
                    return Err(format!(
                        "failed to unescape request parameter {text:?}. Error: invalid URL escape {shown:?}"
                    ));
                };
                out.push(value);
                index += 2;
            }
            byte => out.push(byte),
        }
        index += 1;
    }
    String::from_utf8(out).map_err(|_| format!("failed to unescape request parameter {text:?}. Error: not UTF-8"))
}

/// Decodes `%XX` of a path; a bad escape stays as it is.
pub(crate) fn decode_path(path: &str) -> Cow<'_, str> {
    if path.contains('%') {
        percent_encoding::percent_decode_str(path).decode_utf8_lossy()
    } else {
        Cow::Borrowed(path)
    }
}

/// The pairs of a query string; those with a bad escape or a semicolon are left out, as in the original.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescape_parameter(key).ok()?, unescape_parameter(value).ok()?))
    })
}

/// The `metadata.*` pairs of a query string; the first value of a key wins.
pub(crate) fn query_metadata(query: &str) -> std::collections::BTreeMap<String, String> {
    let mut metadata = std::collections::BTreeMap::new();
    if !query.contains("metadata.") && !query.contains('%') {
        return metadata;
    }
    for (key, value) in query_pairs(query) {
        if let Some(name) = key.strip_prefix("metadata.") {
            metadata.entry(name.to_owned()).or_insert(value);
        }
    }
    metadata
}

/// The actor a call of its method goes to: its type, with or without its id.
pub(crate) fn actor(path: &str, with_id: bool) -> String {
    let cleaned = clean(path);
    let mut segments = cleaned.split('/').skip(3).map(|segment| unescape_parameter(segment).unwrap_or_default());
    let mut name = segments.next().unwrap_or_default();
    if with_id {
        name.push('.');
        name.push_str(&segments.next().unwrap_or_default());
    }
    name
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_lexically() {
        for (path, cleaned) in [
            ("/a/b", "/a/b"),
            ("//a///b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/", "/"),
            ("/../x", "/x"),
            ("/a/", "/a"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn an_actor_is_named_with_or_without_its_id() {
        for (path, with_id, name) in [
            ("/v1.0/actors/T/i/method/m", true, "T.i"),
            ("/v1.0/actors/T/i/method/m", false, "T"),
            ("//v1.0/actors//T%2F1/i%20x/method/m/", true, "T/1.i x"),
        ] {
            assert_eq!(actor(path, with_id), name, "{path}");
        }
    }

    #[test]
    fn parameters_are_query_unescaped() {
        assert_eq!(unescape_parameter("a+b%2Fc").unwrap(), "a b/c");
        for bad in ["%", "%2", "%zz", "%+1"] {
            assert!(unescape_parameter(bad).unwrap_err().contains("failed to unescape request parameter"), "{bad}");
        }
    }

    #[test]
    fn escapes_are_two_digits() {
        for path in ["", "/a", "/%41", "/a%2f%25", "/%2525"] {
            assert!(has_valid_escapes(path), "{path}");
        }
        for path in ["/%", "/%4", "/%zz", "/%4%31", "/%+1", "/%é"] {
            assert!(!has_valid_escapes(path), "{path}");
        }
    }

    #[test]
    fn pairs_that_are_none_are_left_out() {
        let pairs: Vec<_> = query_pairs("a=1&b=%zz&c=1;d=2&&e").collect();
        assert_eq!(pairs, [("a".to_owned(), "1".to_owned()), ("e".to_owned(), String::new())]);
    }

    #[test]
    fn metadata_comes_from_the_query() {
        let metadata = query_metadata("x=1&metadata.ttlInSeconds=10&metadata.a%20b=c+d&metadata.ttlInSeconds=20");
        assert_eq!(metadata["ttlInSeconds"], "10");
        assert_eq!(metadata["a b"], "c d");
        assert_eq!(metadata.len(), 2);
    }
}
