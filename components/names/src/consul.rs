//! `nameresolution.consul`, also `nameresolution.hashicorp.consul`: sidecars are services of a Consul agent.
//!
//! *Job:* registers this sidecar where `selfRegister` or `advancedRegistration` wants it, answers with the healthy instances of
//! an app. *Neighbours:* `settings` reads the fields, `shape` writes registrations, `agent` has the calls, `watch` the cache
//! of `useCache`. *Invariant:* the agent decides who is healthy; an answer is at most [`KEEP_FOR`] old, or as old as the
//! agent's news of a change.
//!
//! *Source:* components-contrib nameresolution/hashicorp/consul. Ours on purpose: all instances are answered and the caller
//! takes turns, where the original picks one at random; a failed call has the agent asked again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pillion_contract::{ComponentError, ErrorKind, InitContext, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use serde_json::{Map, Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::answers::Answers;
use crate::environment::Environment;
use agent::{Agent, Instance};
use settings::Settings;
use shape::Shape;
use watch::Watch;

mod agent;
#[cfg(test)]
mod fake;
mod settings;
mod shape;
mod watch;

/// An answer this young is given without asking the agent.
const KEEP_FOR: Duration = Duration::from_secs(1);

/// The component; see the module text.
pub struct ConsulResolver {
    settings: Settings,
    agent: Arc<Agent>,
    answers: Answers,
    watch: Option<Arc<Watch>>,
    /// Id of what was registered.
    registered: Mutex<Option<String>>,
    stop: CancellationToken,
    log: Logger,
}

impl Drop for ConsulResolver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Makes the component. The agent is first asked by [`NameResolver::register`].
///
/// # Errors
/// `InvalidRequest` that names the field or file that cannot be used.
pub async fn create(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    make(context, Environment::of_process(&["CONSUL_"])).await
}

async fn make(context: InitContext, environment: Environment) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let invalid = |problem: String| {
        let message = format!("spec.nameResolution.configuration: {problem}");
        ComponentError::new(ErrorKind::InvalidRequest, message)
    };
    let mut settings = Settings::read(&context.metadata, &environment).map_err(invalid)?;
    if settings.client.is_unverified {
        context
            .log
            .warn("hashicorp consul: you are using 'insecureSkipVerify' to skip server config verify which is unsafe!");
    }
    let (client, query) = (std::mem::take(&mut settings.client), settings.query.clone());
    let made = tokio::task::spawn_blocking(move || Agent::new(client, query)).await;
    let agent = made.map_err(|error| invalid(error.to_string()))?.map_err(invalid)?;
    let (agent, stop) = (Arc::new(agent), context.cancel.child_token());
    let watch = settings.use_cache.then(|| start_watch(&agent, &settings.port_key, &context.log, &stop));
    Ok(Arc::new(ConsulResolver {
        settings,
        agent,
        answers: Answers::new(KEEP_FOR),
        watch,
        registered: Mutex::default(),
        stop,
        log: context.log,
    }))
}

fn start_watch(agent: &Arc<Agent>, port_key: &str, log: &Logger, stop: &CancellationToken) -> Arc<Watch> {
    let watch = Arc::new(Watch::default());
    let (running, agent, port_key) = (watch.clone(), agent.clone(), port_key.to_owned());
    let (log, stop) = (log.clone(), stop.clone());
    tokio::spawn(async move { stop.run_until_cancelled(running.run(&agent, &port_key, &log)).await });
    watch
}

/// The addresses of the instances whose metadata has a port.
fn addresses(instances: &[Instance]) -> Vec<String> {
    let address = |one: &Instance| {
        let host = one.address.trim_start_matches('[').trim_end_matches(']');
        let port = one.port.as_deref()?;
        Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    };
    instances.iter().filter_map(address).collect()
}

impl ConsulResolver {
    /// What to register, if anything.
    fn service(&self, registration: &Registration) -> Option<Map<String, Json>> {
        let settings = &self.settings;
        let mut service = if let Some(advanced) = &settings.advanced {
            match Shape::Registration.write(&Json::Object(advanced.clone())) {
                Json::Object(service) => service,
                _ => Map::new(), // of an object an object is written
            }
        } else if settings.self_register {
            self.own_service(registration)
        } else {
            return None;
        };
        let meta = service.entry("Meta").or_insert_with(|| json!({}));
        meta[settings.port_key.as_str()] = registration.internal_port.to_string().into();
        Some(service)
    }

    fn own_service(&self, registration: &Registration) -> Map<String, Json> {
        let Registration { app_id, host, http_port, .. } = registration;
        let id = format!("{app_id}-{host}-{http_port}");
        let mut checks = self.settings.checks.clone();
        if checks.is_empty() {
            let place = crate::join_host_port(host, *http_port);
            checks.push(json!({
                "Name": "Dapr Health Status",
                "CheckID": format!("daprHealth:{id}"),
                "Interval": "15s",
                "HTTP": format!("http://{place}/v1.0/healthz?appid={app_id}"),
            }));
        }
        let mut service = Map::from_iter([
            ("ID".to_owned(), id.into()),
            ("Name".to_owned(), app_id.as_str().into()),
            ("Address".to_owned(), host.as_str().into()),
            ("Checks".to_owned(), checks.into()),
            ("Meta".to_owned(), self.settings.meta.clone().into()),
        ]);
        if let Some(port) = registration.app_port {
            service.insert("Port".to_owned(), port.into());
        }
        if let Some(tags) = &self.settings.tags {
            service.insert("Tags".to_owned(), tags.clone());
        }
        service
    }

    async fn ask(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        let (app_id, key) = (&request.app_id, &self.settings.port_key);
        let instances = self.agent.instances(app_id, key, false).await.map_err(|error| {
            let message = format!("failed to query healthy consul services with AppID '{app_id}': {error}");
            ComponentError::new(error.kind, message)
        })?;
        let missing = |message: String| Err(ComponentError::new(ErrorKind::NotFound, message));
        if instances.is_empty() {
            return missing(format!(
                "no healthy services found with AppID '{app_id}' (asked {}); check that a service of this name is registered there and its health checks pass",
                self.agent.place()
            ));
        }
        let addresses = addresses(&instances);
        if addresses.is_empty() {
            return missing(format!(
                "target service AppID '{app_id}' found but {key} missing from meta (asked {}); register the service with {key} = the internal gRPC port of its sidecar, or set daprPortMetaKey",
                self.agent.place()
            ));
        }
        Ok(addresses)
    }
}

#[async_trait]
impl NameResolver for ConsulResolver {
    /// Without anything to register, only asks whether the agent is there.
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        let failed = |what: &str, error: ComponentError| ComponentError::new(error.kind, format!("{what}: {error}"));
        let Some(service) = self.service(&registration) else {
            return self.agent.check().await.map_err(|error| failed("failed check on consul agent", error));
        };
        let text = |name: &str| service.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        let name = text("Name").unwrap_or_default().to_owned();
        let id = text("ID").unwrap_or(&name).to_owned(); // as the agent chooses it
        let registered = self.agent.register(&Json::Object(service)).await;
        registered.map_err(|error| failed("failed to register consul service", error))?;
        self.log.info(format_args!("service:{name} registered on consul agent"));
        *self.registered.lock() = Some(id);
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        if let Some(addresses) = self.watch.as_ref().and_then(|watch| watch.addresses(&request.app_id)) {
            return Ok(addresses);
        }
        if let Some(addresses) = self.answers.get(request) {
            return Ok(addresses);
        }
        let addresses = self.ask(request).await.inspect_err(|_| self.answers.forget(request))?;
        self.answers.put(request, &addresses);
        Ok(addresses)
    }

    fn report_failure(&self, request: &ResolveRequest, _address: &str) {
        self.answers.forget(request);
        if let Some(watch) = &self.watch {
            watch.distrust(&request.app_id);
        }
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        let registered = self.registered.lock().take();
        let Some(id) = registered.filter(|_| self.settings.self_deregister) else { return Ok(()) };
        self.agent.deregister(&id).await.map_err(|error| {
            ComponentError::new(error.kind, format!("failed to deregister consul service: {error}"))
        })?;
        self.log.info("deregistered service from consul");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
