//! Metrics of resiliency policies: how often they were asked for, and how often they did something.
//!
//! *Source:* spec metrics.md §2.2 "Counting rules".

use std::sync::Arc;

use super::table::{Row, Table};
use super::{Builder, counter, gauge};

const EXECUTIONS: usize = 0;
const ACTIVATIONS: usize = 1;
const STATE: usize = 2;
/// Values of `status` of the series of one breaker.
const STATES: [&str; 4] = ["closed", "half-open", "open", "unknown"];

/// Resiliency metrics.
pub struct ResiliencyMetrics {
    loaded: Arc<Table>,
    policies: Arc<Table>,
}

/// What a policy guards, in the words of the labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Name of the Resiliency resource.
    pub resiliency: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// `inbound` or `outbound`.
    pub flow_direction: &'static str,
    /// `app_<id>`, `actor_<type>` or `<kind>_<component>`.
    pub target: &'a str,
}

/// The series of one policy, looked up once.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    timeout: Option<Arc<Row>>,
    retry: Option<Arc<Row>>,
    breaker: Option<[Option<Arc<Row>>; 4]>,
}

impl ResiliencyMetrics {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let loaded = vec![counter("dapr_resiliency_loaded", "Resiliency resources that were loaded.")];
        let policies = vec![
            counter("dapr_resiliency_count", "Operations a policy was applied to."),
            counter(
                "dapr_resiliency_activations_total",
                "Operations in which a policy did something, and changes of circuit breakers.",
            ),
            gauge("dapr_resiliency_cb_state", "1 for the state a circuit breaker is in, 0 for the others."),
        ];
        Self {
            loaded: builder.table(&["name", "namespace"], loaded),
            policies: builder.table(&["flow_direction", "name", "namespace", "policy", "status", "target"], policies),
        }
    }

    /// A resource was loaded.
    pub fn loaded(&self, name: &str, namespace: &str) {
        self.loaded.with(&[name, namespace], |row| row.count(0));
    }

    /// The series of a policy with these parts.
    pub fn policy(&self, target: &Target<'_>, timeout: bool, retry: bool, breaker: bool) -> PolicyMetrics {
        let row = |policy: &str, status: &str| {
            let Target { resiliency, namespace, flow_direction, target } = target;
            self.policies.row(&[flow_direction, resiliency, namespace, policy, status, target])
        };
        PolicyMetrics {
            timeout: timeout.then(|| row("timeout", "")).flatten(),
            retry: retry.then(|| row("retry", "")).flatten(),
            breaker: breaker.then(|| STATES.map(|state| row("circuitbreaker", state))),
        }
    }
}

impl PolicyMetrics {
    /// The policy is applied to an operation. `state`: that of its breaker.
    pub fn applied(&self, state: Option<&str>) {
        for row in [&self.timeout, &self.retry].into_iter().flatten() {
            row.count(EXECUTIONS);
        }
        if let Some(state) = state {
            self.at(state, EXECUTIONS);
        }
    }

    /// The timeout ended an attempt, for the first time in an operation.
    pub fn timed_out(&self) {
        if let Some(row) = &self.timeout {
            row.count(ACTIVATIONS);
        }
    }

    /// An operation is tried again, for the first time.
    pub fn retried(&self) {
        if let Some(row) = &self.retry {
            row.count(ACTIVATIONS);
        }
    }

    /// The circuit breaker changed its state. The gauge follows with the next operation, as in the original.
    pub fn changed(&self, state: &str) {
        self.at(state, ACTIVATIONS);
    }

    fn at(&self, state: &str, column: usize) {
        for (name, row) in STATES.iter().zip(self.breaker.iter().flatten()) {
            let Some(row) = row else { continue };
            let is = *name == state;
            if is {
                row.count(column);
            }
            if column == EXECUTIONS {
                row.set(STATE, i32::from(is));
            }
        }
    }
}
