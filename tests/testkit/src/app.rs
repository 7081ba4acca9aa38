//! A fake application: an HTTP server that records what the sidecar sends and answers as told.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::eventually;

/// One request the application got.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Verb.
    pub method: Method,
    /// Path as sent, percent-encoding untouched.
    pub path: String,
    /// Query without `?`, empty when absent.
    pub query: String,
    /// Headers as sent.
    pub headers: HeaderMap,
    /// Whole body.
    pub body: Bytes,
}

impl Recorded {
    /// A header as text, empty when absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON, `null` when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What the application answers.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Bytes,
    delay: Duration,
    hang_up: bool,
}

impl Answer {
    /// A status without a body.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self { status, ..Self::default() }
    }

    /// 200 with a JSON body.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self::text(value.to_string()).with_header("content-type", "application/json")
    }

    /// 200 with a body and no content type.
    #[must_use]
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Closes the connection instead of answering.
    #[must_use]
    pub fn hang_up() -> Self {
        Self { hang_up: true, ..Self::default() }
    }

    /// The same answer with another status.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same answer with one header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same answer, given only after `delay`.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Handler = dyn Fn(&Recorded, usize) -> Answer + Send + Sync;

/// A running fake application; it stops when dropped.
pub struct FakeApp {
    port: u16,
    requests: Arc<Mutex<Vec<Recorded>>>,
    server: JoinHandle<()>,
}

impl FakeApp {
    /// Starts an application. `handler` gets each request and how many came to the same path before it.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(handler: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static) -> std::io::Result<Self> {
        Self::listen(0, handler).await
    }

    /// As [`FakeApp::start`], on a port chosen before, for an application that comes up late.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn listen(
        port: u16,
        handler: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::serve(port, true, handler).await
    }

    /// As [`FakeApp::listen`] without a record of the requests, for long runs; the handler's second argument is always 0.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn unrecorded(
        port: u16,
        handler: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::serve(port, false, handler).await
    }

    async fn serve(
        port: u16,
        record: bool,
        handler: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = record.then(|| Arc::clone(&requests));
        let server = tokio::spawn(serve(listener, record, Arc::new(handler)));
        Ok(Self { port, requests, server })
    }

    /// The port to give to the sidecar.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// All requests to `path` so far.
    #[must_use]
    pub fn requests(&self, path: &str) -> Vec<Recorded> {
        locked(&self.requests).iter().filter(|request| request.path == path).cloned().collect()
    }

    /// Waits up to 10 s until at least `count` requests to `path` came, and returns them.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Recorded> {
        let what = format!("{count} requests to {path}");
        eventually(&what, Duration::from_secs(10), || async {
            let requests = self.requests(path);
            (requests.len() >= count).then_some(requests)
        })
        .await
    }
}

impl Drop for FakeApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn locked(requests: &Mutex<Vec<Recorded>>) -> MutexGuard<'_, Vec<Recorded>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

type Record = Option<Arc<Mutex<Vec<Recorded>>>>;

async fn serve(listener: TcpListener, record: Record, handler: Arc<Handler>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (record, handler) = (record.clone(), Arc::clone(&handler));
        let service = service_fn(move |request| answer(request, record.clone(), Arc::clone(&handler)));
        connections.spawn(async move {
            // A connection that breaks is what some tests ask for; the sidecar's answer shows it.
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    record: Record,
    handler: Arc<Handler>,
) -> Result<Response<Full<Bytes>>, HungUp> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    let recorded = Recorded {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
    };
    let before = record.map_or(0, |requests| {
        let mut requests = locked(&requests);
        let before = requests.iter().filter(|request| request.path == recorded.path).count();
        requests.push(recorded.clone());
        before
    });
    let answer = handler(&recorded, before);
    tokio::time::sleep(answer.delay).await;
    if answer.hang_up {
        return Err(HungUp);
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(answer.body)).unwrap_or_else(never))
}

/// Only a header a test wrote wrongly gets here: the empty 500 shows in that test.
fn never(_: http::Error) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Makes the server close the connection.
#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the test asked for a broken connection")
    }
}

impl std::error::Error for HungUp {}

impl From<Infallible> for HungUp {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
