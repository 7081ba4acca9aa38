//! Components that come, change and go while the sidecar serves.
//!
//! *Job:* compare what runs with what the resources say, by value, and make it so. *Neighbours:* [`super`] makes components;
//! [`crate::reload`] says what the resources say. *Invariant:* a changed component is started before the one it replaces takes no
//! more calls, and that one is closed when the last call has left it, so that no call finds nothing.
//! *Source:* for the log lines and the fate of failures, dapr `pkg/runtime/hotreload/reconciler`.

use std::time::Duration;

use pillion_building_blocks::Retired;
use pillion_contract::{ComponentError, InputBinding, Metadata, OutputBinding, PubSub, StateStore};
use pillion_core::log::Logger;
use pillion_resources::references;
use pillion_resources::types::{Component, Origin};

use super::{BOARD_KIND, ComponentHost, Failure, Instance, Loaded, Made, close_instance, denies, log_name};
use crate::categories::Category;

const SCOPE: &str = "dapr.runtime.hotreload.reconciler";
/// Metadata item of the one store that keeps the state of actors.
const ACTOR_STATE_STORE: &str = "actorStateStore";
/// How long calls that began before may use a component that was replaced or removed.
const LAST_CALLS_LIMIT: Duration = Duration::from_secs(60);

/// What is no longer in its block.
enum Left {
    State(Retired<dyn StateStore>),
    PubSub(Retired<dyn PubSub>),
    Binding(Option<Retired<dyn InputBinding>>, Option<Retired<dyn OutputBinding>>),
    /// Nothing has to wait for its calls.
    Free,
}

impl Left {
    async fn unused(&self) {
        match self {
            Self::State(retired) => retired.unused().await,
            Self::PubSub(retired) => retired.unused().await,
            Self::Binding(input, output) => {
                if let Some(input) = input {
                    input.unused().await;
                }
                if let Some(output) = output {
                    output.unused().await;
                }
            }
            Self::Free => {}
        }
    }
}

impl ComponentHost {
    /// Makes what runs be what is `wanted`: closes what is gone, replaces what changed or has new secrets, starts what is new.
    /// `again`: also what failed before.
    ///
    /// # Errors
    /// The text of a component that failed and does not say `ignoreErrors`; the sidecar must end then, as in the original.
    pub(crate) async fn reload(&self, wanted: &[Component], denied: &[String], again: bool) -> Result<(), String> {
        let log = self.log.scope(SCOPE);
        self.remove_unwanted(wanted, &log).await;
        let mut queue: Vec<&Component> = wanted.iter().filter(|component| !self.is_denied(component, denied)).collect();
        // Others may take secrets from them.
        queue.sort_by_key(|component| Category::of(&component.component_type) != Some(Category::SecretStore));
        loop {
            let (ready, waiting): (Vec<&Component>, Vec<&Component>) =
                queue.into_iter().partition(|component| self.missing_store(component).is_none());
            if ready.is_empty() {
                waiting.iter().for_each(|component| self.wait_for_store(component, &log));
                return Ok(());
            }
            for component in ready {
                self.reload_one(component, again, &log).await?;
            }
            queue = waiting;
        }
    }

    async fn remove_unwanted(&self, wanted: &[Component], log: &Logger) {
        let is_wanted = |name: &str| wanted.iter().any(|component| component.name == name);
        let gone: Vec<Component> = {
            let loaded = self.loaded.lock();
            let gone = loaded.iter().filter(|loaded| !is_wanted(&loaded.info.name));
            gone.map(|loaded| loaded.manifest.clone()).collect()
        };
        for component in gone {
            log.info(format_args!("Component deleted, closing: {}", log_name(&component)));
            self.unload(&component.name).await;
        }
        self.idle.lock().retain(|name, _| {
            let keep = is_wanted(name);
            if !keep {
                self.board.clear(BOARD_KIND, name);
            }
            keep
        });
    }

    fn is_denied(&self, component: &Component, denied: &[String]) -> bool {
        let is_denied = denied.iter().any(|rule| denies(rule, component));
        if is_denied && !self.is_known_idle(component) {
            self.set_idle(component, false);
            let name = log_name(component);
            self.log.scope(SCOPE).warn(format_args!("Received unauthorized component update, ignored: {name}"));
        }
        is_denied
    }

    fn wait_for_store(&self, component: &Component, log: &Logger) {
        let runs = self.loaded.lock().iter().any(|loaded| loaded.info.name == component.name);
        if runs || self.is_known_idle(component) {
            return; // what runs goes on with the secrets it has
        }
        self.set_idle(component, false);
        self.board_missing_store(component);
        let store = self.missing_store(component).unwrap_or_default();
        log.warn(format_args!(
            "Component {} waits for the secret store {store:?}, from which it takes secrets",
            log_name(component)
        ));
    }

    async fn reload_one(&self, component: &Component, again: bool, log: &Logger) -> Result<(), String> {
        let running = {
            let loaded = self.loaded.lock();
            let running = loaded.iter().find(|loaded| loaded.info.name == component.name);
            running.map(|loaded| (loaded.manifest.clone(), loaded.secrets.clone()))
        };
        if let Some((manifest, secrets)) = &running {
            let same = same_effect(manifest, component) && {
                let names = references(component);
                // Secrets that cannot be read now are no reason to give up a component that runs.
                names.is_empty()
                    || self.secrets(component.secret_store.as_deref(), &names).await.is_ok_and(|now| now == *secrets)
            };
            if same {
                return Ok(());
            }
        } else if !again && self.has_failed(component) {
            return Ok(());
        }
        if let Some(holder) = self.actor_store_besides(component) {
            if !self.is_known_idle(component) {
                log.error(format_args!(
                    "Skipping hot reload of {}: {holder} is already the actor state store, only one actor state store is allowed. \
                     The component will be applied if {holder} is removed",
                    log_name(component)
                ));
            }
            self.set_idle(component, false);
            return Ok(());
        }
        if let Some((manifest, _)) = &running {
            log.info(format_args!("Closing existing Component to reload: {}", log_name(manifest)));
        }
        let name = log_name(component);
        log.info(format_args!("Adding Component for processing: {name}"));
        if self.start_or_report(component, &self.log.scope("dapr.runtime.processor")).await? {
            log.info(format_args!("Component updated: {name}"));
        } else {
            self.unload(&component.name).await; // what it was before is not what the resources say
        }
        Ok(())
    }

    /// Whether it was tried as it is and did not come to run.
    fn is_known_idle(&self, component: &Component) -> bool {
        self.idle
            .lock()
            .get(&component.name)
            .is_some_and(|known| without_place(&known.manifest) == without_place(component))
    }

    fn has_failed(&self, component: &Component) -> bool {
        self.is_known_idle(component) && self.idle.lock().get(&component.name).is_some_and(|known| known.failed)
    }

    /// The other store that keeps the state of actors, when this one says it does.
    fn actor_store_besides(&self, component: &Component) -> Option<String> {
        if !self.has_actors || !is_actor_store(component) {
            return None;
        }
        let loaded = self.loaded.lock();
        let holder = loaded.iter().map(|loaded| &loaded.manifest).find(|other| is_actor_store(other))?;
        (holder.name != component.name).then(|| holder.name.clone())
    }

    /// Puts a component into its block, in the place of the one of the same name.
    pub(super) async fn install(&self, made: Made) -> Result<(), Failure> {
        let Made { loaded, metadata, namespaced } = made;
        let name = loaded.info.name.clone();
        let init = |error: ComponentError| Failure::Init(error.to_string());
        let left = match &loaded.instance {
            Instance::State(store) => {
                let before =
                    self.blocks.state.add(&name, store.clone(), &metadata, &loaded.manifest.metadata).map_err(init)?;
                tell_of_encryption(&name, self.blocks.state.is_encrypted(&name), &metadata, &self.log);
                before.map(Left::State)
            }
            Instance::PubSub(broker) => match self.subscriptions.get() {
                Some(subscriptions) => subscriptions
                    .replace_component(&name, broker.clone(), &metadata, namespaced)
                    .await
                    .map(Left::PubSub),
                None => {
                    self.blocks.pubsub.add(&name, broker.clone(), &metadata, namespaced);
                    None
                }
            },
            Instance::Secrets(store) => {
                self.blocks.secrets.add(&name, store.clone());
                None
            }
            Instance::Middleware(_) => None,
            Instance::Binding(input, output) => {
                let before_input = match input {
                    Some((input, settings)) => self.blocks.inputs.add(&name, input.clone(), settings.clone()).await,
                    None => self.blocks.inputs.remove(&name).await,
                };
                let before_output = match output {
                    Some(output) => self.blocks.outputs.add(&name, output.clone()),
                    None => self.blocks.outputs.remove(&name),
                };
                let replaces = before_input.is_some() || before_output.is_some();
                replaces.then_some(Left::Binding(before_input, before_output))
            }
        };
        let block = std::mem::discriminant(&loaded.instance);
        let mut changes_middleware = matches!(loaded.instance, Instance::Middleware(_));
        let before = {
            let mut all = self.loaded.lock();
            match all.iter_mut().find(|other| other.info.name == name) {
                Some(place) => Some(std::mem::replace(place, loaded)),
                None => {
                    all.push(loaded);
                    None
                }
            }
        };
        changes_middleware |= before.as_ref().is_some_and(|before| matches!(before.instance, Instance::Middleware(_)));
        if changes_middleware {
            self.refresh_pipelines();
        }
        if let Some(before) = before {
            let left = match left {
                Some(left) => left,
                None if std::mem::discriminant(&before.instance) != block => self.take_out(&before).await,
                None => Left::Free,
            };
            self.close_later(before, left);
        }
        Ok(())
    }

    /// Takes a component out of service and closes it when the last call has left it.
    async fn unload(&self, name: &str) {
        let removed = {
            let mut loaded = self.loaded.lock();
            loaded.iter().position(|loaded| loaded.info.name == name).map(|index| loaded.remove(index))
        };
        if let Some(removed) = removed {
            if matches!(removed.instance, Instance::Middleware(_)) {
                self.refresh_pipelines();
            }
            let left = self.take_out(&removed).await;
            self.close_later(removed, left);
        }
    }

    async fn take_out(&self, loaded: &Loaded) -> Left {
        let name = &loaded.info.name;
        match &loaded.instance {
            Instance::State(_) => self.blocks.state.remove(name).map_or(Left::Free, Left::State),
            Instance::PubSub(_) => {
                let removed = match self.subscriptions.get() {
                    Some(subscriptions) => subscriptions.remove_component(name).await,
                    None => self.blocks.pubsub.remove(name),
                };
                removed.map_or(Left::Free, Left::PubSub)
            }
            Instance::Secrets(_) => {
                self.blocks.secrets.remove(name);
                Left::Free
            }
            Instance::Middleware(_) => Left::Free,
            Instance::Binding(..) => {
                let input = self.blocks.inputs.remove(name).await;
                Left::Binding(input, self.blocks.outputs.remove(name))
            }
        }
    }

    fn close_later(&self, loaded: Loaded, left: Left) {
        let log = self.log.clone();
        self.closers.spawn(async move {
            if tokio::time::timeout(LAST_CALLS_LIMIT, left.unused()).await.is_err() {
                log.warn(format_args!(
                    "calls still use the component {}, which was replaced or removed {} s ago; it is closed now",
                    log_name(&loaded.manifest),
                    LAST_CALLS_LIMIT.as_secs()
                ));
            }
            close_instance(&loaded, &log).await;
        });
    }
}

/// *Source:* the original's lines. The limit is that of random nonces of 12 bytes.
fn tell_of_encryption(store: &str, is_encrypted: bool, metadata: &Metadata, log: &Logger) {
    let log = log.scope("dapr.runtime.processor.state");
    if !is_encrypted {
        if metadata.get("secondaryEncryptionKey").is_some() {
            log.warn(format_args!(
                "state store {store} has a secondaryEncryptionKey and no primaryEncryptionKey: its values are stored in clear"
            ));
        }
        return;
    }
    log.info(format_args!("Automatic encryption enabled for state store {store}"));
    log.info(
        "WARNING: Automatic state store encryption should never be used to store more than 4 billion items in the state store \
         (including updates). Storing more items than that can cause the private key to be exposed.",
    );
}

fn is_actor_store(component: &Component) -> bool {
    component.component_type.starts_with("state.")
        && component.metadata.iter().any(|item| item.name.eq_ignore_ascii_case(ACTOR_STATE_STORE))
}

/// Whether two manifests make the same component: files, lines, scopes and what only matters for a start do not count.
fn same_effect(one: &Component, other: &Component) -> bool {
    let effect = |component: &Component| Component {
        namespace: None,
        ignore_errors: false,
        init_timeout: Duration::ZERO,
        scopes: Vec::new(),
        ..without_place(component)
    };
    effect(one) == effect(other)
}

fn without_place(component: &Component) -> Component {
    let mut component = Component { origin: Origin::default(), ..component.clone() };
    component.metadata.iter_mut().for_each(|item| item.line = 0);
    component
}

#[cfg(test)]
mod tests;
