//! The app's side of a sidecar's life: wait for it, watch its health, ask what it wants, feed it.
//!
//! *Source:* spec app_channel.md §2 for the order.

use std::sync::Arc;
use std::time::Duration;

use pillion_building_blocks::bindings::{AppBindings, EventSink, InputBindings};
use pillion_building_blocks::outbox::Outbox;
use pillion_building_blocks::pubsub::{Subscriptions, app_sink, ask_app};
use pillion_contract::HttpPipeline;
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_runtime::app_channel::{
    AppChannel, AppHealth, GrpcChannel, HealthOptions, HttpChannel, HttpChannelOptions, Protocol,
};
use pillion_runtime::resiliency::{BuiltIn, Policies};
use pillion_telemetry::metrics::Metrics;
use pillion_telemetry::trace::Tracer;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::components::ComponentHost;
use crate::environment::Environment;
use crate::health::Readiness;
use crate::options::{AppProtocol, Options};

const CONNECT_INTERVAL: Duration = Duration::from_millis(100);
/// Connects during the first moments, when an app that starts together with its sidecar is about to come up.
const EAGER_INTERVAL: Duration = Duration::from_millis(10);
const EAGER_ATTEMPTS: u32 = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Attempts between two lines about a missing app, about ten seconds.
const ATTEMPTS_PER_LINE: u32 = 100;

/// Makes the channel to the app; connects on first use, unless a channel before it had connections.
///
/// # Errors
/// A text that names the flag that cannot be used.
pub(crate) fn channel(
    options: &Options,
    port: u16,
    environment: &Environment,
    health: AppHealth,
    pipeline: HttpPipeline,
    metrics: &Metrics,
    before: Option<AppChannel>,
) -> Result<AppChannel, String> {
    let token = environment.non_empty("APP_API_TOKEN").map(|token| pillion_core::secret::Secret::new(token.to_owned()));
    let host = &options.app_channel_address;
    let protocol = match options.app_protocol {
        AppProtocol::Http => Protocol::Http1,
        AppProtocol::Https => Protocol::HttpsUnverified,
        AppProtocol::H2c => Protocol::H2c,
        AppProtocol::Grpc | AppProtocol::Grpcs => {
            let make =
                if options.app_protocol == AppProtocol::Grpcs { GrpcChannel::with_tls } else { GrpcChannel::new };
            let mut channel =
                make(host, port, options.app_max_concurrency, token.as_ref(), options.max_body_bytes, health)?;
            if let Some(AppChannel::Grpc(before)) = before {
                channel = channel.over_those_of(&before);
            }
            return Ok(AppChannel::Grpc(Arc::new(channel.with_metrics(metrics.clone()))));
        }
    };
    let options = HttpChannelOptions {
        host: host.clone(),
        port,
        protocol,
        max_concurrency: options.app_max_concurrency,
        api_token: token,
        header_limit: options.read_buffer_bytes,
    };
    let mut channel = HttpChannel::new(&options, health)?.with_pipeline(pipeline).with_metrics(metrics.clone());
    if let Some(AppChannel::Http(before)) = before {
        channel = channel.over_those_of(&before);
    }
    Ok(AppChannel::Http(Arc::new(channel)))
}

/// What accompanies the app from its first connection to the end of the sidecar.
pub(crate) struct AppLife {
    pub(crate) app_id: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) protocol: AppProtocol,
    pub(crate) channel: AppChannel,
    pub(crate) health: AppHealth,
    pub(crate) probes: Option<HealthOptions>,
    pub(crate) ask_config: bool,
    pub(crate) questions: Arc<AppQuestions>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inputs: Arc<InputBindings>,
    /// Where events of input bindings go.
    pub(crate) events: Arc<dyn EventSink>,
    /// What the app is asked about them.
    pub(crate) app_bindings: Arc<AppBindings>,
    /// Time messages under way get when the app becomes unhealthy.
    pub(crate) drain: Duration,
    pub(crate) tracer: Tracer,
    pub(crate) board: Board,
    pub(crate) log: Logger,
    /// The end of the sidecar has begun: nothing is started any more.
    pub(crate) closing: CancellationToken,
}

impl AppLife {
    /// Runs until the sidecar closes. `found` is called once the app answers and what it asked for runs, or, with health
    /// checks, once the first probe has ended.
    pub(crate) async fn run(self, found: impl FnOnce()) {
        let closing = self.closing.clone();
        let Some(()) = closing.run_until_cancelled(self.wait()).await else { return };
        let Some(probes) = self.probes.clone() else {
            closing.run_until_cancelled(self.become_healthy(true)).await;
            found();
            return;
        };
        // A call that came before the first probe would be refused for an app that is well.
        let health = self.health.clone();
        let first_probe = async {
            health.first_probe().await;
            self.board_health(); // with what the probe saw
            found();
        };
        let mut changes = self.health.subscribe();
        let probes_interval = probes.interval;
        let checks =
            self.health.clone().run(self.channel.clone(), probes, self.log.scope("dapr.apphealth"), closing.clone());
        let follow = async {
            let mut first = true;
            loop {
                self.board_health();
                if *changes.borrow_and_update() {
                    self.become_healthy(std::mem::take(&mut first)).await;
                } else {
                    tokio::join!(self.subscriptions.stop(self.drain), self.inputs.stop(self.drain));
                }
                let interval = probes_interval.max(Duration::from_secs(1));
                loop {
                    tokio::select! {
                        changed = changes.changed() => match changed {
                            Ok(()) => break,
                            Err(_) => return,
                        },
                        // What the latest probe saw.
                        () = tokio::time::sleep(interval), if !self.health.is_healthy() => self.board_health(),
                    }
                }
            }
        };
        closing.run_until_cancelled(Box::pin(async { tokio::join!(checks, follow, first_probe) })).await;
    }

    /// Tells whether the health checks let calls through.
    fn board_health(&self) {
        if self.health.is_healthy() {
            return self.board.clear("app", &self.app_id);
        }
        let problem = self.health.problem();
        let path = self.probes.as_ref().map(|probes| probes.path.as_str()).unwrap_or_default();
        let reason = "its health check fails, so that it gets no calls, messages and events";
        let advice = format!("look at the app's log, and at what it answers to its health check {path}");
        self.board.unhealthy("app", self.app_id.clone(), reason, problem, advice);
    }

    /// Waits until the app's port accepts connections.
    async fn wait(&self) {
        let (port, protocol) = (self.port, self.protocol.name());
        self.log.info(format_args!(
            "application protocol: {protocol}. waiting on port {port}.  This will block until the app is listening on that port."
        ));
        let wait = self.board.wait(
            "app",
            self.app_id.clone(),
            format!("the app to listen on {}:{port} ({protocol})", self.host),
            "start the app, or correct --app-port and --app-channel-address; calls and messages wait meanwhile",
        );
        let mut attempts = 0u32;
        loop {
            let connection =
                tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((self.host.as_str(), port))).await;
            match connection {
                Ok(Ok(_)) => break,
                Ok(Err(error)) if attempts.is_multiple_of(EAGER_ATTEMPTS) => wait.failed(error.to_string()),
                Ok(Err(_)) => {}
                Err(_elapsed) => wait.failed("no answer to a connect"),
            }
            attempts += 1;
            let pause = if attempts < EAGER_ATTEMPTS { EAGER_INTERVAL } else { CONNECT_INTERVAL };
            tokio::time::sleep(pause).await;
            if attempts.is_multiple_of(ATTEMPTS_PER_LINE) && attempts >= EAGER_ATTEMPTS * 2 {
                self.log.info(format_args!("waiting for application to listen on port {port}"));
            }
        }
        self.log.info(format_args!("application discovered on port {port}"));
    }

    /// Starts what feeds the app; the first time it is asked what it wants before.
    async fn become_healthy(&self, first: bool) {
        if first {
            self.load_configuration().await;
            self.questions.app_is_there().await;
        }
        if !self.closing.is_cancelled() {
            self.subscriptions.start(app_sink(self.channel.clone(), &self.tracer, &self.log)).await;
            self.inputs.start(self.events.clone(), self.app_bindings.clone()).await;
            self.outbox.release();
        }
    }

    async fn load_configuration(&self) {
        if !self.ask_config {
            self.log.warn(
                "Skipping programmatic dapr configuration loading (see 'disable-init-endpoints' flag/annotation)",
            );
            return;
        }
        let AppChannel::Http(channel) = &self.channel else { return };
        match channel.get("/dapr/config", &self.app_id).await {
            Ok(response) if response.status() == http::StatusCode::OK => {
                self.log.info("Application configuration loaded")
            }
            Ok(response) => self
                .log
                .debug(format_args!("the app has no configuration: GET /dapr/config answered {}", response.status())),
            Err(error) => {
                self.log.debug(format_args!("the app has no configuration: GET /dapr/config failed: {error}"))
            }
        }
    }
}

/// What the app is asked about topics: once, as soon as there is both an app and a broker.
pub(crate) struct AppQuestions {
    pub(crate) app_id: String,
    pub(crate) channel: AppChannel,
    pub(crate) ask_subscriptions: bool,
    pub(crate) host: Arc<ComponentHost>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) state: tokio::sync::Mutex<Asked>,
    pub(crate) log: Logger,
}

/// Whether the app has been asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asked {
    #[default]
    NoApp,
    NoBroker,
    Done,
}

impl AppQuestions {
    async fn app_is_there(&self) {
        let mut state = self.state.lock().await;
        if *state == Asked::NoApp {
            *state = Asked::NoBroker;
            self.ask(&mut state).await;
        }
    }

    /// Asks when a broker has come after the app; what the app wants then runs.
    pub(crate) async fn ask_about_topics(&self) {
        let mut state = self.state.lock().await;
        if *state == Asked::NoBroker {
            self.ask(&mut state).await;
            if *state == Asked::Done {
                self.subscriptions.refresh().await;
            }
        }
    }

    async fn ask(&self, state: &mut Asked) {
        if !self.host.has_pubsub() {
            return;
        }
        *state = Asked::Done;
        if !self.ask_subscriptions {
            self.log.warn("Skipping programmatic subscription loading (see 'disable-init-endpoints' flag/annotation)");
            return;
        }
        let policy = self.policies.built_in(BuiltIn::InitializationRetries);
        match ask_app(&self.channel, &self.app_id, &policy, &self.log).await {
            Ok(subscriptions) => self.subscriptions.set_programmatic(subscriptions),
            Err(problem) => self.log.warn(format_args!("failed to subscribe to topics: {problem}")),
        }
    }
}

/// The target of the readiness that stands for the app and everything before it.
pub(crate) const RUNTIME: &str = "runtime";

/// Marks the sidecar ready, with the line tools wait for.
pub(crate) fn announce_ready(readiness: &Readiness, started: std::time::Instant, log: &Logger) {
    log.info(format_args!("dapr initialized. Status: Running. Init Elapsed {}ms", started.elapsed().as_millis()));
    readiness.ready(RUNTIME);
}
