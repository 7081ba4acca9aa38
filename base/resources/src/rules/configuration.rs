//! Rules of Configuration.

use serde_json::Value as Json;

use crate::check::Checker;
use crate::decode::{at, items, text, texts};
use crate::distance::did_you_mean;
use crate::finding::Severity::{Error, Warning};

/// Features that exist. *Source:* spec of Configuration, `spec.features[]`.
pub(crate) const FEATURES: [&str; 6] = [
    "ActorStateTTL",
    "HotReload",
    "WorkflowsClusteredDeployment",
    "WorkflowsRemoteActivityReminder",
    "WorkflowHistorySigning",
    "WorkflowsFastPath",
];

/// HTTP verbs, compared with case.
const VERBS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

pub(crate) fn configuration(checker: &mut Checker, document: &Json) {
    let spec = at(document, &["spec"]);
    sampling_rate(checker, &text(spec, &["tracing", "samplingRate"]));
    secrets(checker, spec);
    access_control(checker, spec);
    for (index, feature) in items(spec, &["features"]).iter().enumerate() {
        let name = text(feature, &["name"]);
        if !name.is_empty() && !FEATURES.contains(&name.as_str()) {
            let mut suggestion = did_you_mean(&name, FEATURES);
            if suggestion.is_empty() {
                suggestion = format!("the features are {}", FEATURES.join(", "));
            }
            checker.report(
                Warning,
                &format!("spec.features[{index}].name"),
                format!("unknown feature {name:?}; it changes nothing"),
                suggestion,
            );
        }
    }
    for list in ["allowed", "denied"] {
        for (index, rule) in items(spec, &["api", list]).iter().enumerate() {
            if text(rule, &["protocol"]).is_empty() {
                let message = "a rule without protocol matches nothing";
                checker.report_absence(
                    Warning,
                    &format!("spec.api.{list}[{index}]"),
                    message,
                    "add protocol: http or protocol: grpc",
                );
            }
        }
    }
    for (index, denied) in texts(spec, &["components", "deny"]).iter().enumerate() {
        if !denied.contains('.') {
            let message =
                format!("expected a component type such as bindings.smtp or state.redis/v1, found {denied:?}");
            checker.report(Warning, &format!("spec.components.deny[{index}]"), message, "write category and name");
        }
    }
    if !at(spec, &["metric"]).is_null() && !at(spec, &["metrics"]).is_null() {
        checker.report(
            Warning,
            "spec.metric",
            "metrics is given too; what it sets is used instead",
            "keep only metrics",
        );
    }
    for pipeline in ["appHttpPipeline", "httpPipeline"] {
        for (index, handler) in items(spec, &[pipeline, "handlers"]).iter().enumerate() {
            let handler_type = text(handler, &["type"]);
            if !handler_type.is_empty() && !handler_type.starts_with("middleware.http.") {
                let path = format!("spec.{pipeline}.handlers[{index}].type");
                checker.report(
                    Error,
                    &path,
                    format!("expected middleware.http.<name>, found {handler_type:?}"),
                    "write for example middleware.http.ratelimit",
                );
            }
            if !items(handler, &["selector", "fields"]).is_empty() {
                let path = format!("spec.{pipeline}.handlers[{index}].selector");
                let message = "a selector is not enforced: the handler gets every request, as in Dapr";
                checker.report(Warning, &path, message, "remove it; let the middleware look at the path");
            }
        }
    }
}

fn sampling_rate(checker: &mut Checker, rate: &str) {
    if rate.is_empty() {
        return;
    }
    let path = "spec.tracing.samplingRate";
    match rate.trim().parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => {}
        Ok(_) => checker.report(
            Warning,
            path,
            format!("expected a number from 0 to 1, found {rate:?}"),
            "1 traces every request",
        ),
        Err(_) => checker.report(
            Warning,
            path,
            format!("expected a number from 0 to 1, found {rate:?}; 0.0001 is used"),
            "1 traces every request",
        ),
    }
}

fn secrets(checker: &mut Checker, spec: &Json) {
    let names: Vec<String> =
        items(spec, &["secrets", "scopes"]).iter().map(|scope| text(scope, &["storeName"])).collect();
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|earlier| earlier == name) {
            // Source: wire text of the original's startup error.
            let message = format!("{name} storeName is repeated in secrets configuration");
            checker.report(Error, &format!("spec.secrets.scopes[{index}].storeName"), message, "merge the two scopes");
        }
    }
}

fn access_control(checker: &mut Checker, spec: &Json) {
    for (index, policy) in items(spec, &["accessControl", "policies"]).iter().enumerate() {
        for (number, operation) in items(policy, &["operations"]).iter().enumerate() {
            for verb in texts(operation, &["httpVerb"]) {
                let upper = verb.to_ascii_uppercase();
                let path = format!("spec.accessControl.policies[{index}].operations[{number}].httpVerb");
                if verb == "*" || VERBS.contains(&verb.as_str()) {
                    continue;
                }
                let near = did_you_mean(&upper, VERBS);
                let suggestion = match () {
                    () if VERBS.contains(&upper.as_str()) => format!("write {upper}"),
                    () if near.is_empty() => format!("the verbs are {}", VERBS.join(", ")),
                    () => near,
                };
                checker.report(
                    Warning,
                    &path,
                    format!("expected an HTTP verb in capitals or *, found {verb:?}; it never matches"),
                    suggestion,
                );
            }
        }
    }
}
