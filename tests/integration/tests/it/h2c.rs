//! `Upgrade: h2c` on the HTTP API: the first request comes over HTTP/1.1, its answer and all others over HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use pillion_testkit::{ResourceDir, Sidecar, SidecarOptions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::fixture::{STATE, unique};

const OFFER: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
const PREFACE_BYTES: usize = 24;

async fn sidecar(environment: &[(&str, &str)]) -> Sidecar {
    let resources = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap();
    let options = SidecarOptions::new(&unique("h2c")).resources(resources.path());
    environment.iter().fold(options, |options, (name, value)| options.environment(name, value)).start().await.unwrap()
}

/// Sends a request over HTTP/1.1; gives the head of what comes back, and the connection.
async fn ask(sidecar: &Sidecar, request: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.http)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

/// A client of HTTP/2 that thinks it sends the first request itself: its HEADERS frame for stream 1 is left out.
fn http2(stream: TcpStream) -> DuplexStream {
    let (ours, theirs) = duplex(1 << 20);
    let (mut from_server, to_server) = stream.into_split();
    let (from_client, mut to_client) = tokio::io::split(theirs);
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    tokio::spawn(without_first_headers(from_client, to_server));
    ours
}

async fn without_first_headers(mut client: impl AsyncRead + Unpin, mut server: OwnedWriteHalf) -> std::io::Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    client.read_exact(&mut preface).await?;
    server.write_all(&preface).await?;
    loop {
        let mut frame = vec![0; 9];
        client.read_exact(&mut frame).await?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
        let is_first_headers = frame[3] == 1 && frame[5..] == [0, 0, 0, 1];
        frame.resize(9 + length, 0);
        client.read_exact(&mut frame[9..]).await?;
        if !is_first_headers {
            server.write_all(&frame).await?;
        }
    }
}

async fn read(response: h2::client::ResponseFuture) -> (StatusCode, Bytes) {
    let (parts, mut body) = response.await.unwrap().into_parts();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (parts.status, all.into())
}

#[tokio::test]
async fn the_first_answer_comes_on_stream_one_and_others_follow() {
    let sidecar = sidecar(&[]).await;
    let value = "x".repeat(500_000);
    let body = format!("[{{\"key\":\"a\",\"value\":\"{value}\"}}]");
    let length = body.len();
    let post = format!(
        "POST /v1.0/state/mystore HTTP/1.1\r\nHost: localhost\r\n{OFFER}Content-Length: {length}\r\n\r\n{body}"
    );
    let get = format!("GET /v1.0/state/mystore/a HTTP/1.1\r\nHost: localhost\r\n{OFFER}\r\n");
    let head = format!("HEAD /v1.0/metadata HTTP/1.1\r\nHost: localhost\r\n{OFFER}\r\n");
    let quoted = format!("\"{value}\"");
    for (request, status, answer) in [(post, 204, ""), (get, 200, &quoted), (head, 404, "")] {
        let (switched, stream) = ask(&sidecar, &request).await;
        assert!(switched.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{switched}");
        let lower = switched.to_lowercase();
        assert!(lower.contains("\r\nconnection: upgrade\r\n") && lower.contains("\r\nupgrade: h2c\r\n"), "{switched}");
        let (mut client, connection) = h2::client::handshake(http2(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        // Of its own host name, so that no later request refers to one that was left out.
        let verb = request.split(' ').next().unwrap();
        let first = Request::builder().method(verb).uri("http://left-out/").body(()).unwrap();
        let call = |path: &str| Request::builder().uri(format!("http://localhost{path}")).body(()).unwrap();
        let (first, _) = client.send_request(first, true).unwrap();
        let first = tokio::time::timeout(Duration::from_secs(10), read(first)).await.unwrap();
        assert_eq!((first.0.as_u16(), &first.1[..]), (status, answer.as_bytes()));
        let (second, _) = client.send_request(call("/v1.0/healthz"), true).unwrap();
        let (third, mut sender) = {
            let mut request = call("/v1.0/state/mystore");
            *request.method_mut() = http::Method::POST;
            client.send_request(request, false).unwrap()
        };
        sender.send_data(Bytes::from_static(b"[{\"key\":\"b\",\"value\":1}]"), true).unwrap();
        assert_eq!((read(second).await.0, read(third).await.0), (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT));
        drop((client, sender));
        connection.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn no_body_follows_the_answer_to_head() {
    let sidecar = sidecar(&[]).await;
    let stream = TcpStream::connect(("127.0.0.1", sidecar.http)).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let head = Request::head("http://localhost/v1.0/metadata").body(()).unwrap();
    let (response, _) = client.send_request(head, true).unwrap();
    let response = response.await.unwrap();
    let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let is_end = response.body().is_end_stream();
    assert_eq!((response.status().as_u16(), length > 0, is_end), (404, true, true));
}

#[tokio::test]
async fn an_offer_that_cannot_be_taken_is_passed_over() {
    let open = sidecar(&[]).await;
    let closed = sidecar(&[("DAPR_HTTP_DISABLE_H2C", "true")]).await;
    let get = |headers: &str| format!("GET /v1.0/healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let chunked = format!(
        "POST /v1.0/state/mystore HTTP/1.1\r\nHost: localhost\r\n{OFFER}Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
    );
    for (sidecar, request) in [
        (&closed, get(OFFER)),
        (&open, get(&OFFER.replace(", HTTP2-Settings", ""))),
        (&open, get(&OFFER.replace("AAMAAABk", "AAM"))),
        (&open, get(&OFFER.replace("h2c", "websocket"))),
        (&open, chunked),
    ] {
        let (head, _) = ask(sidecar, &request).await;
        assert!(head.starts_with("HTTP/1.1 204 No Content\r\n"), "{request}{head}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_go_on_holds_nothing_up() {
    let sidecar = sidecar(&[]).await;
    let (head, mut stream) =
        ask(&sidecar, &format!("GET /v1.0/healthz HTTP/1.1\r\nHost: localhost\r\n{OFFER}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (_, other) = ask(&sidecar, &format!("GET /v1.0/healthz HTTP/1.1\r\nHost: localhost\r\n{OFFER}\r\n")).await;
    stream.write_all(b"GET /v1.0/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or_default(), 0, "closed without a word of HTTP/1.1");
    sidecar.stop().await.unwrap();
    drop(other);
}
