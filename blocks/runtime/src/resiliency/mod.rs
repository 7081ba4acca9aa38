//! Resiliency: timeouts, retries and circuit breakers for apps, actors and components.
//!
//! *Job:* compile the `Resiliency` resources ([`Policies::compile`]), find the policy of a target, run operations under it
//! ([`Policy::run`], [`run`]). *Neighbours:* every block asks for policies; nothing here knows what an operation does.
//! *Invariant:* a target without a policy costs one look-up in an empty map: no allocation, no lock.

mod breaker;
mod lru;
mod policy;
mod retry;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pillion_core::log::Logger;
use pillion_resources::types::{PolicyNames, Resiliency};
use pillion_telemetry::metrics::{Metrics, PolicyMetrics, Target};

pub use breaker::{Breaker, BreakerCounts, BreakerState};
pub use policy::{Failure, FailureClass, Policy, PolicyError, TIMEOUT_TEXT, run};

use breaker::BreakerTemplate;
use lru::Lru;
use retry::Retry;
use table::{Level, Table};

/// Breakers kept per app target. *Source:* spec resources.md §4.
const APP_CACHE_SIZE: usize = 100;
/// Breakers kept per actor target. *Source:* spec resources.md §4.
const ACTOR_CACHE_SIZE: usize = 5000;

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
}

type PolicyCache = HashMap<String, Lru<Arc<Policy>>>;
type ComponentCache = HashMap<String, Vec<(ComponentKind, Direction, Option<Arc<Policy>>)>>;

/// All policies of a sidecar.
pub struct Policies {
    table: Table,
    built_in: HashMap<BuiltIn, Arc<Policy>>,
    apps: Mutex<PolicyCache>,
    actors: Mutex<PolicyCache>,
    components: RwLock<ComponentCache>,
    component_breakers: Mutex<HashMap<String, Arc<Breaker>>>,
    /// Name and namespace of the last resource, which metrics carry for all. *Source:* spec resources.md §4.
    resource: (String, String),
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
        let mut table = Table::with_built_ins();
        for resource in resources {
            log.info(format_args!("Loading Resiliency configuration: {}", resource.name));
            if let Err(problem) = table.add(resource, &log) {
                log.error(format_args!("Could not read resiliency policy {}: {problem}", resource.name));
            } else if let Some(metrics) = metrics.resiliency() {
                metrics.loaded(&resource.name, resource.namespace.as_deref().unwrap_or_default());
            }
        }
        let resource = resources.last().map_or_else(Default::default, |resource| {
            (resource.name.clone(), resource.namespace.clone().unwrap_or_default())
        });
        let built_in = BuiltIn::ALL
            .into_iter()
            .map(|name| {
                let retry = table.retries.get(name.name()).cloned();
                (
                    name,
                    Arc::new(Policy {
                        name: name.name().to_owned(),
                        timeout: None,
                        retry,
                        breaker: None,
                        metrics: None,
                        log: log.clone(),
                    }),
                )
            })
            .collect();
        Self {
            table,
            built_in,
            apps: Mutex::default(),
            actors: Mutex::default(),
            components: RwLock::default(),
            component_breakers: Mutex::default(),
            resource,
            metrics,
            log,
        }
    }

    /// The policy of calls to a method of an app (or of an HTTP endpoint, by its name or URL).
    pub fn app(&self, app_id: &str, method: &str) -> Option<Arc<Policy>> {
        let target = self.table.apps.get(app_id);
        if target.is_none() && !self.table.has_defaults(Level::App) {
            return None;
        }
        let names = target.cloned().unwrap_or_else(|| self.table.defaults(Level::App));
        if self.table.is_empty(&names) {
            return None;
        }
        let mut apps = self.apps.lock();
        let cache = cache_of(&mut apps, app_id, size_or(names.circuit_breaker_cache_size, APP_CACHE_SIZE));
        let policy = cache.get_or_insert_with(method, || {
            let endpoint = format!("{app_id}:{method}");
            let breaker =
                self.template(&names).map(|template| Breaker::new(endpoint.clone(), template, self.log.clone()));
            let measured = (Direction::Outbound, format!("app_{app_id}"));
            self.policy(format!("endpoint[{app_id}, {endpoint}]"), measured, &names, breaker)
        });
        policy.count();
        Some(policy)
    }

    /// Whether a target for this app is written down; without one, [`BuiltIn::ServiceRetries`] apply to calls of it.
    pub fn has_app_target(&self, app_id: &str) -> bool {
        self.table.apps.contains_key(app_id)
    }

    /// The policy of calls towards a component.
    pub fn component_outbound(&self, name: &str, kind: ComponentKind) -> Option<Arc<Policy>> {
        self.component(name, kind, Direction::Outbound)
    }

    /// The policy of calls from a component to the app.
    pub fn component_inbound(&self, name: &str, kind: ComponentKind) -> Option<Arc<Policy>> {
        self.component(name, kind, Direction::Inbound)
    }

    /// The policy of calls of an actor before it is locked: retries and circuit breaker, no timeout.
    pub fn actor(&self, actor_type: &str, actor_id: &str) -> Option<Arc<Policy>> {
        let target = self.table.actors.get(actor_type);
        if target.is_none() && !self.table.has_defaults(Level::Actor) {
            return None;
        }
        let mut names = target.cloned().unwrap_or_else(|| self.table.defaults(Level::Actor));
        names.timeout.clear();
        if self.table.is_empty(&names) {
            return None;
        }
        let by_type = target.is_none() || names.circuit_breaker_scope == "type";
        let key = if by_type { actor_type.to_owned() } else { format!("{actor_type}-{actor_id}") };
        let default_size = if target.is_none() { APP_CACHE_SIZE } else { ACTOR_CACHE_SIZE };
        let mut actors = self.actors.lock();
        let cache = cache_of(&mut actors, actor_type, size_or(names.circuit_breaker_cache_size, default_size));
        let policy = cache.get_or_insert_with(&key, || {
            let breaker = self.template(&names).map(|template| Breaker::new(key.clone(), template, self.log.clone()));
            let measured = (Direction::Outbound, format!("actor_{actor_type}"));
            self.policy(format!("actor[{actor_type}, {actor_id}]"), measured, &names, breaker)
        });
        policy.count();
        Some(policy)
    }

    /// The timeout of calls of an actor once it is locked.
    pub fn actor_timeout(&self, actor_type: &str) -> Option<Duration> {
        let defaults;
        let names = match self.table.actors.get(actor_type) {
            Some(names) => names,
            None if self.table.has_defaults(Level::Actor) => {
                defaults = self.table.defaults(Level::Actor);
                &defaults
            }
            None => return None,
        };
        self.table.timeout(names)
    }

    /// A built-in policy, possibly redefined by a manifest.
    pub fn built_in(&self, name: BuiltIn) -> Arc<Policy> {
        self.built_in.get(&name).expect("compile makes one for every member of BuiltIn::ALL").clone()
    }

    /// All circuit breakers made so far, by target and name.
    pub fn breakers(&self) -> Vec<BreakerInfo> {
        let mut found = Vec::new();
        let mut add = |target: String, breaker: &Breaker| {
            let (state, counts) = breaker.snapshot();
            found.push(BreakerInfo { name: breaker.name().to_owned(), target, state, counts });
        };
        for (prefix, cache) in [("app", &self.apps), ("actor", &self.actors)] {
            for (target, policies) in cache.lock().iter() {
                for breaker in policies.iter().filter_map(|(_, policy)| policy.breaker.as_ref()) {
                    add(format!("{prefix}_{target}"), breaker);
                }
            }
        }
        for (target, breaker) in self.component_breakers.lock().iter() {
            add(target.clone(), breaker);
        }
        found.sort_by(|a, b| (&a.target, &a.name).cmp(&(&b.target, &b.name)));
        found
    }

    fn component(&self, name: &str, kind: ComponentKind, direction: Direction) -> Option<Arc<Policy>> {
        let policy = self.component_policy(name, kind, direction)?;
        policy.count();
        Some(policy)
    }

    fn component_policy(&self, name: &str, kind: ComponentKind, direction: Direction) -> Option<Arc<Policy>> {
        let level = Level::Component(kind, direction);
        let target = self.table.components.get(name);
        if target.is_none() && !self.table.has_defaults(level) {
            return None;
        }
        let known = |cache: &ComponentCache| {
            let entries = cache.get(name)?;
            entries.iter().find(|entry| entry.0 == kind && entry.1 == direction).map(|entry| entry.2.clone())
        };
        if let Some(policy) = known(&self.components.read()) {
            return policy;
        }
        let mut cache = self.components.write();
        if let Some(policy) = known(&cache) {
            return policy;
        }
        let names = match (target, direction) {
            (Some(target), Direction::Outbound) => target.outbound.clone(),
            (Some(target), Direction::Inbound) => target.inbound.clone(),
            (None, _) => self.table.defaults(level),
        };
        let policy = (!self.table.is_empty(&names)).then(|| {
            let word = match direction {
                Direction::Outbound => "output",
                Direction::Inbound => "input",
            };
            let breaker = self.template(&names).map(|template| self.component_breaker(name, template));
            let measured = (direction, format!("{}_{name}", kind.name()));
            self.policy(format!("component[{name}] {word}"), measured, &names, breaker)
        });
        cache.entry(name.to_owned()).or_default().push((kind, direction, policy.clone()));
        policy
    }

    fn component_breaker(&self, name: &str, template: Arc<BreakerTemplate>) -> Arc<Breaker> {
        let mut breakers = self.component_breakers.lock();
        let make = || Breaker::new(format!("{}-{name}", template.name), template.clone(), self.log.clone());
        breakers.entry(name.to_owned()).or_insert_with(make).clone()
    }

    fn template(&self, names: &PolicyNames) -> Option<Arc<BreakerTemplate>> {
        self.table.breakers.get(&names.circuit_breaker).cloned()
    }

    /// `measured`: direction and target, as metrics name them.
    fn policy(
        &self,
        name: String,
        measured: (Direction, String),
        names: &PolicyNames,
        breaker: Option<Arc<Breaker>>,
    ) -> Arc<Policy> {
        let retry = self.table.retries.get(&names.retry).cloned();
        let timeout = self.table.timeout(names);
        let parts = (timeout.is_some(), retry.is_some(), breaker.is_some());
        let metrics = self.policy_metrics(&measured, parts);
        Arc::new(Policy { name, timeout, retry, breaker, metrics, log: self.log.clone() })
    }

    fn policy_metrics(&self, measured: &(Direction, String), parts: (bool, bool, bool)) -> Option<PolicyMetrics> {
        let target = Target {
            resiliency: &self.resource.0,
            namespace: &self.resource.1,
            flow_direction: match measured.0 {
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
            },
            target: &measured.1,
        };
        Some(self.metrics.resiliency()?.policy(&target, parts.0, parts.1, parts.2))
    }
}

fn size_or(size: usize, default: usize) -> usize {
    if size == 0 { default } else { size }
}

fn cache_of<'a>(caches: &'a mut PolicyCache, target: &str, size: usize) -> &'a mut Lru<Arc<Policy>> {
    if !caches.contains_key(target) {
        caches.insert(target.to_owned(), Lru::new(size));
    }
    caches.get_mut(target).expect("inserted above when it was missing")
}
