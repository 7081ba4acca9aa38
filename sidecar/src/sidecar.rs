//! One sidecar, from start to stop.

mod parts;
mod resolver;
mod serving;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use pillion_building_blocks::outbox::Outbox;
use pillion_building_blocks::pubsub::Subscriptions;
use pillion_contract::{DiscoveryContext, Registry};
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_identity::Identity;
use pillion_invocation::Invoker;
use pillion_invocation::endpoint::Endpoints;
use pillion_runtime::app_channel::AppHealth;
use pillion_runtime::resiliency::Policies;
use pillion_telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{self, RUNTIME, announce_ready};
use crate::components::ComponentHost;
use crate::environment::Environment;
use crate::health::Readiness;
use crate::info::Info;
use crate::listeners::Listeners;
use crate::mcp::McpServers;
use crate::operator::Operator;
use crate::options::{Mode, Options};
use crate::tracing::Tracers;
use crate::{metrics, reload, resources, security};
use parts::{
    access_control, app_connection, app_life, app_questions, component_host, features, invoker, peers,
    warn_about_missing_parts,
};
use resolver::OpenResolver;
use serving::{Parts, Servers, serve};

/// The namespace of a sidecar without `NAMESPACE`.
const DEFAULT_NAMESPACE: &str = "default";
/// Added to the limit of inner waits, so that the outer one decides.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a retiring sidecar leaves idle connections open, so that their clients see an answer before the end.
const LINGER: Duration = Duration::from_secs(1);

/// What a sidecar takes over from the one it succeeds.
struct Before<'a> {
    listeners: Listeners,
    resolver: &'a OpenResolver,
    invoker: &'a Invoker,
}

/// Why a sidecar ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The shutdown API was called.
    Requested,
    /// The shutdown API was called with force: nothing is drained.
    Forced,
    /// The Configuration changed: [`Sidecar::successor`] takes over.
    Restart,
    /// A resource changed to something the sidecar must not run with; the text says what.
    Failed(String),
}

impl End {
    /// Whether a later request takes the place of this one: an end outweighs a restart, and force everything.
    pub(crate) fn gives_way_to(&self, later: &Self) -> bool {
        let weight = |end: &Self| match end {
            Self::Restart => 0,
            Self::Requested | Self::Failed(_) => 1,
            Self::Forced => 2,
        };
        weight(later) > weight(self)
    }
}

/// A sidecar that could not start; the text says why.
#[derive(Debug)]
pub struct StartError(String);

/// Work was still under way when the time for a graceful stop was over.
#[derive(Debug)]
pub struct StopError;

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graceful shutdown timeout exceeded, forcing shutdown")
    }
}

impl std::error::Error for StartError {}
impl std::error::Error for StopError {}

/// A running sidecar: its APIs are served, its app may still be awaited.
pub struct Sidecar {
    info: Arc<Info>,
    host: Arc<ComponentHost>,
    subscriptions: Arc<Subscriptions>,
    resolver: OpenResolver,
    health: AppHealth,
    end: watch::Receiver<Option<End>>,
    grace: Duration,
    /// Nothing new is started for the app.
    closing: CancellationToken,
    /// Servers take no more requests.
    serving: CancellationToken,
    /// Connections that cannot go on with a successor close when they are without a request.
    idle: CancellationToken,
    invoker: Arc<Invoker>,
    fronts: Servers,
    /// The ports, for a successor.
    listeners: Listeners,
    app_task: TaskTracker,
    servers: TaskTracker,
    tracers: Tracers,
    /// `None` without mutual TLS.
    identity: Option<Identity>,
    log: Logger,
}

impl Sidecar {
    /// Opens the ports, loads resources and components and serves the APIs. Waiting for the app goes on in the background.
    /// Must be called in a Tokio runtime with I/O and time.
    ///
    /// # Errors
    /// What made the start impossible: a taken port, a Configuration or component that cannot be used.
    pub async fn start(
        options: Options,
        environment: Environment,
        registry: Registry,
        log: Logger,
    ) -> Result<Self, StartError> {
        start(options, environment, registry, log, None).await.map_err(StartError)
    }

    /// Starts another sidecar on the same ports, with the Configuration and resources as they are now. This one serves meanwhile; both
    /// do until this one is [retired](Self::retire).
    ///
    /// # Errors
    /// As [`Self::start`]; this one is as it was.
    pub async fn successor(
        &self,
        options: Options,
        environment: Environment,
        registry: Registry,
        log: Logger,
    ) -> Result<Self, StartError> {
        let listeners =
            self.listeners.share().map_err(|error| StartError(format!("the ports cannot be handed on: {error}")))?;
        let before = Before { listeners, resolver: &self.resolver, invoker: &self.invoker };
        start(options, environment, registry, log, Some(before)).await.map_err(StartError)
    }

    /// There is no successor: goes on following changes.
    pub fn stay(&self) {
        self.info.withdraw_restart();
    }

    /// Hands over to a [successor](Self::successor): takes no more calls and messages, ends those under way, closes its components. The
    /// ports, the connections and the name of the app stay, as they are the successor's.
    ///
    /// # Errors
    /// When that takes longer than `--dapr-graceful-shutdown-seconds`.
    pub fn retire(self, successor: &Self) -> impl Future<Output = Result<(), StopError>> + Send + 'static + use<> {
        self.fronts.hand_over(&successor.fronts, &successor.serving);
        self.end_after_successor()
    }

    async fn end_after_successor(self) -> Result<(), StopError> {
        self.closing.cancel();
        self.host.blocks.inputs.close(); // the successor has them all
        let drain = async {
            // Calls first: messages they publish to a broker inside this process still reach the app.
            self.serving.cancel();
            self.servers.close();
            // Of the connections that cannot go on: a client that is about to send on one it kept gets its answer, and is told that it
            // was the last one.
            let _ = tokio::time::timeout(LINGER, self.servers.wait()).await;
            self.idle.cancel();
            tokio::join!(self.subscriptions.shutdown(NEVER), self.host.blocks.inputs.shutdown(NEVER));
            self.servers.wait().await;
            self.app_task.close();
            self.app_task.wait().await;
            self.host.close().await;
            self.tracers.stop().await;
            if let Some(identity) = self.identity {
                identity.stop().await;
            }
        };
        let limit = if self.grace.is_zero() { NEVER } else { LINGER + self.grace };
        tokio::time::timeout(limit, drain).await.map_err(|_| StopError)
    }

    /// Waits until the shutdown API is called, or until a change of the resources asks for an end.
    pub async fn ended(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) {
            Some(end) => end,
            None => std::future::pending().await, // cannot be: the sender lives in `self.info`
        }
    }

    /// What the sidecar was asked to end for, while it runs and after.
    pub fn asked(&self) -> watch::Receiver<Option<End>> {
        self.end.clone()
    }

    /// Whether everything is ready, as `/v1.0/healthz` tells.
    pub fn is_ready(&self) -> bool {
        self.info.readiness.is_ready()
    }

    /// Puts the end off for `duration`, or until the app is unhealthy; no more messages and events of input bindings are taken meanwhile. All
    /// else goes on.
    pub async fn block(&self, duration: Duration) {
        let shown = pillion_core::duration::format_go(duration);
        self.log.info(format_args!("Blocking graceful shutdown for {shown} or until app reports unhealthy..."));
        // The app is probed as before; only messages stop, except those it is working on.
        self.subscriptions.pause().await;
        self.subscriptions.close();
        self.host.blocks.inputs.close();
        let unhealthy = async {
            if !self.is_ready() {
                return; // the app never came, which counts as unhealthy
            }
            let mut changes = self.health.subscribe();
            if changes.wait_for(|healthy| !healthy).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(duration) => self.log.info("Block shutdown period expired, entering shutdown..."),
            () = unhealthy => self.log.info("App reported unhealthy, entering shutdown..."),
        }
    }

    /// Stops: no more messages, work under way finishes, servers close, components close.
    ///
    /// # Errors
    /// When that takes longer than `--dapr-graceful-shutdown-seconds`.
    pub async fn stop(self) -> Result<(), StopError> {
        self.log.debug(format_args!("Graceful shutdown timeout: {}", pillion_core::duration::format_go(self.grace)));
        self.log.info("Dapr is shutting down");
        self.closing.cancel();
        self.resolver.close(&self.log).await;
        let drain = async {
            // Messages first: their handlers may still need the APIs.
            tokio::join!(self.subscriptions.shutdown(NEVER), self.host.blocks.inputs.shutdown(NEVER));
            self.serving.cancel();
            self.idle.cancel();
            for tracker in [&self.servers, &self.app_task] {
                tracker.close();
                tracker.wait().await;
            }
            self.host.close().await;
            self.tracers.stop().await;
            if let Some(identity) = self.identity {
                identity.stop().await;
            }
        };
        let limit = if self.grace.is_zero() { NEVER } else { self.grace };
        tokio::time::timeout(limit, drain).await.map_err(|_| StopError)?;
        self.log.info("Dapr runtime stopped");
        Ok(())
    }
}

async fn start(
    options: Options,
    environment: Environment,
    mut registry: Registry,
    log: Logger,
    before: Option<Before<'_>>,
) -> Result<Sidecar, String> {
    let started = Instant::now();
    let board = Board::default();
    let identity = security::obtain(&options, &environment, &board, &log).await?;
    let tls = identity.as_ref().filter(|_| options.mtls).map(|identity| identity.tls().clone());
    let operator = match identity.as_ref().filter(|_| options.mode == Mode::Kubernetes) {
        Some(identity) => Some(Operator::connect(&options, &environment, identity, &log).await?),
        None => None,
    };
    let configuration = match &operator {
        Some(operator) => operator.first_configuration(&log).await?,
        None => resources::configuration(&options, &environment, &log)?,
    };
    log.info(if operator.is_some() { "kubernetes mode configured" } else { "standalone mode configured" });
    log.info(format_args!("app id: {}", options.app_id));
    warn_about_missing_parts(&options, &log);
    let (listeners, old_resolver, old_invoker) = match before {
        Some(Before { listeners, resolver, invoker }) => (listeners, Some(resolver), Some(invoker)),
        None => (Listeners::open(&options, &environment, &log)?, None, None),
    };
    let kept_listeners = listeners.share().map_err(|error| format!("the ports cannot be kept: {error}"))?;
    let watch = reload::watch(&options, &configuration, operator.as_ref(), &log);
    registry
        .discover(&DiscoveryContext { sockets_dir: environment.sockets_dir(), log: log.clone(), board: board.clone() })
        .await;
    let loaded = match &operator {
        Some(operator) => {
            let listed = operator.first_resources(&resources::load_options(&options, &environment, &registry)).await;
            resources::accepted(listed?, &log)?
        }
        None => resources::manifests(&options, &environment, &registry, &log)?,
    };
    let recorded = if options.metrics_port.is_some() || crate::tracing::wants_metrics(&environment) {
        metrics::metrics(
            &options.app_id,
            environment.non_empty("NAMESPACE").unwrap_or_default(), // empty without one, as in the original
            &configuration.spec,
            &log,
        )?
    } else {
        Metrics::off() // nobody could read them
    };
    if let Some(identity) = &identity {
        let metrics = recorded.clone();
        identity.watch_failures(move |reason| {
            if let Some(metrics) = metrics.service() {
                metrics.renewal_failed(reason);
            }
        });
    }
    let access = access_control(&options, &configuration, &recorded, &log)?;
    let policies = Arc::new(Policies::compile_measured(&loaded.resiliencies, &log, recorded.clone()));
    let tracers = Tracers::start(&configuration.tracing, &options.app_id, &environment, &recorded, &log)?;
    let internal_port = listeners.internal.local_addr().map_err(|error| error.to_string())?.port();
    let host_address = environment.host_address();
    let watchers = (&tracers.tracer, &recorded, &board);
    let host = component_host(&options, &environment, registry, &configuration, policies.clone(), watchers, &log);

    log.info("Loading components…");
    host.load(&loaded.components, &configuration.components_deny).await?;
    log.info("All outstanding components processed");
    let addresses = (host_address.as_str(), internal_port);
    let resolver = resolver::open_or_take_over(old_resolver, &options, &configuration, &host, addresses, &log).await;
    let mut mcp = McpServers::default();
    mcp.follow(&loaded.others, &log)?;
    let endpoints = resources::endpoints(&loaded.http_endpoints, &host, &log).await;
    let subscriptions = Arc::new(Subscriptions::new(host.blocks.pubsub.clone(), &log).with_board(board.clone()));
    subscriptions.set_declarative(&loaded.subscriptions);
    let _ = host.subscriptions.set(subscriptions.clone()); // the first and only time
    let (state, pubsub) = (host.blocks.state.clone(), host.blocks.pubsub.clone());
    let outbox = Arc::new(Outbox::new(state, pubsub, subscriptions.clone(), &log));
    outbox.start().await;

    let health = AppHealth::new(options.app_health.is_none());
    let pipeline = host.pipeline("app", "spec.appHttpPipeline", &configuration.app_http_pipeline);
    let channel = options
        .app_port
        .map(|port| {
            let before = old_invoker.and_then(Invoker::app_channel);
            app::channel(&options, port, &environment, health.clone(), pipeline.clone(), &recorded, before)
        })
        .transpose()?;
    let invoker = Arc::new(
        invoker(
            &options,
            &environment,
            &host,
            host_address,
            resolver.resolver.clone(),
            Endpoints::new(endpoints, options.read_buffer_bytes).with_pipeline(pipeline).with_metrics(recorded.clone()),
            policies.clone(),
        )
        .controlled(access.clone())
        .over(peers(&options, tls.as_ref(), old_invoker, &log)),
    );
    invoker.set_app_channel(channel.clone());

    let (end, ended) = watch::channel(None);
    let info = Arc::new(Info {
        readiness: Readiness::default(),
        outbound: Readiness::default(),
        host: host.clone(),
        subscriptions: subscriptions.clone(),
        outbox,
        policies: policies.clone(),
        features: features(&configuration),
        names: RwLock::new(reload::Names::of(&loaded, mcp.names())),
        app_connection: app_connection(&options),
        control_plane_given: options.control_plane_given.clone(),
        attributes: Mutex::new(BTreeMap::new()),
        board,
        end,
        tracer: tracers.tracer.clone(),
        log: log.clone(),
    });
    info.readiness.add(RUNTIME);
    info.outbound.add("app");

    let serving = CancellationToken::new();
    let idle = CancellationToken::new();
    let servers = TaskTracker::new();
    let parts = Parts {
        options: &options,
        environment: &environment,
        configuration: &configuration,
        info: &info,
        invoker: &invoker,
        idle: &idle,
        tls: tls.as_ref(),
        access,
    };
    let fronts = serve(parts, listeners, &servers, &serving, &log)?;
    info.outbound.ready("app");

    let closing = CancellationToken::new();
    let app_task = TaskTracker::new();
    let questions = channel.as_ref().map(|channel| app_questions(&options, channel.clone(), &info));
    if let Some(watch) = watch {
        let parts = reload::Parts {
            options: options.clone(),
            environment: environment.clone(),
            configuration: configuration.clone(),
            host: host.clone(),
            subscriptions: subscriptions.clone(),
            policies: policies.clone(),
            invoker: invoker.clone(),
            questions: questions.clone(),
            info: info.clone(),
            log: log.clone(),
        };
        app_task.spawn(reload::Reloader::new(parts, watch, loaded, mcp).run(closing.clone()));
    }
    match (options.app_port, channel.zip(questions)) {
        (Some(port), Some((channel, questions))) => {
            let life = app_life(&options, port, channel, questions, &info, health.clone(), closing.clone());
            let (readiness, log) = (info.readiness.clone(), log.clone());
            app_task.spawn(life.run(move || announce_ready(&readiness, started, &log)));
        }
        _ => {
            info.outbox.release();
            announce_ready(&info.readiness, started, &log);
        }
    }
    let grace = options.graceful_shutdown;
    Ok(Sidecar {
        info,
        host,
        subscriptions,
        resolver,
        health,
        end: ended,
        grace,
        closing,
        serving,
        idle,
        invoker,
        fronts,
        listeners: kept_listeners,
        app_task,
        servers,
        tracers,
        identity,
        log,
    })
}
