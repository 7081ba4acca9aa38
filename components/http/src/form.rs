//! Form encoding and paths as Go writes them, so that tokens, redirects and rewritten paths look the same on the wire.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Go's `QueryEscape`: everything but letters, digits and `-_.~`.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Go's `EscapedPath` of a path without a raw form.
const PATH: &AsciiSet = &QUERY
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// Escapes a query key or value; a space becomes `+`.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string().replace("%20", "+")
}

/// Escapes a decoded path.
pub(crate) fn escape_path(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// The decoded form of a path; bytes that are no UTF-8 become U+FFFD.
pub(crate) fn decode_path(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

/// Reads a query or form body; pairs that are not escaped correctly or hold a `;` are left out, as Go's `Query` does.
pub(crate) fn parse(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(key)?, unescape(value)?))
        })
        .collect()
}

/// Writes pairs sorted by key; values of one key keep their order.
pub(crate) fn encode(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    pairs.join("&")
}

fn unescape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !is_escape(at)) {
        return None;
    }
    let spaced = text.replace('+', " ");
    Some(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_written_as_go_writes_them() {
        let pairs = vec![("scope".to_owned(), "a b".to_owned()), ("client_id".to_owned(), "~*ü&=".to_owned())];
        assert_eq!(encode(pairs), "client_id=~%2A%C3%BC%26%3D&scope=a+b");
        assert_eq!(escape_path("/a b/ü@:$&+,;=?%"), "/a%20b/%C3%BC@:$&+,;=%3F%25");
    }

    #[test]
    fn forms_are_read_leniently() {
        let expected = [("a", "1 2"), ("b", ""), ("c", "ü")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(parse("a=1+2&b&&c=%C3%BC&bad=%zz&x=1;y=2"), expected);
        assert_eq!(parse(""), []);
    }
}
