//! The end of a connection whose client may still be sending.
//!
//! *Job:* get a stream back from the HTTP/2 server that had it, and read what the client sent before it learned of the end.
//! *Neighbours:* `inbound`. *Invariant:* a connection that ends in good order is not closed over unread bytes: the system would
//! answer those with a reset, and the client would lose the frame that tells which of its requests were never taken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// A client that does not close within this time is not waited for.
const LIMIT: Duration = Duration::from_secs(1);

/// A stream that comes back when whoever has it drops it.
pub(crate) struct Lent<S> {
    /// `None` only while it is dropped.
    stream: Option<S>,
    back: Option<oneshot::Sender<S>>,
}

/// Lends a stream; it comes back by the receiver.
pub(crate) fn lend<S>(stream: S) -> (Lent<S>, oneshot::Receiver<S>) {
    let (back, returned) = oneshot::channel();
    (Lent { stream: Some(stream), back: Some(back) }, returned)
}

/// Reads and forgets until the client closes.
pub(crate) async fn read_to_end<S: AsyncRead + Unpin>(returned: oneshot::Receiver<S>) {
    let Ok(mut stream) = returned.await else { return };
    let mut unread = [0; 4096];
    let end = async { while matches!(stream.read(&mut unread).await, Ok(read) if read > 0) {} };
    let _ = tokio::time::timeout(LIMIT, end).await; // closed all the same
}

impl<S> Lent<S> {
    fn with<T>(&mut self, poll: impl FnOnce(&mut S) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.stream {
            Some(stream) => poll(stream),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(back), Some(stream)) = (self.back.take(), self.stream.take()) {
            let _ = back.send(stream); // nobody waits for it: closed
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_read(cx, buf))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| Pin::new(stream).poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn what_was_said_last_arrives_though_more_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(b"a request that nobody reads").await.unwrap();
        let (mut lent, returned) = lend(server);
        lent.write_all(b"goodbye").await.unwrap();
        lent.shutdown().await.unwrap();
        drop(lent);
        let reader = tokio::spawn(read_to_end(returned));
        client.write_all(b"and another one").await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "goodbye");
        drop(client);
        reader.await.unwrap();
    }
}
