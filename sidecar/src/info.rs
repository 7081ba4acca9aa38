//! What the fronts ask of the sidecar: readiness, metadata, the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pillion_api::runtime_info::{AppConnection, BreakerInfo, RuleInfo, RuntimeInfo, RuntimeMetadata, SubscriptionInfo};
use pillion_building_blocks::pubsub::Subscriptions;
use pillion_core::log::Logger;
use pillion_runtime::resiliency::Policies;
use pillion_telemetry::trace::Tracer;
use tokio::sync::watch;

use crate::components::ComponentHost;
use crate::health::Readiness;
use crate::sidecar::End;

/// The parts the answers are made of.
pub(crate) struct Info {
    pub(crate) readiness: Readiness,
    pub(crate) outbound: Readiness,
    pub(crate) host: Arc<ComponentHost>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) features: Vec<String>,
    pub(crate) http_endpoints: Vec<String>,
    pub(crate) resiliencies: Vec<String>,
    pub(crate) app_connection: Option<AppConnection>,
    pub(crate) attributes: Mutex<BTreeMap<String, String>>,
    pub(crate) end: watch::Sender<Option<End>>,
    pub(crate) tracer: Tracer,
    pub(crate) log: Logger,
}

impl RuntimeInfo for Info {
    fn app_id(&self) -> &str {
        &self.host.app_id
    }

    fn unready(&self) -> Vec<String> {
        self.readiness.unready()
    }

    fn outbound_ready(&self) -> bool {
        self.outbound.is_ready()
    }

    fn metadata(&self) -> RuntimeMetadata {
        let mut extended = self.attributes.lock().clone();
        extended.insert("daprRuntimeVersion".to_owned(), pillion_core::DAPR_VERSION.to_owned());
        let subscriptions = self.subscriptions.list().into_iter().map(|info| SubscriptionInfo {
            pubsub_name: info.subscription.pubsub_name,
            topic: info.subscription.topic,
            metadata: info.subscription.metadata,
            rules: info
                .subscription
                .rules
                .into_iter()
                .map(|rule| RuleInfo { matches: rule.matches, path: rule.path })
                .collect(),
            dead_letter_topic: info.subscription.dead_letter_topic,
            kind: info.kind.name(),
        });
        let breakers = self.policies.breakers().into_iter();
        RuntimeMetadata {
            id: self.host.app_id.clone(),
            runtime_version: pillion_core::DAPR_VERSION.to_owned(),
            enabled_features: self.features.clone(),
            components: self.host.list(),
            extended,
            subscriptions: subscriptions.collect(),
            http_endpoints: self.http_endpoints.clone(),
            app_connection: self.app_connection.clone(),
            resiliencies: self.resiliencies.clone(),
            breakers: breakers
                .map(|breaker| BreakerInfo {
                    name: breaker.name,
                    target: breaker.target,
                    state: breaker.state.name().to_owned(),
                })
                .collect(),
        }
    }

    fn set_attribute(&self, key: String, value: String) {
        self.attributes.lock().insert(key, value);
    }

    fn shutdown(&self, force: bool) {
        let end = if force {
            self.log.warn("Force shutdown requested, exiting immediately without graceful shutdown");
            End::Forced
        } else {
            self.log.info("Shutdown requested via API");
            End::Requested
        };
        self.end.send_if_modified(|current| {
            // A forced end replaces a graceful one, never the other way round.
            let changes = current.is_none() || (end == End::Forced && *current != Some(End::Forced));
            if changes {
                *current = Some(end);
            }
            changes
        });
    }
}
