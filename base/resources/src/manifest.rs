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
    Configuration(Other),
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
    pub(crate) document: serde_json::Value,
    /// It has mistakes that keep it from being loaded.
    pub(crate) is_refused: bool,
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
                finding(Severity::Warning, file, repeated.line, &repeated.path, message, "remove one of them")
            };
            findings.extend(parsed.repeated.iter().map(again));
            parsed.root?
        }
        Err(error) => {
            let (line, message, hint) = syntax_problem(chunk, error);
            findings.push(finding(Severity::Error, file, line, "", format!("not valid YAML: {message}"), hint));
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
                Manifest::Configuration(decode::other(&document, kind.name, origin))
            }
            _ => {
                rules::other(&mut checker, kind.name, &document);
                let mut other = decode::other(&document, kind.name, origin);
                // An MCPServer may say that its errors are to be ignored; the block that takes it decides.
                if kind.name == "WorkflowAccessPolicy" {
                    for error in checker.findings.iter_mut().filter(|finding| finding.is_error()) {
                        other.is_refused = true;
                        error.message = format!(
                            "WorkflowAccessPolicy {:?} failed validation, skipping: {}",
                            other.name, error.message
                        );
                    }
                }
                Manifest::Other(other)
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
        let message = "no kind; nothing was loaded";
        findings.push(match slip(entries, "kind") {
            Some(slip) => {
                let suggestion = format!("did you mean kind instead of {}?", slip.key);
                finding(Severity::Warning, file, slip.line, &slip.key, message, suggestion)
            }
            None => finding(Severity::Warning, file, node.line, "", message, without_kind(entries)),
        });
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
        if version.is_empty() && slip(entries, "apiVersion").is_some() {
            return same_name.first().copied(); // told as an unknown field
        }
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
    findings.push(match slip(entries, "apiVersion").filter(|_| version.is_empty()) {
        Some(slip) => {
            let suggestion = format!("did you mean apiVersion instead of {}?", slip.key);
            finding(Severity::Warning, file, slip.line, &slip.key, format!("{what}; nothing was loaded"), suggestion)
        }
        None => finding(
            Severity::Warning,
            file,
            line("apiVersion"),
            "apiVersion",
            format!("{what}; nothing was loaded"),
            format!("write {versions}"),
        ),
    });
    None
}

/// A key that was probably meant to be this one.
fn slip<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| nearest(&entry.key, [key]).is_some())
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

/// Where a syntax error really is, what it is, and its usual cause. The parser notices some only where their effect ends.
fn syntax_problem(chunk: Chunk<'_>, error: SyntaxError) -> (usize, String, String) {
    let number = error.line.saturating_sub(chunk.line);
    let text: Vec<&str> = chunk.text.lines().collect();
    let indents = |line: &&str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let near = number.saturating_sub(1)..(number + 2).min(text.len());
    // On the error's line first, then on the lines around it.
    let mut order: Vec<usize> = near.collect();
    order.sort_by_key(|line| line.abs_diff(number));
    if let Some(line) = order.into_iter().find(|line| text.get(*line).is_some_and(indents)) {
        return (chunk.line + line, "the line begins with a tab".to_owned(), "indent with spaces, not tabs".to_owned());
    }
    let unclosed = |line: &str| !line.trim_start().starts_with('#') && line.matches('"').count() % 2 == 1;
    if error.message.contains("quoted")
        && let Some(line) = text.iter().take(number + 1).position(|line| unclosed(line))
    {
        let message = "a quote opens here and is not closed on this line".to_owned();
        return (chunk.line + line, message, "close the quote, or remove it".to_owned());
    }
    let hint = if text.get(number).is_some_and(|line| line.matches(": ").count() > 1 && !line.contains('{')) {
        "put the value in quotes, since it contains a colon"
    } else {
        "look at the indentation, quotes and brackets here and on the line before"
    };
    (error.line, error.message, hint.to_owned())
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
