//! Cross-origin requests of browsers (`--allowed-origins`). *Source:* spec http_api.md §1, the fetch standard.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

const VERBS: [&str; 6] = ["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE"];

/// Which origins may call.
#[derive(Debug)]
pub(super) struct Cors {
    /// `None` = all.
    origins: Option<Vec<String>>,
}

impl Cors {
    /// Reads `--allowed-origins`; empty switches it off.
    pub(super) fn new(allowed_origins: &str) -> Option<Self> {
        match allowed_origins {
            "" => None,
            "*" => Some(Self { origins: None }),
            list => {
                let origins: Vec<String> = list.split(',').map(|origin| origin.trim().to_ascii_lowercase()).collect();
                let all = origins.iter().any(|origin| origin == "*");
                Some(Self { origins: (!all).then_some(origins) })
            }
        }
    }

    /// Whether a request only asks what a browser may send.
    pub(super) fn is_preflight(verb: &Method, headers: &HeaderMap) -> bool {
        *verb == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The headers of the answer to a preflight.
    pub(super) fn preflight(&self, asked: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        for name in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS] {
            answer.append(VARY, HeaderValue::from(name));
        }
        let verb = asked
            .get(ACCESS_CONTROL_REQUEST_METHOD)
            .and_then(|verb| verb.to_str().ok())
            .unwrap_or_default()
            .to_ascii_uppercase();
        let (Some(origin), true) = (self.allowed(asked), verb == "OPTIONS" || VERBS.contains(&verb.as_str())) else {
            return answer;
        };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if let Ok(verb) = HeaderValue::from_str(&verb) {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, verb);
        }
        if let Some(headers) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|headers| !headers.is_empty()) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        answer
    }

    /// The headers added to the answer of any other request.
    pub(super) fn actual(&self, verb: &Method, asked: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        answer.insert(VARY, HeaderValue::from(ORIGIN));
        let is_allowed = *verb == Method::OPTIONS || VERBS.contains(&verb.as_str());
        if let Some(origin) = self.allowed(asked).filter(|_| is_allowed) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        answer
    }

    fn allowed(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        let origin = asked.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        let Some(origins) = &self.origins else { return Some(HeaderValue::from_static("*")) };
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        let fits = |pattern: &String| match pattern.split_once('*') {
            Some((start, end)) => {
                text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
            }
            None => *pattern == text,
        };
        origins.iter().any(fits).then(|| origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("put"));
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-a,x-b"));
        headers
    }

    #[test]
    fn only_listed_origins_are_named() {
        assert!(Cors::new("").is_none());
        let cors = Cors::new("http://a.example, http://*.b.example").unwrap();
        for (origin, allowed) in [("http://a.example", true), ("http://x.b.example", true), ("http://c.example", false)]
        {
            let answer = cors.actual(&Method::GET, &asked(origin));
            assert_eq!(
                answer.get(ACCESS_CONTROL_ALLOW_ORIGIN).is_some_and(|value| value == origin),
                allowed,
                "{origin}"
            );
        }
        assert_eq!(
            Cors::new("*").unwrap().actual(&Method::GET, &asked("http://c.example"))[ACCESS_CONTROL_ALLOW_ORIGIN],
            "*"
        );
    }

    #[test]
    fn a_preflight_repeats_what_was_asked() {
        let answer = Cors::new("*").unwrap().preflight(&asked("http://a.example"));
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-a,x-b");
        let refused = Cors::new("http://a.example").unwrap().preflight(&asked("http://c.example"));
        assert!(!refused.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }
}
