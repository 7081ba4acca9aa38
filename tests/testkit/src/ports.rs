//! Free TCP ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};

/// A port held by a listener until [`Reserved::release`], so that two tests never get the same one.
#[derive(Debug)]
pub struct Reserved {
    listener: TcpListener,
    port: u16,
}

impl Reserved {
    /// The reserved port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Gives the port free for the process that is about to be started.
    pub fn release(self) {
        drop(self.listener);
    }
}

/// Reserves a port the operating system chooses.
///
/// # Errors
/// When no port of the loopback address can be had.
pub fn reserve() -> std::io::Result<Reserved> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok(Reserved { listener, port })
}
