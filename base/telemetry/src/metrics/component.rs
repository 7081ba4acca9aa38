//! Metrics of building blocks: what was asked of components, and what they delivered. *Source:* spec metrics.md §2.

use std::sync::Arc;
use std::time::Duration;

use super::table::{Row, Table};
use super::{Builder, counter, milliseconds};

const LATENCY: usize = 0;
const COUNT: usize = 1;
const EVENTS: usize = 0;
/// The original's label of bulk deliveries, kept with its mistake, as dashboards match it.
const BULK_COMPONENT: &str = "pubsubName";

/// What became of a message that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// The app took it.
    Success,
    /// It goes back to the broker.
    Retry,
    /// It is given up.
    Drop,
    /// The app refused it; it is done with.
    Refused,
}

impl Ingress {
    /// `process_status` and `status`.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Success => ("success", "success"),
            Self::Retry => ("retry", "retry"),
            Self::Drop => ("drop", "drop"),
            Self::Refused => ("drop", "success"),
        }
    }
}

/// Component metrics.
pub struct ComponentMetrics {
    state: Arc<Table>,
    secret: Arc<Table>,
    egress: Arc<Table>,
    bulk_egress: Arc<Table>,
    ingress: Arc<Table>,
    bulk_ingress: Arc<Table>,
    bulk_events: Arc<Table>,
    input_binding: Arc<Table>,
    output_binding: Arc<Table>,
}

impl ComponentMetrics {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let both = |builder: &Builder<'_>, latency, count| {
            vec![
                builder.latency(latency, "Time the component or the app took, in milliseconds."),
                counter(count, "Calls of the component, or messages of it."),
            ]
        };
        let state = both(builder, "dapr_component_state_latencies", "dapr_component_state_count");
        let secret = both(builder, "dapr_component_secret_latencies", "dapr_component_secret_count");
        let egress = both(builder, "dapr_component_pubsub_egress_latencies", "dapr_component_pubsub_egress_count");
        let bulk_egress =
            both(builder, "dapr_component_pubsub_egress_bulk_latencies", "dapr_component_pubsub_egress_bulk_count");
        let ingress = both(builder, "dapr_component_pubsub_ingress_latencies", "dapr_component_pubsub_ingress_count");
        let bulk_ingress =
            both(builder, "dapr_component_pubsub_ingress_bulk_latencies", "dapr_component_pubsub_ingress_bulk_count");
        let bulk_events = vec![counter(
            "dapr_component_pubsub_ingress_bulk_event_count",
            "Batches that had messages with this outcome.",
        )];
        let input_binding =
            both(builder, "dapr_component_input_binding_latencies", "dapr_component_input_binding_count");
        let output_binding =
            both(builder, "dapr_component_output_binding_latencies", "dapr_component_output_binding_count");
        Self {
            state: builder.namespaced(&["component", "operation", "success"], state),
            secret: builder.namespaced(&["component", "operation", "success"], secret),
            egress: builder.namespaced(&["component", "success", "topic"], egress),
            bulk_egress: builder.namespaced(&["component", "success", "topic"], bulk_egress),
            ingress: builder.namespaced(&["component", "process_status", "status", "topic"], ingress),
            bulk_ingress: builder.namespaced(&["component", "process_status", "topic"], bulk_ingress),
            bulk_events: builder.namespaced(&["component", "process_status", "topic"], bulk_events),
            input_binding: builder.namespaced(&["component", "success"], input_binding),
            output_binding: builder.namespaced(&["component", "operation", "success"], output_binding),
        }
    }

    /// A state store was called: `get`, `set`, `delete`, `query`, `transaction`, `bulk_get` or `bulk_delete`.
    pub fn state(&self, component: &str, operation: &str, success: bool, elapsed: Duration) {
        self.state.with(&[component, operation, word(success)], |row| timed(row, elapsed));
    }

    /// A secret store was called: `get` or `bulk_get`.
    pub fn secret(&self, component: &str, operation: &str, success: bool, elapsed: Duration) {
        self.secret.with(&[component, operation, word(success)], |row| timed(row, elapsed));
    }

    /// An event of an input binding was handed to the app; `elapsed`: with all its attempts.
    pub fn input_binding(&self, component: &str, success: bool, elapsed: Duration) {
        self.input_binding.with(&[component, word(success)], |row| timed(row, elapsed));
    }

    /// An output binding was asked for an operation.
    pub fn output_binding(&self, component: &str, operation: &str, success: bool, elapsed: Duration) {
        self.output_binding.with(&[component, operation, word(success)], |row| timed(row, elapsed));
    }

    /// An event was published.
    pub fn published(&self, component: &str, topic: &str, success: bool, elapsed: Duration) {
        self.egress.with(&[component, word(success), topic], |row| timed(row, elapsed));
    }

    /// Several events were published in one call.
    pub fn bulk_published(&self, component: &str, topic: &str, success: bool, elapsed: Duration) {
        self.bulk_egress.with(&[component, word(success), topic], |row| timed(row, elapsed));
    }

    /// A message reached its end, or an attempt of the app did. `elapsed`: the app's time; zero when it was not called.
    pub fn delivered(&self, component: &str, topic: &str, outcome: Ingress, elapsed: Duration) {
        let (process_status, status) = outcome.labels();
        self.ingress.with(&[component, process_status, status, topic], |row| timed(row, elapsed));
    }

    /// A batch was handed to the app; `counts`: how many messages of it ended with success, retry and drop.
    pub fn bulk_delivered(&self, topic: &str, counts: [usize; 3], elapsed: Duration) {
        self.bulk_ingress.with(&[BULK_COMPONENT, "", topic], |row| timed(row, elapsed));
        for (status, count) in ["SUCCESS", "RETRY", "DROP"].into_iter().zip(counts) {
            if count > 0 {
                // A count of batches, not of messages, as in the original.
                self.bulk_events.with(&[BULK_COMPONENT, status, topic], |row| row.count(EVENTS));
            }
        }
    }
}

/// A call that took no time was not made: it counts, and has no latency.
fn timed(row: &Row, elapsed: Duration) {
    row.count(COUNT);
    if !elapsed.is_zero() {
        row.observe(LATENCY, milliseconds(elapsed));
    }
}

fn word(success: bool) -> &'static str {
    if success { "true" } else { "false" }
}
