//! Multicast sockets, one per network interface and IP version.
//!
//! *Job:* finds the interfaces, opens their sockets on the mDNS port beside those of other programs. *Neighbours:* `engine`
//! owns the links. *Invariant:* a link hears and speaks on its interface only, so that an answer leaves where its question
//! came from.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// The groups of mDNS (RFC 6762 §3).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// mDNS messages stay on the link, which receivers check by this value.
const HOPS: u32 = 255;

/// Where to listen: an interface and one of its addresses' families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    V4 { interface: String, address: Ipv4Addr },
    V6 { interface: String, index: u32 },
}

/// An open place.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) place: Place,
    pub(super) socket: Arc<UdpSocket>,
    group: SocketAddr,
}

impl Link {
    /// # Errors
    /// As the system; for example when another program keeps the port to itself.
    pub(super) fn open(place: Place, port: u16) -> io::Result<Self> {
        let (socket, local, group): (Socket, SocketAddr, SocketAddr) = match &place {
            Place::V4 { interface, address } => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                let index = if_nametoindex(interface.as_str())?;
                socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
                socket.set_multicast_if_v4(address)?;
                socket.set_multicast_loop_v4(true)?;
                socket.set_multicast_ttl_v4(HOPS)?;
                #[cfg(target_os = "linux")]
                socket.set_multicast_all_v4(false)?;
                (socket, (Ipv4Addr::UNSPECIFIED, port).into(), (GROUP_V4, port).into())
            }
            Place::V6 { index, .. } => {
                let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
                socket.set_only_v6(true)?;
                socket.join_multicast_v6(&GROUP_V6, *index)?;
                socket.set_multicast_if_v6(*index)?;
                socket.set_multicast_loop_v6(true)?;
                socket.set_multicast_hops_v6(HOPS)?;
                #[cfg(target_os = "linux")]
                socket.set_multicast_all_v6(false)?;
                (socket, (Ipv6Addr::UNSPECIFIED, port).into(), (GROUP_V6, port).into())
            }
        };
        // Every sidecar and the machine's own responder share the port.
        socket.set_reuse_address(true)?;
        #[cfg(not(target_os = "linux"))]
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        Ok(Self { place, socket: Arc::new(UdpSocket::from_std(socket.into())?), group })
    }

    /// Sends to everybody on the link.
    ///
    /// # Errors
    /// As the system; for example when the interface is gone.
    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_to(bytes, self.group).await
    }

    /// Sends to one receiver.
    ///
    /// # Errors
    /// As the system.
    pub(super) async fn send_to(&self, bytes: &[u8], receiver: SocketAddr) -> io::Result<()> {
        self.socket.send_to(bytes, receiver).await.map(drop)
    }
}

/// The interfaces to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interfaces {
    /// Those of networks; the loopback interface when there is none.
    Any,
    /// Those of networks.
    Network,
    /// For tests.
    Loopback,
}

/// The places of the interfaces that are up and can multicast.
///
/// # Errors
/// As the system.
pub(super) fn places(wanted: Interfaces) -> io::Result<Vec<Place>> {
    let (mut found, mut loopback): (Vec<Place>, Vec<Place>) = (Vec::new(), Vec::new());
    for entry in getifaddrs()? {
        let Some(address) = entry.address.filter(|_| entry.flags.contains(InterfaceFlags::IFF_UP)) else { continue };
        let interface = entry.interface_name;
        let is_loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let can_multicast = entry.flags.contains(InterfaceFlags::IFF_MULTICAST);
        let place = if let Some(address) = address.as_sockaddr_in() {
            Place::V4 { interface, address: address.ip() }
        } else if address.as_sockaddr_in6().is_some() {
            let Ok(index) = if_nametoindex(interface.as_str()) else { continue }; // gone meanwhile
            Place::V6 { interface, index }
        } else {
            continue;
        };
        if is_loopback && matches!(place, Place::V4 { .. }) {
            loopback.push(place.clone());
        }
        // One address per interface and family is enough: it only names the interface.
        if can_multicast && wanted != Interfaces::Loopback && !found.iter().any(|other| other.is_same_interface(&place))
        {
            found.push(place);
        }
    }
    loopback.truncate(1);
    Ok(if found.is_empty() && wanted != Interfaces::Network { loopback } else { found })
}

impl Place {
    fn is_same_interface(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::V4 { interface: one, .. }, Self::V4 { interface: two, .. }) => one == two,
            (Self::V6 { interface: one, .. }, Self::V6 { interface: two, .. }) => one == two,
            _ => false,
        }
    }
}
