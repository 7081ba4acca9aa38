//! Many calls on several threads, some of which are given up anywhere: nothing is lost, nobody waits for ever.

#![allow(clippy::unwrap_used)] // tests

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use pillion_http2::client::SendRequest;
use pillion_http2::server::SendResponse;
use pillion_http2::{Reason, RecvStream, SendStream, client, server};
use tokio::net::{TcpListener, TcpStream};

async fn send(stream: &mut SendStream, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = match stream.capacity() {
            0 => match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(granted) => granted.unwrap(),
                None => return false,
            },
            granted => granted,
        };
        if stream.send_data(data.split_to(granted.min(data.len())), false).is_err() {
            return false;
        }
    }
    true
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse) {
    let mut body = request.into_body();
    let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        if !send(&mut stream, data).await {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = stream.send_trailers(trailers); // the caller may be gone
}

async fn call(mut sender: SendRequest, number: usize) {
    let length = [0, 10, 1000, 70_000, 400_000][number % 5];
    let request = Request::post("http://app.example/a.B/C").header("x-number", number).body(()).unwrap();
    let (answer, mut stream) = sender.send_request(request, false).unwrap();
    drop(sender);
    let sent: Bytes = (0..length).map(|place| (place * number) as u8).collect::<Vec<_>>().into();
    let giving_up = number % 7 == 3;
    let message = sent.clone();
    let sending = tokio::spawn(async move {
        if giving_up {
            send(&mut stream, message.slice(..length / 2)).await;
            if number.is_multiple_of(2) {
                stream.send_reset(Reason::CANCEL);
            }
            return;
        }
        if number.is_multiple_of(2) {
            assert!(send(&mut stream, message).await);
            stream.send_data(Bytes::new(), true).unwrap();
        } else {
            stream.send_data(message, true).unwrap();
        }
    });
    if giving_up {
        let _ = tokio::time::timeout(Duration::from_millis(number as u64 % 3), answer).await;
        // Who echoes to nobody does not read on either.
        sending.abort();
        let _ = sending.await; // given up
        return;
    }
    let mut body = answer.await.unwrap().into_body();
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    assert!(received == sent);
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_on_several_threads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut builder = server::Builder::new();
                builder.max_concurrent_streams(50);
                let mut connection = builder.handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(echo(request, respond));
                }
            });
        }
    });
    let mut connections = Vec::new();
    for _ in 0..4 {
        let (sender, connection) = client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
        let connection = tokio::spawn(connection);
        call(sender.clone(), 0).await; // knows the server's limit then
        let calls: Vec<_> = (0..300).map(|number| tokio::spawn(call(sender.clone(), number))).collect();
        connections.push((connection, calls));
        drop(sender);
    }
    for (connection, calls) in connections {
        for call in calls {
            tokio::time::timeout(Duration::from_secs(60), call).await.expect("it hangs").unwrap();
        }
        // Nothing is left on it: it ends by itself.
        tokio::time::timeout(Duration::from_secs(10), connection).await.expect("it hangs").unwrap().unwrap();
    }
}

#[test]
fn handles_may_move_between_threads() {
    fn moves<T: Send + Sync + 'static>() {}
    moves::<SendRequest>();
    moves::<SendResponse>();
    moves::<SendStream>();
    moves::<RecvStream>();
    moves::<client::ResponseFuture>();
    moves::<client::Connection<TcpStream>>();
    moves::<server::Connection<TcpStream>>();
    moves::<pillion_http2::PingPong>();
    moves::<pillion_http2::Error>();
}
