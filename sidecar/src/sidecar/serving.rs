//! The servers of a sidecar: the APIs, the internal port, metrics and profile.
//!
//! *Job:* put each server together and start it on its listener. *Neighbours:* the start of a sidecar calls it last. *Invariant:*
//! every server is a task of one tracker and ends with one token.

use std::future::Future;
use std::sync::Arc;

use pillion_api::grpc::{ApiRules, FrontOptions, GrpcApi, GrpcFront};
use pillion_api::http::{HttpApi, HttpFront, HttpOptions, HttpRules};
use pillion_core::log::Logger;
use pillion_core::secret::Secret;
use pillion_invocation::{AccessControl, InternalServer, Invoker};
use pillion_resources::types::Configuration;
use pillion_runtime::succession::Server as _;
use pillion_security::MutualTls;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::environment::Environment;
use crate::info::Info;
use crate::listeners::{Endpoint, Listeners, SocketFile};
use crate::options::Options;
use crate::{metrics, profile};

/// What the servers are made of.
pub(super) struct Parts<'a> {
    pub(super) options: &'a Options,
    pub(super) environment: &'a Environment,
    pub(super) configuration: &'a Configuration,
    pub(super) info: &'a Arc<Info>,
    pub(super) invoker: &'a Arc<Invoker>,
    pub(super) idle: &'a CancellationToken,
    /// `None` = plain connections with other sidecars.
    pub(super) tls: Option<&'a MutualTls>,
    pub(super) access: Option<Arc<AccessControl>>,
}

/// The servers whose connections go on with those of a successor.
pub(super) struct Servers {
    http: HttpFront,
    public: HttpFront,
    grpc: GrpcFront,
    internal: InternalServer,
}

impl Servers {
    /// Lets connections go on with the servers of `next`, which `serving` will tell to end.
    pub(super) fn hand_over(&self, next: &Self, serving: &CancellationToken) {
        self.http.succession().settle(next.http.clone(), serving.clone());
        self.public.succession().settle(next.public.clone(), serving.clone());
        self.grpc.succession().settle(next.grpc.clone(), serving.clone());
        self.internal.succession().settle(next.internal.clone(), serving.clone());
    }
}

/// Starts every server of a sidecar; they end when `serving` is cancelled.
///
/// # Errors
/// TLS with other sidecars cannot be set up.
pub(super) fn serve(
    parts: Parts<'_>,
    listeners: Listeners,
    servers: &TaskTracker,
    serving: &CancellationToken,
    log: &Logger,
) -> Result<Servers, String> {
    let Parts { options, configuration, info, invoker, .. } = parts;
    let channels = invoker.clone();
    let internal = InternalServer::new(
        Arc::new(move || channels.app_channel()),
        options.max_body_bytes,
        log.scope("dapr.runtime.grpc.internal"),
    )
    .traced(info.tracer.clone(), &options.app_id)
    .with_metrics(info.host.metrics.clone())
    .on(parts.environment.loops.clone())
    .offering(listeners.shortcut.as_ref())
    .controlled(parts.access)
    .secured(parts.tls)
    .map_err(|error| format!("TLS with other sidecars: {error}"))?;
    let token = parts.environment.non_empty("DAPR_API_TOKEN").map(|token| Secret::new(token.to_owned()));
    let blocks = &info.host.blocks;
    let http = HttpFront::new(
        HttpApi {
            info: info.clone(),
            invoker: invoker.clone(),
            state: blocks.state.clone(),
            secrets: blocks.secrets.clone(),
            pubsub: blocks.pubsub.clone(),
            bindings: blocks.outputs.clone(),
        },
        HttpOptions {
            loops: parts.environment.loops.clone(),
            api_token: token.clone(),
            rules: HttpRules::new(&configuration.api_allowed, &configuration.api_denied),
            allowed_origins: options.allowed_origins.clone(),
            max_body_bytes: options.max_body_bytes,
            read_buffer_bytes: options.read_buffer_bytes,
            http2: !parts.environment.is_truthy("DAPR_HTTP_DISABLE_H2C"),
            api_logging: options.api_logging.or(configuration.api_logging).unwrap_or(false),
            obfuscate_urls: configuration.api_logging_obfuscate_urls,
            log_actor_ids: metrics::increased_cardinality(&configuration.spec),
            omit_health_checks: configuration.api_logging_omit_health_checks,
            pipeline: info.host.pipeline("server", "spec.httpPipeline", &configuration.http_pipeline),
            idle: parts.idle.clone(),
            metrics: info.host.metrics.clone(),
            tracer: info.tracer.clone(),
            log: log.clone(),
        },
    );
    let grpc = GrpcFront::new(
        GrpcApi {
            info: info.clone(),
            invoker: invoker.clone(),
            state: blocks.state.clone(),
            secrets: blocks.secrets.clone(),
            pubsub: blocks.pubsub.clone(),
            bindings: blocks.outputs.clone(),
            subscriptions: info.subscriptions.clone(),
            max_body_bytes: options.max_body_bytes,
        },
        FrontOptions {
            loops: parts.environment.loops.clone(),
            api_token: token,
            rules: ApiRules::new(&configuration.api_allowed, &configuration.api_denied),
            max_body_bytes: options.max_body_bytes,
            read_buffer_bytes: options.read_buffer_bytes,
            metrics: info.host.metrics.clone(),
            tracer: info.tracer.clone(),
            log: log.scope("dapr.runtime.grpc.api"),
        },
    );
    let public = http.public();
    let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| drop(servers.spawn(task));
    if let Some(listener) = listeners.public {
        spawn(Box::pin(public.clone().serve(listener, serving.clone())));
    }
    for endpoint in listeners.http {
        match endpoint {
            Endpoint::Tcp(listener) => spawn(Box::pin(http.clone().serve(listener, serving.clone()))),
            Endpoint::Unix(listener, file) => {
                spawn(Box::pin(keeping(file, http.clone().serve_unix(listener, serving.clone()))));
            }
        }
    }
    for endpoint in listeners.grpc {
        match endpoint {
            Endpoint::Tcp(listener) => spawn(Box::pin(grpc.clone().serve(listener, serving.clone()))),
            Endpoint::Unix(listener, file) => {
                spawn(Box::pin(keeping(file, grpc.clone().serve_unix(listener, serving.clone()))));
            }
        }
    }
    if options.unix_socket_dir.is_some() {
        log.info("API gRPC server is running on a Unix Domain Socket");
        log.info("HTTP server is running on a Unix Domain Socket");
    } else {
        log.info(format_args!("API gRPC server is running on port {}", options.grpc_port));
        log.info(format_args!("HTTP server is running on port {}", options.http_port));
    }
    log.info(format_args!("The request body size parameter is: {} bytes", options.max_body_bytes));
    if let Ok(address) = listeners.internal.local_addr() {
        log.info(format_args!(
            "Internal gRPC server is running on {}:{}",
            options.internal_listen_address,
            address.port()
        ));
    }
    spawn(Box::pin(internal.clone().serve(listeners.internal, listeners.shortcut, serving.clone())));
    let (purged, cancel) = (invoker.clone(), serving.clone());
    spawn(Box::pin(async move { purged.peers().run_purge(cancel).await }));
    for listener in listeners.profile {
        if let Ok(address) = listener.local_addr() {
            log.info(format_args!("HTTP profiling server listening on: {address}"));
        }
        spawn(Box::pin(profile::serve(listener, parts.environment.loops.clone(), log.clone(), serving.clone())));
    }
    if let Some(listener) = listeners.metrics {
        if let Ok(address) = listener.local_addr() {
            log.info(format_args!("metrics server started on {address}/"));
        }
        spawn(Box::pin(metrics::serve(listener, info.host.metrics.clone(), log.clone(), serving.clone())));
    }
    Ok(Servers { http, public, grpc, internal })
}

/// Runs the server of a Unix socket; its file goes when nobody serves it any more.
async fn keeping(file: Arc<SocketFile>, server: impl Future<Output = ()>) {
    server.await;
    drop(file);
}
