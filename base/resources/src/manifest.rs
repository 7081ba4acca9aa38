//! One document of a file: which kind it is, whether it is ours, and its typed value.

use std::path::Path;

use crate::check::{Checker, Dialect};
use crate::decode;
use crate::distance::{did_you_mean, nearest};
use crate::finding::{Finding, Severity};
use crate::rules::{self, PolicyReference};
use crate::schema::{KINDS, Kind};
use crate::types::{Component, HttpEndpoint, Origin, Resiliency, Subscription};
use crate::yaml::{Chunk, Entry, Node, Scalar, SyntaxError, Value, parse};

/// A document that was read.
#[derive(Debug)]
pub(crate) enum Manifest {
    Component(Component),
    Subscription(Subscription),
    Resiliency(Resiliency, Vec<PolicyReference>),
    HttpEndpoint(HttpEndpoint),
    /// A Configuration; it is typed only by [`crate::configuration`].
    Configuration(Origin),
    /// A kind whose block reads it by itself.
    Other(Other),
}

/// Header of a manifest without a typed form here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// Name as written in messages about duplicates.
    pub(crate) log_name: String,
    pub(crate) origin: Origin,
}

/// Reads one document; problems go to `findings`. `None` when it loads nothing.
pub(crate) fn read(
    file: &Path,
    chunk: Chunk<'_>,
    known_types: &[&str],
    findings: &mut Vec<Finding>,
) -> Option<Manifest> {
    let node = match parse(chunk) {
        Ok(parsed) => {
            let again = |repeated: &SyntaxError| {
                let message = format!("{}; the last one is used", repeated.message);
                finding(Severity::Warning, file, repeated.line, "", message, "remove one of them")
            };
            findings.extend(parsed.repeated.iter().map(again));
            parsed.root?
        }
        Err(error) => {
            let message = format!("not valid YAML: {}", error.message);
            findings.push(finding(Severity::Error, file, error.line, "", message, syntax_hint(chunk, error.line)));
            return None;
        }
    };
    if node.is_null() {
        return None;
    }
    let origin = Origin { file: file.to_owned(), line: node.line };
    let kind = kind_of(file, &node, findings)?;
    let mut checker = Checker::new(
        file,
        if kind.name == "Configuration" { Dialect::Configuration } else { Dialect::Manifest },
        node.line,
    );
    let document = checker.object(&node, "", kind.fields);
    let manifest = if checker.unusable {
        None
    } else {
        rules::check_name(&mut checker, &document).then(|| match kind.name {
            "Component" => {
                let component = decode::component(&document, origin, &checker);
                rules::component(&mut checker, &component, known_types);
                Manifest::Component(component)
            }
            "Subscription" => {
                let subscription = decode::subscription(&document, origin);
                rules::subscription(&mut checker, &subscription, kind.api_version);
                Manifest::Subscription(subscription)
            }
            "Resiliency" => {
                let resiliency = decode::resiliency(&document, origin);
                let references = rules::resiliency(&mut checker, &resiliency);
                Manifest::Resiliency(resiliency, references)
            }
            "HTTPEndpoint" => {
                let endpoint = decode::http_endpoint(&document, origin, &checker);
                rules::http_endpoint(&mut checker, &endpoint);
                Manifest::HttpEndpoint(endpoint)
            }
            "Configuration" => {
                rules::configuration(&mut checker, &document);
                Manifest::Configuration(origin)
            }
            _ => {
                rules::other(&mut checker, kind.name, &document);
                Manifest::Other(decode::other(&document, kind.name, origin))
            }
        })
    };
    findings.append(&mut checker.findings);
    manifest
}

/// Finds the kind of a document, or says why nothing is loaded from it.
fn kind_of(file: &Path, node: &Node, findings: &mut Vec<Finding>) -> Option<&'static Kind> {
    let Value::Map(entries) = &node.value else {
        let message = format!(
            "expected a manifest (a map with apiVersion, kind, metadata and spec), found {}; nothing was loaded",
            node.describe()
        );
        findings.push(finding(Severity::Warning, file, node.line, "", message, ""));
        return None;
    };
    let Some(kind) = header(node, "kind").filter(|kind| !kind.is_empty()) else {
        findings.push(finding(
            Severity::Warning,
            file,
            node.line,
            "",
            "no kind; nothing was loaded",
            without_kind(entries),
        ));
        return None;
    };
    let line = |key: &str| {
        entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key)).map_or(node.line, |entry| entry.line)
    };
    let version = header(node, "apiVersion").unwrap_or_default();
    let same_name: Vec<&'static Kind> = KINDS.iter().filter(|known| known.name == kind).collect();
    if same_name.is_empty() {
        let message = format!("unknown kind {kind:?}; nothing was loaded");
        let mut suggestion = did_you_mean(&kind, KINDS.iter().map(|known| known.name));
        if suggestion.is_empty() {
            suggestion = format!("the kinds are {}", kind_names().join(", "));
        }
        findings.push(finding(Severity::Warning, file, line("kind"), "kind", message, suggestion));
        return None;
    }
    if let Some(exact) = same_name.iter().find(|known| known.api_version == version) {
        return Some(exact);
    }
    let versions = same_name.iter().map(|known| known.api_version).collect::<Vec<_>>().join(" or ");
    let what = if version.is_empty() {
        "no apiVersion".to_owned()
    } else {
        format!("unknown apiVersion {version:?} of kind {kind}")
    };
    if kind == "Resiliency" {
        let message = format!("{what}; the document is loaded all the same");
        findings.push(finding(
            Severity::Warning,
            file,
            line("apiVersion"),
            "apiVersion",
            message,
            format!("write {versions}"),
        ));
        return same_name.first().copied();
    }
    findings.push(finding(
        Severity::Warning,
        file,
        line("apiVersion"),
        "apiVersion",
        format!("{what}; nothing was loaded"),
        format!("write {versions}"),
    ));
    None
}

fn kind_names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = KINDS.iter().map(|kind| kind.name).collect();
    names.dedup();
    names
}

/// Text of a header field, whatever its capitals.
fn header(node: &Node, key: &str) -> Option<String> {
    let Value::Map(entries) = &node.value else { return None };
    let entry = entries
        .iter()
        .find(|entry| entry.key == key)
        .or_else(|| entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key)))?;
    match &entry.value.value {
        Value::Scalar { resolved: Scalar::Null, .. } => None,
        Value::Scalar { resolved, text } => Some(resolved.canonical(text)),
        _ => None,
    }
}

/// Guesses what a document without `kind` was meant to be.
fn without_kind(entries: &[Entry]) -> String {
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    let has = |key: &str| keys.contains(&key);
    if let Some(slip) = keys.iter().find(|key| nearest(key, ["kind"]).is_some()) {
        return format!("did you mean kind instead of {slip}?");
    }
    if has("apps") {
        return "this looks like a template for run -f, which does not belong to the resources".to_owned();
    }
    if has("spec") && keys.iter().any(|key| *key == "metadata" || key.eq_ignore_ascii_case("apiVersion")) {
        return format!("add a line kind: with one of {}", kind_names().join(", "));
    }
    let children = |entry: &Entry| match &entry.value.value {
        Value::Map(children) => children.iter().map(|child| child.key.clone()).collect(),
        _ => Vec::new(),
    };
    let mut inner: Vec<String> = entries.iter().flat_map(children).collect();
    inner.extend(keys.iter().map(|key| (*key).to_owned()));
    let mentions = |words: &[&str]| inner.iter().any(|key| words.contains(&key.as_str()));
    if mentions(&["policies", "targets"]) || ["timeouts", "circuitBreakers"].iter().any(|key| has(key)) {
        return "did you mean a Resiliency with spec.policies and spec.targets?".to_owned();
    }
    if has("retries") || mentions(&["policy", "maxRetries", "maxInterval"]) {
        return "did you mean spec.policies.retries?".to_owned();
    }
    if mentions(&["trip", "maxRequests"]) {
        return "did you mean spec.policies.circuitBreakers?".to_owned();
    }
    if has("pubsubname") || has("topic") {
        return "did you mean spec of a Subscription?".to_owned();
    }
    if has("type") || has("version") {
        return "did you mean spec of a Component?".to_owned();
    }
    if has("tracing") || has("accessControl") || has("features") {
        return "did you mean spec of a Configuration?".to_owned();
    }
    format!("a manifest needs apiVersion, kind (one of {}), metadata and spec", kind_names().join(", "))
}

/// The usual cause of a syntax error, seen on its line.
fn syntax_hint(chunk: Chunk<'_>, line: usize) -> String {
    let number = line.saturating_sub(chunk.line);
    let lines = [number, number.saturating_sub(1)];
    let text: Vec<&str> = lines.iter().filter_map(|number| chunk.text.lines().nth(*number)).collect();
    if text.iter().any(|line| line.trim_start_matches(' ').starts_with('\t') || line.starts_with('\t')) {
        return "indent with spaces, not tabs".to_owned();
    }
    if text.first().is_some_and(|line| line.matches(": ").count() > 1 && !line.contains('{')) {
        return "put the value in quotes, since it contains a colon".to_owned();
    }
    "look at the indentation, quotes and brackets here and on the line before".to_owned()
}

pub(crate) fn finding(
    severity: Severity,
    file: &Path,
    line: usize,
    field: &str,
    message: impl Into<String>,
    suggestion: impl Into<String>,
) -> Finding {
    Finding {
        severity,
        file: file.to_owned(),
        line,
        field: field.to_owned(),
        message: message.into(),
        suggestion: suggestion.into(),
    }
}
