//! Metrics of the runtime: components that were started, calls between apps. *Source:* spec metrics.md §2.

use std::sync::Arc;
use std::time::Duration;

use super::table::Table;
use super::{Builder, Decimal, counter, milliseconds};

const ONLY: usize = 0;

/// How a call between apps is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// One request, one answer.
    Unary,
    /// A proxied gRPC call that its caller says is a stream.
    Streaming,
}

impl CallKind {
    fn word(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Streaming => "streaming",
        }
    }
}

/// What access control did with a call: by the action of the caller's own policy, or by the default of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AccessDecision {
    AllowedByApp,
    BlockedByApp,
    AllowedByDefault,
    BlockedByDefault,
}

/// Runtime and service invocation metrics.
pub struct ServiceMetrics {
    initialized: Arc<Table>,
    loaded: Arc<Table>,
    failed: Arc<Table>,
    request_sent: Arc<Table>,
    request_received: Arc<Table>,
    response_sent: Arc<Table>,
    response_received: Arc<Table>,
    response_latency: Arc<Table>,
    renewal_failed: Arc<Table>,
    /// One table for each [`AccessDecision`], in its order.
    access: [Arc<Table>; 4],
}

impl ServiceMetrics {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let latency = builder.latency(
            "dapr_runtime_service_invocation_res_recv_latency_ms",
            "Time from a call of another app to its answer, in milliseconds.",
        );
        // These alone are labelled with the caller, not with the own app.
        let mut access =
            |name, help| builder.add(&[], &["app_id", "trustDomain", "namespace"], vec![counter(name, help)]);
        let access = [
            access(
                "dapr_runtime_acl_app_policy_action_allowed_total",
                "Calls allowed by the access control policy of their caller.",
            ),
            access(
                "dapr_runtime_acl_app_policy_action_blocked_total",
                "Calls denied by the access control policy of their caller.",
            ),
            access(
                "dapr_runtime_acl_global_policy_action_allowed_total",
                "Calls allowed by the default action of access control.",
            ),
            access(
                "dapr_runtime_acl_global_policy_action_blocked_total",
                "Calls denied by the default action of access control.",
            ),
        ];
        let mut one = |labels, name, help| builder.table(labels, vec![counter(name, help)]);
        Self {
            initialized: one(
                &["component"],
                "dapr_runtime_component_init_total",
                "Components that were initialized, by type.",
            ),
            loaded: one(&[], "dapr_runtime_component_loaded", "Components that were initialized."),
            failed: one(
                &["component", "componentName", "reason"],
                "dapr_runtime_component_init_fail_total",
                "Components that could not be initialized.",
            ),
            request_sent: one(
                &["dst_app_id", "type"],
                "dapr_runtime_service_invocation_req_sent_total",
                "Calls sent to other apps.",
            ),
            request_received: one(
                &["src_app_id"],
                "dapr_runtime_service_invocation_req_recv_total",
                "Calls received from other apps.",
            ),
            response_sent: one(
                &["dst_app_id", "status"],
                "dapr_runtime_service_invocation_res_sent_total",
                "Answers sent to other apps.",
            ),
            response_received: one(
                &["src_app_id", "status", "type"],
                "dapr_runtime_service_invocation_res_recv_total",
                "Answers received from other apps.",
            ),
            renewal_failed: one(
                &["reason"],
                "dapr_runtime_mtls_workload_cert_rotated_fail_total",
                "Renewals of the certificate of this sidecar that failed.",
            ),
            response_latency: builder.table(&["src_app_id", "status"], vec![latency]),
            access,
        }
    }

    /// A component of this type is ready.
    pub fn component_initialized(&self, component_type: &str) {
        self.initialized.with(&[component_type], |row| row.count(ONLY));
        self.loaded.with(&[], |row| row.count(ONLY));
    }

    /// A component is not: `creation` when there is no such type, else `init`.
    pub fn component_failed(&self, component_type: &str, reason: &str, name: &str) {
        self.failed.with(&[component_type, name, reason], |row| row.count(ONLY));
    }

    /// The identity of the sidecar could not be renewed.
    pub fn renewal_failed(&self, reason: &str) {
        self.renewal_failed.with(&[reason], |row| row.count(ONLY));
    }

    /// A call goes to another app.
    pub fn request_sent(&self, callee: &str, kind: CallKind) {
        self.request_sent.with(&[callee, kind.word()], |row| row.count(ONLY));
    }

    /// Its answer came.
    pub fn response_received(&self, callee: &str, status: i32, kind: CallKind, elapsed: Duration) {
        let status = Decimal::new(status);
        self.response_received.with(&[callee, status.as_str(), kind.word()], |row| row.count(ONLY));
        if kind == CallKind::Unary {
            self.response_latency.with(&[callee, status.as_str()], |row| row.observe(ONLY, milliseconds(elapsed)));
        }
    }

    /// A call of another app came.
    pub fn request_received(&self, caller: &str) {
        self.request_received.with(&[caller], |row| row.count(ONLY));
    }

    /// Its answer went back.
    pub fn response_sent(&self, caller: &str, status: i32) {
        self.response_sent.with(&[caller, Decimal::new(status).as_str()], |row| row.count(ONLY));
    }

    /// Access control decided about a call of `(app id, trust domain, namespace)`, all empty without an identity.
    pub fn access_decided(&self, decision: AccessDecision, caller: (&str, &str, &str)) {
        let table = match decision {
            AccessDecision::AllowedByApp => &self.access[0],
            AccessDecision::BlockedByApp => &self.access[1],
            AccessDecision::AllowedByDefault => &self.access[2],
            AccessDecision::BlockedByDefault => &self.access[3],
        };
        table.with(&[caller.0, caller.1, caller.2], |row| row.count(ONLY));
    }
}
