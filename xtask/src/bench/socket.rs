//! Connections of the driver and of the app behind the sidecars.

use std::io;
use std::os::fd::AsFd;

/// Sets a connection up so that only what is measured costs time: messages go at once, and no congestion control of the machine (BBR
/// paces by timers) spreads them.
pub(super) fn unpaced(stream: impl AsFd) -> io::Result<()> {
    rustix::net::sockopt::set_tcp_nodelay(&stream, true)?;
    Ok(rustix::net::sockopt::set_tcp_congestion(&stream, "reno")?)
}
