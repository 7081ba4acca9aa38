//! Whether anything comes from the other side of an HTTP/2 connection.
//!
//! *Neighbours:* whoever drives a connection gives it up when [`until_silent`] ends. *Invariant:* a connection is given up only when
//! nothing at all was received for a whole timeout after a ping: an answer to it that waits behind other data, or in the buffers of a
//! process that stood still, cuts no call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pillion_http2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Between two pings.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long nothing may come after one.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether something was received since it was asked last.
#[derive(Clone, Default)]
pub struct Heard(Arc<AtomicBool>);

/// The stream that notes what it receives, and where it notes it.
pub fn listen<S>(inner: S) -> (Listening<S>, Heard) {
    let heard = Heard::default();
    (Listening { inner, heard: heard.clone() }, heard)
}

/// Pings until nothing comes back: a host that vanished sends no end of its connections.
pub async fn until_silent(pings: Option<PingPong>, heard: Heard, interval: Duration, timeout: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        heard.0.store(false, Ordering::Relaxed);
        if pings.send_ping(Ping::opaque()).is_err() {
            return;
        }
        loop {
            let answered = std::future::poll_fn(|cx| pings.poll_pong(cx));
            match tokio::time::timeout(timeout, answered).await {
                Ok(Ok(_)) => break,
                Err(_) if heard.0.swap(false, Ordering::Relaxed) => {} // busy, and alive
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// A stream that notes that something was received.
pub struct Listening<S> {
    inner: S,
    heard: Heard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard.0.store(true, Ordering::Relaxed);
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
