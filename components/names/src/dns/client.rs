//! Asks DNS servers by name, beside those of the system.
//!
//! *Job:* both kinds of address at once, over UDP, over TCP where that is too small; the next server when one does not answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pillion_contract::{ComponentError, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::message::{Answer, Kind, answer, question};

/// For one question to one server; two tries are made.
const TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
const PACKET_MAX: usize = 4096;

/// The servers, asked in this order.
pub(super) struct DnsClient {
    servers: Vec<SocketAddr>,
}

/// What a name leads to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) keep_for: Duration,
}

impl DnsClient {
    /// `address` or `address:port`, several with commas.
    ///
    /// # Errors
    /// Names what is no address.
    pub(super) fn new(servers: &str) -> Result<Self, String> {
        let parse = |text: &str| {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            let address = bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
            address.or_else(|_| text.parse()).map_err(|_| {
                format!(
                    "server: {text:?} is no DNS server: expected IP addresses, for example 10.0.0.10 or 10.0.0.10:53"
                )
            })
        };
        let servers: Result<Vec<_>, String> =
            servers.split(',').map(str::trim).filter(|text| !text.is_empty()).map(parse).collect();
        Ok(Self { servers: servers? })
    }

    /// All addresses of a host; IPv4 before IPv6.
    ///
    /// # Errors
    /// `NotFound` when there are none, `Unavailable` when no server says anything.
    pub(super) async fn look_up(&self, host: &str) -> Result<Found, ComponentError> {
        let (v4, v6) = tokio::join!(self.ask(host, Kind::V4), self.ask(host, Kind::V6));
        let missing = |why: &str| {
            let message = format!(
                "failed to resolve address for '{host}': {why} (asked the DNS server {}); check that the app is deployed and its namespace",
                self.names()
            );
            ComponentError::new(ErrorKind::NotFound, message)
        };
        let mut found = Found { addresses: Vec::new(), keep_for: Duration::MAX };
        let mut is_unknown = false;
        let mut problem = None;
        for answer in [v4, v6] {
            match answer {
                Ok(Answer::Addresses(addresses, life)) if !addresses.is_empty() => {
                    found.addresses.extend(addresses);
                    found.keep_for = found.keep_for.min(Duration::from_secs(life.into()));
                }
                Ok(Answer::NoSuchName) => is_unknown = true,
                Ok(_) => {}
                Err(error) => problem = Some(error),
            }
        }
        match problem {
            _ if !found.addresses.is_empty() => Ok(found),
            _ if is_unknown => Err(missing("no such host")),
            None => Err(missing("the name has no address")),
            Some(problem) => {
                let message = format!(
                    "failed to resolve address for '{host}': {problem}; check spec.nameResolution.configuration.server and the network"
                );
                Err(ComponentError::new(ErrorKind::Unavailable, message))
            }
        }
    }

    fn names(&self) -> String {
        self.servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
    }

    async fn ask(&self, host: &str, kind: Kind) -> Result<Answer, String> {
        let mut problem = "no DNS server is given".to_owned();
        for server in std::iter::repeat_n(&self.servers, TRIES).flatten() {
            let mut id = [0; 2];
            getrandom::fill(&mut id).map_err(|error| format!("no random numbers: {error}"))?;
            let asked = question(u16::from_ne_bytes(id), host, kind)?;
            match tokio::time::timeout(TIMEOUT, exchange(*server, &asked, kind)).await {
                Ok(Ok(Answer::Failed(code))) => problem = format!("the DNS server {server} answered with error {code}"),
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => problem = format!("the DNS server {server} cannot be asked: {error}"),
                Err(_) => problem = format!("the DNS server {server} did not answer within {TIMEOUT:?}"),
            }
        }
        Err(problem)
    }
}

async fn exchange(server: SocketAddr, asked: &[u8], kind: Kind) -> std::io::Result<Answer> {
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?; // only this server is heard
    socket.send(asked).await?;
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match answer(&buffer[..length], asked, kind) {
            Some(Answer::Truncated) => return exchange_by_tcp(server, asked, kind).await,
            Some(answer) => return Ok(answer),
            None => {} // a late answer to somebody else's question
        }
    }
}

async fn exchange_by_tcp(server: SocketAddr, asked: &[u8], kind: Kind) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).unwrap_or(u16::MAX); // a question has at most 271 bytes
    stream.write_all(&[&length.to_be_bytes(), asked].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    answer(&buffer, asked, kind).ok_or_else(|| std::io::Error::other("it sent something that is no answer"))
}
