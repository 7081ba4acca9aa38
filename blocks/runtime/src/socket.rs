//! Sockets, set up for short messages: those of TCP, and Unix sockets of this machine.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The simplest congestion control, which every kernel has.
#[cfg(target_os = "linux")]
const UNPACED: &str = "reno";

/// Sets a connection up for short messages that go at once.
///
/// Within one machine it also takes the congestion control that does nothing while nothing is lost. Many machines have BBR, which
/// paces what it sends by timers and a model of the network; over the loopback device that doubles the time of a message under
/// load and saves nothing.
///
/// # Errors
/// The system cannot send at once.
pub fn for_messages(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    if stays_here(stream) {
        let _ = rustix::net::sockopt::set_tcp_congestion(stream, UNPACED); // only slower without it
    }
    Ok(())
}

/// Whether both ends are on this machine.
#[cfg(target_os = "linux")]
fn stays_here(stream: &TcpStream) -> bool {
    let Ok(peer) = stream.peer_addr() else { return false };
    peer.ip().to_canonical().is_loopback() || stream.local_addr().is_ok_and(|own| own.ip() == peer.ip())
}

/// A connected Unix socket.
///
/// Tokio's own asks the system to tell when it can be written to. The system then wakes the writer each time the reader has
/// taken a message: one more wake-up per message on each side. This one asks only after a write that did not fit.
#[derive(Debug)]
pub struct UnixSocket {
    stream: AsyncFd<StdUnixStream>,
    /// The same socket, watched for room; only while a write waits.
    full: Option<AsyncFd<StdUnixStream>>,
}

impl UnixSocket {
    /// Takes a connection over that does not block.
    ///
    /// # Errors
    /// The system cannot watch it.
    pub fn new(stream: StdUnixStream) -> io::Result<Self> {
        Ok(Self { stream: watched(stream, Interest::READABLE)?, full: None })
    }

    /// Connects to the socket at `path`; a path that begins with a zero byte is a name in the abstract namespace.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Self::new(UnixStream::connect(path).await?.into_std()?)
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&StdUnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                let mut room = ready!(full.poll_write_ready(cx))?;
                match room.try_io(|full| write(full.get_ref())) {
                    Ok(written) => {
                        self.full = None;
                        return Poll::Ready(written);
                    }
                    Err(_) => continue, // no room yet
                }
            }
            match write(self.stream.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let same = self.stream.get_ref().try_clone()?;
                    self.full = Some(watched(same, Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

#[expect(deprecated, reason = "unsound for descriptors that somebody else may close; a stream of std owns its own")]
fn watched(stream: StdUnixStream, interest: Interest) -> io::Result<AsyncFd<StdUnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

impl AsyncRead for UnixSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.stream.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            match ready.try_io(|stream| stream.get_ref().read(room)) {
                Ok(Ok(read)) => {
                    // Less than there was room for: the next read would find nothing, and need not be tried.
                    if read > 0 && read < room.len() {
                        ready.clear_ready();
                    }
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {} // nothing there
            }
        }
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(cx, |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(cx, |mut stream| stream.write_vectored(buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // nothing is kept back
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_within_the_machine_are_not_paced() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else { continue }; // no IPv6
            let port = listener.local_addr().unwrap().port();
            let to = if address.starts_with("[::1]") { "::1" } else { "127.0.0.1" };
            let (connected, accepted) = tokio::join!(TcpStream::connect((to, port)), listener.accept());
            for stream in [connected.unwrap(), accepted.unwrap().0] {
                for_messages(&stream).unwrap();
                assert!(stream.nodelay().unwrap());
                assert_eq!(rustix::net::sockopt::tcp_congestion(&stream).unwrap(), UNPACED, "{address}");
            }
        }
    }

    fn socket(stream: UnixStream) -> UnixSocket {
        UnixSocket::new(stream.into_std().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_until_it_is_read() {
        let (writing, reading) = UnixStream::pair().unwrap();
        let (mut writing, mut reading) = (socket(writing), socket(reading));
        let sent: Vec<u8> = (0..4_000_000_u32).map(|number| number as u8).collect();
        let write = async {
            writing.write_all(&sent).await.unwrap();
            assert!(writing.full.is_none(), "nobody waits for room any more");
            writing.write_all(b"end").await.unwrap();
            writing.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (done, ()) = tokio::join!(reading.read_to_end(&mut read), write);
        assert_eq!(done.unwrap(), sent.len() + 3);
        assert!(read.starts_with(&sent) && read.ends_with(b"end"));
    }

    #[tokio::test]
    async fn messages_go_both_ways_one_after_another() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, mut there) = (socket(here), socket(there));
        let echo = async {
            let mut buffer = [0; 64];
            for _ in 0..1000 {
                let read = there.read(&mut buffer).await.unwrap();
                there.write_all(&buffer[..read]).await.unwrap();
            }
        };
        let ask = async {
            for number in 0..1000_u32 {
                here.write_all(&number.to_be_bytes()).await.unwrap();
                let mut answer = [0; 4];
                here.read_exact(&mut answer).await.unwrap();
                assert_eq!(u32::from_be_bytes(answer), number);
            }
        };
        tokio::join!(echo, ask);
    }
}
