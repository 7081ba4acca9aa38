//! Opens the ports of a sidecar before anything else starts, so that a taken port is told at once and no component's
//! outgoing connection can take one of them.

use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_core::log::Logger;
use pillion_invocation::Shortcut;
use tokio::net::{TcpListener, UnixListener};

use crate::environment::Environment;
use crate::options::Options;

/// All open sockets of a sidecar.
pub(crate) struct Listeners {
    pub(crate) http: Vec<Endpoint>,
    pub(crate) grpc: Vec<Endpoint>,
    pub(crate) internal: TcpListener,
    /// For other Pillions on this machine; `None` where there are no such sockets.
    pub(crate) shortcut: Option<Shortcut>,
    pub(crate) public: Option<TcpListener>,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) profile: Vec<TcpListener>,
}

/// Where an API is served.
pub(crate) enum Endpoint {
    Tcp(TcpListener),
    Unix(UnixListener, Arc<SocketFile>),
}

/// The file of a Unix socket; removed when the last sidecar that serves it is gone.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // already gone is as good
    }
}

impl Listeners {
    /// Opens everything the options ask for.
    ///
    /// # Errors
    /// A text that names the server, the address, the reason and the flag to change.
    pub(crate) fn open(options: &Options, environment: &Environment, log: &Logger) -> Result<Self, String> {
        let http = api(options, "http", "--dapr-http-port", options.http_port, log)
            .map_err(|problem| format!("failed to start HTTP server: {problem}"))?;
        let grpc = api(options, "grpc", "--dapr-grpc-port", options.grpc_port, log)
            .map_err(|problem| format!("failed to start API gRPC server: {problem}"))?;
        let internal = internal(options, environment)
            .map_err(|problem| format!("failed to start internal gRPC server: {problem}"))?;
        let one = |what: &str, flag: &str, address: &str, port: Option<u16>| {
            port.map(|port| {
                listen(address, port)
                    .map_err(|error| format!("failed to start {what} server: {}", refused(address, port, flag, &error)))
            })
            .transpose()
        };
        let public = one("public HTTP", "--dapr-public-port", &options.public_listen_address, options.public_port)?;
        let metrics = one("metrics", "--metrics-port", &options.metrics_listen_address, options.metrics_port)?;
        let profile = match options.profile_port {
            None => Vec::new(),
            Some(port) => on_addresses(options, "--profile-port", port, log)
                .map_err(|problem| format!("failed to start profiling server: {problem}"))?,
        };
        let shortcut = Shortcut::open()
            .inspect_err(|error| log.debug(format_args!("sidecars of this machine take the internal port: {error}")))
            .ok();
        Ok(Self { http, grpc, internal, shortcut, public, metrics, profile })
    }

    /// The same sockets once more: whoever accepts gets the next connection, and connections wait while nobody does.
    ///
    /// # Errors
    /// No more files can be opened.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let all = |listeners: &[TcpListener]| listeners.iter().map(share_tcp).collect::<io::Result<Vec<_>>>();
        let endpoints = |endpoints: &[Endpoint]| endpoints.iter().map(Endpoint::share).collect::<io::Result<Vec<_>>>();
        Ok(Self {
            http: endpoints(&self.http)?,
            grpc: endpoints(&self.grpc)?,
            internal: share_tcp(&self.internal)?,
            shortcut: self.shortcut.as_ref().map(Shortcut::share).transpose()?,
            public: self.public.as_ref().map(share_tcp).transpose()?,
            metrics: self.metrics.as_ref().map(share_tcp).transpose()?,
            profile: all(&self.profile)?,
        })
    }
}

impl Endpoint {
    fn share(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(share_tcp(listener)?),
            Self::Unix(listener, file) => {
                let shared = StdUnixListener::from(listener.as_fd().try_clone_to_owned()?);
                Self::Unix(UnixListener::from_std(shared)?, file.clone())
            }
        })
    }
}

fn share_tcp(listener: &TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(StdListener::from(listener.as_fd().try_clone_to_owned()?))
}

/// The sockets of one API: a Unix socket, or one port on each listen address.
fn api(options: &Options, name: &str, flag: &str, port: u16, log: &Logger) -> Result<Vec<Endpoint>, String> {
    if let Some(dir) = &options.unix_socket_dir {
        let path = dir.join(format!("dapr-{}-{name}.socket", options.app_id));
        let endpoint = unix(&path).map_err(|error| {
            format!(
                "cannot listen on {}: {error}; --unix-domain-socket names a directory this user can write",
                path.display()
            )
        })?;
        return Ok(vec![endpoint]);
    }
    Ok(on_addresses(options, flag, port, log)?.into_iter().map(Endpoint::Tcp).collect())
}

/// One port on each listen address. An address that cannot be used is skipped as long as another can.
fn on_addresses(options: &Options, flag: &str, port: u16, log: &Logger) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    let mut problems = Vec::new();
    for address in &options.listen_addresses {
        match listen(address, port) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let problem = refused(address, port, flag, &error);
                log.debug(format_args!("Failed to listen: {problem}"));
                problems.push(problem);
            }
        }
    }
    if listeners.is_empty() {
        Err(format!("could not listen on any endpoint: {}", problems.join(", ")))
    } else {
        Ok(listeners)
    }
}

fn internal(options: &Options, environment: &Environment) -> Result<TcpListener, String> {
    let address = &options.internal_listen_address;
    let flag = "--dapr-internal-grpc-port";
    if let Some(port) = options.internal_port {
        return listen(address, port)
            .map_err(|error| format!("could not listen on any endpoint: {}", refused(address, port, flag, &error)));
    }
    let stable = environment.stable_port(&options.app_id);
    listen(address, stable)
        .or_else(|_| listen(address, 0))
        .map_err(|error| format!("could not listen on any endpoint: {}", refused(address, 0, flag, &error)))
}

fn unix(path: &Path) -> io::Result<Endpoint> {
    // A socket of a sidecar that was killed refuses connections and may be replaced; one that answers may not.
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another sidecar serves it"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    Ok(Endpoint::Unix(listener, Arc::new(SocketFile(path.to_owned()))))
}

/// Binds one address; empty = all interfaces, IPv4 and IPv6 where there is IPv6.
fn listen(address: &str, port: u16) -> io::Result<TcpListener> {
    let bound = if address.is_empty() {
        match StdListener::bind(("::", port)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => StdListener::bind(("0.0.0.0", port)),
            bound => bound,
        }
    } else {
        StdListener::bind((address.trim_start_matches('[').trim_end_matches(']'), port))
    };
    let listener = bound?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn refused(address: &str, port: u16, flag: &str, error: &io::Error) -> String {
    let host = if address.is_empty() { "all interfaces" } else { address };
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!("another process has the port: end it or choose another {flag}"),
        io::ErrorKind::PermissionDenied => format!("this user may not open it: choose a {flag} above 1023"),
        _ => "check the address".to_owned(),
    };
    let reason =
        if error.kind() == io::ErrorKind::AddrInUse { "address already in use".to_owned() } else { error.to_string() };
    format!("port {port} on {host}: {reason} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let first = listen("127.0.0.1", 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen("127.0.0.1", port).unwrap_err();
        let text = refused("127.0.0.1", port, "--dapr-http-port", &error);
        assert!(
            text.contains("address already in use")
                && text.contains(&port.to_string())
                && text.contains("--dapr-http-port"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn all_interfaces_include_both_families() {
        let listener = listen("", 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves the file, as kill -9 does
        let endpoint = unix(&path).unwrap();
        assert!(unix(&path).is_err());
        drop(endpoint);
        assert!(!path.exists());
    }
}
