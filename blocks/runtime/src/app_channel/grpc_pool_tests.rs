use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pillion_core::error::GrpcCode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::app_channel::{AppHealth, GrpcChannel};
use crate::message::{AppStatus, InvokeRequest};

/// An app that allows `streams` calls per connection and answers when told to.
struct App {
    port: u16,
    connections: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    answer: watch::Sender<bool>,
}

async fn app(streams: u32, at_once: bool) -> App {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = App { port, connections: Arc::default(), calls: Arc::default(), answer: watch::channel(at_once).0 };
    let (connections, calls, answer) = (app.connections.clone(), app.calls.clone(), app.answer.subscribe());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            let (calls, answer) = (calls.clone(), answer.clone());
            tokio::spawn(serve(stream, streams, calls, answer));
        }
    });
    app
}

async fn serve<S>(stream: S, streams: u32, calls: Arc<AtomicUsize>, answer: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        calls.fetch_add(1, Ordering::Relaxed);
        let mut answer = answer.clone();
        async move {
            answer.wait_for(|now| *now).await.unwrap();
            let seen = format!("{} {:?}", request.uri(), request.headers().get("user-agent").unwrap());
            let long = "x".repeat(request.uri().path().len() * 1000);
            Ok::<_, Infallible>(Response::builder().header("x-long", long).body(Full::<Bytes>::from(seen)).unwrap())
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(1 << 20)
        .serve_connection(TokioIo::new(stream), service);
    let _ = server.await; // ends with the test
}

fn call(connection: &AppConnection, path: &str) -> <AppConnection as Service<Request<Body>>>::Future {
    connection.clone().call(Request::post(path).body(Body::empty()).unwrap())
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn until(what: &str, check: impl Fn() -> bool) {
    for _ in 0..1000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn more_calls_than_streams_make_more_connections() {
    for (streams, calls, connections) in [(100, 150, 2), (1000, 250, 3), (10, 25, 3)] {
        let app = app(streams, false).await;
        let connection = AppConnection::new("127.0.0.1", app.port, None).unwrap();
        let started: Vec<_> = (0..calls).map(|_| tokio::spawn(call(&connection, "/x"))).collect();
        until("all calls at once", || app.calls.load(Ordering::Relaxed) == calls).await;
        assert_eq!(app.connections.load(Ordering::Relaxed), connections, "{calls} calls of {streams} streams");
        app.answer.send(true).unwrap();
        for call in started {
            text(call.await.unwrap().unwrap()).await;
        }
        let pool = &connection.0;
        assert!(pool.connections.lock().iter().all(|one| one.load.streams.load(Ordering::Relaxed) == 0));
        pool.purge(Duration::from_secs(60));
        assert_eq!(pool.connections.lock().len(), connections, "none is idle for a minute");
        pool.purge(Duration::ZERO);
        assert_eq!(pool.connections.lock().len(), 1, "the first one stays");
    }
}

#[tokio::test]
async fn the_apps_address_and_an_agent_are_sent_and_long_heads_are_read() {
    let app = app(100, true).await;
    let connection = AppConnection::new("127.0.0.1", app.port, None).unwrap();
    let response = call(&connection, "http://elsewhere:1/a.Service/Method?q").await.unwrap();
    assert_eq!(response.headers()["x-long"].len(), 17_000);
    let seen = text(response).await;
    assert_eq!(seen, format!("http://127.0.0.1:{}/a.Service/Method?q \"pillion\"", app.port));
}

#[tokio::test]
async fn a_call_that_is_given_up_frees_its_place() {
    let app = app(100, false).await;
    let connection = AppConnection::new("127.0.0.1", app.port, None).unwrap();
    let given_up = tokio::spawn(call(&connection, "/x"));
    until("the call", || app.calls.load(Ordering::Relaxed) == 1).await;
    given_up.abort();
    let free = || connection.0.connections.lock()[0].load.streams.load(Ordering::Relaxed) == 0;
    until("a free place", free).await;
}

#[tokio::test]
async fn an_app_that_comes_back_is_dialled_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connection = AppConnection::new("127.0.0.1", port, None).unwrap();
    for _ in 0..3 {
        let once = async {
            let (stream, _) = listener.accept().await.unwrap();
            let one = serve(stream, 10, Arc::default(), watch::channel(true).1);
            let _ = tokio::time::timeout(Duration::from_millis(300), one).await; // then the connection is gone
        };
        let (_, answer) = tokio::join!(once, async { call(&connection, "/x").await.map(drop) });
        answer.unwrap();
        until("the end is seen", || connection.0.share().is_none()).await;
    }
    drop(listener);
    let (one, two) = tokio::join!(call(&connection, "/x"), call(&connection, "/x"));
    let wanted = format!(
        "connection error: desc = \"transport: Error while dialing: dial tcp 127.0.0.1:{port}: connect: connection refused\""
    );
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.to_string(), wanted);
        assert!(error.source().unwrap().is::<ConnectError>());
    }
}

#[tokio::test]
async fn an_app_over_tls_is_not_checked_and_speaks_http2() {
    const CHAIN: &[u8] = include_bytes!("tls/testdata/localhost.pem");
    const KEY: &[u8] = include_bytes!("tls/testdata/localhost.key.pem");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(CHAIN).collect();
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), PrivateKeyDer::from_pem_slice(KEY).unwrap())
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        serve(stream, 10, Arc::default(), watch::channel(true).1).await;
    });
    let channel = GrpcChannel::with_tls("127.0.0.1", port, 0, None, 0, AppHealth::new(true)).unwrap();
    let seen = text(call(&channel.connection(), "/x").await.unwrap()).await;
    assert_eq!(seen, format!("https://127.0.0.1:{port}/x \"pillion\""));
    // Not a gRPC answer, but an answer.
    let error = channel.health_check().await.unwrap_err();
    assert_ne!(error.code, GrpcCode::Unavailable, "{error}");
}

#[tokio::test]
async fn a_message_over_the_limit_has_the_originals_code_and_text() {
    let app = app(10, true).await;
    let channel = GrpcChannel::new("127.0.0.1", app.port, 0, None, 100, AppHealth::new(true)).unwrap();
    let request = InvokeRequest {
        method: "x".repeat(200),
        verb: http::Method::POST,
        query: String::new(),
        headers: http::HeaderMap::new(),
        body: crate::body::Body::empty(),
        data_type_url: String::new(),
    };
    let answer = channel.invoke(request).await.unwrap();
    assert_eq!(answer.status, AppStatus::Grpc(8), "{}", answer.status_message);
    assert!(answer.status_message.starts_with("trying to send message larger than max (2"));
}

#[test]
fn addresses_of_both_families_are_taken() {
    for (host, shown) in [("::1", "[::1]:7"), ("[::1]", "[::1]:7"), ("localhost", "localhost:7")] {
        assert_eq!(AppConnection::new(host, 7, None).unwrap().0.authority, shown);
    }
    assert!(AppConnection::new("a b", 7, None).err().unwrap().contains("--app-channel-address"));
}
