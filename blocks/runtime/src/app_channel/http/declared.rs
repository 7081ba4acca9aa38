//! Response bodies of an app whose `Content-Length` may be wrong.
//!
//! *Job:* an app that declares more than it sends still has its answer passed on, as in the original; what the caller is
//! told of the length is then the truth or nothing. *Neighbours:* [`super::HttpChannel`] hands every answer through here.
//! *Invariant:* only an end before the declared length is forgiven; a chunked body that breaks off is an error, so that
//! half an answer never looks whole. A small body costs no extra copy when it comes in one piece.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};

use crate::body::{Body, BodyError};
use crate::http1::client::EarlyEnd;

/// Bodies that declare up to this many bytes are read before the answer goes on, so that its length is known.
const READ_FIRST_BYTES: u64 = 64 * 1024;

/// Makes a body whose known length, if it has one, is that of the bytes that came.
///
/// # Errors
/// A small body broke for another reason than its end.
pub(super) async fn trust_no_length(body: Body) -> Result<Body, BodyError> {
    match body.known_length() {
        None | Some(0) => Ok(body),
        Some(_) if body.as_full().is_some() => Ok(body),
        Some(length) if length <= READ_FIRST_BYTES => Ok(Body::full(read(body).await?)),
        Some(_) => Ok(Body::boxed(Undeclared(body))),
    }
}

async fn read(mut body: Body) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut all: Option<BytesMut> = None;
    while let Some(chunk) = body.chunk().await {
        match chunk {
            Ok(chunk) if first.is_empty() => first = chunk,
            Ok(chunk) => all.get_or_insert_with(|| BytesMut::from(first.as_ref())).extend_from_slice(&chunk),
            Err(error) if is_early_end(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(all.map_or(first, BytesMut::freeze))
}

/// A body of unknown length that may end early.
struct Undeclared(Body);

impl HttpBody for Undeclared {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
            Some(Err(error)) if is_early_end(&error) => Poll::Ready(None),
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Whether the app closed the connection before the end it had announced.
fn is_early_end(error: &BodyError) -> bool {
    if error.is::<EarlyEnd>() {
        return true;
    }
    let cause = error.downcast_ref::<hyper::Error>().and_then(|error| error.source());
    cause
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::app_channel::pool::{HostPool, Protocol};

    /// What becomes of an answer that is sent literally before the connection is closed.
    async fn answer(text: String) -> Result<Body, BodyError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool: Arc<HostPool> =
            HostPool::new("127.0.0.1", listener.local_addr().unwrap().port(), Protocol::Http1, 0, 4096);
        let app = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(text.as_bytes()).await.unwrap();
        };
        let call = async {
            let request = Request::get("/").header("host", "x").body(Body::empty()).unwrap();
            trust_no_length(pool.send(request).await.unwrap().into_body()).await
        };
        tokio::join!(app, call).1
    }

    #[tokio::test]
    async fn a_stale_length_is_replaced_by_the_true_one() {
        let body = answer("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n\"ok\"".to_owned()).await.unwrap();
        assert_eq!(body.known_length(), Some(4));
        assert_eq!(body.collect(0).await.unwrap(), "\"ok\"");
    }

    #[tokio::test]
    async fn a_long_body_has_no_known_length_and_may_end_early() {
        let sent = "x".repeat(70_000);
        let body = answer(format!("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n{sent}")).await.unwrap();
        assert_eq!(body.known_length(), None);
        assert_eq!(body.collect(0).await.unwrap(), sent);
    }

    #[tokio::test]
    async fn a_chunked_body_that_breaks_off_is_an_error() {
        let body = answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel".to_owned()).await.unwrap();
        body.collect(0).await.unwrap_err();
    }
}
