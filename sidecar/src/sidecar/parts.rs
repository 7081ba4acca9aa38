//! The parts of a sidecar, made from its options and its Configuration.
//!
//! *Job:* one function for each part. *Neighbours:* the start of a sidecar calls them in its order. *Invariant:* nothing here waits
//! or opens anything.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pillion_api::runtime_info::AppConnection;
use pillion_building_blocks::bindings::{AppBindings, AppSink, AppSinkParts, InputBindings, OutputBindings};
use pillion_building_blocks::pubsub::PubSubs;
use pillion_building_blocks::secrets::SecretStores;
use pillion_building_blocks::state::StateStores;
use pillion_contract::{NameResolver, Registry};
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_invocation::endpoint::Endpoints;
use pillion_invocation::{AccessControl, Invoker, InvokerOptions, PeerPool};
use pillion_resources::types::Configuration;
use pillion_runtime::app_channel::{AppChannel, AppHealth};
use pillion_runtime::resiliency::Policies;
use pillion_security::MutualTls;
use pillion_telemetry::metrics::Metrics;
use pillion_telemetry::trace::Tracer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{DEFAULT_NAMESPACE, NEVER};
use crate::app::{AppLife, AppQuestions};
use crate::components::{Blocks, ComponentHost};
use crate::environment::Environment;
use crate::info::Info;
use crate::options::Options;
use crate::reload;

pub(super) fn warn_about_missing_parts(options: &Options, log: &Logger) {
    options.notices.iter().for_each(|notice| log.warn(notice));
    let given = |name: &str| options.control_plane_given.contains(&name);
    if given("placement") {
        log.warn("Actor runtime disabled: actors are not supported by this version yet; --placement-host-address is not used");
    } else {
        log.warn(
            "Actor runtime disabled: placement service is not configured. Actors and Workflow APIs will be unavailable",
        );
    }
    if given("scheduler") {
        log.warn("Scheduler disabled: jobs and reminders are not supported by this version yet; --scheduler-host-address is not used");
    } else {
        log.warn("No scheduler host addresses provided. Scheduler disabled");
    }
}

pub(super) fn access_control(
    options: &Options,
    configuration: &Configuration,
    recorded: &Metrics,
    log: &Logger,
) -> Result<Option<Arc<AccessControl>>, String> {
    let is_http = options.app_protocol.is_http();
    AccessControl::compile(&configuration.access_control, is_http, recorded.clone(), log.scope("dapr.acl"))
        .map(|access| access.map(Arc::new))
        .map_err(|error| error.to_string())
}

pub(super) fn component_host(
    options: &Options,
    environment: &Environment,
    registry: Registry,
    configuration: &Configuration,
    policies: Arc<Policies>,
    (tracer, metrics, board): (&Tracer, &Metrics, &Board),
    log: &Logger,
) -> Arc<ComponentHost> {
    let namespace = environment.non_empty("NAMESPACE");
    let pubsub = Arc::new(
        PubSubs::new(&options.app_id, namespace.unwrap_or(DEFAULT_NAMESPACE), policies.clone())
            .traced(tracer.clone())
            .with_metrics(metrics.clone()),
    );
    let blocks = Blocks {
        state: Arc::new(
            StateStores::new(&options.app_id, namespace, policies.clone())
                .with_metrics(metrics.clone())
                .with_outbox(pubsub.clone()),
        ),
        secrets: Arc::new(
            SecretStores::new(configuration.secrets_scopes.clone(), policies.clone()).with_metrics(metrics.clone()),
        ),
        pubsub,
        outputs: Arc::new(OutputBindings::new(policies).with_metrics(metrics.clone())),
        inputs: Arc::new(InputBindings::new(log).with_metrics(metrics.clone()).with_board(board.clone())),
    };
    Arc::new(ComponentHost {
        registry,
        blocks,
        environment: environment.clone(),
        app_id: options.app_id.clone(),
        namespace: namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        data_dir: environment.data_dir(),
        has_actors: options.control_plane_given.contains(&"placement"),
        strict_sandbox: configuration.spec["wasm"]["strictSandbox"].as_bool().unwrap_or(false),
        metrics: metrics.clone(),
        board: board.clone(),
        log: log.clone(),
        cancel: CancellationToken::new(),
        loaded: Mutex::default(),
        idle: Mutex::default(),
        pipelines: Mutex::default(),
        subscriptions: OnceLock::new(),
        closers: TaskTracker::new(),
    })
}

pub(super) fn invoker(
    options: &Options,
    environment: &Environment,
    host: &ComponentHost,
    host_address: String,
    resolver: Arc<dyn NameResolver>,
    endpoints: Endpoints,
    policies: Arc<Policies>,
) -> Invoker {
    let settings = InvokerOptions {
        app_id: options.app_id.clone(),
        namespace: host.namespace.clone(),
        host_address,
        host_name: environment.host_name.clone(),
        max_body_bytes: options.max_body_bytes,
    };
    let log = host.log.scope("dapr.runtime.direct_messaging");
    Invoker::new(settings, resolver, endpoints, policies, log).with_metrics(host.metrics.clone())
}

/// The connections to other sidecars: those of the sidecar before, unless they carry its identity.
pub(super) fn peers(
    options: &Options,
    tls: Option<&MutualTls>,
    before: Option<&Invoker>,
    log: &Logger,
) -> Arc<PeerPool> {
    match (tls, before) {
        (None, Some(before)) => before.peers().clone(),
        (tls, _) => {
            let log = log.scope("dapr.runtime.direct_messaging");
            Arc::new(PeerPool::new(options.max_body_bytes, log).secured(tls.cloned()))
        }
    }
}

pub(super) fn app_connection(options: &Options) -> Option<AppConnection> {
    let health = options.app_health.as_ref();
    Some(AppConnection {
        port: options.app_port?,
        protocol: options.app_protocol.name().to_owned(),
        channel_address: options.app_channel_address.clone(),
        max_concurrency: i32::try_from(options.app_max_concurrency).unwrap_or(i32::MAX),
        health: health.map(|health| (health.path.clone(), health.interval, health.timeout, health.threshold)),
    })
}

pub(super) fn features(configuration: &Configuration) -> Vec<String> {
    let mut features: Vec<String> =
        configuration.features.iter().filter(|(_, enabled)| **enabled).map(|(name, _)| name.clone()).collect();
    let hot_reload = "HotReload".to_owned();
    if reload::is_enabled(configuration) && !features.contains(&hot_reload) {
        features.push(hot_reload);
    }
    features
}

pub(super) fn app_questions(options: &Options, channel: AppChannel, info: &Info) -> Arc<AppQuestions> {
    Arc::new(AppQuestions {
        app_id: options.app_id.clone(),
        channel,
        ask_subscriptions: options.ask_subscriptions,
        host: info.host.clone(),
        subscriptions: info.subscriptions.clone(),
        policies: info.policies.clone(),
        state: tokio::sync::Mutex::default(),
        log: info.log.clone(),
    })
}

pub(super) fn app_life(
    options: &Options,
    port: u16,
    channel: AppChannel,
    questions: Arc<AppQuestions>,
    info: &Info,
    health: AppHealth,
    closing: CancellationToken,
) -> AppLife {
    let host = &info.host;
    let events = AppSink::new(AppSinkParts {
        channel: channel.clone(),
        policies: info.policies.clone(),
        outputs: host.blocks.outputs.clone(),
        states: host.blocks.state.clone(),
        tracer: info.tracer.clone(),
        metrics: host.metrics.clone(),
        log: info.log.clone(),
    });
    AppLife {
        inputs: host.blocks.inputs.clone(),
        events: Arc::new(events),
        app_bindings: Arc::new(AppBindings::new(channel.clone(), options.app_binding_options_timeout)),
        app_id: options.app_id.clone(),
        host: options.app_channel_address.clone(),
        port,
        protocol: options.app_protocol,
        channel,
        health,
        probes: options.app_health.clone(),
        ask_config: options.ask_config,
        questions,
        subscriptions: info.subscriptions.clone(),
        outbox: info.outbox.clone(),
        drain: if options.graceful_shutdown.is_zero() { NEVER } else { options.graceful_shutdown },
        tracer: info.tracer.clone(),
        board: info.board.clone(),
        log: info.log.clone(),
        closing,
    }
}
