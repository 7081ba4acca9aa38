//! Counts and times the calls of the HTTP API.
//!
//! *Job:* see a request come and its answer go, whatever happens in between. *Neighbours:* `front` calls it around
//! everything else. *Invariant:* an answer whose length is not known is counted when its body ends or is given up.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pillion_runtime::body::{Body, BodyError};
use pillion_telemetry::metrics::Metrics;

use super::front::Incall;
use super::path;
use super::respond::HttpResponse;
use crate::error_labels::ErrorLabels;

/// A call under way.
pub(super) struct Observed {
    started: Instant,
    verb: Method,
    uri: Uri,
    request_bytes: u64,
}

impl Observed {
    pub(super) fn begin(call: &Incall) -> Self {
        let declared = call.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self {
            started: Instant::now(),
            verb: call.verb.clone(),
            uri: call.uri.clone(),
            request_bytes: declared.unwrap_or_default(),
        }
    }

    pub(super) fn end(self, metrics: &Metrics, response: HttpResponse) -> HttpResponse {
        ErrorLabels::count(metrics, response.extensions());
        let status = response.status().as_u16();
        if let Some(length) = response.body().known_length() {
            self.record(metrics, status, length);
            return response;
        }
        let ending = Ending { call: self, metrics: metrics.clone(), status };
        response.map(|inner| Body::boxed(Watched { inner, bytes: 0, ending: Some(ending) }))
    }

    fn record(&self, metrics: &Metrics, status: u16, response_bytes: u64) {
        let Some(metrics) = metrics.http() else { return };
        let bytes = (self.request_bytes, response_bytes);
        metrics.served(self.verb.as_str(), &path::decode_path(self.uri.path()), status, bytes, self.started.elapsed());
    }
}

/// What is left to tell of a call whose answer still flows.
struct Ending {
    call: Observed,
    metrics: Metrics,
    status: u16,
}

struct Watched {
    inner: Body,
    bytes: u64,
    ending: Option<Ending>,
}

impl Watched {
    fn end(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.call.record(&ending.metrics, ending.status, self.bytes);
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use pillion_telemetry::metrics::MetricsOptions;

    use super::*;

    fn call() -> Observed {
        Observed { started: Instant::now(), verb: Method::GET, uri: Uri::from_static("/a%20b"), request_bytes: 3 }
    }

    #[tokio::test]
    async fn streams_count_when_they_end() {
        let metrics = Metrics::new(&MetricsOptions::new("app", "default"));
        let (sender, body) = Body::channel(2);
        let response = call().end(&metrics, Response::new(body));
        sender.send(Ok(Bytes::from("abc"))).await.unwrap();
        drop(sender);
        assert_eq!(metrics.text(), "");
        response.into_body().collect(0).await.unwrap();
        let text = metrics.text();
        for line in [
            "dapr_http_server_request_count{app_id=\"app\",method=\"GET\",path=\"/a b\",status=\"200\"} 1",
            "dapr_http_server_request_bytes_sum{app_id=\"app\"} 3",
            "dapr_http_server_response_bytes_sum{app_id=\"app\"} 3",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in:\n{text}");
        }
        drop(call().end(&metrics, Response::new(Body::channel(1).1)));
        assert!(metrics.text().contains("path=\"/a b\",status=\"200\"} 2\n"));
    }

    #[test]
    fn whole_answers_count_at_once_and_errors_by_code() {
        let mut options = MetricsOptions::new("app", "default");
        options.record_error_codes = true;
        let metrics = Metrics::new(&options);
        let error = pillion_core::error::ApiError::of(&pillion_core::error::table::DIRECT_INVOKE_NO_APP_ID, &[]);
        call().end(&metrics, super::super::respond::error(&error));
        let text = metrics.text();
        let line = "dapr_error_code_total{app_id=\"app\",category=\"service-invocation\",error_code=\"ERR_DIRECT_INVOKE\"} 1\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("status=\"404\"} 1\n"), "{text}");
    }
}
