//! What a policy sees of a request: `input.request`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::header::HeaderName;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use regorus::Value;

/// The input document. *Source:* components-contrib `middleware/http/opa/middleware.go`.
pub(crate) fn document(parts: &Parts, included: &[HeaderName], body: &str) -> Value {
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    let raw_query = parts.uri.query().unwrap_or_default();
    let request = object([
        ("method", parts.method.as_str().into()),
        ("path", path.as_ref().into()),
        ("path_parts", path.trim_matches('/').split('/').map(Value::from).collect::<Vec<_>>().into()),
        ("raw_query", raw_query.into()),
        ("query", query(raw_query)),
        ("headers", headers(parts, included)),
        // A server sees no scheme in the request line, which is what the original looks at.
        ("scheme", parts.uri.scheme_str().unwrap_or_default().into()),
        ("body", body.into()),
    ]);
    object([("request", request)])
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    fields.into_iter().map(|(name, value)| (Value::from(name), value)).collect::<BTreeMap<_, _>>().into()
}

/// Included headers that are there, in Go's spelling, several values joined.
fn headers(parts: &Parts, included: &[HeaderName]) -> Value {
    let mut found = BTreeMap::new();
    for name in included {
        let values: Vec<Cow<'_, str>> =
            parts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        // Go's server takes the host out of the headers.
        if !values.is_empty() && name != http::header::HOST {
            found.insert(Value::from(canonical(name.as_str())), Value::from(values.join(", ")));
        }
    }
    found.into()
}

/// Each word of a header name with a capital: `X-My-Header`.
pub(crate) fn canonical(name: &str) -> String {
    let mut upper = true;
    let letter = |letter: char| {
        let letter = if upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        upper = letter == '-';
        letter
    };
    name.chars().map(letter).collect()
}

/// The values of each name. As in Go, a pair that is not well encoded, or has a semicolon, is left out.
fn query(raw: &str) -> Value {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(name), Some(value)) = (unescape(name), unescape(value)) {
            found.entry(name).or_default().push(value.into());
        }
    }
    found.into_iter().map(|(name, values)| (Value::from(name), Value::from(values))).collect::<BTreeMap<_, _>>().into()
}

fn unescape(text: &str) -> Option<String> {
    let escapes_are_whole = text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    escapes_are_whole.then(|| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_document() {
        let mut request = http::Request::get("/forbidden/a%20b/?x=1&y=a+b&x=%32&bad=%zz&s=1;2").body(()).unwrap();
        for (name, value) in [("host", "h"), ("x-one", "1"), ("x-one", "2"), ("x-hidden", "3")] {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let included = ["x-one", "host", "x-missing"].map(HeaderName::from_static);
        let found = document(&request.into_parts().0, &included, "text");
        let expected = r#"{"request": {"method": "GET", "path": "/forbidden/a b/", "path_parts": ["forbidden", "a b"],
            "raw_query": "x=1&y=a+b&x=%32&bad=%zz&s=1;2", "query": {"x": ["1", "2"], "y": ["a b"]},
            "headers": {"X-One": "1, 2"}, "scheme": "", "body": "text"}}"#;
        assert_eq!(found, Value::from_json_str(expected).unwrap());
    }
}
