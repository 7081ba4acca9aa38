//! The merged resources: policies by name, targets, and which default applies at which level.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cel::Env;
use pillion_core::duration;
use pillion_core::log::Logger;
use pillion_resources::types::{ComponentPolicyNames, PolicyNames, Resiliency};

use super::breaker::BreakerTemplate;
use super::retry::Retry;
use super::{BuiltIn, ComponentKind, Direction};

/// Least number of retries of a redefined built-in policy. *Source:* spec internals.md §8.4.
const BUILT_IN_RETRIES_MIN: u64 = 3;

/// For which kind of target a default is looked up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    App,
    Actor,
    Component(ComponentKind, Direction),
}

impl Level {
    /// Infixes of `Default<infix><Kind>Policy`, most specific first.
    fn infixes(self) -> Vec<String> {
        match self {
            Self::App => vec!["App".to_owned(), String::new()],
            Self::Actor => vec!["Actor".to_owned(), String::new()],
            Self::Component(kind, direction) => vec![
                format!("{}Component{direction:?}", kind.name()),
                format!("Component{direction:?}"),
                "Component".to_owned(),
                String::new(),
            ],
        }
    }
}

pub(super) struct Table {
    timeouts: HashMap<String, Duration>,
    pub(super) retries: HashMap<String, Arc<Retry>>,
    pub(super) breakers: HashMap<String, Arc<BreakerTemplate>>,
    pub(super) apps: BTreeMap<String, PolicyNames>,
    pub(super) actors: BTreeMap<String, PolicyNames>,
    pub(super) components: BTreeMap<String, ComponentPolicyNames>,
    /// Whether any policy has a name that starts with `Default`; without one no default can apply.
    any_default: bool,
    environment: Arc<Env>,
}

impl Table {
    pub(super) fn with_built_ins() -> Self {
        Self {
            timeouts: HashMap::new(),
            retries: BuiltIn::ALL.into_iter().map(|name| (name.name().to_owned(), Arc::new(name.retry()))).collect(),
            breakers: HashMap::new(),
            apps: BTreeMap::new(),
            actors: BTreeMap::new(),
            components: BTreeMap::new(),
            any_default: false,
            environment: Arc::new(Env::stdlib()),
        }
    }

    /// Merges a resource. Policies before the mistake stay, as in the original.
    ///
    /// # Errors
    /// The first mistake: which policy, which field, what was expected.
    pub(super) fn add(&mut self, resource: &Resiliency, log: &Logger) -> Result<(), String> {
        for (name, text) in &resource.timeouts {
            let parsed =
                duration::parse_policy(text).map_err(|error| format!("invalid duration {name:?}, {text}: {error}"))?;
            self.timeouts.insert(name.clone(), parsed);
        }
        for (name, spec) in &resource.retries {
            let mut retry =
                Retry::compile(spec).map_err(|error| format!("invalid retry configuration {name:?}: {error}"))?;
            if name == BuiltIn::ActorNotFoundRetries.name() {
                log.warn(format_args!(
                    "Attempted to override protected policy {name} which is not allowed. Ignoring provided policy and using default."
                ));
                continue;
            }
            let built_in = BuiltIn::ALL.iter().any(|built_in| built_in.name() == name);
            if built_in && retry.retries_max.is_none_or(|number| number < BUILT_IN_RETRIES_MIN) {
                log.warn(format_args!("Attempted override of {name} did not meet minimum retry count, resetting to {BUILT_IN_RETRIES_MIN}."));
                retry.retries_max = Some(BUILT_IN_RETRIES_MIN);
            }
            self.retries.insert(name.clone(), Arc::new(retry));
        }
        for (name, spec) in &resource.circuit_breakers {
            let template = BreakerTemplate::compile(name, spec, &self.environment)
                .map_err(|error| format!("invalid circuit breaker configuration {name:?}: {error}"))?;
            self.breakers.insert(name.clone(), Arc::new(template));
        }
        self.any_default = self
            .timeouts
            .keys()
            .chain(self.retries.keys())
            .chain(self.breakers.keys())
            .any(|name| name.starts_with("Default"));
        self.add_targets(resource)
    }

    fn add_targets(&mut self, resource: &Resiliency) -> Result<(), String> {
        self.apps.extend(resource.apps.iter().map(|(name, names)| (name.clone(), names.clone())));
        for (actor_type, names) in &resource.actors {
            if !names.circuit_breaker.is_empty() {
                match names.circuit_breaker_scope.as_str() {
                    "type" | "id" | "both" => {}
                    "" => return Err("actor circuit breakers must include scope".to_owned()),
                    other => return Err(format!("unknown circuit breaker scope {other:?}")),
                }
            }
            self.actors.insert(actor_type.clone(), names.clone());
        }
        self.components.extend(resource.components.iter().map(|(name, names)| (name.clone(), names.clone())));
        Ok(())
    }

    pub(super) fn timeout(&self, names: &PolicyNames) -> Option<Duration> {
        self.timeouts.get(&names.timeout).copied().filter(|timeout| !timeout.is_zero())
    }

    /// Whether the names lead to no policy at all.
    pub(super) fn is_empty(&self, names: &PolicyNames) -> bool {
        self.timeout(names).is_none()
            && !self.retries.contains_key(&names.retry)
            && !self.breakers.contains_key(&names.circuit_breaker)
    }

    pub(super) fn has_defaults(&self, level: Level) -> bool {
        self.any_default && !self.is_empty(&self.defaults(level))
    }

    /// The names of the defaults of a level; each of the three kinds on its own.
    pub(super) fn defaults(&self, level: Level) -> PolicyNames {
        if !self.any_default {
            return PolicyNames::default();
        }
        let infixes = level.infixes();
        let find = |kind: &str, known: &dyn Fn(&str) -> bool| {
            infixes
                .iter()
                .map(|infix| format!("Default{infix}{kind}Policy"))
                .find(|name| known(name))
                .unwrap_or_default()
        };
        PolicyNames {
            timeout: find("Timeout", &|name| self.timeouts.contains_key(name)),
            retry: find("Retry", &|name| self.retries.contains_key(name)),
            circuit_breaker: find("CircuitBreaker", &|name| self.breakers.contains_key(name)),
            ..PolicyNames::default()
        }
    }
}
