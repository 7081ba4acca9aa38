//! What belongs together leaves together.

#![allow(clippy::unwrap_used)] // tests

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use pillion_http2::client::SendRequest;
use pillion_http2::{client, server};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

type Writes = Arc<Mutex<Vec<usize>>>;

/// Tells the sizes of the writes that come through.
struct Told {
    inner: DuplexStream,
    writes: Writes,
}

impl AsyncRead for Told {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Told {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.writes.lock().unwrap().push(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A client whose server echoes, and the sizes of the writes of both.
async fn told() -> (SendRequest, Writes, Writes) {
    let (near, far) = tokio::io::duplex(1 << 22);
    let (mine, theirs) = (Writes::default(), Writes::default());
    let near = Told { inner: near, writes: mine.clone() };
    let far = Told { inner: far, writes: theirs.clone() };
    tokio::spawn(async move {
        let mut connection = server::handshake(far).await.unwrap();
        while let Some(call) = connection.accept().await {
            let (request, mut respond) = call.unwrap();
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut received = Vec::new();
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    received.extend_from_slice(&data);
                }
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(received.into(), false).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                stream.send_trailers(trailers).unwrap();
            });
        }
    });
    let (sender, connection) = client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    (sender, mine, theirs)
}

async fn call(sender: &SendRequest, message: usize) {
    let request = Request::post("http://a/b").body(()).unwrap();
    let (answer, mut stream) = sender.clone().send_request(request, false).unwrap();
    stream.send_data(Bytes::from(vec![7; message]), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    body.trailers().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_is_one_write_each_way_and_so_are_many_at_once() {
    let (sender, mine, theirs) = told().await;
    call(&sender, 1000).await;
    for calls in [1, 20] {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        mine.lock().unwrap().clear();
        theirs.lock().unwrap().clear();
        let calls: Vec<_> = (0..calls)
            .map(|_| {
                let sender = sender.clone();
                tokio::spawn(async move { call(&sender, 1000).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(mine.lock().unwrap().len(), 1, "{mine:?}");
        assert_eq!(theirs.lock().unwrap().len(), 1, "{theirs:?}");
    }
}

#[tokio::test]
async fn the_first_words_of_a_client_leave_with_its_first_call() {
    let (sender, mine, theirs) = told().await;
    call(&sender, 1000).await;
    let mine = mine.lock().unwrap().clone();
    assert!(mine[0] > 1000 && mine.len() <= 2, "the answer to SETTINGS may be another: {mine:?}");
    assert!(theirs.lock().unwrap().len() <= 2, "{theirs:?}");
}
