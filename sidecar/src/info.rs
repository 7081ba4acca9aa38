//! What the fronts ask of the sidecar: readiness, metadata, the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use pillion_api::runtime_info::{AppConnection, BreakerInfo, RuleInfo, RuntimeInfo, RuntimeMetadata, SubscriptionInfo};
use pillion_building_blocks::outbox::Outbox;
use pillion_building_blocks::pubsub::Subscriptions;
use pillion_core::board::{Board, Part, Trouble};
use pillion_core::log::Logger;
use pillion_runtime::resiliency::{BreakerState, Policies};
use pillion_telemetry::trace::Tracer;
use tokio::sync::watch;

use crate::components::ComponentHost;
use crate::health::Readiness;
use crate::reload::Names;
use crate::sidecar::End;

/// The parts the answers are made of.
pub(crate) struct Info {
    pub(crate) readiness: Readiness,
    pub(crate) outbound: Readiness,
    pub(crate) host: Arc<ComponentHost>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) features: Vec<String>,
    pub(crate) names: RwLock<Names>,
    pub(crate) app_connection: Option<AppConnection>,
    pub(crate) control_plane_given: Vec<&'static str>,
    pub(crate) attributes: Mutex<BTreeMap<String, String>>,
    /// Where parts tell what keeps them; any part gets a clone.
    pub(crate) board: Board,
    pub(crate) end: watch::Sender<Option<End>>,
    pub(crate) tracer: Tracer,
    pub(crate) log: Logger,
}

impl Info {
    /// Asks for the end of the sidecar. A forced end replaces another one, never the other way round.
    pub(crate) fn request(&self, end: End) {
        self.end.send_if_modified(|current| {
            let changes = current.as_ref().is_none_or(|current| current.gives_way_to(&end));
            if changes {
                *current = Some(end);
            }
            changes
        });
    }

    /// Takes a request for a restart back.
    pub(crate) fn withdraw_restart(&self) {
        self.end.send_if_modified(|current| {
            let withdrawn = *current == Some(End::Restart);
            if withdrawn {
                *current = None;
            }
            withdrawn
        });
    }

    /// Waits until no restart is asked for.
    pub(crate) async fn restart_withdrawn(&self) {
        let mut end = self.end.subscribe();
        let _ = end.wait_for(|end| *end != Some(End::Restart)).await; // cannot fail: the sender is here
    }

    /// The board, and the breakers that let nothing through. A breaker is asked, because it must not report on the way of a call.
    fn parts(&self) -> Vec<Part> {
        let mut parts = self.board.parts();
        for breaker in self.policies.breakers() {
            let (trouble, reason) = match breaker.state {
                BreakerState::Closed => continue,
                BreakerState::Open => (Trouble::Unhealthy, "refuses calls, because too many failed"),
                BreakerState::HalfOpen => {
                    (Trouble::Waiting, "a call that succeeds, then it lets all calls through again")
                }
            };
            let target = breaker.target.strip_prefix("app_").unwrap_or(&breaker.target);
            parts.push(Part {
                kind: "circuitBreaker",
                name: format!("{} of {}", breaker.name, breaker.target),
                trouble,
                reason: reason.to_owned(),
                since: breaker.tripped.unwrap_or(std::time::SystemTime::now()).into(),
                last_error: String::new(),
                advice: format!(
                    "find out why calls to {target} fail; the breaker tries again by itself after its timeout"
                ),
            });
        }
        parts
    }
}

impl RuntimeInfo for Info {
    fn app_id(&self) -> &str {
        &self.host.app_id
    }

    fn namespace(&self) -> &str {
        &self.host.namespace
    }

    fn control_plane_given(&self) -> &[&'static str] {
        &self.control_plane_given
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
        let names = self.names.read().clone();
        let parts = self.parts();
        let breakers = self.policies.breakers().into_iter();
        RuntimeMetadata {
            id: self.host.app_id.clone(),
            runtime_version: pillion_core::DAPR_VERSION.to_owned(),
            enabled_features: self.features.clone(),
            components: self.host.list(),
            extended,
            subscriptions: subscriptions.collect(),
            http_endpoints: names.http_endpoints,
            app_connection: self.app_connection.clone(),
            resiliencies: names.resiliencies,
            mcp_servers: names.mcp_servers,
            workflow_access_policies: names.workflow_access_policies,
            breakers: breakers
                .map(|breaker| BreakerInfo {
                    name: breaker.name,
                    target: breaker.target,
                    state: breaker.state.name().to_owned(),
                })
                .collect(),
            parts,
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
        self.request(end);
    }
}
