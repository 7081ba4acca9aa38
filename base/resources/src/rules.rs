//! Problems that only the meaning of a document shows: names, references, values that contradict each other.

mod configuration;
mod other;
mod references;
mod resiliency;

use serde_json::Value as Json;

use crate::check::Checker;
use crate::decode;
use crate::distance::{did_you_mean, nearest};
use crate::finding::Severity::{Error, Warning};
use crate::types::{Component, HttpEndpoint, NameValue, Subscription};
use crate::values::env_allowed;

pub(crate) use configuration::{FEATURES, configuration};
pub(crate) use other::other;
pub(crate) use references::references;
pub(crate) use resiliency::{PolicyReference, resiliency, unknown_policies};

/// Longer expressions are nobody's; the time to parse one grows with its length.
const PARSED_BYTES_MAX: usize = 16 * 1024;

/// First parts of component types.
const CATEGORIES: [&str; 11] = [
    "bindings",
    "configuration",
    "conversation",
    "crypto",
    "lock",
    "middleware",
    "nameresolution",
    "pubsub",
    "secretstores",
    "state",
    "workflow",
];

/// Whether the name may be a path segment: not `.` or `..`, without `/` and `%`, and not empty.
pub(crate) fn check_name(checker: &mut Checker, document: &Json) -> bool {
    let name = decode::text(document, &["metadata", "name"]);
    let path = "metadata.name";
    if name.is_empty() {
        let is_configuration = decode::text(document, &["kind"]) == "Configuration";
        return is_configuration;
    }
    if name == "." || name == ".." {
        checker.report(
            Error,
            path,
            format!("expected a name that can be part of a URL path, found {name:?}{}", checker.consequence()),
            "use letters, digits and dashes",
        );
        return false;
    }
    if let Some(bad) = ["/", "%"].iter().find(|bad| name.contains(**bad)) {
        let message = format!(
            "expected a name that can be part of a URL path, found {name:?} with a {bad}{}",
            checker.consequence()
        );
        checker.report(Error, path, message, format!("write {}", name.replace(['/', '%'], "-").trim_matches('-')));
        return false;
    }
    true
}

pub(crate) fn component(checker: &mut Checker, component: &Component, known_types: &[&str]) {
    component_type(checker, &component.component_type, known_types);
    name_values(checker, "spec.metadata", &component.metadata, component.secret_store.is_some());
}

fn component_type(checker: &mut Checker, component_type: &str, known_types: &[&str]) {
    if component_type.is_empty() {
        return;
    }
    let path = "spec.type";
    let Some((category, name)) = component_type.split_once('.').filter(|(_, name)| !name.is_empty()) else {
        let full: Vec<&str> = known_types
            .iter()
            .copied()
            .filter(|known| known.ends_with(&format!(".{component_type}")))
            .take(3)
            .collect();
        let suggestion = if full.is_empty() {
            did_you_mean(component_type, CATEGORIES)
        } else {
            format!("did you mean {}?", full.join(" or "))
        };
        checker.report(
            Error,
            path,
            format!("expected <category>.<name> such as state.redis, found {component_type:?}"),
            suggestion,
        );
        return;
    };
    if component_type == "workflow.dapr" {
        return; // the runtime refuses it in its own words
    }
    if !CATEGORIES.contains(&category) {
        let suggestion = match nearest(category, CATEGORIES) {
            Some(near) => format!("did you mean {near}.{name}?"),
            None => format!("the categories are {}", CATEGORIES.join(", ")),
        };
        checker.report(
            Error,
            path,
            format!("unknown category {category:?} of component type {component_type}"),
            suggestion,
        );
        return;
    }
    // The names of types are found whatever their case.
    if known_types.is_empty() || known_types.iter().any(|known| known.eq_ignore_ascii_case(component_type)) {
        return;
    }
    let same_category = known_types.iter().copied().filter(|known| known.starts_with(&format!("{category}.")));
    let mut suggestion = did_you_mean(component_type, same_category.clone());
    if suggestion.is_empty() {
        let last = name.rsplit('.').next().unwrap_or(name);
        let holds = |known: &&str| {
            let ends = known.rsplit('.').next().is_some_and(|end| end.contains(last));
            ends || (known.starts_with(&format!("{category}.")) && known.contains(last))
        };
        suggestion = match known_types.iter().copied().find(holds) {
            Some(known) => format!("did you mean {known}?"),
            None => {
                let all: Vec<&str> = same_category.take(6).collect();
                if all.is_empty() {
                    String::new()
                } else {
                    format!("types of this category include {}", all.join(", "))
                }
            }
        };
    }
    let likely_slip = suggestion.starts_with("did you mean");
    let pluggable = ["state", "pubsub", "bindings", "secretstores"].contains(&category);
    if pluggable && !likely_slip {
        checker.report(
            Warning,
            path,
            format!("component type {component_type} is not built in; it must be a pluggable component"),
            suggestion,
        );
    } else {
        checker.report(Error, path, format!("unknown component type {component_type}"), suggestion);
    }
}

/// Items of `metadata`, `headers` or `env`.
fn name_values(checker: &mut Checker, path: &str, items: &[NameValue], has_secret_store: bool) {
    for (index, item) in items.iter().enumerate() {
        let item_path = format!("{path}[{index}]");
        let name = &item.name;
        if let Some(first) = items.iter().take(index).find(|other| !name.is_empty() && other.name == *name) {
            let message = format!("{name} is given twice (first on line {}); the last one is used", first.line);
            checker.report(Warning, &item_path, message, "remove one of them");
        }
        if item.secret_key_ref.is_some() && !has_secret_store {
            let message = format!("{name} refers to a secret, but the manifest names no secret store");
            let suggestion = match path.strip_suffix(".headers").filter(|path| path.starts_with("spec.endpoint.")) {
                Some(transport) => {
                    format!("add {transport}.auth.secretStore with the name of a secret store component")
                }
                None => "add auth.secretStore (beside spec) with the name of a secret store component".to_owned(),
            };
            checker.report_absence(Error, &format!("{item_path}.secretKeyRef"), message, suggestion);
        }
        if item.secret_key_ref.is_some() && item.value.is_some() {
            checker.report(
                Warning,
                &item_path,
                format!("{name} has both value and secretKeyRef; the secret is used"),
                "remove one of them",
            );
        }
        if let Some(variable) = &item.env_ref {
            let env_path = format!("{item_path}.envRef");
            if item.value.is_some() {
                checker.report(
                    Warning,
                    &env_path,
                    format!("{name} has both value and envRef; the value is used"),
                    "remove one of them",
                );
            } else if !env_allowed(variable, None) {
                let message = format!(
                    "the variable {variable:?} may not be referred to (APP_API_TOKEN, DAPR_* and names with spaces are refused)"
                );
                checker.report(Error, &env_path, message, "use another variable");
            }
        }
        if item.value.is_none() && item.secret_key_ref.is_none() && item.env_ref.is_none() && !name.is_empty() {
            checker.report_absence(
                Warning,
                &item_path,
                format!("{name} has no value; it is empty"),
                "add value, secretKeyRef or envRef",
            );
        }
    }
}

pub(crate) fn http_endpoint(checker: &mut Checker, endpoint: &HttpEndpoint) {
    url(checker, "spec.baseUrl", &endpoint.base_url);
    let has_store = endpoint.secret_store.is_some();
    name_values(checker, "spec.headers", &endpoint.headers, has_store);
    for document in endpoint.client_tls.iter().filter(|document| document.secret_key_ref.is_some() && !has_store) {
        let path = format!("spec.clientTLS.{}.secretKeyRef", document.name);
        checker.report_absence(
            Error,
            &path,
            format!("{} refers to a secret, but the manifest names no secret store", document.name),
            "add auth.secretStore (beside spec) with the name of a secret store component",
        );
    }
    let named = |name: &str| endpoint.client_tls.iter().any(|document| document.name == name);
    if named("certificate") != named("privateKey") {
        let missing = if named("certificate") { "privateKey" } else { "certificate" };
        checker.report_absence(
            Error,
            "spec.clientTLS",
            format!("{missing} is missing; a certificate and its private key go together"),
            format!("add {missing}: with value or secretKeyRef below it"),
        );
    }
}

/// An absolute http or https address.
fn url(checker: &mut Checker, path: &str, url: &str) {
    if url.is_empty() {
        return;
    }
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    match rest {
        None => {
            let suggestion = if url.contains("://") {
                "write for example https://example.com".to_owned()
            } else {
                format!("did you mean https://{url}?")
            };
            checker.report(
                Error,
                path,
                format!("expected a URL that starts with http:// or https://, found {url:?}"),
                suggestion,
            );
        }
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) => {
            checker.report(
                Error,
                path,
                format!("expected a URL with a host, found {url:?}"),
                "write for example https://example.com",
            );
        }
        Some(rest) if rest.contains(char::is_whitespace) => {
            checker.report(
                Error,
                path,
                format!("expected a URL without spaces, found {url:?}"),
                "write %20 for a space",
            );
        }
        Some(_) => {}
    }
}

pub(crate) fn subscription(checker: &mut Checker, subscription: &Subscription, api_version: &str) {
    let routeless = subscription.rules.is_empty() && api_version.ends_with("v2alpha1");
    let old_form = checker.findings.iter_mut().find(|finding| routeless && finding.field == "spec.route");
    if let Some(old_form) = old_form {
        old_form.severity = Error;
        old_form.message = "this apiVersion has no field route, so the subscription has no route".to_owned();
    } else if routeless {
        checker.report_absence(
            Error,
            "spec.routes",
            "no route: expected default or at least one rule",
            "add default: /path",
        );
    }
    let last = subscription.rules.len().saturating_sub(1);
    for (index, rule) in subscription.rules.iter().enumerate() {
        let path = format!("spec.routes.rules[{index}].match");
        if rule.matches.trim().is_empty() {
            if index < last {
                checker.report_absence(
                    Warning,
                    &path,
                    "a rule without match takes every event, so the ones after it are never reached",
                    "put it under default",
                );
            }
        } else if let Some(problem) = expression_problem(&rule.matches) {
            checker.report(
                Error,
                &path,
                format!("not a CEL expression: {problem}"),
                "write for example event.type == \"order\"",
            );
        }
    }
    if !subscription.dead_letter_topic.is_empty() && subscription.dead_letter_topic == subscription.topic {
        checker.report(
            Warning,
            "spec.deadLetterTopic",
            "the dead letter topic is the topic itself; failed events go round for ever",
            "name another topic",
        );
    }
    let bulk = subscription.bulk_subscribe;
    for (name, value) in
        [("maxMessagesCount", bulk.max_messages_count), ("maxAwaitDurationMs", bulk.max_await_duration_ms)]
    {
        if value < 0 {
            checker.report(
                Error,
                &format!("spec.bulkSubscribe.{name}"),
                format!("expected zero (the default) or more, found {value}"),
                "write for example 100",
            );
        }
    }
}

/// Problem of a CEL expression: what is often got wrong in plain words, then whatever the parser says.
pub(crate) fn expression_problem(expression: &str) -> Option<String> {
    let (mut open, mut quote, mut bare) = (Vec::new(), None, String::new());
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        if let Some(end) = quote {
            if character == '\\' {
                characters.next();
            } else if character == end {
                quote = None;
            }
            continue;
        }
        match character {
            '"' | '\'' => {
                quote = Some(character);
                bare.push('_');
                continue;
            }
            '(' | '[' | '{' => open.push(character),
            ')' | ']' | '}' => {
                let expected = match character {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop() != Some(expected) {
                    return Some(format!("{character} closes nothing"));
                }
            }
            _ => {}
        }
        bare.push(character);
    }
    if let Some(quote) = quote {
        return Some(format!("the quote {quote} is not closed"));
    }
    if let Some(open) = open.pop() {
        return Some(format!("{open} is not closed"));
    }
    let compact: String = bare.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = ["==", "!=", "<=", ">="].iter().fold(compact.clone(), |text, operator| text.replace(operator, "  "));
    if plain.contains('=') {
        return Some("a single = is not an operator; write ==".to_owned());
    }
    let operators = ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "*", "/", "%", "."];
    if let Some(operator) = operators.iter().find(|operator| compact.ends_with(**operator)) {
        return Some(format!("it ends with the operator {operator}"));
    }
    if let Some(operator) = operators.iter().find(|operator| compact.starts_with(**operator)) {
        return Some(format!("it starts with the operator {operator}"));
    }
    for word in ["and", "or", "not"] {
        if compact.split(' ').any(|part| part.eq_ignore_ascii_case(word)) {
            let operator = match word {
                "and" => "&&",
                "or" => "||",
                _ => "!",
            };
            return Some(format!("{word} is not an operator; write {operator}"));
        }
    }
    syntax_problem(expression)
}

/// What the parser of the sidecar says, with the column; an expression it cannot read is not used.
fn syntax_problem(expression: &str) -> Option<String> {
    if expression.len() > PARSED_BYTES_MAX {
        return Some(format!("it is longer than {PARSED_BYTES_MAX} bytes"));
    }
    let errors = cel::Program::compile(expression).err()?.errors;
    let Some(error) = errors.first() else { return Some("it cannot be read".to_owned()) };
    // What could stand there instead is a list of all that begins an expression.
    let message = error.msg.split(" expecting ").next().unwrap_or_default().trim_start_matches("Syntax error: ");
    let message = message.replace("'<EOF>'", "the end").replace("<EOF>", "the end");
    Some(format!("{message} (line {}, column {})", error.pos.0.max(1), error.pos.1.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_slips_in_expressions() {
        let good = [
            "event.type == \"a\"",
            "has(event.data) && event.data.x > 3",
            "consecutiveFailures >= 5",
            "'=' == \"(\"",
            "x in [1, 2]",
            "true",
        ];
        for text in good {
            assert_eq!(expression_problem(text), None, "{text}");
        }
        let deep = "(".repeat(4000) + "a" + &")".repeat(4000);
        let long = "a || ".repeat(4000) + "a";
        let bad = [
            "event.type = 'a'",
            "(a",
            "a)",
            "\"open",
            "a ==",
            "&& b",
            "a and b",
            "[1)",
            "a &&",
            "a b",
            "a > > b",
            "1..2",
            &deep,
            &long,
        ];
        for text in bad {
            assert!(expression_problem(text).is_some(), "{text}");
        }
    }
}
