//! Publish/subscribe: CloudEvents, topic scopes, publishing, subscriptions and their delivery.
//!
//! *Job:* everything between a front or the app on one side and a broker on the other. *Neighbours:* the fronts call
//! [`PubSubs`]; `sidecar` feeds and starts [`Subscriptions`]; the app is reached through [`DeliverySink`].
//! *Invariant:* a message is acknowledged only after the app took it, dropped it, or it was put on the dead letter topic.

mod bulk;
mod bulk_sink;
pub(crate) mod content_type;
mod delivery;
pub(crate) mod envelope;
mod errors;
mod follow;
mod internal;
mod publish;
mod routing;
mod scopes;
mod sink;
mod streaming;
mod subscriptions;
mod table;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use pillion_contract::{Metadata, PubSub};
use pillion_runtime::resiliency::Policies;
use pillion_telemetry::metrics::Metrics;
use pillion_telemetry::trace::Tracer;

use scopes::Scopes;

use crate::retired::{Retired, Usage};

pub use bulk::{BulkEvent, BulkItem};
pub use delivery::{DeliveryFailure, DeliveryResult, DeliverySink, Event};
pub use envelope::CloudEvent;
pub use publish::{BulkEntry, BulkPublishError, FailedEntry, PublishCall};
pub use sink::{GrpcSink, HttpSink, app_sink};
pub use streaming::{StreamAnswers, TopicStream};
pub use subscriptions::Subscriptions;
pub use table::{Kind, SubscriptionInfo, TopicSubscription, ask_app};
pub use trace::TraceContext;

/// The loaded pub/sub components of one sidecar; components can be added and removed while calls are under way.
pub struct PubSubs {
    app_id: String,
    namespace: String,
    policies: Arc<Policies>,
    tracer: Tracer,
    metrics: Metrics,
    entries: ArcSwap<HashMap<String, Arc<Entry>>>,
}

struct Entry {
    name: String,
    component: Arc<dyn PubSub>,
    scopes: Scopes,
    namespaced: bool,
    /// The broker gives no more messages; see [`Subscriptions::pause`].
    paused: AtomicBool,
    usage: Usage,
}

impl Entry {
    fn retired(&self) -> Retired<dyn PubSub> {
        Retired { component: self.component.clone(), ended: self.usage.ended() }
    }
}

impl PubSubs {
    /// Makes the block without components.
    pub fn new(app_id: &str, namespace: &str, policies: Arc<Policies>) -> Self {
        let (tracer, entries) = (Tracer::default(), ArcSwap::default());
        Self {
            app_id: app_id.to_owned(),
            namespace: namespace.to_owned(),
            policies,
            tracer,
            metrics: Metrics::off(),
            entries,
        }
    }

    /// The same with spans for the entries of bulk publishes.
    #[must_use]
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// The same, recording what is published and delivered.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Adds a component, replacing one of the same name. `namespaced`: its metadata as written used `{namespace}`, so its
    /// topics get the namespace as prefix. With running subscriptions use [`Subscriptions::replace_component`].
    pub fn add(&self, name: &str, component: Arc<dyn PubSub>, metadata: &Metadata, namespaced: bool) {
        self.put(&self.new_entry(name, component, metadata, namespaced));
    }

    fn new_entry(&self, name: &str, component: Arc<dyn PubSub>, metadata: &Metadata, namespaced: bool) -> Arc<Entry> {
        Arc::new(Entry {
            name: name.to_owned(),
            component,
            scopes: Scopes::new(metadata, &self.app_id),
            namespaced,
            paused: AtomicBool::new(false),
            usage: Usage::default(),
        })
    }

    fn put(&self, entry: &Arc<Entry>) -> Option<Retired<dyn PubSub>> {
        let before = self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.insert(entry.name.clone(), entry.clone());
            entries
        });
        before.get(&entry.name).map(|entry| entry.retired())
    }

    /// Removes a component and returns it, so that it can be closed.
    pub fn remove(&self, name: &str) -> Option<Retired<dyn PubSub>> {
        let before = self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.remove(name);
            entries
        });
        before.get(name).map(|entry| entry.retired())
    }

    /// The namespace of this sidecar.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The app ID of this sidecar.
    pub(crate) fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Whether a component of this name is loaded.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.load().contains_key(name)
    }

    fn gives_one_at_a_time(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|entry| entry.component.capability().bulk_subscribe_immediate)
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.entries.load().get(name).cloned()
    }

    fn broker_topic(&self, entry: &Entry, topic: &str) -> String {
        if entry.namespaced { format!("{}{topic}", self.namespace) } else { topic.to_owned() }
    }
}

/// The `rawPayload` of metadata. *Source:* Go's spellings of booleans.
///
/// # Errors
/// The value is not a boolean.
pub fn is_raw(metadata: &BTreeMap<String, String>) -> Result<bool, String> {
    match metadata.get("rawPayload").map(String::as_str) {
        None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(other) => Err(format!("rawPayload value must be a valid boolean: actual is '{other}'")),
    }
}
