//! From component manifests to running components in their blocks.
//!
//! *Job:* resolve metadata, make each component within its time, put it into its block, list and close them.
//! *Invariant:* a component that needs a secret store starts after it, in whatever order the manifests come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pillion_api::runtime_info::ComponentInfo;
use pillion_building_blocks::pubsub::PubSubs;
use pillion_building_blocks::secrets::SecretStores;
use pillion_building_blocks::state::{StateStores, capability_names};
use pillion_contract::{HttpMiddleware, HttpPipeline, InitContext, Metadata, PubSub, Registry, StateStore};
use pillion_core::duration::format_go;
use pillion_core::log::Logger;
use pillion_resources::types::{Component, NameValue, PipelineHandler};
use pillion_resources::{TemplateContext, expand_templates, references, resolve};
use pillion_telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::categories::Category;
use crate::environment::Environment;

/// The scope of the lines about middleware. *Source:* the original.
const MIDDLEWARE_SCOPE: &str = "dapr.middleware.http";

/// Components that run WebAssembly, and the field that locks it up. *Source:* the original.
const WASM_TYPES: [&str; 2] = ["middleware.http.wasm", "bindings.wasm"];
const STRICT_SANDBOX: &str = "strictSandbox";

/// The blocks components are put into.
#[derive(Clone)]
pub(crate) struct Blocks {
    pub(crate) state: Arc<StateStores>,
    pub(crate) secrets: Arc<SecretStores>,
    pub(crate) pubsub: Arc<PubSubs>,
}

/// What every component of a sidecar shares.
pub(crate) struct ComponentHost {
    pub(crate) registry: Registry,
    pub(crate) blocks: Blocks,
    pub(crate) environment: Environment,
    pub(crate) app_id: String,
    pub(crate) namespace: String,
    pub(crate) data_dir: PathBuf,
    /// `spec.wasm.strictSandbox` of the Configuration: overrides what WebAssembly components say.
    pub(crate) strict_sandbox: bool,
    pub(crate) metrics: Metrics,
    pub(crate) log: Logger,
    /// Cancelled after all components are closed.
    pub(crate) cancel: CancellationToken,
    pub(crate) loaded: Mutex<Vec<Loaded>>,
}

/// A component that runs.
pub(crate) struct Loaded {
    info: ComponentInfo,
    instance: Instance,
}

#[derive(Clone)]
enum Instance {
    State(Arc<dyn StateStore>),
    PubSub(Arc<dyn PubSub>),
    Secrets,
    Middleware(Arc<dyn HttpMiddleware>),
}

impl ComponentHost {
    /// Starts the components that are allowed, those that need a secret store after it.
    ///
    /// # Errors
    /// The text of the first component that failed and does not say `ignoreErrors`.
    pub(crate) async fn load(&self, components: &[Component], denied: &[String]) -> Result<(), String> {
        let log = self.log.scope("dapr.runtime.processor");
        let mut waiting: Vec<&Component> = Vec::new();
        for component in components {
            let name = log_name(component);
            if denied.iter().any(|rule| denies(rule, component)) {
                log.warn(format_args!(
                    "component '{}' cannot be loaded because components of type '{name}' are not allowed",
                    component.name
                ));
                continue;
            }
            log.debug(format_args!("Loading component: {name}"));
            if self.missing_store(component).is_some() {
                waiting.push(component);
                continue;
            }
            self.start_or_report(component, &log).await?;
            // A secret store that came up may be what others wait for, and one of those may be a store again.
            while let Some(index) = waiting.iter().position(|component| self.missing_store(component).is_none()) {
                let next = waiting.remove(index);
                self.start_or_report(next, &log).await?;
            }
        }
        for component in waiting {
            let store = self.missing_store(component).unwrap_or_default();
            log.error(format_args!(
                "Component {} is not loaded: it takes secrets from the secret store {store:?}, which is not loaded; {}:{}: auth.secretStore: \
                 name a secret store of the resources, or add it",
                log_name(component),
                component.origin.file.display(),
                component.origin.line,
            ));
        }
        Ok(())
    }

    async fn start_or_report(&self, component: &Component, log: &Logger) -> Result<(), String> {
        let Err(problem) = self.start(component, log).await else { return Ok(()) };
        let problem = format!("process component {} error: {problem}", component.name);
        if component.ignore_errors {
            log.error(format_args!("Ignoring error processing component: {problem}"));
            return Ok(());
        }
        log.warn(format_args!("Error processing component, daprd will exit gracefully: {problem}"));
        Err(problem)
    }

    async fn start(&self, component: &Component, log: &Logger) -> Result<(), String> {
        let Some(category) = Category::of(&component.component_type) else {
            return Err(format!("incorrect type {}", component.component_type));
        };
        let name = log_name(component);
        let made = tokio::time::timeout(component.init_timeout, self.make(component, category)).await;
        if !matches!(made, Ok(Ok(_)))
            && let Some(metrics) = self.metrics.service()
        {
            // The original counts a failure twice: where it happens, and once more as `init` on the way out.
            let reason = if matches!(made, Ok(Err(Failure::Create(_)))) { "creation" } else { "init" };
            for reason in [reason, "init"] {
                metrics.component_failed(&component.component_type, reason, &component.name);
            }
        }
        let failure = match made {
            Ok(Ok(loaded)) => {
                self.loaded.lock().push(loaded);
                log.info(format_args!("Component loaded: {name}"));
                if let Some(metrics) = self.metrics.service() {
                    metrics.component_initialized(&component.component_type);
                }
                return Ok(());
            }
            Ok(Err(Failure::Create(problem))) => initialization_error("CREATE_COMPONENT_FAILURE", &name, &problem),
            Ok(Err(Failure::Init(problem))) => initialization_error("INIT_COMPONENT_FAILURE", &name, &problem),
            Err(_) => {
                let problem = format!(
                    "init timeout for component {name} after {}; see spec.initTimeout",
                    format_go(component.init_timeout)
                );
                initialization_error("INIT_COMPONENT_FAILURE", &name, &problem)
            }
        };
        log.error(format_args!("Failed to init component {name}: {failure}"));
        Err(initialization_error("INIT_COMPONENT_FAILURE", &name, &failure))
    }

    async fn make(&self, component: &Component, category: Category) -> Result<Loaded, Failure> {
        let version = version(component);
        let unknown = || Failure::Create(self.unknown_type(component, category));
        if !matches!(version, "v0" | "v1") {
            return Err(unknown());
        }
        let (metadata, namespaced) = self.metadata(component, category).await.map_err(Failure::Init)?;
        let context = InitContext {
            name: component.name.clone(),
            component_type: component.component_type.clone(),
            version: version.to_owned(),
            metadata: metadata.clone(),
            app_id: self.app_id.clone(),
            namespace: self.namespace.clone(),
            data_dir: self.data_dir.clone(),
            log: self.log.scope("dapr.contrib"),
            cancel: self.cancel.child_token(),
        };
        let init = |error: pillion_contract::ComponentError| Failure::Init(error.to_string());
        let mut capabilities: Vec<String> = Vec::new();
        let instance = match category {
            Category::State => {
                let store =
                    self.registry.state(&component.component_type).ok_or_else(unknown)?(context).await.map_err(init)?;
                self.blocks.state.add(&component.name, store.clone(), &metadata).map_err(init)?;
                capabilities.extend(capability_names(store.capability()).into_iter().map(str::to_owned));
                Instance::State(store)
            }
            Category::PubSub => {
                let broker = self.registry.pubsub(&component.component_type).ok_or_else(unknown)?(context)
                    .await
                    .map_err(init)?;
                self.blocks.pubsub.add(&component.name, broker.clone(), &metadata, namespaced);
                let capability = broker.capability();
                let names = [
                    (capability.message_ttl, "MESSAGE_TTL"),
                    (capability.subscribe_wildcards, "SUBSCRIBE_WILDCARDS"),
                    (capability.bulk_publish, "BULK_PUBSUB"),
                    (capability.bulk_subscribe_immediate, "BULK_SUBSCRIBE_IMMEDIATE"),
                ];
                capabilities.extend(names.into_iter().filter(|(has, _)| *has).map(|(_, name)| name.to_owned()));
                Instance::PubSub(broker)
            }
            Category::SecretStore => {
                let store = self.registry.secrets(&component.component_type).ok_or_else(unknown)?(context)
                    .await
                    .map_err(init)?;
                self.blocks.secrets.add(&component.name, store.clone());
                if store.multiple_keys() {
                    capabilities.push("MULTIPLE_KEY_VALUES_PER_SECRET".to_owned());
                }
                Instance::Secrets
            }
            Category::Middleware => {
                let name = format!("{}/{version}", component.component_type);
                let middleware = self.registry.middleware(&component.component_type).ok_or_else(|| {
                    let hint = self.unknown_type(component, category);
                    Failure::Create(format!(
                        "process component {} error: HTTP middleware {name} has not been registered: {hint}",
                        component.name
                    ))
                })?;
                let made = middleware(context).await.map_err(|error| {
                    let component = &component.name;
                    Failure::Create(format!(
                        "process component {component} error: error creating HTTP middleware {name}: {error}"
                    ))
                })?;
                self.log.scope(MIDDLEWARE_SCOPE).info(format_args!("Adding {name} {} middleware", component.name));
                Instance::Middleware(made)
            }
            Category::NotBuilt(words) => {
                return Err(Failure::Create(format!("{words} are not supported by this version of Pillion yet")));
            }
        };
        let info = ComponentInfo {
            name: component.name.clone(),
            component_type: component.component_type.clone(),
            version: component.version.clone(),
            capabilities,
        };
        Ok(Loaded { info, instance })
    }

    /// The metadata with secrets, variables and templates filled in, and whether any value asked for the namespace.
    async fn metadata(&self, component: &Component, category: Category) -> Result<(Metadata, bool), String> {
        let secrets = self.secrets(component.secret_store.as_deref(), &references(component)).await?;
        let templates = TemplateContext {
            app_id: self.app_id.clone(),
            namespace: self.namespace.clone(),
            pod_name: self.environment.get("POD_NAME").unwrap_or_default().to_owned(),
        };
        let mut pairs = Vec::with_capacity(component.metadata.len());
        let mut namespaced = false;
        for item in &component.metadata {
            let raw = self
                .value(item, &secrets)
                .map_err(|problem| format!("{}:{problem}", component.origin.file.display()))?;
            namespaced |= raw.contains("{namespace}");
            pairs.push((item.name.clone(), expand_templates(&item.name, &raw, &templates)?));
        }
        if category == Category::PubSub {
            let consumer = pairs.iter().position(|(name, _)| name.eq_ignore_ascii_case("consumerID"));
            match consumer {
                Some(index) if !pairs[index].1.trim().is_empty() => {}
                Some(index) => pairs[index].1.clone_from(&self.app_id),
                None => pairs.push(("consumerID".to_owned(), self.app_id.clone())),
            }
        }
        if self.strict_sandbox && WASM_TYPES.iter().any(|name| name.eq_ignore_ascii_case(&component.component_type)) {
            pairs.retain(|(name, _)| !name.eq_ignore_ascii_case(STRICT_SANDBOX));
            pairs.push((STRICT_SANDBOX.to_owned(), "true".to_owned()));
        }
        Ok((Metadata::new(pairs), namespaced))
    }

    /// One item's value; a problem is `line: field: what`.
    pub(crate) fn value(
        &self,
        item: &NameValue,
        secrets: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<String, String> {
        let secret = item.secret_key_ref.as_ref().and_then(|(name, key)| secrets.get(name)?.get(key));
        let environment = |name: &str| self.environment.get(name).map(str::to_owned);
        resolve(item, secret.map(String::as_str), &environment).map_err(|finding| {
            format!("{}: {}: {}; {}", finding.line, finding.field, finding.message, finding.suggestion)
        })
    }

    /// The secrets of these names; a name the store does not have is left out, so that the item that needs it can be named.
    pub(crate) async fn secrets(
        &self,
        store: Option<&str>,
        names: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, String> {
        let mut secrets = BTreeMap::new();
        let Some(store) = store.filter(|store| !store.is_empty() && !names.is_empty()) else { return Ok(secrets) };
        let component =
            self.blocks.secrets.component(store).ok_or_else(|| format!("secret store {store:?} is not loaded"))?;
        for name in names {
            match component.get(name, &BTreeMap::new()).await {
                Ok(bundle) => {
                    secrets.insert(name.clone(), bundle);
                }
                Err(error) if error.kind == pillion_contract::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("secret store {store}: secret {name:?} cannot be read: {error}")),
            }
        }
        Ok(secrets)
    }

    /// The secret store a component waits for.
    fn missing_store<'a>(&self, component: &'a Component) -> Option<&'a str> {
        let store = component.secret_store.as_deref().filter(|store| !store.is_empty())?;
        (!references(component).is_empty() && self.blocks.secrets.component(store).is_none()).then_some(store)
    }

    fn unknown_type(&self, component: &Component, category: Category) -> String {
        let wanted = &component.component_type;
        let prefix = wanted.split_once('.').map_or("", |(prefix, _)| prefix);
        let known: Vec<&str> = self
            .registry
            .types()
            .into_iter()
            .filter(|name| name.split_once('.').is_some_and(|(first, _)| first == prefix))
            .collect();
        let hint = match (category, known.as_slice()) {
            (Category::NotBuilt(words), _) => format!("{words} are not supported by this version of Pillion yet"),
            (_, []) => "this build has none of this kind".to_owned(),
            (_, known) => format!("this build has {}", known.join(", ")),
        };
        format!("couldn't find {} {wanted}/{}; {hint}", category.words(), version(component))
    }

    /// The loaded components, in load order.
    pub(crate) fn list(&self) -> Vec<ComponentInfo> {
        self.loaded.lock().iter().map(|loaded| loaded.info.clone()).collect()
    }

    /// The middleware of a pipeline of the Configuration. What is not loaded is left out, as in the original.
    pub(crate) fn pipeline(&self, name: &str, field: &str, handlers: &[PipelineHandler]) -> HttpPipeline {
        if handlers.is_empty() {
            return HttpPipeline::default();
        }
        let log = self.log.scope(MIDDLEWARE_SCOPE);
        log.info(format_args!("Building pipeline {name}"));
        let loaded = self.loaded.lock();
        let find = |handler: &PipelineHandler| {
            let version = |version: &str| if version.is_empty() { "v1".to_owned() } else { version.to_owned() };
            let found = loaded.iter().find_map(|loaded| match &loaded.instance {
                Instance::Middleware(middleware)
                    if loaded.info.name == handler.name
                        && loaded.info.component_type == handler.component_type
                        && version(&loaded.info.version) == version(&handler.version) =>
                {
                    Some(middleware.clone())
                }
                _ => None,
            });
            if found.is_none() {
                log.warn(format_args!(
                    "{field}: the handler {} is left out: no component of this name with type {} and version {} is loaded; \
                     requests pass without it",
                    handler.name,
                    handler.component_type,
                    version(&handler.version)
                ));
            }
            found
        };
        HttpPipeline::new(handlers.iter().filter_map(find))
    }

    /// Whether any broker is loaded.
    pub(crate) fn has_pubsub(&self) -> bool {
        self.loaded.lock().iter().any(|loaded| matches!(loaded.instance, Instance::PubSub(_)))
    }

    /// Closes all components, the last one first.
    pub(crate) async fn close(&self) {
        let mut loaded = std::mem::take(&mut *self.loaded.lock());
        while let Some(Loaded { info, instance }) = loaded.pop() {
            let name = format!("{} ({}/{})", info.name, info.component_type, info.version);
            self.log.info(format_args!("Shutting down component {name}"));
            let closed = match instance {
                Instance::State(store) => store.close().await,
                Instance::PubSub(broker) => broker.close().await,
                Instance::Secrets | Instance::Middleware(_) => Ok(()),
            };
            if let Err(error) = closed {
                self.log.warn(format_args!("error closing component {name}: {error}"));
            }
        }
        self.cancel.cancel();
    }
}

enum Failure {
    /// There is no such type.
    Create(String),
    /// It did not start.
    Init(String),
}

fn version(component: &Component) -> &str {
    if component.version.is_empty() { "v1" } else { &component.version }
}

/// `name (type/version)`, the form of log lines.
fn log_name(component: &Component) -> String {
    format!("{} ({}/{})", component.name, component.component_type, version(component))
}

/// *Source:* wire text of the original.
fn initialization_error(kind: &str, name: &str, problem: &str) -> String {
    format!("[{kind}]: initialization error occurred for {name}: {problem}")
}

/// Whether a rule of `spec.components.deny`, a type with or without `/version`, covers a component.
fn denies(rule: &str, component: &Component) -> bool {
    let (wanted, wanted_version) =
        rule.split_once('/').map_or((rule, None), |(wanted, version)| (wanted, Some(version)));
    wanted.eq_ignore_ascii_case(&component.component_type)
        && wanted_version.is_none_or(|wanted| wanted.eq_ignore_ascii_case(version(component)))
}
