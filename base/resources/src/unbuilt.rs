//! What the original has and this version does not: told once per file instead of passed over in silence.
//!
//! *Job:* one warning for each part that is read and then not acted upon. *Neighbours:* [`crate::configuration`] asks
//! here while it reads; `validate` does not, as the file is right. *Invariant:* a part leaves this module in the same
//! change that builds it.

use serde_json::Value as Json;

use crate::check::Checker;
use crate::decode::{at, boolean, items, text};
use crate::finding::Severity::Warning;
use crate::rules::FEATURES;

/// What every warning ends with.
const GOES_ON: &str = "the sidecar goes on without it";

/// Whether it is a feature of the original that this version does not have yet.
pub(crate) fn is_feature(name: &str) -> bool {
    FEATURES.contains(&name) && name != "HotReload"
}

/// Reports the ignored parts of a Configuration.
pub(crate) fn configuration(checker: &mut Checker, document: &Json) {
    let spec = at(document, &["spec"]);
    let mut ignored = |path: &str, what: &str, suggestion: &str| {
        checker.report(
            Warning,
            path,
            format!("{what} not supported by this version yet: ignored; {GOES_ON}"),
            suggestion,
        );
    };
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
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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
  features: [{name: ActorStateTTL, enabled: true}, {name: HotReload, enabled: true}, {name: WorkflowsFastPath, enabled: false}]
  accessControl: {defaultAction: deny}";
        let (configuration, findings) = load(spec).unwrap();
        assert!(!configuration.features["ActorStateTTL"], "not claimed, though asked for");
        assert!(configuration.features["HotReload"]);
        let fields: Vec<&str> = findings.iter().map(|finding| finding.field.as_str()).collect();
        let wanted = ["spec.metrics.workflow", "spec.workflow", "spec.features[0]"];
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
}
