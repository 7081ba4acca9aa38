//! Which calls the Configuration lets an app make. *Source:* spec http_api.md §1.

use std::collections::HashSet;

use pillion_resources::ApiRule;

/// Only calls of these services are subject to rules; proxied calls and workflow workers are not.
const PREFIX: &str = "/dapr.proto.runtime.";
const SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/";

/// `spec.api.allowed` and `spec.api.denied`, reduced to gRPC method names.
#[derive(Clone, Debug, Default)]
pub struct ApiRules {
    allowed: HashSet<&'static str>,
    denied: HashSet<&'static str>,
}

impl ApiRules {
    /// Makes the lists. Rules of other protocols and of unknown groups are ignored, as in the original.
    pub fn new(allowed: &[ApiRule], denied: &[ApiRule]) -> Self {
        Self { allowed: methods(allowed), denied: methods(denied) }
    }

    /// Whether the call with this path (`/package.Service/Method`) may be made.
    pub(super) fn allow(&self, path: &str) -> bool {
        if (self.allowed.is_empty() && self.denied.is_empty()) || !path.starts_with(PREFIX) {
            return true;
        }
        let method = path.strip_prefix(SERVICE).unwrap_or_default();
        !self.denied.contains(method) && (self.allowed.is_empty() || self.allowed.contains(method))
    }
}

fn methods(rules: &[ApiRule]) -> HashSet<&'static str> {
    let of_grpc = rules.iter().filter(|rule| rule.protocol == "grpc");
    of_grpc.flat_map(|rule| group(&rule.name, &rule.version)).copied().collect()
}

fn group(name: &str, version: &str) -> &'static [&'static str] {
    match (name, version) {
        ("invoke", "v1") => &["InvokeService"],
        ("state", "v1") => {
            &["GetState", "GetBulkState", "SaveState", "DeleteState", "DeleteBulkState", "ExecuteStateTransaction"]
        }
        ("state", "v1alpha1") => &["QueryStateAlpha1"],
        ("publish", "v1") => &["PublishEvent", "BulkPublishEvent"],
        ("publish", "v1alpha1") => &["BulkPublishEventAlpha1"],
        ("bindings", "v1") => &["InvokeBinding"],
        ("secrets", "v1") => &["GetSecret", "GetBulkSecret"],
        ("actors", "v1") => &[
            "RegisterActorTimer",
            "UnregisterActorTimer",
            "RegisterActorReminder",
            "GetActorReminder",
            "UnregisterActorReminder",
            "UnregisterActorRemindersByType",
            "ListActorReminders",
            "GetActorState",
            "ExecuteActorStateTransaction",
            "InvokeActor",
        ],
        ("actors", "v1alpha1") => &["SubscribeActorEventsAlpha1"],
        ("metadata", "v1") => &["GetMetadata", "SetMetadata"],
        ("configuration", "v1") => &["GetConfiguration", "SubscribeConfiguration", "UnsubscribeConfiguration"],
        ("configuration", "v1alpha1") => {
            &["GetConfigurationAlpha1", "SubscribeConfigurationAlpha1", "UnsubscribeConfigurationAlpha1"]
        }
        ("lock", "v1alpha1") => &["TryLockAlpha1"],
        ("unlock", "v1alpha1") => &["UnlockAlpha1"],
        ("subtlecrypto", "v1alpha1") => &[
            "SubtleGetKeyAlpha1",
            "SubtleEncryptAlpha1",
            "SubtleDecryptAlpha1",
            "SubtleSignAlpha1",
            "SubtleVerifyAlpha1",
            "SubtleWrapKeyAlpha1",
            "SubtleUnwrapKeyAlpha1",
        ],
        ("crypto", "v1alpha1") => &["EncryptAlpha1", "DecryptAlpha1"],
        ("workflows", "v1alpha1") => &[
            "StartWorkflowAlpha1",
            "GetWorkflowAlpha1",
            "TerminateWorkflowAlpha1",
            "RaiseEventWorkflowAlpha1",
            "PurgeWorkflowAlpha1",
            "PauseWorkflowAlpha1",
            "ResumeWorkflowAlpha1",
        ],
        ("workflows", "v1beta1") => &[
            "StartWorkflowBeta1",
            "GetWorkflowBeta1",
            "TerminateWorkflowBeta1",
            "RaiseEventWorkflowBeta1",
            "PurgeWorkflowBeta1",
            "PauseWorkflowBeta1",
            "ResumeWorkflowBeta1",
        ],
        ("jobs", "v1alpha1") => {
            &["ScheduleJobAlpha1", "DeleteJobAlpha1", "GetJobAlpha1", "DeleteJobsByPrefixAlpha1", "ListJobsAlpha1"]
        }
        ("jobs", "v1") => &["ScheduleJob", "DeleteJob", "GetJob", "DeleteJobsByPrefix", "ListJobs"],
        ("shutdown", "v1") => &["Shutdown"],
        ("subscribe", "v1alpha1") => &["SubscribeTopicEventsAlpha1"],
        ("conversation", "v1alpha1") => &["ConverseAlpha1"],
        ("conversation", "v1alpha2") => &["ConverseAlpha2"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, version: &str, protocol: &str) -> ApiRule {
        ApiRule { name: name.into(), version: version.into(), protocol: protocol.into() }
    }

    #[test]
    fn denied_comes_before_allowed_and_only_for_the_public_service() {
        let rules = ApiRules::new(&[rule("state", "v1", "grpc")], &[rule("state", "v1", "http")]);
        assert!(rules.allow("/dapr.proto.runtime.v1.Dapr/GetState"));
        assert!(!rules.allow("/dapr.proto.runtime.v1.Dapr/InvokeService"));
        assert!(rules.allow("/my.Service/Method"));
        assert!(rules.allow("/TaskHubSidecarService/Hello"));

        let rules = ApiRules::new(&[], &[rule("publish", "v1", "grpc")]);
        assert!(!rules.allow("/dapr.proto.runtime.v1.Dapr/PublishEvent"));
        assert!(rules.allow("/dapr.proto.runtime.v1.Dapr/BulkPublishEventAlpha1"));

        assert!(ApiRules::new(&[rule("state", "v1", "")], &[]).allow("/dapr.proto.runtime.v1.Dapr/Shutdown"));
    }
}
