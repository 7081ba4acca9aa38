//! Random messages, whole, mangled and in pieces: what this module makes of them is what hyper makes of them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::http1::client::{AnswerBody, Connection, write_request};
use crate::http1::server::{End, serve};

/// hyper takes no smaller limit.
const HEAD_MAX: usize = 8192;

/// A request as a server understood it.
type Seen = (String, String, Vec<(String, Vec<u8>)>, Bytes);
/// An answer as a client understood it.
type Got = (u16, Vec<(String, Vec<u8>)>, Bytes);

fn headers(map: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

async fn see(seen: Arc<Mutex<Vec<Seen>>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if let Ok(body) = body.collect(0).await {
        seen.lock().unwrap().push((parts.method.to_string(), parts.uri.to_string(), headers(&parts.headers), body));
    }
    Response::new(Body::full("ok"))
}

async fn hyper_serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seen: Arc<Mutex<Vec<Seen>>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move { Ok::<_, Infallible>(see(seen, request.map(Body::from)).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    drop(builder.max_buf_size(HEAD_MAX).max_headers(256).serve_connection(TokioIo::new(stream), service).await);
}

/// What a server saw in bytes that came in pieces, and the number of answers.
async fn served(ours: bool, bytes: &[u8], cuts: &[usize]) -> (Vec<Seen>, usize) {
    let (mut client, server) = duplex(1 << 20);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let task = tokio::spawn(async move {
        if !ours {
            return hyper_serve(server, record).await;
        }
        let ended = serve(server, HEAD_MAX, &CancellationToken::new(), |request| see(record.clone(), request)).await;
        if let Ok(End::Other(rest)) = ended {
            hyper_serve(rest, record).await;
        }
    });
    write_pieces(&mut client, bytes, cuts).await;
    let mut answers = vec![0; 1 << 20];
    let mut length = 0;
    while let Ok(Ok(read @ 1..)) =
        tokio::time::timeout(Duration::from_millis(5), client.read(&mut answers[length..])).await
    {
        length += read;
    }
    task.abort();
    let text = String::from_utf8_lossy(&answers[..length]).into_owned();
    let seen = seen.lock().unwrap().clone();
    (seen, text.matches("HTTP/1.1 200 OK").count())
}

async fn write_pieces(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], cuts: &[usize]) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        if stream.write_all(&bytes[pair[0]..pair[1]]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a client understood of an answer; whether it would use the connection again.
async fn asked(ours: bool, verb: &Method, bytes: &[u8], cuts: &[usize]) -> Option<(Got, bool)> {
    let (client, mut server) = duplex(1 << 20);
    let (bytes, cuts) = (bytes.to_vec(), cuts.to_vec());
    tokio::spawn(async move {
        let mut request = [0; 1024];
        let _ = server.read(&mut request).await;
        write_pieces(&mut server, &bytes, &cuts).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    let request = Request::builder().method(verb).uri("/x").header("host", "h").body(Full::new(Bytes::new())).unwrap();
    if !ours {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        tokio::time::sleep(Duration::from_millis(10)).await;
        return Some(((parts.status.as_u16(), headers(&parts.headers), body), sender.is_ready()));
    }
    let sent = Connection::new(client).send(|out| write_request(out, &request), verb, &Bytes::new(), 400_000).await;
    let answer = sent.ok()?;
    let (status, fields) = (answer.status.as_u16(), headers(&answer.headers));
    let (body, connection) = match answer.body {
        AnswerBody::Whole(body, connection) => (body, connection),
        AnswerBody::Streaming(mut streaming) => {
            let mut all = Vec::new();
            while let Some(frame) = std::future::poll_fn(|cx| streaming.poll_data(cx)).await {
                all.extend_from_slice(&frame.ok()?.into_data().unwrap());
            }
            (all.into(), streaming.take_idle())
        }
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    let kept = connection.is_some_and(|mut connection| connection.is_open());
    Some(((status, fields, body), kept))
}

/// Bytes taken out, put in or changed somewhere.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Change(usize, u8),
    Remove(usize, usize),
    Insert(usize, &'static str),
    End(usize),
}

impl Damage {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len().max(1);
        match *self {
            Self::None => {}
            Self::Change(at, byte) => bytes[at % length] = byte,
            Self::Remove(at, many) => {
                let at = at % length;
                bytes.drain(at..(at + many).min(length));
            }
            Self::Insert(at, text) => {
                let at = at % length;
                bytes.splice(at..at, text.bytes());
            }
            Self::End(at) => bytes.truncate(at % length),
        }
        bytes
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0..4096_usize;
    prop_oneof![
        3 => Just(Damage::None),
        2 => (at.clone(), prop::sample::select(b"\r\n :;,0a9\0\x7f\xff\t".to_vec())).prop_map(|(at, byte)| Damage::Change(at, byte)),
        1 => (at.clone(), 1..9_usize).prop_map(|(at, many)| Damage::Remove(at, many)),
        2 => (at.clone(), prop::sample::select(vec![
            "\r\n", "\n", "\r", " ", "\t", ":", "0", "1", "\r\n\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
            "x: y\r\n", "\r\n x", "GET / HTTP/1.1\r\n\r\n",
        ])).prop_map(|(at, text)| Damage::Insert(at, text)),
        1 => at.prop_map(Damage::End),
    ]
}

const BODIES: [&str; 9] = [
    "\r\n",
    "content-length: 3\r\n\r\nabc",
    "Content-Length: 0\r\n\r\n",
    "content-length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "content-length: 3, 3\r\n\r\nabc",
    "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n002\r\nbc\r\n0\r\nt: u\r\n\r\n",
    "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "content-length: +3\r\n\r\nabc",
];

fn request() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /v1.0/state/s HTTP/1.1\r\n",
        "PUT /a%20b?c=d&e HTTP/1.1\r\n",
        "HEAD /x HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "DELETE http://other:1/p HTTP/1.1\r\n",
        "GET /old HTTP/1.0\r\n",
        "\r\nGET /late HTTP/1.1\r\n",
    ]);
    let fields = prop::sample::subsequence(
        vec![
            "Host: h\r\n",
            "x-empty:\r\n",
            "x-wide: \t a b \t\r\n",
            "Connection: keep-alive\r\n",
            "Connection: close\r\n",
            "connection: x, close\r\n",
            "x-twice: 1\r\nX-Twice: 2\r\n",
            "x-utf: \u{fc}\r\n",
        ],
        0..4,
    );
    (start, fields, prop::sample::select(BODIES.to_vec()))
        .prop_map(|(start, fields, body)| format!("{start}{}{body}", fields.concat()))
}

fn answer() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 500 Internal Server Error\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 404 Not Found\r\n",
    ]);
    let fields = prop::sample::subsequence(
        vec![
            "x-empty:\r\n",
            "Connection: close\r\n",
            "Set-Cookie: a\r\nset-cookie: b\r\n",
            "connection: keep-alive\r\n",
        ],
        0..3,
    );
    (start, fields, prop::sample::select(BODIES.to_vec()))
        .prop_map(|(start, fields, body)| format!("{start}{}{body}", fields.concat()))
}

fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_understood_as_by_hyper(
        requests in prop::collection::vec(request(), 1..4),
        damage in damage(),
        cuts in prop::collection::vec(0..4096_usize, 0..4),
    ) {
        let bytes = damage.apply(requests.concat().into_bytes());
        let (ours, hypers) = paused(async { (served(true, &bytes, &cuts).await, served(false, &bytes, &cuts).await) });
        prop_assert_eq!(ours, hypers, "{:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn answers_are_understood_as_by_hyper(
        verb in prop::sample::select(vec![Method::GET, Method::POST, Method::HEAD]),
        answer in answer(),
        damage in damage(),
        cuts in prop::collection::vec(0..4096_usize, 0..4),
    ) {
        let bytes = damage.apply(answer.into_bytes());
        let (ours, hypers) =
            paused(async { (asked(true, &verb, &bytes, &cuts).await, asked(false, &verb, &bytes, &cuts).await) });
        let shown = String::from_utf8_lossy(&bytes);
        match (ours, hypers) {
            (Some((ours, kept)), Some((hypers, kept_by_hyper))) => {
                prop_assert_eq!(ours, hypers, "{:?}", shown);
                prop_assert!(!kept || kept_by_hyper, "kept after {:?}", shown);
            }
            // One of the two is stricter; a connection after what only we understand must not be kept, if hyper's is broken.
            (Some((_, kept)), None) => prop_assert!(!kept, "only ours understood and kept: {:?}", shown),
            (None, Some(_)) if matches!(damage, Damage::None) => prop_assert!(false, "only hyper understood {:?}", shown),
            (None, _) => {}
        }
    }
}
