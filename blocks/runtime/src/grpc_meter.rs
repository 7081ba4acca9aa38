//! Follows gRPC calls from their request to the end of their answer, without looking into messages.
//!
//! *Job:* count the bytes of both directions and see the status. *Neighbours:* the API front follows calls of the sidecar,
//! [`Callbacks`](crate::app_channel::Callbacks) follows calls of the app. *Invariant:* every call that is followed is told
//! to its watcher exactly once, also when its answer is dropped unread.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// Bytes before each message.
const PREFIX_BYTES: u64 = 5;
const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;

/// Is told how a call ended.
pub trait Watcher: Send + Sync + Unpin + 'static {
    /// `code`: the gRPC status. The sizes are those of one message in each direction.
    fn ended(&self, code: i32, request_bytes: u64, response_bytes: u64, elapsed: Duration);
}

/// A call that is followed.
pub struct Meter<W> {
    started: Instant,
    /// `None` = not counted.
    request: Option<Arc<AtomicU64>>,
    watcher: W,
}

impl<W: Watcher> Meter<W> {
    /// Begins with a request: the body that comes back must be sent in its place.
    pub fn begin(watcher: W, request: Request<Body>) -> (Self, Request<Body>) {
        let count = Arc::new(AtomicU64::new(0));
        let request = request.map(|inner| Body::new(Counted { inner, count: count.clone() }));
        (Self { started: Instant::now(), request: Some(count), watcher }, request)
    }

    /// Begins with a request whose bytes do not matter: the watcher is told none.
    pub fn begin_uncounted(watcher: W) -> Self {
        Self { started: Instant::now(), request: None, watcher }
    }

    /// Ends with the answer: the body that comes back must be sent in its place.
    pub fn follow(self, response: Response<Body>) -> Response<Body> {
        if let Some(code) = code_of(response.headers()) {
            self.end(code, 0);
            return response;
        }
        response.map(|inner| Body::new(Followed { inner, bytes: 0, meter: Some(self) }))
    }

    /// Ends without an answer.
    pub fn fail(self, code: i32) {
        self.end(code, 0);
    }

    fn end(self, code: i32, response_bytes: u64) {
        let message = |bytes: u64| bytes.saturating_sub(PREFIX_BYTES);
        let request = message(self.request.as_ref().map_or(0, |count| count.load(Ordering::Relaxed)));
        self.watcher.ended(code, request, message(response_bytes), self.started.elapsed());
    }
}

fn code_of(headers: &HeaderMap) -> Option<i32> {
    headers.get(Status::GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// A request body that counts what is read of it.
struct Counted {
    inner: Body,
    count: Arc<AtomicU64>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.count.fetch_add(data.remaining() as u64, Ordering::Relaxed);
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

/// An answer's body that ends its meter with the status of the trailers.
struct Followed<W: Watcher> {
    inner: Body,
    bytes: u64,
    meter: Option<Meter<W>>,
}

impl<W: Watcher> Followed<W> {
    fn end(&mut self, code: i32) {
        if let Some(meter) = self.meter.take() {
            meter.end(code, self.bytes);
        }
    }
}

impl<W: Watcher> HttpBody for Followed<W> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes += data.remaining() as u64;
                } else if let Some(trailers) = frame.trailers_ref() {
                    let code = code_of(trailers).unwrap_or(UNKNOWN);
                    self.end(code);
                }
            }
            Some(Err(status)) => {
                let code = status.code() as i32;
                self.end(code);
            }
            None => self.end(UNKNOWN),
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

impl<W: Watcher> Drop for Followed<W> {
    fn drop(&mut self) {
        self.end(CANCELLED);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<(i32, u64, u64)>>>);

    impl Watcher for Seen {
        fn ended(&self, code: i32, request_bytes: u64, response_bytes: u64, _: Duration) {
            self.0.lock().push((code, request_bytes, response_bytes));
        }
    }

    fn answer(status: &'static str) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static(status));
        let body = Full::new(Bytes::from("\0\0\0\0\x02ok")).with_trailers(std::future::ready(Some(Ok(trailers))));
        Response::new(Body::new(body))
    }

    #[tokio::test]
    async fn sizes_and_status_are_told_once() {
        let seen = Seen::default();
        let (meter, request) =
            Meter::begin(seen.clone(), Request::new(Body::new(Full::new(Bytes::from("\0\0\0\0\x03abc")))));
        request.into_body().collect().await.unwrap();
        meter.follow(answer("5")).into_body().collect().await.unwrap();
        assert_eq!(*seen.0.lock(), [(5, 3, 2)]);
    }

    #[tokio::test]
    async fn an_answer_nobody_reads_is_cancelled() {
        let seen = Seen::default();
        let (meter, _) = Meter::begin(seen.clone(), Request::new(Body::new(Full::new(Bytes::new()))));
        drop(meter.follow(answer("0")));
        let (meter, _) = Meter::begin(seen.clone(), Request::new(Body::new(Full::new(Bytes::new()))));
        meter.follow(Status::not_found("x").into_http());
        assert_eq!(*seen.0.lock(), [(1, 0, 0), (5, 0, 0)]);
    }
}
