//! `nameresolution.mdns`: the sidecars of one network find each other by multicast DNS, together with those of the original.
//!
//! *Job:* announces this sidecar, answers questions from a cache that the network fills. *Neighbours:* `engine` is the task
//! with the sockets, `service` the meaning of messages, `message` their bytes. *Invariant:* a known app costs no I/O; an unknown
//! one is asked for until its first answer, at most [`BROWSE_TIMEOUT`].
//!
//! *Source:* components-contrib nameresolution/mdns; spec internals.md §7.4. Ours on purpose: all addresses of an app are
//! answered and the caller rotates; a goodbye and a failed call drop an address at once, where the original waits up to a
//! minute.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pillion_contract::{ComponentError, ErrorKind, InitContext, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use engine::{Command, Engine, Heard, NO_INTERFACE};
use link::Interfaces;
use service::{Service, service_name};

mod cache;
mod engine;
pub(crate) mod link;
mod message;
mod service;

/// The port of mDNS (RFC 6762 §3).
const PORT: u16 = 5353;
/// How long an app is looked for that is not known yet.
const BROWSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A question may get lost: it is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// The same question is not sent more often.
const QUERY_PAUSE: Duration = Duration::from_millis(250);
/// The same where nobody waits for the answer.
const BROWSE_PAUSE: Duration = Duration::from_secs(30);
/// Commands that may wait for the task.
const COMMANDS: usize = 64;

/// Where to listen; tests stay on the loopback interface and on a port of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) interfaces: Interfaces,
}

impl Options {
    /// Networks alone: for a resolver that has another way to the sidecars of its machine.
    pub(crate) const NETWORK: Self = Self { port: PORT, interfaces: Interfaces::Network };
}

/// The component; see the module text.
pub struct MdnsResolver {
    heard: Arc<Heard>,
    /// Counts the changes of what was heard.
    version: Arc<AtomicU64>,
    commands: mpsc::Sender<Command>,
}

/// Makes the component; it has no metadata. Sockets are opened when they are first needed.
///
/// # Errors
/// None now; a machine without a usable network interface is an error of [`NameResolver::register`].
pub async fn create(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let options = Options { port: PORT, interfaces: Interfaces::Any };
    Ok(MdnsResolver::start(options, context.log.clone(), context.cancel.child_token()))
}

impl MdnsResolver {
    pub(crate) fn start(options: Options, log: Logger, stop: CancellationToken) -> Arc<Self> {
        let heard = Arc::new(Heard::default());
        let version = heard.cache.lock().version();
        let (commands, inbox) = mpsc::channel(COMMANDS);
        tokio::spawn(Engine::run(options, heard.clone(), log, inbox, stop));
        Arc::new(Self { heard, version, commands })
    }

    /// The addresses of an app that were heard of.
    pub(crate) fn known(&self, app_id: &str) -> Vec<String> {
        let addresses = self.heard.cache.lock().addresses(app_id, Instant::now());
        addresses.iter().map(SocketAddr::to_string).collect()
    }

    /// Another number whenever an address came or went, of any app.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Has the network asked for an app unless that was done in the last half minute. Nobody waits: an answer is known
    /// when it comes.
    pub(crate) fn browse(&self, app_id: &str) {
        self.ask_after(app_id, BROWSE_PAUSE);
    }

    /// The addresses of an app, those heard of or those that answer now; else why there are none.
    pub(crate) async fn find(&self, app_id: &str) -> Result<Vec<String>, String> {
        service_name(app_id)?;
        let deadline = Instant::now() + BROWSE_TIMEOUT;
        loop {
            let news = self.heard.news.notified();
            tokio::pin!(news);
            news.as_mut().enable(); // what comes between the look and the wait is not missed
            let known = self.known(app_id);
            if !known.is_empty() {
                return Ok(known);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("no sidecar answered by mDNS within {BROWSE_TIMEOUT:?}"));
            }
            if self.heard.is_deaf.load(Ordering::Relaxed) {
                self.ask(app_id); // perhaps an interface has come
                return Err(NO_INTERFACE.to_owned());
            }
            self.ask(app_id);
            let _ = tokio::time::timeout(left.min(ASK_AGAIN), news).await; // either way the loop looks again
        }
    }

    /// Has the network asked unless that was done a moment ago. A full queue means that the task is busy sending: the
    /// caller's next try comes soon.
    fn ask(&self, app_id: &str) {
        self.ask_after(app_id, QUERY_PAUSE);
    }

    fn ask_after(&self, app_id: &str, pause: Duration) {
        if self.heard.cache.lock().may_query(app_id, pause, Instant::now()) {
            let _ = self.commands.try_send(Command::Query(app_id.to_owned())); // see above
        }
    }
}

fn invalid(message: impl Into<String>) -> ComponentError {
    ComponentError::new(ErrorKind::InvalidRequest, message)
}

/// The address to announce, which must be one of IP.
fn announced(registration: &Registration) -> Result<SocketAddr, ComponentError> {
    if registration.app_id.is_empty() {
        return Err(invalid("name is missing"));
    }
    if registration.host.is_empty() {
        return Err(invalid("address is missing"));
    }
    if registration.internal_port == 0 {
        return Err(invalid("port is missing or invalid"));
    }
    let host = match registration.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        text => text
            .parse()
            .map_err(|_| invalid(format!("failed to parse given IP: {text}: mDNS announces IP addresses only")))?,
    };
    Ok(SocketAddr::new(host, registration.internal_port))
}

#[async_trait]
impl NameResolver for MdnsResolver {
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        let address = announced(&registration)?;
        let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let host_name = if host_name.is_empty() { "localhost" } else { &host_name };
        let service = Service::new(&registration.app_id, address, host_name, std::process::id()).map_err(invalid)?;
        let (reply, answer) = oneshot::channel();
        let closed = || ComponentError::new(ErrorKind::Unavailable, "the mDNS resolver is closed");
        self.commands.send(Command::Register(service, reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        let app_id = request.app_id.as_str();
        let known = self.known(app_id);
        if !known.is_empty() {
            return Ok(known);
        }
        service_name(app_id).map_err(invalid)?;
        self.find(app_id).await.map_err(|why| {
            let advice = "check that it runs, its app ID, and that multicast works between the machines";
            let message = format!("couldn't find service: {app_id} ({why}; {advice})");
            ComponentError::new(ErrorKind::NotFound, message)
        })
    }

    fn report_failure(&self, request: &ResolveRequest, address: &str) {
        self.heard.cache.lock().distrust(&request.app_id, address);
        self.ask(&request.app_id);
    }

    async fn close(&self) -> Result<(), ComponentError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Close(reply)).await.is_ok() {
            let _ = answer.await; // an error means that the task has ended, which is what we want
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
