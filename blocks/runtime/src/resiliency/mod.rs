//! Resiliency: timeouts, retries and circuit breakers for apps, actors and components.
//!
//! *Job:* compile the `Resiliency` resources ([`Policies::compile`]), find the policy of a target, run operations under it
//! ([`Policy::run`], [`run`]). *Neighbours:* every block asks for policies; nothing here knows what an operation does.
//! *Invariant:* a target without a policy costs one look-up in an empty map: no allocation, no lock.

mod breaker;
mod lru;
mod policy;
mod retry;
mod set;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use pillion_core::log::Logger;
use pillion_resources::types::Resiliency;
use pillion_telemetry::metrics::Metrics;

pub use breaker::{Breaker, BreakerCounts, BreakerState};
pub use policy::{Failure, FailureClass, Policy, PolicyError, TIMEOUT_TEXT, run};

use retry::Retry;
use set::Set;

/// The building block a component belongs to, in the words of default policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ComponentKind {
    Binding,
    Configuration,
    Lock,
    Pubsub,
    Crypto,
    Conversation,
    Secretstore,
    Statestore,
}

impl ComponentKind {
    fn name(self) -> &'static str {
        match self {
            Self::Binding => "Binding",
            Self::Configuration => "Configuration",
            Self::Lock => "Lock",
            Self::Pubsub => "Pubsub",
            Self::Crypto => "Crypto",
            Self::Conversation => "Conversation",
            Self::Secretstore => "Secretstore",
            Self::Statestore => "Statestore",
        }
    }
}

/// Retries the sidecar itself does where no target applies. *Source:* spec internals.md §8.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuiltIn {
    /// Service invocation of a target without policy: 1 s, three times.
    ServiceRetries,
    /// Calls of remote actors: 1 s, three times.
    ActorRetries,
    /// Reminder operations.
    ActorReminderRetries,
    /// An actor whose host moved: 1 s, five times; cannot be redefined.
    ActorNotFoundRetries,
    /// Start of components: 0.5 s growing to 1 s, three times.
    InitializationRetries,
}

impl BuiltIn {
    const ALL: [Self; 5] = [
        Self::ServiceRetries,
        Self::ActorRetries,
        Self::ActorReminderRetries,
        Self::ActorNotFoundRetries,
        Self::InitializationRetries,
    ];

    /// The name under which a manifest may redefine it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceRetries => "DaprBuiltInServiceRetries",
            Self::ActorRetries => "DaprBuiltInActorRetries",
            Self::ActorReminderRetries => "DaprBuiltInActorReminderRetries",
            Self::ActorNotFoundRetries => "DaprBuiltInActorNotFoundRetries",
            Self::InitializationRetries => "DaprBuiltInInitializationRetries",
        }
    }

    fn retry(self) -> Retry {
        match self {
            Self::ServiceRetries | Self::ActorRetries => Retry::constant(Duration::from_secs(1), 3),
            Self::ActorNotFoundRetries => Retry::constant(Duration::from_secs(1), 5),
            Self::ActorReminderRetries => Retry::exponential(Duration::from_secs(60), Duration::from_secs(15 * 60), 0),
            Self::InitializationRetries => Retry::exponential(Duration::from_secs(1), Duration::from_secs(10), 3),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    Inbound,
    Outbound,
}

/// A circuit breaker as the metadata API and the dashboard show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerInfo {
    /// Name of the breaker, as in the log.
    pub name: String,
    /// `app_<id>`, `actor_<type>` or `<component>`.
    pub target: String,
    /// State.
    pub state: BreakerState,
    /// Counts of the present generation.
    pub counts: BreakerCounts,
    /// When it left the closed state.
    pub tripped: Option<SystemTime>,
}

/// All policies of a sidecar; replaced as a whole when the resources change.
pub struct Policies {
    set: ArcSwap<Set>,
    metrics: Metrics,
    log: Logger,
}

impl Policies {
    /// No policies but the built-in ones.
    pub fn none(log: &Logger) -> Self {
        Self::compile(&[], log)
    }

    /// Compiles resources in load order: a later definition of a name replaces an earlier one. A resource with a mistake is
    /// logged and its targets are left out; it never stops the sidecar. Scopes have been applied by the caller.
    pub fn compile(resources: &[Resiliency], log: &Logger) -> Self {
        Self::compile_measured(resources, log, Metrics::off())
    }

    /// As [`Self::compile`], with metrics that are told what the policies do.
    pub fn compile_measured(resources: &[Resiliency], log: &Logger, metrics: Metrics) -> Self {
        let log = log.scope("dapr.runtime");
        let set = ArcSwap::from_pointee(Set::compile(resources, &log, metrics.clone(), None));
        Self { set, metrics, log }
    }

    /// Puts the policies of other resources into their place, all at once. Calls under way go on under the policy they began with;
    /// breakers of policies that did not change keep their state.
    pub fn replace(&self, resources: &[Resiliency]) {
        let before = self.set.load_full();
        self.set.store(Arc::new(Set::compile(resources, &self.log, self.metrics.clone(), Some(&before))));
    }

    /// The policy of calls to a method of an app (or of an HTTP endpoint, by its name or URL).
    pub fn app(&self, app_id: &str, method: &str) -> Option<Arc<Policy>> {
        self.set.load().app(app_id, method)
    }

    /// Whether a target for this app is written down; without one, [`BuiltIn::ServiceRetries`] apply to calls of it.
    pub fn has_app_target(&self, app_id: &str) -> bool {
        self.set.load().has_app_target(app_id)
    }

    /// The policy of calls towards a component.
    pub fn component_outbound(&self, name: &str, kind: ComponentKind) -> Option<Arc<Policy>> {
        self.set.load().component(name, kind, Direction::Outbound)
    }

    /// The policy of calls from a component to the app.
    pub fn component_inbound(&self, name: &str, kind: ComponentKind) -> Option<Arc<Policy>> {
        self.set.load().component(name, kind, Direction::Inbound)
    }

    /// The policy of calls of an actor before it is locked: retries and circuit breaker, no timeout.
    pub fn actor(&self, actor_type: &str, actor_id: &str) -> Option<Arc<Policy>> {
        self.set.load().actor(actor_type, actor_id)
    }

    /// The timeout of calls of an actor once it is locked.
    pub fn actor_timeout(&self, actor_type: &str) -> Option<Duration> {
        self.set.load().actor_timeout(actor_type)
    }

    /// A built-in policy, possibly redefined by a manifest.
    pub fn built_in(&self, name: BuiltIn) -> Arc<Policy> {
        self.set.load().built_in(name)
    }

    /// All circuit breakers made so far, by target and name.
    pub fn breakers(&self) -> Vec<BreakerInfo> {
        self.set.load().breakers()
    }
}
