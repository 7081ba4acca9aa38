//! Counts and times the calls of the gRPC API.
//!
//! *Source:* spec metrics.md §2 "Counting rules": calls of one message for one message count with their sizes; of calls that
//! pass through those count whose metadata has `dapr-app-id`; streams of the own services do not count.

use std::time::Duration;

use http::{Request, Response, Uri};
use pillion_runtime::grpc_meter::{Meter, Watcher};
use pillion_runtime::message::DAPR_APP_ID;
use pillion_telemetry::metrics::Metrics;
use tonic::body::Body;

use crate::error_labels::ErrorLabels;

/// Calls of the own services that stream.
const STREAMS: &[&str] = &[
    "/dapr.proto.runtime.v1.Dapr/DecryptAlpha1",
    "/dapr.proto.runtime.v1.Dapr/EncryptAlpha1",
    "/dapr.proto.runtime.v1.Dapr/SubscribeConfiguration",
    "/dapr.proto.runtime.v1.Dapr/SubscribeConfigurationAlpha1",
    "/dapr.proto.runtime.v1.Dapr/SubscribeTopicEventsAlpha1",
    "/TaskHubSidecarService/GetWorkItems",
    "/TaskHubSidecarService/StreamInstanceHistory",
];

/// A call under way.
pub(super) struct Observed {
    meter: Meter<Served>,
    metrics: Metrics,
}

struct Served {
    metrics: Metrics,
    uri: Uri,
    passed: bool,
}

impl Watcher for Served {
    fn ended(&self, code: i32, request_bytes: u64, response_bytes: u64, elapsed: Duration) {
        let Some(metrics) = self.metrics.grpc() else { return };
        if self.passed {
            metrics.streamed(self.uri.path(), code, elapsed);
        } else {
            metrics.served(self.uri.path(), code, (request_bytes, response_bytes), elapsed);
        }
    }
}

/// Begins with a request; `None` for a call that is not counted.
pub(super) fn observe(metrics: &Metrics, request: Request<Body>) -> (Option<Observed>, Request<Body>) {
    if !metrics.is_on() {
        return (None, request);
    }
    let path = request.uri().path();
    let own = path.starts_with("/dapr.proto.runtime.v1.Dapr/") || path.starts_with("/TaskHubSidecarService/");
    let counts = if own { !STREAMS.contains(&path) } else { request.headers().contains_key(DAPR_APP_ID) };
    if !counts {
        return (None, request);
    }
    let watcher = Served { metrics: metrics.clone(), uri: request.uri().clone(), passed: !own };
    let (meter, request) =
        if own { Meter::begin(watcher, request) } else { (Meter::begin_uncounted(watcher), request) };
    (Some(Observed { meter, metrics: metrics.clone() }), request)
}

impl Observed {
    /// Ends with the answer: the body that comes back must be sent in its place.
    pub(super) fn finish(self, response: Response<Body>) -> Response<Body> {
        ErrorLabels::count(&self.metrics, response.extensions());
        self.meter.follow(response)
    }
}
