//! From an HTTP/2 request to the service it names: API rules, token, dispatch.
//!
//! Order as in the original: rules first, then the token, then the service. *Source:* spec http_api.md §1.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use pillion_core::log::Logger;
use pillion_core::secret::Secret;
use pillion_invocation::Invoker;
use pillion_proto::durabletask::task_hub_sidecar_service_server::{TaskHubSidecarService, TaskHubSidecarServiceServer};
use pillion_proto::durabletask::{ActivityResponse, CompleteTaskResponse, WorkflowResponse};
use pillion_proto::runtime::v1::dapr_server::DaprServer;
use pillion_runtime::loops::Loops;
use pillion_runtime::message::DAPR_API_TOKEN;
use pillion_runtime::succession::{Server, Succession};
use pillion_telemetry::metrics::Metrics;
use pillion_telemetry::trace::Tracer;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tower_service::Service;

use super::invoke::HTTP_STATUS;
use super::observe::observe;
use super::reword::{check_path, reword};
use super::spans::CallTrace;
use super::{ApiRules, GrpcApi, absent, status};
use crate::runtime_info::RuntimeInfo;
use crate::token::is_same;

/// The API of the sidecar.
const DAPR: &str = "dapr.proto.runtime.v1.Dapr";

/// How the front treats its callers.
#[derive(Debug)]
pub struct FrontOptions {
    /// What connections are shared out to.
    pub loops: Loops,
    /// `DAPR_API_TOKEN`; `None` or empty = no check.
    pub api_token: Option<Secret<String>>,
    /// `spec.api` of the Configuration.
    pub rules: ApiRules,
    /// `--max-body-size` in bytes, the limit of one message in either direction; 0 = no limit.
    pub max_body_bytes: usize,
    /// `--read-buffer-size` in bytes.
    pub read_buffer_bytes: usize,
    /// Counts calls and errors.
    pub metrics: Metrics,
    /// Starts spans and decides about trace contexts.
    pub tracer: Tracer,
    /// Where to log.
    pub log: Logger,
}

/// The public gRPC server. Cheap to clone.
#[derive(Clone)]
pub struct GrpcFront {
    dapr: DaprServer<GrpcApi>,
    task_hub: TaskHubSidecarServiceServer<NoWorkflows>,
    pub(super) invoker: Arc<Invoker>,
    app_id: Arc<str>,
    info: Arc<dyn RuntimeInfo>,
    options: Arc<FrontOptions>,
    tasks: TaskTracker,
    succession: Succession<Self>,
}

/// The workflow engine's service before there is an engine. Workers may say hello, and tell of work nobody gave them, as to an
/// engine that does not know of it; other calls answer `UNIMPLEMENTED` and name themselves.
struct NoWorkflows;

#[tonic::async_trait]
impl TaskHubSidecarService for NoWorkflows {
    async fn hello(&self, _: tonic::Request<()>) -> Result<tonic::Response<()>, Status> {
        Ok(tonic::Response::new(()))
    }

    async fn complete_activity_task(
        &self,
        _: tonic::Request<ActivityResponse>,
    ) -> Result<tonic::Response<CompleteTaskResponse>, Status> {
        Ok(tonic::Response::new(CompleteTaskResponse::default()))
    }

    async fn complete_orchestrator_task(
        &self,
        _: tonic::Request<WorkflowResponse>,
    ) -> Result<tonic::Response<CompleteTaskResponse>, Status> {
        Ok(tonic::Response::new(CompleteTaskResponse::default()))
    }

    async fn complete_workflow_task(
        &self,
        _: tonic::Request<WorkflowResponse>,
    ) -> Result<tonic::Response<CompleteTaskResponse>, Status> {
        Ok(tonic::Response::new(CompleteTaskResponse::default()))
    }
}

impl Server for GrpcFront {
    fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn succession(&self) -> &Succession<Self> {
        &self.succession
    }
}

impl GrpcFront {
    /// Puts the service `Dapr` behind token and rules.
    pub fn new(api: GrpcApi, options: FrontOptions) -> Self {
        let limit = message_limit(&options);
        Self {
            invoker: api.invoker.clone(),
            app_id: api.info.app_id().into(),
            info: api.info.clone(),
            dapr: DaprServer::new(api)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit)
                .accept_compressed(CompressionEncoding::Gzip),
            task_hub: TaskHubSidecarServiceServer::new(NoWorkflows)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit)
                .accept_compressed(CompressionEncoding::Gzip),
            options: Arc::new(options),
            tasks: TaskTracker::new(),
            succession: Succession::default(),
        }
    }

    /// Longest head of a request. *Source:* the original takes its read buffer in KiB for one in bytes.
    pub(super) fn header_bytes_max(&self) -> u32 {
        u32::try_from(self.options.read_buffer_bytes.saturating_mul(1024)).unwrap_or(u32::MAX)
    }

    pub(super) fn loops(&self) -> &Loops {
        &self.options.loops
    }

    pub(super) fn log(&self) -> &Logger {
        &self.options.log
    }

    /// Answers one request, of any service.
    pub(super) async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        if let Err(refusal) = check_path(request.uri().path()) {
            return refusal.into_http();
        }
        if !self.options.rules.allow(request.uri().path()) {
            return status::not_available().into_http();
        }
        if let Err(refusal) = self.check_token(request.headers_mut()) {
            return refusal.into_http();
        }
        let trace = match CallTrace::start(&self.options.tracer, &self.app_id, &mut request) {
            Ok(trace) => trace,
            Err(refusal) => return refusal.into_http(),
        };
        let (observed, request) = observe(&self.options.metrics, request);
        let uri = request.uri().clone();
        let service = uri.path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let method = uri.path().rsplit('/').next().unwrap_or_default();
        let absent = if service == DAPR { absent::block_of(method) } else { None };
        let response = match (service, absent) {
            (DAPR, Some(block)) => {
                let body = request.into_body();
                absent::answer(block, method, body, &*self.info, message_limit(&self.options)).await
            }
            (DAPR, None) => {
                let response = certain(self.dapr.clone().call(request).await);
                with_head(reword(too_large_as_expected(response), &uri))
            }
            ("TaskHubSidecarService", _) => match absent::answer_of_task_hub(method, &*self.info) {
                Some(answer) => answer,
                None => reword(certain(self.task_hub.clone().call(request).await), &uri),
            },
            _ => foreign(&self.invoker, request).await,
        };
        let response = trace.finish(response);
        match observed {
            Some(observed) => observed.finish(response),
            None => response,
        }
    }

    /// Removes the token, so that it is not passed on.
    fn check_token(&self, headers: &mut HeaderMap) -> Result<(), Status> {
        let Some(token) = self.options.api_token.as_ref().filter(|token| !token.expose().is_empty()) else {
            return Ok(());
        };
        let sent = headers
            .remove(DAPR_API_TOKEN)
            .ok_or_else(|| status::unauthorized("missing api token in request metadata"))?;
        if is_same(sent.as_bytes(), token.expose().as_bytes()) {
            return Ok(());
        }
        Err(status::unauthorized("authentication error: api token mismatch"))
    }
}

/// An answer that cannot fail.
fn certain<T>(answer: Result<T, Infallible>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// Longest message in bytes.
fn message_limit(options: &FrontOptions) -> usize {
    if options.max_body_bytes == 0 { usize::MAX } else { options.max_body_bytes }
}

/// A call to a service that this sidecar does not have itself: it is for the app that its metadata names.
async fn foreign(invoker: &Invoker, request: Request<Body>) -> Response<Body> {
    // On the heap: with policies and connections in it the future is large, and most calls are not of this kind.
    Box::pin(invoker.proxy(request)).await
}

/// A message over the limit is refused by the server before any code of ours sees it; clients know the refusal by the
/// code and the text of the original's.
fn too_large_as_expected(response: Response<Body>) -> Response<Body> {
    if !response.headers().contains_key(Status::GRPC_STATUS) {
        return response;
    }
    status::too_large(response.headers()).map_or(response, Status::into_http)
}

/// An error of `InvokeService` tells the app's HTTP status in its head, one of `InvokeBinding` what the system behind the binding said,
/// where the original has it too; an answer that is only trailers has no head in the eyes of most clients.
fn with_head(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if !headers.contains_key(Status::GRPC_STATUS) {
        return response;
    }
    let is_told = |name: &http::HeaderName| *name == HTTP_STATUS || name.as_str().starts_with("metadata.");
    if !headers.keys().any(is_told) {
        return response;
    }
    let (mut head, _) = response.into_parts();
    let mut trailers = HeaderMap::new();
    for name in [Status::GRPC_STATUS, Status::GRPC_MESSAGE, Status::GRPC_STATUS_DETAILS] {
        if let Some(value) = head.headers.remove(&name) {
            trailers.insert(name, value);
        }
    }
    head.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let body = http_body_util::Empty::new().with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::from_parts(head, Body::new(body))
}
