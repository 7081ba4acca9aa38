//! A connection whose small writes leave together.
//!
//! *Job:* HTTP/2 flushes after each frame that carries data, so that the head, the message and the end of one answer would be
//! three system calls here and three wake-ups of the other side. *Neighbours:* every HTTP/2 connection that carries calls is made
//! on one. *Invariant:* what was flushed is on its way after one more turn of the event loop, in which whoever has something to
//! add to the same connection gets the chance.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept back at most; more is written at once.
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// The connection; its owner must read from it whenever it is polled, as HTTP/2 does: this is how a turn is told from the next.
pub struct Corked<S> {
    inner: S,
    kept: BytesMut,
    turn: u64,
    /// The turn in which the first of the kept bytes was written.
    since: u64,
}

impl<S> Corked<S> {
    /// Takes a connection over.
    pub fn new(inner: S) -> Self {
        Self { inner, kept: BytesMut::new(), turn: 0, since: 0 }
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.advance(written);
        }
        if self.kept.capacity() > KEPT_BYTES_MAX {
            self.kept = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.turn += 1;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.kept.len() + bytes.len() > KEPT_BYTES_MAX {
            ready!(self.poll_send(cx))?;
            if bytes.len() > KEPT_BYTES_MAX {
                return Pin::new(&mut self.inner).poll_write(cx, bytes);
            }
        }
        if self.kept.is_empty() {
            self.since = self.turn;
        }
        self.kept.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before anything was read there is nothing to wait for: what a server says first also tells those who speak something else.
        if !self.kept.is_empty() && self.since == self.turn && self.turn > 0 {
            // Comes again after everybody who is ready now.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{Request, Response};
    use parking_lot::Mutex;
    use tokio::io::DuplexStream;

    use super::*;

    /// Tells the sizes of the writes that come through.
    struct Told {
        inner: DuplexStream,
        writes: Arc<Mutex<Vec<usize>>>,
    }

    impl AsyncRead for Told {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Told {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
            self.writes.lock().push(written);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    /// A call with a message and trailers each way; answers the sizes of the writes of client and server for it.
    async fn writes_of_a_call(message: usize) -> (Vec<usize>, Vec<usize>) {
        let (here, there) = tokio::io::duplex(1 << 22);
        let (mine, theirs) = (Arc::<Mutex<Vec<usize>>>::default(), Arc::<Mutex<Vec<usize>>>::default());
        let here = Corked::new(Told { inner: here, writes: mine.clone() });
        let there = Corked::new(Told { inner: there, writes: theirs.clone() });
        tokio::spawn(async move {
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(1 << 22).initial_connection_window_size(1 << 22);
            let mut connection = builder.handshake::<_, Bytes>(there).await.unwrap();
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
                    stream.send_trailers(http::HeaderMap::new()).unwrap();
                });
            }
        });
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 22).initial_connection_window_size(1 << 22);
        let (sender, connection) = builder.handshake(here).await.unwrap();
        tokio::spawn(async move { connection.await.unwrap() });
        let call = async || {
            let mut sender = sender.clone().ready().await.unwrap();
            let request = Request::post("http://a/b").body(()).unwrap();
            let (answer, mut stream) = sender.send_request(request, false).unwrap();
            stream.send_data(Bytes::from(vec![7; message]), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            let mut received = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                received += data.len();
            }
            body.trailers().await.unwrap();
            received
        };
        assert_eq!(call().await, message);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        mine.lock().clear();
        theirs.lock().clear();
        assert_eq!(call().await, message);
        (mine.lock().clone(), theirs.lock().clone())
    }

    #[tokio::test]
    async fn a_call_is_one_write_each_way() {
        let (mine, theirs) = writes_of_a_call(1000).await;
        assert!(mine.iter().filter(|size| **size > 1000).count() == 1, "{mine:?}");
        assert!(theirs.iter().filter(|size| **size > 1000).count() == 1, "{theirs:?}");
        assert!(mine.len() <= 2 && theirs.len() <= 2, "one may be a window update: {mine:?} {theirs:?}");
    }

    #[tokio::test]
    async fn what_is_said_before_anything_was_read_leaves_at_once() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (here, mut there) = tokio::io::duplex(64);
        let mut here = Corked::new(here);
        here.write_all(b"settings").await.unwrap();
        here.flush().await.unwrap();
        drop(here);
        let mut seen = String::new();
        there.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "settings");
    }

    #[tokio::test]
    async fn long_messages_pass_whole() {
        writes_of_a_call(3_000_000).await;
    }
}
