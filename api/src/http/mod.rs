//! The HTTP front: translation between HTTP and the building blocks, nothing else.
//!
//! *Job:* serve the routes of spec http_api.md. *Neighbours:* the blocks do the work, `sidecar` makes an [`HttpFront`]
//! from an [`HttpApi`] and hands over listeners. *Invariant:* [`respond`] is the only place where an
//! [`ApiError`](pillion_core::error::ApiError) becomes an HTTP answer; what no route takes is a service invocation.

mod absent;
mod bindings;
mod cors;
mod endpoints;
mod front;
mod h2c;
mod head;
mod invoke;
mod malformed;
mod metadata;
mod observe;
mod path;
mod pipeline;
mod publish;
pub(crate) mod respond;
mod secrets;
mod serve;
mod spans;
mod state;

use std::sync::Arc;

use pillion_building_blocks::bindings::OutputBindings;
use pillion_building_blocks::pubsub::PubSubs;
use pillion_building_blocks::secrets::SecretStores;
use pillion_building_blocks::state::StateStores;
use pillion_contract::HttpPipeline;
use pillion_core::log::Logger;
use pillion_core::secret::Secret;
use pillion_invocation::Invoker;
use pillion_runtime::loops::Loops;
use pillion_telemetry::metrics::Metrics;
use pillion_telemetry::trace::Tracer;
use tokio_util::sync::CancellationToken;

use crate::runtime_info::RuntimeInfo;

pub use endpoints::HttpRules;
pub use front::HttpFront;

/// The blocks behind the HTTP API.
pub struct HttpApi {
    /// Health, metadata, shutdown.
    pub info: Arc<dyn RuntimeInfo>,
    /// Service invocation.
    pub invoker: Arc<Invoker>,
    /// State stores.
    pub state: Arc<StateStores>,
    /// Secret stores.
    pub secrets: Arc<SecretStores>,
    /// Publishing.
    pub pubsub: Arc<PubSubs>,
    /// Output bindings.
    pub bindings: Arc<OutputBindings>,
}

/// How the front treats its callers.
pub struct HttpOptions {
    /// What connections are shared out to.
    pub loops: Loops,
    /// `DAPR_API_TOKEN`; `None` or empty = no check.
    pub api_token: Option<Secret<String>>,
    /// `spec.api` of the Configuration.
    pub rules: HttpRules,
    /// `--allowed-origins`; empty switches cross-origin answers off.
    pub allowed_origins: String,
    /// `--max-body-size` in bytes; 0 = no limit.
    pub max_body_bytes: usize,
    /// `--read-buffer-size` in bytes, the limit of a request's head.
    pub read_buffer_bytes: usize,
    /// Whether HTTP/2 in clear text is spoken (`DAPR_HTTP_DISABLE_H2C` switches it off).
    pub http2: bool,
    /// Whether each call is logged.
    pub api_logging: bool,
    /// Whether the log names endpoints instead of paths.
    pub obfuscate_urls: bool,
    /// Whether the log then tells the ids of actors with their types (`http.increasedCardinality` of the metrics).
    pub log_actor_ids: bool,
    /// Whether health checks are left out of the log.
    pub omit_health_checks: bool,
    /// `spec.httpPipeline` of the Configuration.
    pub pipeline: HttpPipeline,
    /// Cancelled when connections without a request are to close. A server that is cancelled before that closes each connection after
    /// its next answer, so that no client finds it closed under its request.
    pub idle: CancellationToken,
    /// Counts calls and errors.
    pub metrics: Metrics,
    /// Starts spans and decides about trace contexts.
    pub tracer: Tracer,
    /// Where to log.
    pub log: Logger,
}
