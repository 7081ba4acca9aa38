//! What clients of the app's callback services are made of: the connections to the app, with each call recorded.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use pillion_telemetry::metrics::Metrics;
use tonic::body::Body;
use tonic::codegen::Service;

use super::grpc_pool::{AppConnection, CallError};
use crate::grpc_meter::{Meter, Watcher};

/// Probes have metrics of their own.
const HEALTH_CHECK: &str = "/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck";
const UNAVAILABLE: i32 = 14;

/// Sends calls of the sidecar to its app.
#[derive(Clone)]
pub struct Callbacks {
    connection: AppConnection,
    metrics: Metrics,
}

impl Callbacks {
    pub(super) fn new(connection: AppConnection, metrics: Metrics) -> Self {
        Self { connection, metrics }
    }
}

impl Service<Request<Body>> for Callbacks {
    type Response = Response<Body>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, CallError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.connection.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !self.metrics.is_on() {
            return self.connection.call(request);
        }
        let watcher = Asked { metrics: self.metrics.clone(), uri: request.uri().clone() };
        let (meter, request) = Meter::begin(watcher, request);
        let answer = self.connection.call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => Ok(meter.follow(response)),
                Err(error) => {
                    meter.fail(UNAVAILABLE);
                    Err(error)
                }
            }
        })
    }
}

struct Asked {
    metrics: Metrics,
    uri: Uri,
}

impl Watcher for Asked {
    fn ended(&self, code: i32, request_bytes: u64, response_bytes: u64, elapsed: Duration) {
        let Some(metrics) = self.metrics.grpc() else { return };
        match self.uri.path() {
            HEALTH_CHECK => metrics.probed(code, elapsed),
            method => metrics.asked(method, code, (request_bytes, response_bytes), elapsed),
        }
    }
}
