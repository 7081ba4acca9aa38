//! One compiled set of resources, with the policies and breakers that have been made of it.
//!
//! *Neighbours:* [`super::Policies`] holds the present one and replaces it when the resources change. *Invariant:* a breaker whose policy
//! did not change keeps its state from one set to the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pillion_core::log::Logger;
use pillion_resources::types::{PolicyNames, Resiliency};
use pillion_telemetry::metrics::{Metrics, PolicyMetrics, Target};

use super::breaker::{Breaker, BreakerTemplate};
use super::lru::Lru;
use super::policy::Policy;
use super::table::{Level, Table};
use super::{BreakerInfo, BuiltIn, ComponentKind, Direction};

/// Breakers kept per app target. *Source:* spec resources.md §4.
const APP_CACHE_SIZE: usize = 100;
/// Breakers kept per actor target. *Source:* spec resources.md §4.
const ACTOR_CACHE_SIZE: usize = 5000;

type PolicyCache = HashMap<String, Lru<Arc<Policy>>>;
/// Kind of target, and the endpoint, actor or component a breaker guards.
type Place = (&'static str, String);
type ComponentCache = HashMap<String, Vec<(ComponentKind, Direction, Option<Arc<Policy>>)>>;

/// Policies by target, made when they are first asked for.
pub(super) struct Set {
    pub(super) table: Table,
    built_in: HashMap<BuiltIn, Arc<Policy>>,
    apps: Mutex<PolicyCache>,
    actors: Mutex<PolicyCache>,
    components: RwLock<ComponentCache>,
    component_breakers: Mutex<HashMap<String, Arc<Breaker>>>,
    /// Breakers of the set before that nothing has asked for yet.
    inherited: Mutex<HashMap<Place, Arc<Breaker>>>,
    /// Name and namespace of the last resource, which metrics carry for all. *Source:* spec resources.md §4.
    resource: (String, String),
    metrics: Metrics,
    log: Logger,
}

impl Set {
    /// Compiles resources; breakers of `before` go on where their policy is the same.
    pub(super) fn compile(resources: &[Resiliency], log: &Logger, metrics: Metrics, before: Option<&Self>) -> Self {
        let mut table = Table::with_built_ins();
        for resource in resources {
            log.info(format_args!("Loading Resiliency configuration: {}", resource.name));
            if let Err(problem) = table.add(resource, log) {
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
            inherited: Mutex::new(before.map(Self::breakers_by_place).unwrap_or_default()),
            resource,
            metrics,
            log: log.clone(),
        }
    }

    /// The policy of calls to a method of an app (or of an HTTP endpoint, by its name or URL).
    pub(super) fn app(&self, app_id: &str, method: &str) -> Option<Arc<Policy>> {
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
                self.template(&names).map(|template| self.breaker("app", &endpoint, endpoint.clone(), template));
            let measured = (Direction::Outbound, format!("app_{app_id}"));
            self.policy(format!("endpoint[{app_id}, {endpoint}]"), measured, &names, breaker)
        });
        policy.count();
        Some(policy)
    }

    /// Whether a target for this app is written down; without one, [`BuiltIn::ServiceRetries`] apply to calls of it.
    pub(super) fn has_app_target(&self, app_id: &str) -> bool {
        self.table.apps.contains_key(app_id)
    }

    /// The policy of calls of an actor before it is locked: retries and circuit breaker, no timeout.
    pub(super) fn actor(&self, actor_type: &str, actor_id: &str) -> Option<Arc<Policy>> {
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
            let breaker = self.template(&names).map(|template| self.breaker("actor", &key, key.clone(), template));
            let measured = (Direction::Outbound, format!("actor_{actor_type}"));
            self.policy(format!("actor[{actor_type}, {actor_id}]"), measured, &names, breaker)
        });
        policy.count();
        Some(policy)
    }

    /// The timeout of calls of an actor once it is locked.
    pub(super) fn actor_timeout(&self, actor_type: &str) -> Option<Duration> {
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
    pub(super) fn built_in(&self, name: BuiltIn) -> Arc<Policy> {
        self.built_in.get(&name).expect("compile makes one for every member of BuiltIn::ALL").clone()
    }

    /// All circuit breakers made so far, by target and name.
    pub(super) fn breakers(&self) -> Vec<BreakerInfo> {
        let mut found = Vec::new();
        let mut add = |target: String, breaker: &Breaker| {
            let (state, counts) = breaker.snapshot();
            let tripped = breaker.tripped();
            found.push(BreakerInfo { name: breaker.name().to_owned(), target, state, counts, tripped });
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

    pub(super) fn component(&self, name: &str, kind: ComponentKind, direction: Direction) -> Option<Arc<Policy>> {
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
        let make = || self.breaker("component", name, format!("{}-{name}", template.name), template);
        breakers.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// The breaker the set before had in this place, if its policy is the same, else a new one.
    fn breaker(&self, kind: &'static str, place: &str, name: String, template: Arc<BreakerTemplate>) -> Arc<Breaker> {
        let inherited = self.inherited.lock().remove(&(kind, place.to_owned()));
        inherited
            .filter(|breaker| breaker.is_of(&template))
            .unwrap_or_else(|| Breaker::new(name, template, self.log.clone()))
    }

    fn breakers_by_place(&self) -> HashMap<Place, Arc<Breaker>> {
        let mut places = std::mem::take(&mut *self.inherited.lock());
        for (kind, cache) in [("app", &self.apps), ("actor", &self.actors)] {
            for policies in cache.lock().values() {
                let breakers = policies.iter().filter_map(|(_, policy)| policy.breaker.as_ref());
                places.extend(breakers.map(|breaker| ((kind, breaker.name().to_owned()), breaker.clone())));
            }
        }
        let components = self.component_breakers.lock();
        places.extend(components.iter().map(|(name, breaker)| (("component", name.clone()), breaker.clone())));
        places
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
