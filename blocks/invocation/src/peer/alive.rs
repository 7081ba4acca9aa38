//! HTTP/2 on a connection to another sidecar, for as long as anything comes from there.
//!
//! *Neighbours:* [`super`] dials and keeps what comes out of here. *Invariant:* a connection is given up only when nothing at all was
//! received for a whole [`PING_TIMEOUT`] after a ping: an answer to it that waits behind other data, or in the buffers of a process
//! that stood still, cuts no call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use pillion_runtime::corked::Corked;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Begins HTTP/2 on a connection.
pub(super) async fn establish<S>(stream: S) -> Result<SendRequest<Bytes>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    establish_with(stream, PING_INTERVAL, PING_TIMEOUT).await
}

async fn establish_with<S>(stream: S, interval: Duration, timeout: Duration) -> Result<SendRequest<Bytes>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let received = Arc::new(AtomicBool::new(false));
    let stream = Listening { inner: stream, received: received.clone() };
    let (sender, mut connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(Corked::new(stream))
        .await?;
    let pings = connection.ping_pong();
    tokio::spawn(async move {
        // Its streams get the error, also when it is dropped because nobody answers. First what has arrived is read: after
        // a standstill of this process it is there together with the end of the wait.
        tokio::select! {
            biased;
            _ = connection => {}
            () = until_silent(pings, &received, interval, timeout) => {}
        }
    });
    Ok(sender)
}

/// Pings until nothing comes back: a host that vanished sends no end of its connections.
async fn until_silent(pings: Option<PingPong>, received: &AtomicBool, interval: Duration, timeout: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        received.store(false, Ordering::Relaxed);
        if pings.send_ping(Ping::opaque()).is_err() {
            return;
        }
        loop {
            let answered = std::future::poll_fn(|cx| pings.poll_pong(cx));
            match tokio::time::timeout(timeout, answered).await {
                Ok(Ok(_)) => break,
                Err(_) if received.swap(false, Ordering::Relaxed) => {} // busy, and alive
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// A stream that notes that something was received.
struct Listening<S> {
    inner: S,
    received: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.received.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// An empty SETTINGS frame, and a WINDOW_UPDATE of one byte.
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const UPDATE: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[tokio::test]
    async fn who_sends_without_answering_pings_is_alive_and_who_sends_nothing_is_not() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_millis(200));
        let sender = establish_with(near, interval, timeout).await.unwrap();
        far.write_all(SETTINGS).await.unwrap();
        for _ in 0..50 {
            far.write_all(UPDATE).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sender.clone().ready().await.expect("it sends");
        let is_given_up = async {
            while sender.clone().ready().await.is_ok() {
                tokio::time::sleep(interval).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_given_up).await.expect("it is silent");
    }
}
