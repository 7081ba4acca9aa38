//! What the original has and this version does not: told once per file instead of passed over in silence.
//!
//! *Job:* one warning for each part that is read and then not acted upon; an access control that denies anything stops the
//! start, as the sidecar would let through what its owner forbade. *Neighbours:* [`crate::configuration`] and [`crate::load`]
//! ask here while they read; `validate` does not, as the file is right. *Invariant:* a part leaves this module in the same
//! change that builds it.

use serde_json::Value as Json;

use crate::check::Checker;
use crate::decode::{at, boolean, items, text};
use crate::finding::Finding;
use crate::finding::Severity::{Error, Warning};
use crate::manifest::finding;
use crate::rules::FEATURES;
use crate::types::Component;

/// What every warning ends with.
const GOES_ON: &str = "the sidecar goes on without it";
/// Metadata item of a state component that turns on the transactional outbox.
const OUTBOX: &str = "outboxPublishPubsub";

/// Whether it is a feature of the original; this version has none of them yet.
pub(crate) fn is_feature(name: &str) -> bool {
    FEATURES.contains(&name)
}

/// Reports the ignored parts of a Configuration; true when the sidecar must not start with it.
pub(crate) fn configuration(checker: &mut Checker, document: &Json) -> bool {
    let spec = at(document, &["spec"]);
    let mut ignored = |path: &str, what: &str, suggestion: &str| {
        checker.report(
            Warning,
            path,
            format!("{what} not supported by this version yet: ignored; {GOES_ON}"),
            suggestion,
        );
    };
    if boolean(spec, &["mtls", "enabled"]).unwrap_or(false) {
        ignored("spec.mtls", "mTLS between sidecars is", "calls between sidecars are not encrypted");
    }
    for metrics in ["metric", "metrics"] {
        if !at(spec, &[metrics, "workflow"]).is_null() {
            ignored(&format!("spec.{metrics}.workflow"), "metrics of workflows are", "");
        }
    }
    if at(spec, &["workflow"]).as_object().is_some_and(|workflow| !workflow.is_empty()) {
        ignored("spec.workflow", "workflows are", "no workflow runs in this sidecar");
    }
    for (index, feature) in items(spec, &["features"]).iter().enumerate() {
        let name = text(feature, &["name"]);
        if is_feature(&name) && boolean(feature, &["enabled"]).unwrap_or(false) {
            ignored(&format!("spec.features[{index}]"), &format!("the feature {name} is"), "");
        }
    }
    access_control(checker, spec)
}

/// Rules that only allow are ignored with a warning; one that denies is an error.
///
/// *Source:* the original allows what says `allow`, without case, and nothing else; an absent action of an operation denies,
/// absent default actions fall back to the next wider one.
fn access_control(checker: &mut Checker, spec: &Json) -> bool {
    let policies = items(spec, &["accessControl", "policies"]);
    let Some(path) = first_denial(spec, policies) else {
        if !policies.is_empty() {
            let message = format!("access control is not supported by this version yet: ignored; {GOES_ON}");
            checker.report(
                Warning,
                "spec.accessControl",
                message,
                "every rule here allows, so that nothing is let through that it would stop",
            );
        }
        return false;
    };
    let message = "access control is not supported by this version yet, and this denies calls that would be let through; the sidecar does not start";
    checker.report(Error, &path, message, "remove spec.accessControl, or keep this app on Dapr until it is supported");
    true
}

fn first_denial(spec: &Json, policies: &[Json]) -> Option<String> {
    let denies = |action: &str| !action.is_empty() && !action.eq_ignore_ascii_case("allow");
    if denies(&text(spec, &["accessControl", "defaultAction"])) {
        return Some("spec.accessControl.defaultAction".to_owned());
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = format!("spec.accessControl.policies[{index}]");
        if denies(&text(policy, &["defaultAction"])) {
            return Some(format!("{path}.defaultAction"));
        }
        let operations = items(policy, &["operations"]);
        if let Some(number) =
            operations.iter().position(|operation| !text(operation, &["action"]).eq_ignore_ascii_case("allow"))
        {
            return Some(format!("{path}.operations[{number}].action"));
        }
    }
    None
}

/// The warning for a state store with a transactional outbox.
pub(crate) fn outbox(component: &Component) -> Option<Finding> {
    if !component.component_type.starts_with("state.") {
        return None;
    }
    let item = component
        .metadata
        .iter()
        .find(|item| item.name.eq_ignore_ascii_case(OUTBOX) && item.value.as_deref() != Some(""))?;
    let message = format!(
        "the transactional outbox of {} ({OUTBOX}) is not supported by this version yet: ignored; {GOES_ON}",
        component.name
    );
    let suggestion = "state transactions are saved and nothing is published";
    Some(finding(Warning, &component.origin.file, item.line, "spec.metadata", message, suggestion))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::load::{LoadOptions, load_directories};
    use crate::{Configuration, Finding, Severity, load_configuration};

    fn load(spec: &str) -> Result<(Configuration, Vec<Finding>), Vec<Finding>> {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("c.yaml");
        std::fs::write(
            &path,
            format!("apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {spec}\n"),
        )
        .unwrap();
        load_configuration(&[path], &|_| None)
    }

    #[test]
    fn every_ignored_part_is_told_once() {
        let spec = "
  tracing: {samplingRate: \"1\", stdout: true, zipkin: {endpointAddress: \"http://z:9411/api/v2/spans\"}}
  httpPipeline: {handlers: [{name: r, type: middleware.http.ratelimit}, {name: s, type: middleware.http.uppercase}]}
  appHttpPipeline: {handlers: [{name: r, type: middleware.http.ratelimit}]}
  mtls: {enabled: true}
  workflow: {maxConcurrentWorkflowInvocations: 2}
  metrics: {workflow: {latencyDistributionBuckets: [1, 2]}}
  features: [{name: HotReload, enabled: true}, {name: ActorStateTTL, enabled: false}]
  accessControl: {defaultAction: Allow, policies: [{appId: a, trustDomain: public, namespace: default, defaultAction: allow}]}";
        let (configuration, findings) = load(spec).unwrap();
        assert!(!configuration.features["HotReload"], "not claimed, though asked for");
        let fields: Vec<&str> = findings.iter().map(|finding| finding.field.as_str()).collect();
        let wanted = ["spec.mtls", "spec.metrics.workflow", "spec.workflow", "spec.features[0]", "spec.accessControl"];
        assert_eq!(fields, wanted);
        for finding in &findings {
            assert_eq!(finding.severity, Severity::Warning);
            assert!(
                finding.message.contains("not supported by this version yet: ignored; the sidecar goes on without it"),
                "{finding}"
            );
        }
    }

    #[test]
    fn what_asks_for_nothing_is_not_told() {
        let spec = "{tracing: {samplingRate: \"1\", stdout: false}, httpPipeline: {handlers: []}, mtls: {enabled: false}, accessControl: {defaultAction: allow, trustDomain: public}}";
        assert_eq!(load(spec).unwrap().1, []);
    }

    #[test]
    fn a_denial_stops_the_start() {
        let policy =
            |rest: &str| format!("{{policies: [{{appId: a, trustDomain: public, namespace: default, {rest}}}]}}");
        let cases = [
            ("{defaultAction: deny}".to_owned(), "spec.accessControl.defaultAction"),
            (policy("defaultAction: Deny"), "spec.accessControl.policies[0].defaultAction"),
            (
                policy("operations: [{name: /a, action: allow}, {name: /b, action: deny}]"),
                "spec.accessControl.policies[0].operations[1].action",
            ),
            (policy("operations: [{name: /a}]"), "spec.accessControl.policies[0].operations[0].action"),
        ];
        for (rules, field) in cases {
            let findings = load(&format!("{{accessControl: {rules}}}")).unwrap_err();
            let stops =
                |finding: &&Finding| finding.is_error() && finding.message.ends_with("the sidecar does not start");
            let error = findings.iter().find(stops).unwrap_or_else(|| panic!("{rules}: {findings:?}"));
            assert_eq!(error.field, field, "{error}");
        }
    }

    #[test]
    fn an_outbox_is_told_for_state_stores_of_this_app() {
        let directory = tempfile::tempdir().unwrap();
        let component = |name: &str, kind: &str, scopes: &str| {
            let text = format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: {kind}\n  version: v1\n  metadata:\n  - name: outboxPublishPubsub\n    value: p\nscopes: [{scopes}]\n"
            );
            std::fs::write(directory.path().join(format!("{name}.yaml")), text).unwrap();
        };
        component("mine", "state.x", "app");
        component("theirs", "state.x", "other");
        component("bus", "pubsub.x", "app");
        let options = LoadOptions { app_id: Some("app".to_owned()), ..LoadOptions::default() };
        let loaded = load_directories(&[directory.path().to_owned()], &options);
        let told: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0]
                .contains("mine.yaml:8: spec.metadata: the transactional outbox of mine (outboxPublishPubsub) is not"),
            "{told:?}"
        );
    }
}
