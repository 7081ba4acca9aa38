//! The shorter way between two Pillions on one machine: a Unix socket beside the internal port.
//!
//! *Job:* a name for the socket, listening and the name's way to the caller. *Neighbours:* `inbound` serves it and tells its name
//! in the answer that offers [`crate::direct`] connections; `peer` takes it. *Invariant:* whoever could reach the internal port
//! through the loopback device can reach the socket, and nobody else: its name is in the abstract namespace, which belongs
//! to the network namespace; the name is random, so it leads to the sidecar that told it or to nobody. What is checked on a
//! connection (TLS, identity, access) is the same. A caller that cannot connect takes the port.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use tokio::net::UnixListener;

/// Beginning of every name.
const PREFIX: &str = "pillion/internal/";
const RANDOM_BYTES: usize = 16;

/// An open socket and its name.
#[derive(Debug)]
pub struct Shortcut {
    /// The socket.
    pub listener: UnixListener,
    /// Its name in the abstract namespace.
    pub name: String,
}

impl Shortcut {
    /// Opens a socket of a new name.
    ///
    /// # Errors
    /// The system has no such sockets (they are Linux's), no randomness or no more files.
    pub fn open() -> io::Result<Self> {
        let random = pillion_security::key::random::<RANDOM_BYTES>().map_err(io::Error::other)?;
        let mut name = PREFIX.to_owned();
        for byte in random {
            let _ = write!(name, "{byte:02x}"); // writing to a String cannot fail
        }
        Ok(Self { listener: UnixListener::bind(path(&name))?, name })
    }

    /// The same socket once more: whoever accepts gets the next connection.
    ///
    /// # Errors
    /// No more files can be opened.
    pub fn share(&self) -> io::Result<Self> {
        let shared = std::os::unix::net::UnixListener::from(self.listener.as_fd().try_clone_to_owned()?);
        Ok(Self { listener: UnixListener::from_std(shared)?, name: self.name.clone() })
    }
}

/// The socket a callee named, as a path that stands for a name in the abstract namespace; `None` for anything that is not
/// such a name.
pub(crate) fn told(name: &[u8]) -> Option<PathBuf> {
    let name = std::str::from_utf8(name).ok()?;
    let random = name.strip_prefix(PREFIX)?;
    let is_whole = random.len() == 2 * RANDOM_BYTES && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_whole.then(|| path(name))
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("\0{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_told_name_leads_to_its_socket_and_two_are_never_the_same() {
        let (first, second) = (Shortcut::open().unwrap(), Shortcut::open().unwrap());
        assert_ne!(first.name, second.name);
        let path = told(first.name.as_bytes()).unwrap();
        let (accepted, connected) = tokio::join!(first.listener.accept(), tokio::net::UnixStream::connect(&path));
        assert!(accepted.is_ok() && connected.is_ok());
        drop(first);
        assert!(tokio::net::UnixStream::connect(&path).await.is_err(), "nothing is left of it");
    }

    #[test]
    fn other_sockets_of_the_machine_cannot_be_named() {
        for name in ["1", "", "pillion/internal/", "/tmp/.X11-unix/X0", "pillion/internal/../../0123456789abcdef0123"] {
            assert!(told(name.as_bytes()).is_none(), "{name}");
        }
        assert!(told(b"pillion/internal/0123456789abcdef0123456789abcdef").is_some());
    }
}
