//! Output bindings: operations the app asks for.
//!
//! *Source:* spec http_api.md §7 and errors.md for the texts. *Invariant:* what a binding tells with a refusal reaches the caller too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use pillion_contract::{BindingRequest, BindingResponse, ComponentError, ErrorKind, OutputBinding};
use pillion_core::error::{ApiError, table};
use pillion_runtime::resiliency::{self, ComponentKind, Policies, PolicyError};
use pillion_telemetry::metrics::Metrics;

use crate::retired::{Retired, Usage};

/// The loaded output bindings of one sidecar; components can be added and removed while calls are under way.
pub struct OutputBindings {
    policies: Arc<Policies>,
    metrics: Metrics,
    entries: ArcSwap<HashMap<String, Arc<Entry>>>,
}

struct Entry {
    component: Arc<dyn OutputBinding>,
    usage: Usage,
}

/// Why an operation failed.
#[derive(Debug)]
pub struct InvokeFailure {
    /// `ERR_INVOKE_OUTPUT_BINDING`.
    pub error: ApiError,
    /// What the system behind the binding told with its refusal.
    pub metadata: BTreeMap<String, String>,
}

impl OutputBindings {
    /// Makes the block without components.
    pub fn new(policies: Arc<Policies>) -> Self {
        Self { policies, metrics: Metrics::off(), entries: ArcSwap::default() }
    }

    /// The same, recording what bindings are asked.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Adds a component, replacing one of the same name, which is returned.
    pub fn add(&self, name: &str, component: Arc<dyn OutputBinding>) -> Option<Retired<dyn OutputBinding>> {
        let entry = Arc::new(Entry { component, usage: Usage::default() });
        let before = self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.insert(name.to_owned(), entry.clone());
            entries
        });
        before.get(name).map(|entry| entry.retired())
    }

    /// Removes a component and returns it, so that it can be closed.
    pub fn remove(&self, name: &str) -> Option<Retired<dyn OutputBinding>> {
        let before = self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.remove(name);
            entries
        });
        before.get(name).map(|entry| entry.retired())
    }

    /// Runs an operation under the outbound policy of the component; `None` when it has nothing to tell.
    ///
    /// # Errors
    /// `ERR_INVOKE_OUTPUT_BINDING`, with the reason in its text.
    pub async fn invoke(&self, name: &str, request: BindingRequest) -> Result<Option<BindingResponse>, InvokeFailure> {
        let started = self.metrics.component().map(|metrics| (metrics, Instant::now()));
        let result = self.send(name, &request).await;
        if let Some((metrics, started)) = started {
            metrics.output_binding(name, &request.operation, result.is_ok(), started.elapsed());
        }
        result.map_err(|mut cause| InvokeFailure {
            metadata: cause.metadata.take().map(|metadata| *metadata).unwrap_or_default(),
            error: ApiError::of(&table::INVOKE_OUTPUT_BINDING, &[&name, &cause]),
        })
    }

    /// The same with the error of the component.
    pub(super) async fn send(
        &self,
        name: &str,
        request: &BindingRequest,
    ) -> Result<Option<BindingResponse>, ComponentError> {
        let refused = |text: String| Err(ComponentError::new(ErrorKind::InvalidRequest, text));
        if request.operation.is_empty() {
            return refused("operation field is missing from request".to_owned());
        }
        let Some(entry) = self.entries.load().get(name).cloned() else {
            return refused(format!("couldn't find output binding {name}"));
        };
        let operations = entry.component.operations();
        if !operations.contains(&request.operation) {
            return refused(format!(
                "binding {name} does not support operation {}. supported operations:{}",
                request.operation,
                operations.join(" ")
            ));
        }
        let policy = self.policies.component_outbound(name, ComponentKind::Binding);
        let result = resiliency::run(policy.as_deref(), |_| entry.component.invoke(request)).await;
        result.map_err(|error| {
            let kind = if matches!(error, PolicyError::Timeout) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
            error.into_error(|text| ComponentError::new(kind, text))
        })
    }
}

impl Entry {
    fn retired(&self) -> Retired<dyn OutputBinding> {
        Retired { component: self.component.clone(), ended: self.usage.ended() }
    }
}
