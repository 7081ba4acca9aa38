//! From component manifests to running components in their blocks.
//!
//! *Job:* resolve metadata, make each component within its time, put it into its block, list and close them.
//! *Invariant:* a component that needs a secret store starts after it, in whatever order the manifests come.

mod reload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pillion_api::runtime_info::ComponentInfo;
use pillion_building_blocks::bindings::{InputBindings, InputSettings, OutputBindings, has_direction};
use pillion_building_blocks::pubsub::{PubSubs, Subscriptions};
use pillion_building_blocks::secrets::SecretStores;
use pillion_building_blocks::state::{StateStores, capability_names};
use pillion_contract::{
    HttpMiddleware, HttpPipeline, InitContext, InputBinding, Metadata, OutputBinding, PubSub, Registry, SecretStore,
    StateStore,
};
use pillion_core::board::Board;
use pillion_core::duration::format_go;
use pillion_core::log::Logger;
use pillion_resources::types::{Component, NameValue, PipelineHandler};
use pillion_resources::{TemplateContext, expand_templates, references, resolve};
use pillion_telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::categories::Category;
use crate::environment::Environment;

/// The scope of the lines about middleware. *Source:* the original.
const MIDDLEWARE_SCOPE: &str = "dapr.middleware.http";

/// What components are called on the board.
pub(crate) const BOARD_KIND: &str = "component";

/// Components that run WebAssembly, and the field that locks it up. *Source:* the original.
const WASM_TYPES: [&str; 2] = ["middleware.http.wasm", "bindings.wasm"];
const STRICT_SANDBOX: &str = "strictSandbox";

/// The blocks components are put into.
#[derive(Clone)]
pub(crate) struct Blocks {
    pub(crate) state: Arc<StateStores>,
    pub(crate) secrets: Arc<SecretStores>,
    pub(crate) pubsub: Arc<PubSubs>,
    pub(crate) outputs: Arc<OutputBindings>,
    pub(crate) inputs: Arc<InputBindings>,
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
    /// Where components tell what keeps them.
    pub(crate) board: Board,
    pub(crate) log: Logger,
    /// Cancelled after all components are closed.
    pub(crate) cancel: CancellationToken,
    /// Only the component named by `actorStateStore` may be it; `false` without placement, when there is none.
    pub(crate) has_actors: bool,
    pub(crate) loaded: Mutex<Vec<Loaded>>,
    /// Components of the resources that do not run.
    pub(crate) idle: Mutex<BTreeMap<String, Idle>>,
    pub(crate) pipelines: Mutex<Vec<Pipeline>>,
    /// Set once there are subscriptions, which have to follow their components.
    pub(crate) subscriptions: OnceLock<Arc<Subscriptions>>,
    /// Components that were replaced or removed and are about to close.
    pub(crate) closers: TaskTracker,
}

/// A component that runs.
pub(crate) struct Loaded {
    pub(crate) info: ComponentInfo,
    pub(crate) manifest: Component,
    /// The secrets it was started with.
    pub(crate) secrets: Secrets,
    pub(crate) instance: Instance,
    /// Of its background work.
    pub(crate) cancel: CancellationToken,
}

/// A component that does not run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Idle {
    pub(crate) manifest: Component,
    /// It failed and is not tried again at once; others wait for something, or are denied.
    pub(crate) failed: bool,
}

/// Values by name of the secret and key.
pub(crate) type Secrets = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Clone)]
pub(crate) enum Instance {
    State(Arc<dyn StateStore>),
    PubSub(Arc<dyn PubSub>),
    Secrets(Arc<dyn SecretStore>),
    Middleware(Arc<dyn HttpMiddleware>),
    /// In the directions it has; each is a component of its own.
    Binding(Option<(Arc<dyn InputBinding>, InputSettings)>, Option<Arc<dyn OutputBinding>>),
}

/// A component that was started and is in no block yet.
struct Made {
    loaded: Loaded,
    metadata: Metadata,
    /// A value asked for the namespace.
    namespaced: bool,
}

/// A pipeline of the Configuration, which is put together anew when its components change.
pub(crate) struct Pipeline {
    field: &'static str,
    handlers: Vec<PipelineHandler>,
    pipeline: HttpPipeline,
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
            self.set_idle(component, false);
            if denied.iter().any(|rule| denies(rule, component)) {
                log.warn(format_args!(
                    "component '{}' cannot be loaded because components of type '{name}' are not allowed",
                    component.name
                ));
                continue;
            }
            log.debug(format_args!("Loading component: {name}"));
            if self.missing_store(component).is_some() {
                self.board_missing_store(component);
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

    pub(crate) fn set_idle(&self, component: &Component, failed: bool) {
        self.idle.lock().insert(component.name.clone(), Idle { manifest: component.clone(), failed });
    }

    /// Starts a component; whether it runs.
    ///
    /// # Errors
    /// The text of a failure that is not to be ignored.
    pub(crate) async fn start_or_report(&self, component: &Component, log: &Logger) -> Result<bool, String> {
        self.board.clear(BOARD_KIND, &component.name);
        let wait = self.board.wait(
            BOARD_KIND,
            component.name.clone(),
            format!("the start of {}", log_name(component)),
            format!("it gives up after spec.initTimeout, {}", format_go(component.init_timeout)),
        );
        let started = self.start(component, log).await;
        drop(wait);
        let Err(problem) = started else {
            self.idle.lock().remove(&component.name);
            return Ok(true);
        };
        self.set_idle(component, true);
        self.board.unhealthy(
            BOARD_KIND,
            component.name.clone(),
            format!("{} did not start", log_name(component)),
            problem.clone(),
            format!(
                "correct {}:{}, and look whether the server of the component is there",
                component.origin.file.display(),
                component.origin.line
            ),
        );
        let problem = format!("process component {} error: {problem}", component.name);
        if component.ignore_errors {
            log.error(format_args!("Ignoring error processing component: {problem}"));
            return Ok(false);
        }
        log.warn(format_args!("Error processing component, daprd will exit gracefully: {problem}"));
        Err(problem)
    }

    async fn start(&self, component: &Component, log: &Logger) -> Result<(), String> {
        let Some(category) = Category::of(&component.component_type) else {
            return Err(format!("incorrect type {}", component.component_type));
        };
        let name = log_name(component);
        let installed = match tokio::time::timeout(component.init_timeout, self.make(component, category)).await {
            Ok(Ok(made)) => self.install(made).await,
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Init(format!(
                "init timeout for component {name} after {}; see spec.initTimeout",
                format_go(component.init_timeout)
            ))),
        };
        let failure = match installed {
            Ok(()) => {
                log.info(format_args!("Component loaded: {name}"));
                if let Some(metrics) = self.metrics.service() {
                    metrics.component_initialized(&component.component_type);
                }
                return Ok(());
            }
            Err(failure) => failure,
        };
        if let Some(metrics) = self.metrics.service() {
            // The original counts a failure twice: where it happens, and once more as `init` on the way out.
            let reason = if matches!(failure, Failure::Create(_)) { "creation" } else { "init" };
            for reason in [reason, "init"] {
                metrics.component_failed(&component.component_type, reason, &component.name);
            }
        }
        let failure = match failure {
            Failure::Create(problem) => initialization_error("CREATE_COMPONENT_FAILURE", &name, &problem),
            Failure::Init(problem) => initialization_error("INIT_COMPONENT_FAILURE", &name, &problem),
        };
        log.error(format_args!("Failed to init component {name}: {failure}"));
        Err(initialization_error("INIT_COMPONENT_FAILURE", &name, &failure))
    }

    async fn make(&self, component: &Component, category: Category) -> Result<Made, Failure> {
        let version = version(component);
        let unknown = || Failure::Create(self.unknown_type(component, category));
        if !matches!(version, "v0" | "v1") {
            return Err(unknown());
        }
        let (metadata, namespaced, secrets) = self.metadata(component, category).await.map_err(Failure::Init)?;
        let cancel = self.cancel.child_token();
        let context = InitContext {
            name: component.name.clone(),
            component_type: component.component_type.clone(),
            version: version.to_owned(),
            metadata: metadata.clone(),
            app_id: self.app_id.clone(),
            namespace: self.namespace.clone(),
            data_dir: self.data_dir.clone(),
            log: self.log.scope("dapr.contrib"),
            cancel: cancel.clone(),
        };
        let init = |error: pillion_contract::ComponentError| Failure::Init(error.to_string());
        let mut capabilities: Vec<String> = Vec::new();
        let instance = match category {
            Category::State => {
                let store =
                    self.registry.state(&component.component_type).ok_or_else(unknown)?(context).await.map_err(init)?;
                capabilities.extend(capability_names(store.capability()).into_iter().map(str::to_owned));
                Instance::State(store)
            }
            Category::PubSub => {
                let broker = self.registry.pubsub(&component.component_type).ok_or_else(unknown)?(context)
                    .await
                    .map_err(init)?;
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
                if store.multiple_keys() {
                    capabilities.push("MULTIPLE_KEY_VALUES_PER_SECRET".to_owned());
                }
                Instance::Secrets(store)
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
            Category::Binding => self.make_binding(component, context, &mut capabilities).await?,
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
        let manifest = component.clone();
        Ok(Made { loaded: Loaded { info, manifest, secrets, instance, cancel }, metadata, namespaced })
    }

    async fn make_binding(
        &self,
        component: &Component,
        context: InitContext,
        capabilities: &mut Vec<String>,
    ) -> Result<Instance, Failure> {
        let (kind, log) = (&component.component_type, self.log.scope("dapr.runtime.processor.binding"));
        let (input, output) = (self.registry.input_binding(kind), self.registry.output_binding(kind));
        if input.is_none() && output.is_none() {
            return Err(Failure::Create(self.unknown_type(component, Category::Binding)));
        }
        let direction = context.metadata.get("direction").map(str::to_owned);
        let has = |word| has_direction(direction.as_deref(), word);
        let init = |error: pillion_contract::ComponentError| Failure::Init(error.to_string());
        let made_input = match input.filter(|_| has("input")) {
            Some(make) => {
                let settings = InputSettings::of(&component.name, &context.metadata);
                let made = make(context.clone()).await.map_err(init)?;
                log.info(format_args!("successful init for input binding ({})", log_name(component)));
                capabilities.push("INPUT_BINDING".to_owned());
                Some((made, settings))
            }
            None => None,
        };
        let made_output = match output.filter(|_| has("output")) {
            Some(make) => {
                let made = make(context).await.map_err(init)?;
                log.info(format_args!("successful init for output binding ({})", log_name(component)));
                capabilities.push("OUTPUT_BINDING".to_owned());
                Some(made)
            }
            None => None,
        };
        Ok(Instance::Binding(made_input, made_output))
    }

    /// The metadata with secrets, variables and templates filled in, and whether any value asked for the namespace.
    async fn metadata(&self, component: &Component, category: Category) -> Result<(Metadata, bool, Secrets), String> {
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
        Ok((Metadata::new(pairs), namespaced, secrets))
    }

    /// One item's value; a problem is `line: field: what`.
    pub(crate) fn value(&self, item: &NameValue, secrets: &Secrets) -> Result<String, String> {
        let secret = item.secret_key_ref.as_ref().and_then(|(name, key)| secrets.get(name)?.get(key));
        let environment = |name: &str| self.environment.get(name).map(str::to_owned);
        resolve(item, secret.map(String::as_str), &environment).map_err(|finding| {
            format!("{}: {}: {}; {}", finding.line, finding.field, finding.message, finding.suggestion)
        })
    }

    /// The secrets of these names; a name the store does not have is left out, so that the item that needs it can be named.
    pub(crate) async fn secrets(&self, store: Option<&str>, names: &[String]) -> Result<Secrets, String> {
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

    pub(crate) fn board_missing_store(&self, component: &Component) {
        let store = self.missing_store(component).unwrap_or_default();
        self.board.waiting(
            BOARD_KIND,
            component.name.clone(),
            format!("the secret store {store:?}, from which {} takes secrets", log_name(component)),
            "",
            format!(
                "add a secret store component named {store}, or correct auth.secretStore of {}:{}",
                component.origin.file.display(),
                component.origin.line
            ),
        );
    }

    /// The secret store a component waits for.
    pub(crate) fn missing_store<'a>(&self, component: &'a Component) -> Option<&'a str> {
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

    /// The middleware of a pipeline of the Configuration. What is not loaded is left out, as in the original; it comes in when it is.
    pub(crate) fn pipeline(&self, name: &str, field: &'static str, handlers: &[PipelineHandler]) -> HttpPipeline {
        if handlers.is_empty() {
            return HttpPipeline::default();
        }
        let log = self.log.scope(MIDDLEWARE_SCOPE);
        log.info(format_args!("Building pipeline {name}"));
        let pipeline = HttpPipeline::new(self.middleware(handlers, |handler| {
            log.warn(format_args!(
                "{field}: the handler {} is left out: no component of this name with type {} and version {} is loaded; \
                 requests pass without it",
                handler.name,
                handler.component_type,
                or_v1(&handler.version)
            ));
        }));
        let entry = Pipeline { field, handlers: handlers.to_vec(), pipeline: pipeline.clone() };
        self.pipelines.lock().push(entry);
        pipeline
    }

    /// Puts the pipelines together of what is loaded now.
    pub(crate) fn refresh_pipelines(&self) {
        for Pipeline { field, handlers, pipeline } in self.pipelines.lock().iter() {
            let log = self.log.scope(MIDDLEWARE_SCOPE);
            let left_out = |handler: &PipelineHandler| {
                log.debug(format_args!("{field}: the handler {} is left out", handler.name))
            };
            pipeline.replace(self.middleware(handlers, left_out));
        }
    }

    fn middleware(
        &self,
        handlers: &[PipelineHandler],
        left_out: impl Fn(&PipelineHandler),
    ) -> Vec<Arc<dyn HttpMiddleware>> {
        let loaded = self.loaded.lock();
        let find = |handler: &PipelineHandler| {
            let found = loaded.iter().find_map(|loaded| match &loaded.instance {
                Instance::Middleware(middleware)
                    if loaded.info.name == handler.name
                        && loaded.info.component_type == handler.component_type
                        && or_v1(&loaded.info.version) == or_v1(&handler.version) =>
                {
                    Some(middleware.clone())
                }
                _ => None,
            });
            if found.is_none() {
                left_out(handler);
            }
            found
        };
        handlers.iter().filter_map(find).collect()
    }

    /// Whether any broker is loaded.
    pub(crate) fn has_pubsub(&self) -> bool {
        self.loaded.lock().iter().any(|loaded| matches!(loaded.instance, Instance::PubSub(_)))
    }

    /// Closes all components, the last one first.
    pub(crate) async fn close(&self) {
        self.closers.close();
        self.closers.wait().await;
        let mut loaded = std::mem::take(&mut *self.loaded.lock());
        while let Some(loaded) = loaded.pop() {
            self.log.info(format_args!("Shutting down component {}", log_name(&loaded.manifest)));
            close_instance(&loaded, &self.log).await;
        }
        self.cancel.cancel();
    }
}

/// Ends a component and its background work.
pub(crate) async fn close_instance(loaded: &Loaded, log: &Logger) {
    let closed = match &loaded.instance {
        Instance::State(store) => store.close().await,
        Instance::PubSub(broker) => broker.close().await,
        Instance::Secrets(_) | Instance::Middleware(_) => Ok(()),
        Instance::Binding(input, output) => {
            let closed_input = match input {
                Some((input, _)) => input.close().await,
                None => Ok(()),
            };
            let closed_output = match output {
                Some(output) => output.close().await,
                None => Ok(()),
            };
            closed_input.and(closed_output)
        }
    };
    if let Err(error) = closed {
        log.warn(format_args!("error closing component {}: {error}", log_name(&loaded.manifest)));
    }
    loaded.cancel.cancel();
}

pub(crate) enum Failure {
    /// There is no such type.
    Create(String),
    /// It did not start.
    Init(String),
}

fn version(component: &Component) -> &str {
    or_v1(&component.version)
}

fn or_v1(version: &str) -> &str {
    if version.is_empty() { "v1" } else { version }
}

/// `name (type/version)`, the form of log lines.
pub(crate) fn log_name(component: &Component) -> String {
    format!("{} ({}/{})", component.name, component.component_type, version(component))
}

/// *Source:* wire text of the original.
fn initialization_error(kind: &str, name: &str, problem: &str) -> String {
    format!("[{kind}]: initialization error occurred for {name}: {problem}")
}

/// Whether a rule of `spec.components.deny`, a type with or without `/version`, covers a component.
pub(crate) fn denies(rule: &str, component: &Component) -> bool {
    let (wanted, wanted_version) =
        rule.split_once('/').map_or((rule, None), |(wanted, version)| (wanted, Some(version)));
    wanted.eq_ignore_ascii_case(&component.component_type)
        && wanted_version.is_none_or(|wanted| wanted.eq_ignore_ascii_case(version(component)))
}
