// Included by main.rs, which says what `client`, `server`, `connect` and `serve` are; `Reason` and `RecvStream` are the client's.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

type Server = server::Connection<DuplexStream>;
type Ended = JoinHandle<Result<(), String>>;

const PIPE: usize = 1 << 16;

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it hangs")
}

/// A connection with windows of this size each way; the server's side is to be driven by the test.
async fn pair_of(window: u32, streams: Option<u32>) -> (client::SendRequest, Ended, Server) {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut builder = client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
    let mut server = server::Builder::new();
    server.initial_window_size(window).initial_connection_window_size(window.max(65_535));
    if let Some(streams) = streams {
        server.max_concurrent_streams(streams);
    }
    let serving = tokio::spawn(async move { serve(&server, far).await });
    let (sender, connection) = connect(&builder, near).await;
    let ended = tokio::spawn(async move { connection.await.map_err(|error| error.to_string()) });
    (sender, ended, within(serving).await.unwrap())
}

/// The same with a server that echoes in tasks of their own.
async fn echoing(window: u32, streams: Option<u32>) -> (client::SendRequest, Ended, JoinHandle<()>) {
    let (sender, ended, mut server) = pair_of(window, streams).await;
    let serving = tokio::spawn(async move {
        while let Some(call) = server.accept().await {
            let Ok((request, respond)) = call else { return };
            tokio::spawn(echo(request, respond));
        }
    });
    (sender, ended, serving)
}

async fn echo(request: Request<server::RecvStream>, mut respond: server::SendResponse) {
    let (parts, mut body) = request.into_parts();
    let mut answer = Response::new(());
    for (name, value) in &parts.headers {
        if name != "te" {
            answer.headers_mut().append(name, value.clone());
        }
    }
    let Ok(mut stream) = respond.send_response(answer, false) else { return };
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        body.flow_control().release_capacity(data.len()).unwrap();
        stream.send_data(data, false).unwrap();
    }
    let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers).unwrap();
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://app.example{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

async fn read(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>), String> {
    let mut all = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| error.to_string())?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(|error| error.to_string())?;
    Ok((all.freeze(), trailers))
}

async fn call(sender: &client::SendRequest, message: Bytes) -> Result<Bytes, String> {
    let mut sender = sender.clone().ready().await.map_err(|error| error.to_string())?;
    let (answer, mut stream) = sender.send_request(post("/a.B/C"), false).map_err(|error| error.to_string())?;
    stream.send_data(message, true).map_err(|error| error.to_string())?;
    let answer = answer.await.map_err(|error| error.to_string())?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let (data, trailers) = read(answer.into_body()).await?;
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    Ok(data)
}

fn message(length: usize) -> Bytes {
    (0..length).map(|place| (place * 7 % 251) as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn unary_calls_have_answers_and_trailers() {
    let (sender, ended, _serving) = echoing(65_535, None).await;
    for length in [0, 1, 1000, 5000, 40_000] {
        let sent = message(length);
        for _ in 0..3 {
            assert_eq!(within(call(&sender, sent.clone())).await.unwrap(), sent);
        }
    }
    drop(sender);
    within(ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn long_messages_pass_small_windows_both_ways() {
    for window in [1000, 65_535, 1 << 20] {
        let (sender, _ended, _serving) = echoing(window, None).await;
        let sent = message(3_000_000);
        let (one, two) = within(async { tokio::join!(call(&sender, sent.clone()), call(&sender, sent.clone())) }).await;
        assert!(one.unwrap() == sent && two.unwrap() == sent);
    }
}

#[tokio::test]
async fn many_calls_at_once() {
    let (sender, _ended, _serving) = echoing(65_535, None).await;
    let mut calls = Vec::new();
    for number in 0..500 {
        let sender = sender.clone();
        calls.push(tokio::spawn(async move { call(&sender, message(number * 10)).await }));
    }
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(within(call).await.unwrap().unwrap(), message(number * 10));
    }
}

#[tokio::test]
async fn calls_past_the_peers_limit_wait() {
    let (sender, _ended, _serving) = echoing(65_535, Some(3)).await;
    call(&sender, message(10)).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..50 {
        let sender = sender.clone();
        calls.push(tokio::spawn(async move { call(&sender, message(100_000)).await }));
    }
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap(), message(100_000));
    }
}

#[tokio::test]
async fn a_handle_is_not_ready_while_its_request_waits() {
    let (mut sender, _ended, mut server) = pair_of(65_535, Some(1)).await;
    let calls = tokio::spawn(async move {
        let (request, respond) = server.accept().await.unwrap().unwrap();
        let (sent, wait) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            wait.await.unwrap();
            echo(request, respond).await;
        });
        let driving = tokio::spawn(async move {
            while let Some(Ok((request, respond))) = server.accept().await {
                tokio::spawn(echo(request, respond));
            }
        });
        (sent, driving)
    });
    let (first, mut one) = sender.send_request(post("/1"), false).unwrap();
    one.send_data(message(10), true).unwrap();
    let (sent, _driving) = within(calls).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut sender = within(sender.ready()).await.unwrap();
    let (second, mut two) = sender.send_request(post("/2"), false).unwrap();
    two.send_data(message(20), true).unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(30), poll_fn(|cx| sender.poll_ready(cx))).await;
    assert!(waits.is_err(), "the second request has no stream yet");
    sent.send(()).unwrap();
    assert_eq!(read(within(first).await.unwrap().into_body()).await.unwrap().0, message(10));
    within(poll_fn(|cx| sender.poll_ready(cx))).await.unwrap();
    assert_eq!(read(within(second).await.unwrap().into_body()).await.unwrap().0, message(20));
}

#[tokio::test]
async fn senders_that_wait_for_capacity_stay_within_it() {
    let (sender, _ended, mut server) = pair_of(20_000, None).await;
    tokio::spawn(async move {
        while let Some(Ok((request, mut respond))) = server.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut length = 0;
                while let Some(Ok(data)) = body.data().await {
                    tokio::task::yield_now().await;
                    length += data.len();
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
                let answer = Response::builder().header("length", length).body(()).unwrap();
                respond.send_response(answer, true).unwrap();
            });
        }
    });
    let mut calls = Vec::new();
    for _ in 0..8 {
        let mut sender = sender.clone();
        calls.push(tokio::spawn(async move {
            let (answer, mut stream) = sender.send_request(post("/"), false).unwrap();
            send(&mut stream, message(500_000)).await;
            stream.send_data(Bytes::new(), true).unwrap();
            answer.await.unwrap().headers()["length"].clone()
        }));
    }
    for call in calls {
        assert_eq!(within(call).await.unwrap(), "500000");
    }
}

#[tokio::test]
async fn what_was_asked_for_once_comes_in_parts() {
    let (sender, _ended, _serving) = echoing(20_000, None).await;
    let (answer, mut stream) = sender.clone().send_request(post("/"), false).unwrap();
    let reading = tokio::spawn(async move { read(answer.await.unwrap().into_body()).await.unwrap().0 });
    let mut data = message(500_000);
    stream.reserve_capacity(data.len());
    while !data.is_empty() {
        let granted = within(poll_fn(|cx| stream.poll_capacity(cx))).await.unwrap().unwrap();
        stream.send_data(data.split_to(granted.min(data.len())), false).unwrap();
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert!(within(reading).await.unwrap() == message(500_000));
}

async fn send(stream: &mut Sending, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = match stream.capacity() {
            0 => poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap(),
            granted => granted,
        };
        stream.send_data(data.split_to(granted.min(data.len())), false).unwrap();
    }
}

#[tokio::test]
async fn a_client_that_gives_up_is_noticed() {
    let (mut sender, _ended, mut server) = pair_of(65_535, None).await;
    let noticed = tokio::spawn(async move {
        let (request, mut respond) = server.accept().await.unwrap().unwrap();
        let driving = tokio::spawn(async move { server.accept().await.is_none() });
        let reason = poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        let mut body = request.into_body();
        let error = body.data().await.unwrap().unwrap_err();
        assert!(error.is_reset() && error.is_remote());
        (u32::from(reason), u32::from(error.reason().unwrap()), driving)
    });
    let (answer, mut stream) = sender.send_request(post("/"), false).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.send_reset(Reason::CANCEL);
    let error = within(answer).await.unwrap_err();
    assert_eq!((error.is_reset(), error.is_remote(), error.reason()), (true, false, Some(Reason::CANCEL)));
    let (reset, read, driving) = within(noticed).await.unwrap();
    assert_eq!((reset, read), (8, 8));
    drop((sender, stream));
    assert!(within(driving).await.unwrap());
}

#[tokio::test]
async fn dropped_handles_cancel() {
    let (mut sender, _ended, mut server) = pair_of(65_535, None).await;
    let noticed = tokio::spawn(async move {
        let (_request, mut respond) = server.accept().await.unwrap().unwrap();
        let driving = tokio::spawn(async move { server.accept().await.is_none() });
        (u32::from(poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()), driving)
    });
    let (answer, stream) = sender.send_request(post("/"), false).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(stream);
    drop(answer);
    assert_eq!(within(noticed).await.unwrap().0, 8);
}

#[tokio::test]
async fn a_server_that_gives_up_is_noticed() {
    let (sender, _ended, mut server) = pair_of(65_535, None).await;
    tokio::spawn(async move {
        let mut number = 0;
        while let Some(Ok((_request, mut respond))) = server.accept().await {
            number += 1;
            match number {
                1 => respond.send_reset(server::Reason::REFUSED_STREAM),
                2 => {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(message(10), false).unwrap();
                    stream.send_reset(server::Reason::INTERNAL_ERROR);
                }
                _ => {} // dropped
            }
        }
    });
    let mut sender = sender.ready().await.unwrap();
    let (answer, _stream) = sender.send_request(post("/1"), true).unwrap();
    let error = within(answer).await.unwrap_err();
    assert_eq!((error.is_reset(), error.is_remote(), error.reason()), (true, true, Some(Reason::REFUSED_STREAM)));
    assert_eq!(error.to_string(), "stream error received: refused stream before processing any application logic");
    let (answer, mut stream) = sender.send_request(post("/2"), false).unwrap();
    let error = match within(answer).await {
        Ok(answer) => within(read(answer.into_body())).await.unwrap_err(),
        Err(error) => error.to_string(),
    };
    assert_eq!(error, "stream error received: unexpected internal error encountered");
    assert_eq!(within(poll_fn(|cx| stream.poll_reset(cx))).await.unwrap(), Reason::INTERNAL_ERROR);
    let (answer, _stream) = sender.send_request(post("/3"), true).unwrap();
    assert_eq!(within(answer).await.unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let (mut sender, _ended, mut server) = pair_of(65_535, None).await;
    tokio::spawn(async move {
        while let Some(Ok((request, mut respond))) = server.accept().await {
            tokio::spawn(async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(message(30), true).unwrap();
                read_all(request.into_body()).await
            });
        }
    });
    let (answer, mut stream) = sender.send_request(post("/"), false).unwrap();
    let (data, trailers) = read(within(answer).await.unwrap().into_body()).await.unwrap();
    assert_eq!((data, trailers), (message(30), None));
    stream.send_data(message(70_000), false).unwrap();
    stream.send_data(Bytes::new(), true).unwrap();
    drop(stream);
}

async fn read_all(mut body: server::RecvStream) -> usize {
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    length
}

#[tokio::test]
async fn a_graceful_end_lets_calls_come_to_theirs() {
    let (sender, ended, mut server) = pair_of(65_535, None).await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let (request, respond) = server.accept().await.unwrap().unwrap();
        server.graceful_shutdown();
        tokio::spawn(async move {
            wait.await.unwrap();
            echo(request, respond).await;
        });
        server.accept().await.is_none()
    });
    let (answer, mut stream) = sender.clone().send_request(post("/"), false).unwrap();
    stream.send_data(message(100), false).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = sender.clone().ready().await.unwrap_err();
    assert_eq!((error.is_go_away(), error.is_remote(), error.reason()), (true, true, Some(Reason::NO_ERROR)));
    go.send(()).unwrap();
    stream.send_data(message(0), true).unwrap();
    assert_eq!(within(read(within(answer).await.unwrap().into_body())).await.unwrap().0, message(100));
    drop(stream);
    assert!(within(serving).await.unwrap());
    within(ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_abrupt_end_says_why() {
    let (mut sender, ended, mut server) = pair_of(65_535, None).await;
    let (answer, _stream) = sender.send_request(post("/"), false).unwrap();
    let _call = within(server.accept()).await.unwrap().unwrap();
    server.abrupt_shutdown(server::Reason::ENHANCE_YOUR_CALM);
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    let error = within(answer).await.unwrap_err();
    assert!(error.is_io() || (error.is_go_away() && error.is_remote()), "{error}");
    assert!(within(ended).await.unwrap().unwrap_err().contains("detected excessive load generating behavior"));
    assert!(sender.ready().await.is_err());
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_of_its_calls() {
    let (mut sender, _ended, mut server) = pair_of(65_535, None).await;
    let (answer, _stream) = sender.send_request(post("/"), false).unwrap();
    let (request, _respond) = within(server.accept()).await.unwrap().unwrap();
    drop(server);
    assert!(within(answer).await.is_err());
    assert!(within(request.into_body().data()).await.unwrap().is_err());
    assert!(within(sender.ready()).await.is_err());
}

#[tokio::test]
async fn many_headers_pass() {
    let (sender, _ended, _serving) = echoing(65_535, None).await;
    let mut request = post("/");
    for number in 0..400 {
        let name = http::HeaderName::from_bytes(format!("x-header-{number}").as_bytes()).unwrap();
        request.headers_mut().insert(name, format!("{}-{number}", "v".repeat(200)).parse().unwrap());
    }
    for _ in 0..3 {
        let mut copy = post("/");
        *copy.headers_mut() = request.headers().clone();
        let (answer, mut stream) = sender.clone().send_request(copy, false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("17"));
        stream.send_trailers(trailers).unwrap();
        let answer = within(answer).await.unwrap();
        assert_eq!(answer.headers()["x-header-399"], format!("{}-399", "v".repeat(200)));
        assert_eq!(answer.headers().len(), 401);
        let (_, trailers) = read(answer.into_body()).await.unwrap();
        assert_eq!(trailers.unwrap()["x-checksum"], "17");
    }
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut builder = server::Builder::new();
    builder.max_header_list_size(2000);
    tokio::spawn(async move {
        let mut server = serve(&builder, far).await;
        while let Some(Ok((request, respond))) = server.accept().await {
            tokio::spawn(echo(request, respond));
        }
    });
    let (sender, connection) = connect(&client::Builder::new(), near).await;
    tokio::spawn(async move { connection.await.map_err(|error| error.to_string()) });
    call(&sender, message(3)).await.unwrap();
    let mut request = post("/");
    request.headers_mut().insert("x-long", "v".repeat(3000).parse().unwrap());
    let (answer, _stream) = sender.clone().send_request(request, true).unwrap();
    assert_eq!(within(answer).await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    call(&sender, message(3)).await.unwrap();
}

#[tokio::test]
async fn pings_are_answered() {
    let (near, far) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        let mut server = serve(&server::Builder::new(), far).await;
        while server.accept().await.is_some() {}
    });
    let (_sender, mut connection) = connect(&client::Builder::new(), near).await;
    let mut pings = connection.ping_pong().unwrap();
    assert!(connection.ping_pong().is_none());
    tokio::spawn(async move { connection.await.map_err(|error| error.to_string()) });
    for _ in 0..3 {
        within(ping(&mut pings)).await;
    }
}

#[tokio::test]
async fn what_nobody_reads_takes_no_window_from_others() {
    let (sender, _ended, _serving) = echoing(65_535, None).await;
    for _ in 0..20 {
        // Dropped with data unread: the connection's window is given back.
        let (answer, mut stream) = sender.clone().send_request(post("/"), false).unwrap();
        stream.send_data(message(60_000), true).unwrap();
        drop(within(answer).await.unwrap());
    }
    assert_eq!(within(call(&sender, message(100_000))).await.unwrap(), message(100_000));
}
