//! HTTP middleware: a component that stands around every HTTP request, of callers to the sidecar or of the sidecar to its app.
//!
//! *Neighbours:* the HTTP front runs `spec.httpPipeline`, the app channel `spec.appHttpPipeline`; implementations see this file
//! only. *Invariant:* bodies are streams; what no middleware reads is never collected.
//! *Source:* components-contrib `middleware/middleware.go`, dapr `pkg/middleware`.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

/// Any error of a body.
pub type HttpBodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way through a pipeline.
pub type HttpBody = BoxBody<Bytes, HttpBodyError>;

/// A request on its way through a pipeline; the URI is in origin form, the host stands in the `host` header. Its extensions
/// carry a [`RemoteAddress`] where the sidecar knows one.
pub type HttpRequest = http::Request<HttpBody>;

/// A response on its way back.
pub type HttpResponse = http::Response<HttpBody>;

/// The address a request came from; an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddress(pub SocketAddr);

/// A component around HTTP requests.
#[async_trait]
pub trait HttpMiddleware: Send + Sync {
    /// Answers the request itself, or passes it on with [`Next::run`]; may change the request before and the response after.
    ///
    /// Errors are responses. *Cancel safety:* the future is dropped when the caller goes away.
    async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse;
}

type End<'a> = Box<dyn FnOnce(HttpRequest) -> Pin<Box<dyn Future<Output = HttpResponse> + Send + 'a>> + Send + 'a>;

/// The rest of a pipeline and what it leads to.
pub struct Next<'a> {
    rest: &'a [Arc<dyn HttpMiddleware>],
    end: End<'a>,
}

impl<'a> Next<'a> {
    /// A continuation without further middleware: what stands at the end of a pipeline, and what a test needs.
    pub fn end<F, Fut>(end: F) -> Self
    where
        F: FnOnce(HttpRequest) -> Fut + Send + 'a,
        Fut: Future<Output = HttpResponse> + Send + 'a,
    {
        Self { rest: &[], end: Box::new(move |request| Box::pin(end(request))) }
    }

    /// Passes a request on and returns the response of what comes next.
    pub async fn run(self, request: HttpRequest) -> HttpResponse {
        match self.rest.split_first() {
            Some((first, rest)) => first.handle(request, Next { rest, end: self.end }).await,
            None => (self.end)(request).await,
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

/// Middleware in the order of the Configuration: the first is the outermost. Cheap to clone; clones are the same pipeline, so that
/// [`HttpPipeline::replace`] reaches every place that runs it.
#[derive(Clone, Default)]
pub struct HttpPipeline(Arc<Row>);

#[derive(Default)]
struct Row {
    /// Beside the handlers, so that a request without middleware costs one read.
    any: AtomicBool,
    handlers: ArcSwap<Vec<Arc<dyn HttpMiddleware>>>,
}

impl HttpPipeline {
    /// Puts middleware into a row.
    pub fn new(handlers: impl IntoIterator<Item = Arc<dyn HttpMiddleware>>) -> Self {
        let pipeline = Self::default();
        pipeline.replace(handlers);
        pipeline
    }

    /// Puts other middleware into its place; requests under way go on with what they began with.
    pub fn replace(&self, handlers: impl IntoIterator<Item = Arc<dyn HttpMiddleware>>) {
        let handlers: Vec<Arc<dyn HttpMiddleware>> = handlers.into_iter().collect();
        let any = !handlers.is_empty();
        self.0.handlers.store(Arc::new(handlers));
        self.0.any.store(any, Ordering::Release);
    }

    /// Whether there is nothing to run; callers then go past the pipeline without making it a request.
    pub fn is_empty(&self) -> bool {
        !self.0.any.load(Ordering::Acquire)
    }

    /// Sends a request through all middleware to `end`.
    pub async fn run<'a, F, Fut>(&'a self, request: HttpRequest, end: F) -> HttpResponse
    where
        F: FnOnce(HttpRequest) -> Fut + Send + 'a,
        Fut: Future<Output = HttpResponse> + Send + 'a,
    {
        let handlers = self.0.handlers.load_full();
        Next { rest: &handlers, end: Next::end(end).end }.run(request).await
    }
}

impl fmt::Debug for HttpPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpPipeline({} handlers)", self.0.handlers.load().len())
    }
}

/// A body without bytes.
pub fn empty_body() -> HttpBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body whose bytes are here.
pub fn full_body(bytes: impl Into<Bytes>) -> HttpBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// Why [`read_body`] failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadBodyError {
    /// More bytes than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// What was allowed.
        limit: usize,
    },
    /// The stream broke.
    #[error("reading the body: {0}")]
    Broken(#[source] HttpBodyError),
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// [`ReadBodyError`].
pub async fn read_body(mut body: HttpBody, limit: usize) -> Result<Bytes, ReadBodyError> {
    // By hand: `Limited` makes futures that wait for it not provably `Send`.
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadBodyError::Broken)?.into_data() else { continue };
        if all.len() + data.len() > limit {
            return Err(ReadBodyError::TooLarge { limit });
        }
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mark(&'static str);

    #[async_trait]
    impl HttpMiddleware for Mark {
        async fn handle(&self, mut request: HttpRequest, next: Next<'_>) -> HttpResponse {
            request.headers_mut().append("way", self.0.parse().unwrap());
            let mut response = next.run(request).await;
            response.headers_mut().append("back", self.0.parse().unwrap());
            response
        }
    }

    fn all(headers: &http::HeaderMap, name: &str) -> String {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn the_first_is_the_outermost() {
        let pipeline = HttpPipeline::new([Arc::new(Mark("a")) as Arc<dyn HttpMiddleware>, Arc::new(Mark("b"))]);
        let seen = String::from("seen by the end: ");
        let response = pipeline
            .run(http::Request::new(full_body("body")), |request| async move {
                let way = all(request.headers(), "way");
                let body = read_body(request.into_body(), 10).await.unwrap();
                http::Response::new(full_body(format!("{seen}{way} {}", String::from_utf8_lossy(&body))))
            })
            .await;
        assert_eq!(all(response.headers(), "back"), "ba");
        assert_eq!(read_body(response.into_body(), 100).await.unwrap(), "seen by the end: ab body");
    }

    #[tokio::test]
    async fn a_replaced_row_reaches_every_clone_and_no_request_under_way() {
        let mark = |name| Arc::new(Mark(name)) as Arc<dyn HttpMiddleware>;
        let pipeline = HttpPipeline::new([mark("a")]);
        let (clone, changed) = (pipeline.clone(), pipeline.clone());
        let end = |request: HttpRequest| async move {
            changed.replace([]);
            let way = all(request.headers(), "way");
            http::Response::new(full_body(way))
        };
        let response = pipeline.run(http::Request::new(empty_body()), end).await;
        assert_eq!(all(response.headers(), "back"), "a", "it began with this row");
        assert!(clone.is_empty() && pipeline.is_empty());
    }

    #[tokio::test]
    async fn a_long_body_is_refused() {
        assert!(matches!(read_body(full_body("abcd"), 3).await, Err(ReadBodyError::TooLarge { limit: 3 })));
    }
}
