//! Hot reload: what changes in the resources takes effect while the sidecar serves.
//!
//! *Job:* wait for changes on disk, and once in a while without one; read everything; compare by value; change what differs.
//! *Neighbours:* [`watch`] tells of changes, [`plan`] compares, the blocks and [`crate::components`] change. *Invariant:* what cannot be
//! read changes nothing: a file with mistakes keeps what it gave before, and is told once.
//! *Source:* dapr `pkg/runtime/hotreload` for what is reloaded, the period and the log lines. There, Configuration, Resiliency and
//! HTTPEndpoint restart the runtime; here policies and endpoints are swapped, and only a Configuration that differs restarts it.

mod plan;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pillion_building_blocks::pubsub::Subscriptions;
use pillion_core::log::Logger;
use pillion_invocation::Invoker;
use pillion_resources::types::{Configuration, HttpEndpoint};
use pillion_resources::{Loaded, Severity};
use pillion_runtime::resiliency::Policies;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::AppQuestions;
use crate::components::{ComponentHost, Secrets};
use crate::environment::Environment;
use crate::info::Info;
use crate::mcp::McpServers;
use crate::operator::{Operator, Streams};
use crate::options::Options;
use crate::resources;
use crate::sidecar::End;
use watch::{Targets, Watch};

/// What reloading is called on the board.
const BOARD_KIND: &str = "reload";
const WATCH_EFFECT: &str = "changes take effect only at the next check of everything";

const SCOPE: &str = "dapr.runtime.hotreload";
/// Time between two checks of everything when `--hot-reload-reconcile-interval` does not say. *Source:* the original.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// How long an empty file may be one whose content is still to come.
const EMPTY_LIMIT: Duration = Duration::from_millis(300);
/// How long a change of the resources waits for the successor a changed Configuration asks for, which takes it up itself.
const SUCCESSOR_LIMIT: Duration = Duration::from_secs(5);

/// Names of the resources in effect, for the metadata API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) http_endpoints: Vec<String>,
    pub(crate) resiliencies: Vec<String>,
    pub(crate) mcp_servers: Vec<String>,
    pub(crate) workflow_access_policies: Vec<String>,
}

impl Names {
    pub(crate) fn of(loaded: &Loaded, mcp_servers: Vec<String>) -> Self {
        let others = |kind: &str| {
            let others = loaded.others.iter().filter(|other| other.kind == kind);
            others.map(|other| other.name.clone()).collect()
        };
        Self {
            http_endpoints: loaded.http_endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            resiliencies: loaded.resiliencies.iter().map(|resiliency| resiliency.name.clone()).collect(),
            mcp_servers,
            workflow_access_policies: others("WorkflowAccessPolicy"),
        }
    }
}

/// Whether a Configuration lets resources be reloaded. *Source:* the feature is on unless it is switched off, since 1.18.
pub(crate) fn is_enabled(configuration: &Configuration) -> bool {
    configuration.features.get("HotReload").copied().unwrap_or(true)
}

/// What a reload changes.
pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) environment: Environment,
    pub(crate) configuration: Configuration,
    pub(crate) host: Arc<ComponentHost>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) invoker: Arc<Invoker>,
    /// `None` without an app.
    pub(crate) questions: Option<Arc<AppQuestions>>,
    pub(crate) info: Arc<Info>,
    pub(crate) log: Logger,
}

/// Begins to watch the manifests and Configurations of a sidecar, before they are read. Must be called in a Tokio runtime with I/O.
/// Without a watch the sidecar works, and says what to do.
pub(crate) fn watch(
    options: &Options,
    configuration: &Configuration,
    operator: Option<&Arc<Operator>>,
    log: &Logger,
) -> Option<Changes> {
    let log = log.scope(SCOPE);
    if !is_enabled(configuration) {
        log.debug("Hot reloading disabled");
        return None;
    }
    if let Some(operator) = operator {
        return Some(Changes::Operator(operator.clone(), Streams::open(operator)));
    }
    let directories: Vec<String> = options.resource_paths.iter().map(|path| path.display().to_string()).collect();
    log.info(format_args!("Watching directories: [{}]", directories.join(", ")));
    let targets = Targets { directories: options.resource_paths.clone(), files: options.configurations.clone() };
    let watch = Watch::new(targets);
    if let Err(error) = &watch {
        log.error(format_args!(
            "resources are not watched for changes: {error}; look at fs.inotify.max_user_instances and \
             fs.inotify.max_user_watches; until then SIGHUP reloads them"
        ));
    }
    watch.ok().map(Changes::Disk)
}

/// What tells of changes.
pub(crate) enum Changes {
    Disk(Watch),
    Operator(Arc<Operator>, Streams),
}

impl Changes {
    /// Waits until something has changed. *Cancel safe.*
    async fn changed(&mut self) -> std::io::Result<()> {
        match self {
            Self::Disk(watch) => watch.changed().await,
            Self::Operator(_, streams) => {
                streams.changed().await;
                Ok(())
            }
        }
    }

    /// Looks again at what is to be watched.
    fn refresh(&mut self) -> std::io::Result<()> {
        match self {
            Self::Disk(watch) => watch.refresh(),
            Self::Operator(..) => Ok(()),
        }
    }

    fn operator(&self) -> Option<&Arc<Operator>> {
        match self {
            Self::Disk(_) => None,
            Self::Operator(operator, _) => Some(operator),
        }
    }
}

/// Follows the resources of one sidecar.
pub(crate) struct Reloader {
    parts: Parts,
    watch: Changes,
    interval: Duration,
    /// What is in effect.
    current: Loaded,
    mcp: McpServers,
    /// The Configuration a restart was asked for.
    asked: Option<Configuration>,
    /// The secrets the endpoints were made with.
    endpoint_secrets: BTreeMap<String, Secrets>,
    /// What was found in the manifests last.
    findings: BTreeSet<String>,
    /// Files with mistakes.
    files: BTreeSet<String>,
    /// What keeps changes from taking effect, and why.
    standing: BTreeMap<String, String>,
    log: Logger,
}

impl Reloader {
    /// `current` is what was loaded at the start, after `watch` began.
    pub(crate) fn new(parts: Parts, watch: Changes, current: Loaded, mcp: McpServers) -> Self {
        let log = parts.log.scope(SCOPE);
        let interval = parts.options.reconcile_interval.unwrap_or(DEFAULT_INTERVAL);
        let findings = current.findings.iter().map(ToString::to_string).collect();
        Self {
            parts,
            watch,
            interval,
            current,
            mcp,
            asked: None,
            endpoint_secrets: BTreeMap::new(),
            findings,
            files: BTreeSet::new(),
            standing: BTreeMap::new(),
            log,
        }
    }

    /// Reloads until cancelled, or until something asks for the end of the sidecar.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        self.log.info(
            "Hot reloading enabled. Daprd will reload 'Component', 'Subscription', 'MCPServer', 'Configuration', \
             'HTTPEndpoint', 'Resiliency' and 'WorkflowAccessPolicy' resources when they are added, updated or deleted.",
        );
        if self.watch.operator().is_some() {
            self.log.info("Starting to watch Configuration updates for SIGHUP reload");
        }
        let _ = cancel.run_until_cancelled(Box::pin(self.follow())).await; // the end of the sidecar
    }

    async fn follow(&mut self) {
        self.note_endpoint_secrets().await;
        self.check_configuration().await; // was read before the watch began
        let mut due = Instant::now() + self.interval;
        loop {
            let pass = tokio::select! {
                changed = self.watch.changed() => {
                    if let Err(error) = changed {
                        self.stands("the watch of the resources", WATCH_EFFECT, &error.to_string());
                        tokio::time::sleep_until(due).await;
                    }
                    Pass::Changed
                }
                () = tokio::time::sleep_until(due) => Pass::Scheduled,
            };
            if let Err(problem) = self.pass(pass).await {
                self.parts.info.request(End::Failed(problem));
                return;
            }
            if due < Instant::now() {
                due = Instant::now() + self.interval;
            }
        }
    }

    /// Reads everything and changes what differs.
    ///
    /// # Errors
    /// Why the sidecar must not go on.
    async fn pass(&mut self, pass: Pass) -> Result<(), String> {
        if pass == Pass::Scheduled {
            for kind in ["Component", "Subscription", "MCPServer", "WorkflowAccessPolicy"] {
                self.log
                    .scope("dapr.runtime.hotreload.reconciler")
                    .debug(format_args!("Running scheduled {kind} reconcile"));
            }
        }
        if let Some(operator) = self.watch.operator().filter(|_| pass == Pass::Scheduled) {
            operator.refresh().await;
        }
        // Before anything is read: what changes from here on is told.
        match self.watch.refresh() {
            Ok(()) => self.is_well("the watch of the resources"),
            Err(error) => self.stands("the watch of the resources", WATCH_EFFECT, &error.to_string()),
        }
        if self.check_configuration().await {
            // The successor reads everything itself. Only when there is none, the rest is for this one.
            let _ = tokio::time::timeout(SUCCESSOR_LIMIT, self.parts.info.restart_withdrawn()).await;
        }
        let Some(wanted) = self.read().await? else { return Ok(()) };
        let Parts { host, subscriptions, policies, configuration, .. } = &self.parts;

        let events = plan::events(&self.current, &wanted);
        for event in &events {
            self.log.info(event);
        }
        host.reload(&wanted.components, &configuration.components_deny, pass == Pass::Scheduled).await?;
        if let Some(questions) = &self.parts.questions {
            questions.ask_about_topics().await; // the first pub/sub component may have come
        }
        self.parts.info.outbox.refresh().await;
        let ordered = plan::in_order(&self.current.subscriptions, wanted.subscriptions.clone());
        if !plan::same_subscriptions(&self.current.subscriptions, &ordered) {
            subscriptions.set_declarative(&ordered);
            subscriptions.refresh().await;
        }
        if !plan::same_resiliencies(&self.current.resiliencies, &wanted.resiliencies) {
            policies.replace(&wanted.resiliencies);
            subscriptions.refresh().await;
        }
        self.mcp.follow(&wanted.others, &self.parts.log)?;
        let names = Names::of(&wanted, self.mcp.names());
        self.reload_endpoints(&wanted.http_endpoints).await;
        *self.parts.info.names.write() = names;
        self.current = Loaded { subscriptions: ordered, ..wanted };
        Ok(())
    }

    /// What the directories hold now; `None` when that cannot be told.
    async fn read(&mut self) -> Result<Option<Loaded>, String> {
        let mut now = self.load().await;
        if plan::emptied(&self.current, &now) {
            tokio::time::sleep(EMPTY_LIMIT).await;
            now = self.load().await;
        }
        let findings: BTreeSet<String> = now.findings.iter().map(ToString::to_string).collect();
        for finding in now.findings.iter().filter(|finding| !self.findings.contains(&finding.to_string())) {
            match finding.severity {
                Severity::Error => self.log.error(finding),
                Severity::Warning => self.log.warn(finding),
            }
        }
        self.findings = findings;
        if !now.unreadable.is_empty() {
            self.stands("the resources", "they stay as they were", &now.unreadable.join("; "));
            return Ok(None);
        }
        self.is_well("the resources");
        if !now.duplicates.is_empty() {
            return Err(format!("failed to load resources from disk: {}", now.duplicates.join("\n")));
        }
        plan::keep_broken(&self.current, &mut now);
        let mut broken: BTreeMap<String, String> = BTreeMap::new();
        for finding in now.findings.iter().filter(|finding| finding.severity == Severity::Error) {
            broken.entry(finding.file.display().to_string()).or_insert_with(|| finding.to_string());
        }
        let mended: Vec<String> = self.files.iter().filter(|file| !broken.contains_key(*file)).cloned().collect();
        mended.iter().for_each(|file| self.is_well(file));
        for (file, problem) in &broken {
            self.stands(file, "it has mistakes; what was loaded from it before stays in effect", problem);
        }
        self.files = broken.into_keys().collect();
        Ok(Some(now))
    }

    async fn load(&self) -> Loaded {
        let Parts { options, environment, host, .. } = &self.parts;
        let loading = resources::load_options(options, environment, &host.registry);
        if let Some(operator) = self.watch.operator() {
            return operator.resources(&loading);
        }
        let paths = options.resource_paths.clone();
        let loaded = tokio::task::spawn_blocking(move || pillion_resources::load_directories(&paths, &loading)).await;
        loaded.unwrap_or_else(|error| Loaded { unreadable: vec![error.to_string()], ..Loaded::default() })
    }

    /// Asks for a restart when the Configuration files say something else than what is in effect; whether it did.
    async fn check_configuration(&mut self) -> bool {
        let Parts { options, environment, configuration, info, .. } = &self.parts;
        if options.configurations.is_empty() {
            return false;
        }
        let operator = self.watch.operator().cloned();
        let (files, environment) = (options.configurations.clone(), environment.clone());
        let read = move || match operator {
            // One that is no more there stays in effect.
            Some(operator) => operator.configuration(),
            None => {
                Some(pillion_resources::load_configuration(&files, &|name| environment.get(name).map(str::to_owned)))
            }
        };
        let Ok(Some(read)) = tokio::task::spawn_blocking(read).await else { return false };
        match read {
            Ok((read, _)) if read == *configuration => {
                self.asked = None;
                self.is_well("the Configuration");
            }
            // A restart that failed is not tried again with the same.
            Ok((read, _)) if self.asked.as_ref() == Some(&read) => {}
            Ok((read, _)) => {
                self.log.info(format_args!(
                    "Received Configuration UPDATED event: {} - triggering SIGHUP reload",
                    read.name
                ));
                info.request(End::Restart);
                self.asked = Some(read);
                self.is_well("the Configuration");
                return true;
            }
            Err(findings) => {
                let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
                self.stands("the Configuration", "it stays as it was", &texts.join("; "));
            }
        }
        false
    }

    async fn reload_endpoints(&mut self, wanted: &[HttpEndpoint]) {
        let secrets = self.endpoint_secrets(wanted).await;
        if plan::same_endpoints(&self.current.http_endpoints, wanted) && secrets == self.endpoint_secrets {
            return;
        }
        let made = resources::endpoints(wanted, &self.parts.host, &self.log).await;
        self.parts.invoker.endpoints().replace(made);
        self.endpoint_secrets = secrets;
    }

    async fn note_endpoint_secrets(&mut self) {
        self.endpoint_secrets = self.endpoint_secrets(&self.current.http_endpoints).await;
    }

    /// Secrets that cannot be read now count as they were.
    async fn endpoint_secrets(&self, endpoints: &[HttpEndpoint]) -> BTreeMap<String, Secrets> {
        let mut all = BTreeMap::new();
        for endpoint in endpoints {
            let names = resources::endpoint_secrets(endpoint);
            if names.is_empty() {
                continue;
            }
            let found = match self.parts.host.secrets(endpoint.secret_store.as_deref(), &names).await {
                Ok(found) => found,
                Err(_) => self.endpoint_secrets.get(&endpoint.name).cloned().unwrap_or_default(),
            };
            all.insert(endpoint.name.clone(), found);
        }
        all
    }

    /// Tells of something that keeps a change from taking effect, once, and on the board until [it is well](Self::is_well).
    fn stands(&mut self, what: &str, effect: &str, problem: &str) {
        if self.standing.insert(what.to_owned(), problem.to_owned()).is_some_and(|before| before == problem) {
            return;
        }
        self.log.warn(format_args!("{what}: {effect}: {problem}"));
        let board = &self.parts.host.board;
        board.unhealthy(BOARD_KIND, what, effect, problem, "correct it; the change then takes effect by itself");
    }

    fn is_well(&mut self, what: &str) {
        if self.standing.remove(what).is_some() {
            self.parts.host.board.clear(BOARD_KIND, what);
        }
    }
}

/// Why everything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Changed,
    /// The time between two checks is over: what failed is tried again.
    Scheduled,
}
