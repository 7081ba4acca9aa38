//! Rules of Resiliency: built-in names, status codes, trip expressions, names of policies.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::expression_problem;
use crate::check::Checker;
use crate::distance::did_you_mean;
use crate::finding::Finding;
use crate::finding::Severity::{Error, Warning};
use crate::manifest::finding;
use crate::types::{PolicyNames, Resiliency, RetrySpec};

/// Retries that exist without being written. *Source:* spec of resiliency, "Built-in overridable retries".
const BUILT_IN_RETRIES: [&str; 4] = [
    "DaprBuiltInServiceRetries",
    "DaprBuiltInActorRetries",
    "DaprBuiltInActorReminderRetries",
    "DaprBuiltInInitializationRetries",
];
const PROTECTED_RETRY: &str = "DaprBuiltInActorNotFoundRetries";
/// A built-in retry that is overridden with less is set to this.
const BUILT_IN_RETRIES_MIN: i64 = 3;

/// Variables of a trip expression.
const TRIP_VARIABLES: [&str; 5] =
    ["requests", "totalSuccesses", "totalFailures", "consecutiveSuccesses", "consecutiveFailures"];

/// A target's use of a policy, kept until all Resiliencies are read, since they share their policies.
#[derive(Clone, Debug)]
pub(crate) struct PolicyReference {
    file: PathBuf,
    line: usize,
    path: String,
    kind: PolicyKind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolicyKind {
    Timeout,
    Retry,
    CircuitBreaker,
}

/// Checks one Resiliency by itself and returns the policies its targets name.
pub(crate) fn resiliency(checker: &mut Checker, resiliency: &Resiliency) -> Vec<PolicyReference> {
    for (name, retry) in &resiliency.retries {
        retry_policy(checker, name, retry);
    }
    for (name, breaker) in &resiliency.circuit_breakers {
        let path = format!("spec.policies.circuitBreakers.{name}.trip");
        if let Some((problem, suggestion)) = trip_problem(&breaker.trip) {
            checker.report(Error, &path, format!("not a trip expression: {problem}"), suggestion);
        } else if let Some(problem) = trip_doubt(&breaker.trip) {
            let suggestion = "write a comparison, for example consecutiveFailures > 5";
            checker.report(Warning, &path, format!("{problem}, so the circuit breaker never opens"), suggestion);
        }
    }
    let mut references = Vec::new();
    for (name, target) in &resiliency.apps {
        collect(checker, &format!("spec.targets.apps.{name}"), target, &mut references);
    }
    for (name, target) in &resiliency.actors {
        let path = format!("spec.targets.actors.{name}");
        if !target.circuit_breaker.is_empty() && target.circuit_breaker_scope.is_empty() {
            checker.report_absence(
                Error,
                &path,
                "a circuit breaker of an actor type needs circuitBreakerScope",
                "add circuitBreakerScope: type, id or both",
            );
        }
        collect(checker, &path, target, &mut references);
    }
    for (name, target) in &resiliency.components {
        let path = format!("spec.targets.components.{name}");
        collect(checker, &format!("{path}.inbound"), &target.inbound, &mut references);
        collect(checker, &format!("{path}.outbound"), &target.outbound, &mut references);
    }
    let nothing =
        resiliency.timeouts.is_empty() && resiliency.retries.is_empty() && resiliency.circuit_breakers.is_empty();
    if nothing && references.is_empty() {
        checker.report_absence(
            Warning,
            "spec",
            "no policies and no targets; the document changes nothing",
            "add spec.policies and spec.targets",
        );
    }
    references
}

fn retry_policy(checker: &mut Checker, name: &str, retry: &RetrySpec) {
    let path = format!("spec.policies.retries.{name}");
    if name == PROTECTED_RETRY {
        checker.report(Warning, &path, "this built-in retry cannot be changed; the policy is ignored", "remove it");
    }
    if BUILT_IN_RETRIES.contains(&name) && retry.max_retries.is_none_or(|retries| retries < BUILT_IN_RETRIES_MIN) {
        let message = format!(
            "a built-in retry keeps at least {BUILT_IN_RETRIES_MIN} attempts; maxRetries is set to {BUILT_IN_RETRIES_MIN}"
        );
        checker.report(Warning, &path, message, format!("write maxRetries: {BUILT_IN_RETRIES_MIN} or more"));
    }
    for (field, text, least, most) in
        [("httpStatusCodes", &retry.http_status_codes, 100, 599), ("gRPCStatusCodes", &retry.grpc_status_codes, 0, 16)]
    {
        if let Some(problem) = codes_problem(text, least, most) {
            let message = format!("expected codes from {least} to {most} such as \"429,500-599\": {problem}");
            let suggestion = "separate codes with commas and join the ends of a range with a dash";
            checker.report(Error, &format!("{path}.matching.{field}"), message, suggestion);
        }
    }
    if retry.policy.eq_ignore_ascii_case("exponential") && !retry.duration.is_empty() {
        checker.report(
            Warning,
            &format!("{path}.duration"),
            "duration belongs to the constant policy; exponential does not use it",
            "use maxInterval",
        );
    }
    if !retry.policy.eq_ignore_ascii_case("exponential") && !retry.max_interval.is_empty() {
        checker.report_absence(
            Warning,
            &format!("{path}.maxInterval"),
            "maxInterval belongs to the exponential policy; constant does not use it",
            "add policy: exponential",
        );
    }
}

/// Problem of a list of codes and ranges.
fn codes_problem(text: &str, least: u32, most: u32) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    for part in text.split(',').map(str::trim) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Ok(from), Ok(to)) = (from.trim().parse::<u32>(), to.trim().parse::<u32>()) else {
            return Some(format!("{part:?} is not a code or a range"));
        };
        if from < least || to > most {
            return Some(format!("{part} is out of range"));
        }
        if from > to {
            return Some(format!("the range {part} runs backwards"));
        }
    }
    None
}

/// Problem of a trip expression and what to do about it.
fn trip_problem(trip: &str) -> Option<(String, String)> {
    if trip.trim().is_empty() {
        return None;
    }
    if let Some(problem) = expression_problem(trip) {
        return Some((problem, "write for example consecutiveFailures > 5".to_owned()));
    }
    let words = trip.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut identifiers = words.filter(|word| word.starts_with(|first: char| first.is_alphabetic() || first == '_'));
    let known =
        |word: &str| TRIP_VARIABLES.contains(&word) || ["true", "false", "double", "int", "uint", "in"].contains(&word);
    let unknown = identifiers.find(|word| !known(word))?;
    let mut suggestion = did_you_mean(unknown, TRIP_VARIABLES);
    if suggestion.is_empty() {
        suggestion = format!("the variables are {}", TRIP_VARIABLES.join(", "));
    }
    Some((format!("unknown variable {unknown}"), suggestion))
}

/// Why a trip expression that can be read is never true: it fails, or gives something else than true or false.
fn trip_doubt(trip: &str) -> Option<String> {
    if trip.trim().is_empty() {
        return None;
    }
    let program = cel::Program::compile(trip).ok()?;
    let mut context = cel::Context::default();
    // Any numbers will do; no two are the same, so that no difference of them is zero.
    for (name, value) in TRIP_VARIABLES.into_iter().zip([97, 41, 23, 13, 7]) {
        context.add_variable_from_value(name, cel::Value::Int(value));
    }
    match program.execute(&context) {
        Ok(cel::Value::Bool(_)) => None,
        Ok(other) => Some(format!("expected true or false, found a value of type {}", other.type_of())),
        Err(error) => Some(format!("it cannot be computed: {error}")),
    }
}

fn collect(checker: &Checker, path: &str, target: &PolicyNames, references: &mut Vec<PolicyReference>) {
    if checker.has_slip() {
        return; // the policy may be what is misspelled
    }
    let uses = [
        (PolicyKind::Timeout, "timeout", &target.timeout),
        (PolicyKind::Retry, "retry", &target.retry),
        (PolicyKind::CircuitBreaker, "circuitBreaker", &target.circuit_breaker),
    ];
    for (kind, field, name) in uses.into_iter().filter(|(_, _, name)| !name.is_empty()) {
        let path = format!("{path}.{field}");
        references.push(PolicyReference {
            file: checker.file.clone(),
            line: checker.line(&path),
            path,
            kind,
            name: name.clone(),
        });
    }
}

/// Targets that name a policy which no Resiliency defines: they simply get none, so it is only a warning.
pub(crate) fn unknown_policies(
    resiliencies: &[Resiliency],
    references: &[PolicyReference],
    findings: &mut Vec<Finding>,
) {
    let names = |kind: PolicyKind| -> BTreeSet<&str> {
        let keys: Box<dyn Iterator<Item = &str>> = match kind {
            PolicyKind::Timeout => {
                Box::new(resiliencies.iter().flat_map(|resiliency| resiliency.timeouts.keys().map(String::as_str)))
            }
            PolicyKind::Retry => Box::new(
                resiliencies
                    .iter()
                    .flat_map(|resiliency| resiliency.retries.keys().map(String::as_str))
                    .chain(BUILT_IN_RETRIES),
            ),
            PolicyKind::CircuitBreaker => Box::new(
                resiliencies.iter().flat_map(|resiliency| resiliency.circuit_breakers.keys().map(String::as_str)),
            ),
        };
        keys.collect()
    };
    for reference in references {
        let known = names(reference.kind);
        if known.contains(reference.name.as_str()) {
            continue;
        }
        let (what, section) = match reference.kind {
            PolicyKind::Timeout => ("timeout", "timeouts"),
            PolicyKind::Retry => ("retry", "retries"),
            PolicyKind::CircuitBreaker => ("circuit breaker", "circuitBreakers"),
        };
        let mut suggestion = did_you_mean(&reference.name, known);
        if suggestion.is_empty() {
            suggestion = format!("define it in spec.policies.{section}");
        }
        let message = format!("there is no {what} policy named {:?}, so the target gets none", reference.name);
        findings.push(finding(Warning, &reference.file, reference.line, &reference.path, message, suggestion));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_lists_and_ranges() {
        for text in ["", "429", "429,500-599", " 100 , 200-300 "] {
            assert_eq!(codes_problem(text, 100, 599), None, "{text}");
        }
        for text in ["600", "99", "5xx", "500-400", "500,,501", "-1"] {
            assert!(codes_problem(text, 100, 599).is_some(), "{text}");
        }
    }

    #[test]
    fn trips_use_the_five_variables() {
        for text in [
            "",
            "consecutiveFailures > 5",
            "totalFailures > 10 && requests >= 20",
            "double(totalFailures) / double(requests) > 0.5",
        ] {
            assert_eq!(trip_problem(text), None, "{text}");
        }
        assert_eq!(
            trip_problem("consecutiveFailure > 5"),
            Some(("unknown variable consecutiveFailure".to_owned(), "did you mean consecutiveFailures?".to_owned()))
        );
        assert!(trip_problem("consecutiveFailures >").is_some());
        let (problem, suggestion) = trip_problem("consecutiveFailures > 5 totalFailures").unwrap();
        assert!(problem.ends_with("(line 1, column 25)"), "{problem}");
        assert_eq!(suggestion, "write for example consecutiveFailures > 5");
    }

    #[test]
    fn trips_are_true_or_false() {
        for text in ["", "consecutiveFailures > 5", "double(totalFailures) / double(requests) > 0.5"] {
            assert_eq!(trip_doubt(text), None, "{text}");
        }
        for text in ["consecutiveFailures", "totalFailures + 1", "consecutiveFailures > '5'"] {
            assert!(trip_doubt(text).is_some(), "{text}");
        }
    }
}
