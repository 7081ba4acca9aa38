//! An app of raw HTTP/2, two sidecars around the proxy, and a client whose messages are bytes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use pillion_contract::{ComponentError, ErrorKind, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use pillion_core::secret::Secret;
use pillion_resources::types::{CircuitBreakerSpec, PolicyNames, Resiliency, RetrySpec};
use pillion_runtime::app_channel::{AppChannel, AppHealth, GrpcChannel};
use pillion_runtime::resiliency::Policies;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

use crate::endpoint::Endpoints;
use crate::{InternalServer, Invoker, InvokerOptions};

/// Longest message of the sidecars under test.
pub(super) const LIMIT: usize = 1 << 20;

/// What the app has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) calls: Mutex<Vec<HeaderMap>>,
    /// Answers that were dropped before their end.
    pub(super) dropped: AtomicUsize,
    /// Bytes of `/flood` taken by the connection so far.
    pub(super) flooded: AtomicUsize,
}

impl Seen {
    pub(super) fn count(&self) -> usize {
        self.calls.lock().len()
    }
}

/// A message in its frame.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut out = vec![0];
    out.extend((message.len() as u32).to_be_bytes());
    out.extend(message);
    out.into()
}

struct CountDrop(Arc<Seen>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn trailers(code: i32) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    trailers.insert("x-trailer", HeaderValue::from_static("last"));
    Frame::trailers(trailers)
}

fn head(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").header("x-head", "first").body(body).unwrap()
}

/// Answers by path: `/t.T/Echo` repeats its bytes as they come; the others are told apart below.
async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, mut incoming) = request.into_parts();
    let call = {
        let mut calls = seen.calls.lock();
        calls.push(parts.headers);
        calls.len()
    };
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
    let body = Body::new(StreamBody::new(futures_util::stream::unfold(receiver, |mut receiver| async {
        let next = receiver.recv().await?;
        Some((next, receiver))
    })));
    let path = parts.uri.path().to_owned();
    match path.as_str() {
        "/t.T/Fail" => {
            let _ = incoming.collect().await;
            let status = Status::with_details(
                tonic::Code::Aborted,
                "told to: ünd 100%",
                Bytes::from_static(b"\x08\x0a details"),
            );
            return Ok(status.into_http());
        }
        "/t.T/NoGrpc" => {
            return Ok(Response::builder()
                .status(503)
                .header("content-type", "text/html")
                .body(Body::empty())
                .unwrap());
        }
        "/t.T/Flaky" if call <= 2 => {
            let _ = incoming.collect().await;
            if call == 1 {
                return Ok(Status::unavailable("try again").into_http());
            }
            tokio::spawn(async move { sender.send(Ok(trailers(14))).await });
            return Ok(head(body));
        }
        "/t.T/Silent" => {
            let _counted = CountDrop(seen.clone());
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    tokio::spawn(async move {
        match path.as_str() {
            "/t.T/Flood" => {
                let _counted = CountDrop(seen.clone());
                let data = frame(&[7; 64 * 1024]);
                while sender.send(Ok(Frame::data(data.clone()))).await.is_ok() {
                    seen.flooded.fetch_add(data.len(), Ordering::Relaxed);
                }
            }
            "/t.T/Count" => {
                let all = incoming.collect().await.unwrap().to_bytes();
                let _ = sender.send(Ok(Frame::data(frame(&(all.len() as u64).to_be_bytes())))).await;
                let _ = sender.send(Ok(trailers(0))).await;
            }
            "/t.T/Many" => {
                let _ = incoming.collect().await;
                for number in 0..100u8 {
                    let _ = sender.send(Ok(Frame::data(frame(&[number; 1000])))).await;
                }
                let _ = sender.send(Ok(trailers(0))).await;
            }
            "/t.T/Long" => {
                let _ = sender.send(Ok(Frame::data(frame(&vec![1; LIMIT + 1])))).await;
                let _ = sender.send(Ok(trailers(0))).await;
            }
            "/t.T/Cut" => {
                let _ = sender.send(Ok(Frame::data(frame(b"one")))).await;
                let _ = sender.send(Err(Status::internal("cut"))).await;
            }
            "/t.T/Late" => {
                let _ = incoming.collect().await;
                let _ = sender.send(Ok(Frame::data(frame(b"one")))).await;
                let _ = sender.send(Ok(trailers(9))).await;
            }
            _ => {
                while let Some(Ok(next)) = incoming.frame().await {
                    if let Ok(data) = next.into_data() {
                        let _ = sender.send(Ok(Frame::data(data))).await;
                    }
                }
                let _ = sender.send(Ok(trailers(0))).await;
            }
        }
    });
    Ok(head(body))
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves HTTP/2 until the token is cancelled, then cuts all connections.
fn serve<F>(
    listener: TcpListener,
    cancel: CancellationToken,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok((stream, _))) = cancel.run_until_cancelled(listener.accept()).await {
            let service = hyper::service::service_fn(answer.clone());
            let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
            let cancel = cancel.clone();
            tokio::spawn(async move { cancel.run_until_cancelled(connection).await.is_some() });
        }
    });
}

/// Knows the sidecars of a test.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, String>>);

#[tonic::async_trait]
impl NameResolver for Names {
    async fn register(&self, _: Registration) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        let found = self.0.lock().get(&request.app_id).cloned();
        found.map(|address| vec![address]).ok_or_else(|| {
            ComponentError::new(ErrorKind::NotFound, format!("couldn't find service: {}", request.app_id))
        })
    }
}

/// `caller` (without an app of its own, or with the same one) in front of the sidecar of `callee`.
pub(super) struct Fixture {
    pub(super) channel: Channel,
    pub(super) seen: Arc<Seen>,
    pub(super) names: Arc<Names>,
    /// Stops the app.
    pub(super) app: CancellationToken,
    /// Kills the connections between the sidecars and the callee's listener.
    pub(super) callee: tokio::task::JoinHandle<()>,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(super) async fn with(resiliency: &[Resiliency]) -> Self {
        let seen = Arc::new(Seen::default());
        let (listener, app_address) = listen().await;
        let app = CancellationToken::new();
        let seen_by_app = seen.clone();
        serve(listener, app.clone(), move |request| answer(seen_by_app.clone(), request));
        let token = Secret::new("app-token".to_owned());
        let health = AppHealth::new(true);
        let grpc = GrpcChannel::new("127.0.0.1", app_address.port(), 0, Some(&token), LIMIT, health).unwrap();
        let app_channel = AppChannel::Grpc(Arc::new(grpc));

        let (listener, internal_address) = listen().await;
        let (of_callee, log) = (app_channel.clone(), Logger::silent());
        let server = InternalServer::new(Arc::new(move || Some(of_callee.clone())), LIMIT, log.clone());
        let callee = tokio::spawn(server.serve(listener, None, CancellationToken::new()));

        let names = Arc::new(Names::default());
        names.0.lock().insert("callee".into(), internal_address.to_string());
        let options = InvokerOptions {
            app_id: "caller".into(),
            namespace: "default".into(),
            host_address: String::new(),
            host_name: String::new(),
            max_body_bytes: LIMIT,
        };
        let policies = Arc::new(Policies::compile(resiliency, &log));
        let invoker = Arc::new(Invoker::new(options, names.clone(), Endpoints::default(), policies, log));
        invoker.set_app_channel(Some(app_channel));
        let (listener, public_address) = listen().await;
        serve(listener, CancellationToken::new(), move |request| {
            let invoker = invoker.clone();
            async move { Ok(invoker.proxy(request.map(Body::new)).await) }
        });
        let channel = Endpoint::from_shared(format!("http://{public_address}")).unwrap().connect().await.unwrap();
        Self { channel, seen, names, app, callee }
    }

    /// Where an app's sidecar is said to be.
    pub(super) fn announce(&self, app: &str, address: &str) {
        self.names.0.lock().insert(app.into(), address.into());
    }

    pub(super) async fn client(&self) -> tonic::client::Grpc<Channel> {
        let mut client = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        client.ready().await.unwrap();
        client
    }

    pub(super) async fn unary(
        &self,
        path: &'static str,
        request: tonic::Request<Bytes>,
    ) -> Result<tonic::Response<Bytes>, Status> {
        self.client().await.unary(request, http::uri::PathAndQuery::from_static(path), Raw).await
    }
}

/// A request to an app, with its messages.
pub(super) fn to<T>(app: &'static str, messages: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(messages);
    request.metadata_mut().insert("dapr-app-id", app.parse().unwrap());
    request
}

/// Policies of the app `callee`.
pub(super) fn policies(timeout: &str, max_retries: Option<i64>, matching: &str, trip: &str) -> Vec<Resiliency> {
    let name = |used: bool| if used { "p".to_owned() } else { String::new() };
    let names = PolicyNames {
        timeout: name(!timeout.is_empty()),
        retry: name(max_retries.is_some()),
        circuit_breaker: name(!trip.is_empty()),
        ..PolicyNames::default()
    };
    let retry =
        RetrySpec { duration: "5ms".into(), max_retries, grpc_status_codes: matching.into(), ..RetrySpec::default() };
    let breaker = CircuitBreakerSpec { trip: trip.into(), timeout: "60s".into(), ..CircuitBreakerSpec::default() };
    vec![Resiliency {
        name: "r".into(),
        timeouts: [("p".to_owned(), timeout.to_owned())].into_iter().filter(|(_, text)| !text.is_empty()).collect(),
        retries: [("p".to_owned(), retry)].into(),
        circuit_breakers: [("p".to_owned(), breaker)].into_iter().filter(|_| !trip.is_empty()).collect(),
        apps: [("callee".to_owned(), names)].into(),
        ..Resiliency::default()
    }]
}

pub(super) async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while !check() {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Messages are their bytes.
#[derive(Clone, Copy)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
