//! The label `path` of HTTP metrics: what keeps the number of series bounded. *Source:* spec metrics.md §2.2.

use std::borrow::Cow;

use super::pattern::Patterns;

/// Labels as they are, whatever the settings: what the runtime itself asks an app, a bounded set.
const FIXED: [&str; 4] = ["/dapr/config", "/dapr/metrics", "/dapr/subscribe", "/healthz"];

/// Makes labels of paths.
#[derive(Debug)]
pub(super) struct PathLabels {
    increased: bool,
    patterns: Option<Patterns>,
}

impl PathLabels {
    pub(super) fn new(increased: bool, path_matching: &[String]) -> Self {
        Self { increased, patterns: Patterns::new(path_matching) }
    }

    /// The label of a path that was called on the sidecar.
    pub(super) fn of_server<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        match (&self.patterns, self.increased) {
            (Some(_), _) => match normalize(path) {
                Cow::Borrowed(path) => self.label(path),
                Cow::Owned(path) => Cow::Owned(self.label(&path).into_owned()),
            },
            (None, true) => generalize(path),
            (None, false) => Cow::Borrowed(""),
        }
    }

    /// The label of a path that is called on the app.
    pub(super) fn of_client<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        let label = self.label(path);
        if self.patterns.is_none() && (!self.increased || matches!(label, Cow::Borrowed(_))) {
            return label; // a part of the path that is general already
        }
        match label {
            Cow::Borrowed(label) => generalize(label),
            Cow::Owned(label) => Cow::Owned(generalize(&label).into_owned()),
        }
    }

    fn label<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        if FIXED.contains(&path) {
            return Cow::Borrowed(path);
        }
        if let Some(patterns) = &self.patterns {
            if let Some(pattern) = patterns.find(&normalize(path)) {
                return Cow::Borrowed(pattern);
            }
            let general = generalize(path);
            if general != path
                && let Some(pattern) = patterns.find(&general).filter(|pattern| *pattern != "/")
            {
                return Cow::Borrowed(pattern);
            }
        }
        if self.increased { generalize(path) } else { Cow::Borrowed("") }
    }
}

/// One slash at the beginning, and one where there are several.
pub(super) fn normalize(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 1);
    out.push('/');
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Takes ids and keys out of the paths of the API.
fn generalize(path: &str) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed(path);
    }
    let normal = normalize(path);
    if !normal.as_bytes().get(1..).unwrap_or_default().contains(&b'/') {
        return normal; // one segment
    }
    if let Some(length) = without_key(&normal) {
        return match normal {
            Cow::Borrowed(path) => Cow::Borrowed(&path[..length]),
            Cow::Owned(mut path) => {
                path.truncate(length);
                Cow::Owned(path)
            }
        };
    }
    match rewritten(&normal) {
        Some(text) => Cow::Owned(text),
        None => normal,
    }
}

/// How much of `/{version}/state/{store}/...` and `/{version}/secrets/{store}/...` stays: up to and with the name of the store.
fn without_key(path: &str) -> Option<usize> {
    let slash_from = |from: usize| path.bytes().skip(from).position(|byte| byte == b'/').map(|at| from + at);
    let group = slash_from(1)? + 1;
    let store = ["state/", "secrets/"]
        .into_iter()
        .find(|name| path[group..].starts_with(name))
        .map(|name| group + name.len())?;
    if path.starts_with("/actors/") {
        return None; // ids of actors are another rule
    }
    Some(slash_from(store).unwrap_or(path.len()))
}

/// `None`: stays as it is.
fn rewritten(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let mut pieces = path.strip_prefix('/').unwrap_or(path).splitn(6, '/');
    let (first, second) = (pieces.next()?, pieces.next()?);
    // Looked at before anything is allocated: most paths are none of these.
    if first != "actors" && !matches!(second, "actors" | "workflows") {
        return None;
    }
    parts.extend([first, second]);
    parts.extend(pieces);
    if parts.len() < 3 {
        return None;
    }
    if first == "actors" {
        parts[2] = "{id}";
        return Some(parts.join("/"));
    }
    let keep = |parts: &[&str], number: usize| Some(format!("/{}", parts[..number.min(parts.len())].join("/")));
    match second {
        "actors" if parts.len() >= 5 => {
            parts[3] = "{id}";
            keep(&parts, 5)
        }
        "workflows" if parts.len() == 4 => {
            parts[3] = "{instanceId}";
            keep(&parts, 4)
        }
        "workflows" if parts.len() == 5 && parts[4].starts_with("start") => {
            parts[4] = "start";
            keep(&parts, 5)
        }
        "workflows" if parts.len() >= 5 => {
            parts[3] = "{instanceId}";
            if parts.len() == 6 && parts[4] == "raiseEvent" && !parts[5].is_empty() {
                parts[5] = "{eventName}";
                return keep(&parts, 6);
            }
            keep(&parts, 5)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(increased: bool, patterns: &[&str], path: &str) -> String {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        PathLabels::new(increased, &patterns).of_server(path).into_owned()
    }

    #[test]
    fn high_cardinality_takes_ids_out_of_the_api() {
        for (path, label) in [
            ("/v1.0/invoke/a/method/orders/1", "/v1.0/invoke/a/method/orders/1"),
            ("//v1.0//healthz", "/v1.0/healthz"),
            ("/v1.0/state/store/key", "/v1.0/state/store"),
            ("/v1.0/secrets/store/name/x", "/v1.0/secrets/store"),
            ("/v1.0/state", "/v1.0/state"),
            ("/v1.0/actors/T/1/method/foo", "/v1.0/actors/T/{id}/method"),
            ("/v1.0/actors/T/1", "/v1.0/actors/T/1"),
            ("/v1.0/workflows/dapr/1", "/v1.0/workflows/dapr/{instanceId}"),
            ("/v1.0/workflows/dapr/w/start?x", "/v1.0/workflows/dapr/w/start"),
            ("/v1.0/workflows/dapr/1/pause", "/v1.0/workflows/dapr/{instanceId}/pause"),
            ("/v1.0/workflows/dapr/1/raiseEvent/e", "/v1.0/workflows/dapr/{instanceId}/raiseEvent/{eventName}"),
            ("actors/T/1/method/m", "actors/T/{id}/method/m"),
            ("orders", "/orders"),
            ("", ""),
        ] {
            assert_eq!(server(true, &[], path), label, "{path}");
        }
    }

    #[test]
    fn low_cardinality_has_no_path_on_the_server() {
        for path in ["/v1.0/healthz", "/dapr/config", "/x"] {
            assert_eq!(server(false, &[], path), "", "{path}");
        }
    }

    #[test]
    fn low_cardinality_keeps_the_fixed_paths_of_the_app() {
        for patterns in [vec![], vec!["/orders/{id}".to_owned()]] {
            let labels = PathLabels::new(false, &patterns);
            for path in FIXED {
                assert_eq!(labels.of_client(path), path);
            }
            for path in ["/dapr/config/more", "/items/1", ""] {
                assert_eq!(labels.of_client(path), "", "{path}");
            }
        }
    }

    #[test]
    fn patterns_are_labels() {
        let patterns = [
            "/v1.0/invoke/app/method/orders/1234",
            "/v1.0/invoke/app/method/orders/{orderID}",
            "/v1.0/invoke/app/method/orders",
            "/v1.0/state/store/{key}",
            "/items/{id}",
        ];
        for (path, label) in [
            ("/v1.0/invoke/app/method/orders/1", "/v1.0/invoke/app/method/orders/{orderID}"),
            ("//v1.0/invoke/app/method/orders/1", "/v1.0/invoke/app/method/orders/{orderID}"),
            ("/v1.0/invoke/app/method/orders/1234", "/v1.0/invoke/app/method/orders/1234"),
            ("/v1.0/invoke/app/method/orders", "/v1.0/invoke/app/method/orders"),
            ("/v1.0/invoke/other/method/items/7", "/v1.0/invoke/{app_id}/method/items/{id}"),
            ("/v1.0/state/store/a", "/v1.0/state/store/{key}"),
            ("/v1.0/state/store/a/b", ""),
            ("/elsewhere", ""),
        ] {
            assert_eq!(server(false, &patterns, path), label, "{path}");
        }
        assert_eq!(server(true, &patterns, "/elsewhere"), "/elsewhere");
        assert_eq!(PathLabels::new(true, &["/items/{id}".to_owned()]).of_client("items/7"), "/items/{id}");
    }
}
