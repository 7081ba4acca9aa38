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
use pillion_proto::runtime::v1::dapr_server::DaprServer;
use pillion_runtime::message::DAPR_API_TOKEN;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::invoke::HTTP_STATUS;
use super::{ApiRules, GrpcApi, status};
use crate::token::is_same;

/// How the front treats its callers.
#[derive(Debug)]
pub struct FrontOptions {
    /// `DAPR_API_TOKEN`; `None` or empty = no check.
    pub api_token: Option<Secret<String>>,
    /// `spec.api` of the Configuration.
    pub rules: ApiRules,
    /// `--max-body-size` in bytes, the limit of one message in either direction; 0 = no limit.
    pub max_body_bytes: usize,
    /// Where to log.
    pub log: Logger,
}

/// The public gRPC server. Cheap to clone.
#[derive(Clone)]
pub struct GrpcFront {
    dapr: DaprServer<GrpcApi>,
    task_hub: TaskHubSidecarServiceServer<NoWorkflows>,
    pub(super) invoker: Arc<Invoker>,
    options: Arc<FrontOptions>,
    pub(super) tasks: TaskTracker,
}

/// The workflow engine's service before there is an engine: every call answers `UNIMPLEMENTED` and names itself.
struct NoWorkflows;

impl TaskHubSidecarService for NoWorkflows {}

impl GrpcFront {
    /// Puts the service `Dapr` behind token and rules.
    pub fn new(api: GrpcApi, options: FrontOptions) -> Self {
        let limit = if options.max_body_bytes == 0 { usize::MAX } else { options.max_body_bytes };
        Self {
            invoker: api.invoker.clone(),
            dapr: DaprServer::new(api).max_decoding_message_size(limit).max_encoding_message_size(limit),
            task_hub: TaskHubSidecarServiceServer::new(NoWorkflows)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit),
            options: Arc::new(options),
            tasks: TaskTracker::new(),
        }
    }

    pub(super) fn log(&self) -> &Logger {
        &self.options.log
    }

    /// Answers one request, of any service.
    pub(super) async fn answer<B>(mut self, mut request: Request<B>) -> Result<Response<Body>, Infallible>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !self.options.rules.allow(request.uri().path()) {
            return Ok(status::not_available().into_http());
        }
        if let Err(refusal) = self.check_token(request.headers_mut()) {
            return Ok(refusal.into_http());
        }
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            "dapr.proto.runtime.v1.Dapr" => self.dapr.call(request.map(Body::new)).await.map(with_head),
            "TaskHubSidecarService" => self.task_hub.call(request.map(Body::new)).await,
            _ => Ok(foreign(&self.invoker, request.map(Body::new)).await),
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

/// A call to a service that this sidecar does not have itself: it is for the app that its metadata names.
async fn foreign(invoker: &Invoker, request: Request<Body>) -> Response<Body> {
    // On the heap: with policies and connections in it the future is large, and most calls are not of this kind.
    Box::pin(invoker.proxy(request)).await
}

/// An error of `InvokeService` tells the app's HTTP status in its head, where the original has it too; an answer that is
/// only trailers has no head in the eyes of most clients.
fn with_head(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if !headers.contains_key(HTTP_STATUS) || !headers.contains_key(Status::GRPC_STATUS) {
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
