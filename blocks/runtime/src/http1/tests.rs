mod random;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

use super::client::{Answer, AnswerBody, Connection, EarlyEnd, write_request};
use super::server::{Connection as ServerConnection, End, Rewound, serve, serve_on};
use crate::body::Body;

const HEAD_MAX: usize = 4096;

type Served = tokio::task::JoinHandle<std::io::Result<End<DuplexStream>>>;

fn serving<F>(
    handle: impl Fn(Request<Body>) -> F + Send + 'static,
    cancel: &CancellationToken,
) -> (DuplexStream, Served)
where
    F: Future<Output = Response<Body>> + Send,
{
    let (client, server) = duplex(1 << 20);
    let cancel = cancel.clone();
    let served = tokio::spawn(async move { serve(server, HEAD_MAX, &cancel, handle).await });
    (client, served)
}

async fn echo(request: Request<Body>) -> Response<Body> {
    let text = format!("{} {} {:?} ", request.method(), request.uri(), request.headers().get("x-a"));
    let body = request.into_body().collect(0).await.unwrap();
    Response::new(Body::full([text.as_bytes(), &body].concat()))
}

/// What is on the wire after `sent`, with the date taken out.
async fn wire(client: &mut DuplexStream, sent: &[u8]) -> String {
    client.write_all(sent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut bytes = vec![0; 1 << 20];
    let read =
        tokio::time::timeout(Duration::from_millis(100), client.read(&mut bytes)).await.map_or(0, Result::unwrap);
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

async fn other(served: Served) -> Rewound<DuplexStream> {
    match served.await.unwrap().unwrap() {
        End::Other(rest) => rest,
        End::Closed | End::Stopped(_) => panic!("closed"),
    }
}

#[tokio::test(start_paused = true)]
async fn requests_follow_each_other_in_any_pieces() {
    let cancel = CancellationToken::new();
    let (mut client, _served) = serving(echo, &cancel);
    let request = b"POST /a?b=%20 HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 28\r\n\r\nPOST /a?b=%20 Some(\"1\") hello";
    assert_eq!(wire(&mut client, request).await, answer.replace("28", "29"));
    for cut in [1, 20, request.len() - 5, request.len() - 1] {
        assert_eq!(wire(&mut client, &request[..cut]).await, "");
        assert_eq!(wire(&mut client, &request[cut..]).await, answer.replace("28", "29"), "cut at {cut}");
    }
    let two = [&request[..], &request[..]].concat();
    assert_eq!(wire(&mut client, &two).await, answer.replace("28", "29").repeat(2));
}

#[tokio::test(start_paused = true)]
async fn answers_are_framed_by_what_they_are() {
    let cancel = CancellationToken::new();
    let handle = |request: Request<Body>| async move {
        let (sender, streamed) = Body::channel(4);
        let mut response = match request.uri().path() {
            "/204" => Response::builder().status(204).body(Body::empty()).unwrap(),
            "/empty" => Response::new(Body::empty()),
            "/streamed" => Response::new(streamed),
            _ => Response::builder().status(418).header("content-length", "99").body(Body::full("tea")).unwrap(),
        };
        response.headers_mut().insert("x-b", "2".parse().unwrap());
        tokio::spawn(async move {
            for part in ["one", "three"] {
                let _ = sender.send(Ok(Bytes::from(part))).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        response
    };
    let (mut client, served) = serving(handle, &cancel);
    for (request, answer) in [
        ("GET /204", "HTTP/1.1 204 No Content\r\nx-b: 2\r\n\r\n"),
        ("GET /empty", "HTTP/1.1 200 OK\r\nx-b: 2\r\ncontent-length: 0\r\n\r\n"),
        ("HEAD /empty", "HTTP/1.1 200 OK\r\nx-b: 2\r\n\r\n"),
        ("GET /tea", "HTTP/1.1 418 I'm a teapot\r\nx-b: 2\r\ncontent-length: 3\r\n\r\ntea"),
        ("HEAD /tea", "HTTP/1.1 418 I'm a teapot\r\nx-b: 2\r\ncontent-length: 3\r\n\r\n"),
        (
            "GET /streamed",
            "HTTP/1.1 200 OK\r\nx-b: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n",
        ),
    ] {
        assert_eq!(wire(&mut client, format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).await, answer, "{request}");
    }
    let closing = wire(&mut client, b"GET /empty HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(closing, "HTTP/1.1 200 OK\r\nx-b: 2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(matches!(served.await.unwrap(), Ok(End::Closed)));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_plain_is_handed_on_from_its_first_byte() {
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(HEAD_MAX));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(200));
    for request in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "CONNECT host:1 HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 70000\r\n\r\na",
        "GET  / HTTP/1.1\r\n\r\n",
        "nonsense\r\n\r\n",
        &long,
        &many,
    ] {
        let cancel = CancellationToken::new();
        let (mut client, served) = serving(echo, &cancel);
        let before = wire(&mut client, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(before.starts_with("HTTP/1.1 200"), "{before}");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut rest = other(served).await;
        drop(client.shutdown().await);
        let mut text = String::new();
        rest.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, *request);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_the_call_under_way() {
    let cancel = CancellationToken::new();
    let slow = |_: Request<Body>| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Response::new(Body::empty())
    };
    let (mut client, served) = serving(slow, &cancel);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    cancel.cancel();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(matches!(served.await.unwrap(), Ok(End::Closed)));
    let (_idle, served) = serving(slow, &cancel);
    assert!(matches!(served.await.unwrap(), Ok(End::Closed)));
}

#[tokio::test(start_paused = true)]
async fn somebody_else_goes_on_without_the_client_noticing() {
    let (mut client, server) = duplex(1 << 20);
    let [first, second, last] = [(); 3].map(|()| CancellationToken::new());
    let by = |name: &'static str| {
        move |_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Response::new(Body::full(name))
        }
    };
    let turns =
        [(first.clone(), "first"), (first.clone(), "nobody"), (second.clone(), "second"), (last.clone(), "third")];
    let served = tokio::spawn(async move {
        let mut connection = ServerConnection::new(server);
        for (cancel, name) in turns {
            let has_next = name != "third";
            match serve_on(connection, HEAD_MAX, &cancel, &|| has_next, by(name)).await.unwrap() {
                End::Stopped(open) => connection = open,
                End::Closed => return,
                End::Other(_) => panic!("plain requests"),
            }
        }
    });
    // Stopped under a call, whose answer does not tell of it, while the connection waits, and under half a head.
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.cancel();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(wire(&mut client, b"").await, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst");
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    second.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.write_all(b"\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(wire(&mut client, b"").await, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthird");
    last.cancel();
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_client() {
    struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let never = move |_: Request<Body>| {
        let mark = Dropped(sender.clone());
        async move {
            std::future::pending::<()>().await;
            drop(mark);
            Response::new(Body::empty())
        }
    };
    let (mut client, served) = serving(never, &CancellationToken::new());
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    assert!(matches!(served.await.unwrap(), Ok(End::Closed)));
    dropped.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn half_a_head_does_not_hold_a_connection_for_ever() {
    let (mut client, served) = serving(echo, &CancellationToken::new());
    client.write_all(b"GET / HT").await.unwrap();
    assert!(matches!(served.await.unwrap(), Ok(End::Closed)));
}

/// Answers one request with `answer`, in two pieces cut at `cut`.
async fn asked(
    verb: Method,
    answer: &'static [u8],
    cut: usize,
) -> Result<Answer<DuplexStream>, super::client::Failure> {
    let (client, mut server) = duplex(1 << 20);
    tokio::spawn(async move {
        let mut request = [0; 1024];
        let _ = server.read(&mut request).await;
        let _ = server.write_all(&answer[..cut]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _ = server.write_all(&answer[cut..]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    let request = Request::builder().method(verb.clone()).uri("/x?y").header("a", "b").body(()).unwrap();
    Connection::new(client).send(|out| write_request(out, &request), &verb, &Bytes::new(), HEAD_MAX).await
}

/// The body, whether the connection is kept, and what broke it.
async fn read(answer: Answer<DuplexStream>) -> (Vec<u8>, bool, Option<crate::body::BodyError>) {
    match answer.body {
        AnswerBody::Whole(bytes, connection) => (bytes.to_vec(), connection.is_some(), None),
        AnswerBody::Streaming(mut streaming) => {
            let mut all = Vec::new();
            while let Some(frame) = std::future::poll_fn(|cx| streaming.poll_data(cx)).await {
                match frame {
                    Ok(frame) => all.extend_from_slice(&frame.into_data().unwrap()),
                    Err(error) => return (all, false, Some(error)),
                }
            }
            (all, streaming.take_idle().is_some(), None)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_read_in_any_pieces() {
    #[rustfmt::skip] // a table
    let cases: [(&Method, &'static [u8], _, &[u8], _); 9] = [
        (&Method::GET, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", true),
        (&Method::GET, b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nConnection: close\r\n\r\nabc", 200, b"abc", false),
        (&Method::GET, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 \r\nContent-Length: 0\r\n\r\n", 201, b"", true),
        (&Method::HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 200, b"", true),
        (&Method::GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", 304, b"", true),
        (&Method::GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", 200, b"abcd", true),
        (&Method::GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\nx: y\r\n\r\n", 200, b"", true),
        (&Method::GET, b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", false),
        (&Method::GET, b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end", false),
    ];
    for (verb, answer, status, body, kept) in cases {
        for cut in 0..=answer.len() {
            let got = asked(verb.clone(), answer, cut).await.unwrap_or_else(|failure| panic!("{failure:?}"));
            assert_eq!(got.status, status);
            let read = read(got).await;
            let context = format!("{} cut at {cut}", String::from_utf8_lossy(answer));
            assert_eq!((read.0.as_slice(), read.1, read.2.is_some()), (body, kept, false), "{context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn broken_answers_are_errors() {
    for answer in [&b"nonsense\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"] {
        let failure = asked(Method::GET, answer, 0).await.err().unwrap();
        assert!(!failure.unanswered && !failure.unsent);
    }
    let nothing = asked(Method::GET, b"", 0).await.err().unwrap();
    assert!(nothing.unanswered, "{nothing:?}");
    let short = asked(Method::GET, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", 0).await.ok().unwrap();
    let (body, _, error) = read(short).await;
    assert!(body == b"ab" && error.unwrap().is::<EarlyEnd>());
    for broken in [&b"3\r\nabc\r\n"[..], b"x\r\n"] {
        let answer: &'static [u8] =
            [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], broken].concat().leak();
        let (_, _, error) = read(asked(Method::GET, answer, 0).await.ok().unwrap()).await;
        assert!(error.is_some());
    }
}

#[tokio::test]
async fn a_connection_the_server_closed_is_found_out() {
    let (client, server) = duplex(1024);
    let mut connection = Connection::new(client);
    assert!(connection.is_open());
    drop(server);
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_whole_request_is_taken() {
    let body = Bytes::from(vec![b'x'; 100_000]);
    // The server answers at once, and goes on or does not go on reading.
    for (reads_on, answer, kept) in [
        (false, &b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"[..], false),
        (true, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", true),
    ] {
        let (client, server) = duplex(1024);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(server);
            let mut beginning = [0; 16]; // less than the head
            let _ = read.read(&mut beginning).await;
            write.write_all(answer).await.unwrap();
            if reads_on {
                let mut left = 100_000;
                let mut part = [0; 4096];
                while left > 0 {
                    let many = read.read(&mut part).await.unwrap().min(left);
                    write.write_all(&vec![b'y'; many]).await.unwrap();
                    left -= many;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        let request = Request::builder().uri("/").body(()).unwrap();
        let connection = Connection::new(client);
        let sent = connection.send(|out| write_request(out, &request), &Method::POST, &body, HEAD_MAX).await;
        let (got, was_kept, error) = read(sent.ok().unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!((got.len(), was_kept), (if reads_on { 100_000 } else { 2 }, kept));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_though_the_server_stopped_reading() {
    let (client, mut server) = duplex(1024);
    tokio::spawn(async move {
        let mut head = [0; 64];
        let _ = server.read(&mut head).await;
        server.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let request = Request::builder().uri("/").body(()).unwrap();
    let body = Bytes::from(vec![b'x'; 100_000]);
    let sent = Connection::new(client).send(|out| write_request(out, &request), &Method::POST, &body, HEAD_MAX).await;
    let (got, kept, error) = read(sent.ok().unwrap()).await;
    assert!(got == b"no" && !kept && error.is_none(), "{got:?} {error:?}");
    // A connection that takes nothing: the request may be sent again, whatever its verb.
    let (client, server) = duplex(1024);
    drop(server);
    let sent = Connection::new(client).send(|out| write_request(out, &request), &Method::POST, &body, HEAD_MAX).await;
    assert!(sent.err().unwrap().unsent);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_have_many_headers() {
    let cookies = "set-cookie: a=b\r\n".repeat(500);
    let answer = format!("HTTP/1.1 200 OK\r\n{cookies}content-length: 0\r\n\r\n").into_bytes().leak();
    let got = asked(Method::GET, answer, 2000).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(got.headers.get_all("set-cookie").iter().count(), 500);
}

#[tokio::test(start_paused = true)]
async fn doubtful_connections_are_not_kept() {
    for answer in [
        &b"HTTP/1.1 101 Switching Protocols\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nabc",
    ] {
        let got = asked(Method::GET, answer, answer.len()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(!read(got).await.1, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test(start_paused = true)]
async fn an_interim_status_is_no_answer() {
    let early = |_: Request<Body>| async { Response::builder().status(103).body(Body::full("x")).unwrap() };
    let (mut client, served) = serving(early, &CancellationToken::new());
    let answer = wire(&mut client, b"GET / HTTP/1.1\r\n\r\n").await;
    let expected = "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answer, expected);
    assert!(matches!(served.await.unwrap(), Ok(End::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_protocol_is_passed_on_and_ends_the_connection() {
    let switching = |_: Request<Body>| async { Response::builder().status(101).body(Body::empty()).unwrap() };
    let (mut client, served) = serving(switching, &CancellationToken::new());
    let answer = wire(&mut client, b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 101 Switching Protocols\r\nconnection: close\r\n\r\n");
    assert!(matches!(served.await.unwrap(), Ok(End::Closed)));
}

#[tokio::test(start_paused = true)]
async fn the_last_byte_of_a_slow_body_is_waited_for() {
    let (mut client, served) = serving(echo, &CancellationToken::new());
    client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na").await.unwrap();
    drop(other(served).await);
}
