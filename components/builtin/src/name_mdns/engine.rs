//! The task behind `nameresolution.mdns`: owns the sockets, answers questions, collects what it hears.
//!
//! *Job:* one loop over commands of the resolver, packets of the links and the clock. *Neighbours:* `service` builds and reads
//! messages, `cache` keeps what was heard. *Invariant:* whatever ends the loop, the announcements are withdrawn first.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::log::Logger;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant as Clock, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Options;
use super::cache::Cache;
use super::link::{Interfaces, Link, places};
use super::message::Message;
use super::service::{Service, question, service_name, sightings};

/// How often addresses are confirmed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Interfaces may come and go; they are looked for again at most this often.
const SCAN_PAUSE: Duration = Duration::from_secs(5);
/// The announcement is repeated once (RFC 6762 §8.3).
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);
/// Packets that may wait; more are dropped, as the network may do.
const PACKETS: usize = 256;
/// Largest mDNS message (RFC 6762 §17).
const PACKET_MAX: usize = 9000;

/// Also what is said when an app is not found for this reason.
pub(super) const NO_INTERFACE: &str = "no network interface can be used for mDNS";

/// What the resolver asks of the task.
pub(super) enum Command {
    /// Announce a sidecar.
    Register(Service, oneshot::Sender<Result<(), ComponentError>>),
    /// Ask the network for an app.
    Query(String),
    /// Withdraw everything and end.
    Close(oneshot::Sender<()>),
}

/// What the task and the resolver share.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) cache: Mutex<Cache>,
    /// Told when an app of interest got an address, and when it turns out that nobody can be heard.
    pub(super) news: Notify,
    /// Whether there is no interface to hear anybody on.
    pub(super) is_deaf: AtomicBool,
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Packet {
    bytes: Vec<u8>,
    sender: SocketAddr,
    link: Link,
}

/// See the module text.
pub(super) struct Engine {
    options: Options,
    heard: Arc<Heard>,
    log: Logger,
    services: Vec<Service>,
    links: Vec<Link>,
    scanned_at: Option<Instant>,
    /// One task per link, in the order of `links`.
    receivers: Vec<AbortOnDrop>,
    packets: mpsc::Sender<Packet>,
}

impl Engine {
    /// Runs until a close command, `stop`, or the end of all resolvers.
    pub(super) async fn run(
        options: Options,
        heard: Arc<Heard>,
        log: Logger,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        let (sender, mut packets) = mpsc::channel(PACKETS);
        let (services, links, receivers) = (Vec::new(), Vec::new(), Vec::new());
        let mut engine = Self { options, heard, log, services, links, scanned_at: None, receivers, packets: sender };
        let mut refresh = tokio::time::interval_at(Clock::now() + REFRESH_INTERVAL, REFRESH_INTERVAL);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut announce_at: Option<Clock> = None;
        let closed = loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Register(service, reply)) => {
                        let outcome = engine.register(service).await;
                        announce_at = Some(Clock::now() + ANNOUNCE_AGAIN);
                        let _ = reply.send(outcome); // whoever asked may have gone
                    }
                    Some(Command::Query(app_id)) => engine.query(&app_id).await,
                    Some(Command::Close(reply)) => break Some(reply),
                    None => break None,
                },
                Some(packet) = packets.recv() => engine.handle(packet).await,
                _ = refresh.tick() => engine.refresh().await,
                () = at(announce_at) => {
                    announce_at = None;
                    engine.send_each(Service::announcement).await;
                }
                () = stop.cancelled() => break None,
            }
        };
        engine.send_each(Service::goodbye).await;
        drop(engine); // closes the sockets before the answer
        if let Some(reply) = closed {
            let _ = reply.send(()); // whoever asked may have gone
        }
    }

    async fn register(&mut self, service: Service) -> Result<(), ComponentError> {
        let same =
            |other: &&Service| other.app_id() == service.app_id() && other.address().port() == service.address().port();
        if let Some(other) = self.services.iter().find(same) {
            let message = format!("app id {} already registered for port {}", other.app_id(), other.address().port());
            return Err(ComponentError::new(ErrorKind::InvalidRequest, message));
        }
        self.open_links();
        if self.links.is_empty() {
            let message = format!("{NO_INTERFACE} on UDP port {}", self.options.port);
            return Err(ComponentError::new(ErrorKind::Unavailable, message));
        }
        self.send(&service.announcement()).await;
        self.log.info(format_args!("local service entry announced: {} -> {}", service.app_id(), service.address()));
        self.services.push(service);
        Ok(())
    }

    /// Opens the links of interfaces that are new and drops those that are gone.
    fn open_links(&mut self) {
        if self.scanned_at.is_some_and(|at| at.elapsed() < SCAN_PAUSE) {
            return;
        }
        self.scanned_at = Some(Instant::now());
        let places = match places(self.options.interfaces) {
            Ok(places) => places,
            Err(error) => return self.log.warn(format_args!("cannot list the network interfaces for mDNS: {error}")),
        };
        for index in (0..self.links.len()).rev() {
            if self.receivers[index].0.is_finished() || !places.contains(&self.links[index].place) {
                self.links.remove(index);
                self.receivers.remove(index);
            }
        }
        for place in places {
            if self.links.iter().any(|link| link.place == place) {
                continue;
            }
            match Link::open(place.clone(), self.options.port) {
                Ok(link) => {
                    self.receivers.push(AbortOnDrop(tokio::spawn(receive(link.clone(), self.packets.clone()))));
                    self.links.push(link);
                }
                Err(error) => self.log.debug(format_args!("mDNS cannot use {place:?}: {error}")),
            }
        }
        let is_deaf = self.links.is_empty();
        if self.heard.is_deaf.swap(is_deaf, Ordering::Relaxed) != is_deaf && is_deaf {
            if self.options.interfaces == Interfaces::Any {
                self.log.warn(format_args!("{NO_INTERFACE} on UDP port {}", self.options.port));
            }
            self.heard.news.notify_waiters();
        }
    }

    async fn query(&mut self, app_id: &str) {
        self.open_links();
        if let Ok(name) = service_name(app_id) {
            self.send(&question(name)).await;
        }
    }

    async fn refresh(&mut self) {
        let apps = self.heard.cache.lock().refresh(Instant::now());
        for app_id in apps {
            self.query(&app_id).await;
        }
    }

    async fn send_each(&self, message: impl Fn(&Service) -> Message) {
        for service in &self.services {
            self.send(&message(service)).await;
        }
    }

    /// Sends on all links; a link that cannot send now is not worth failing for.
    async fn send(&self, message: &Message) {
        let bytes = message.encode();
        for link in &self.links {
            if let Err(error) = link.send(&bytes).await {
                self.log.debug(format_args!("mDNS cannot send on {:?}: {error}", link.place));
            }
        }
    }

    async fn handle(&self, packet: Packet) {
        let Ok(message) = Message::decode(&packet.bytes) else { return };
        if message.is_response {
            let mut is_news = false;
            let mut cache = self.heard.cache.lock();
            for sighting in sightings(&message) {
                is_news |= cache.see(&sighting, Instant::now());
            }
            drop(cache);
            if is_news {
                self.heard.news.notify_waiters();
            }
            return;
        }
        for answer in self.services.iter().filter_map(|service| service.answer(&message)) {
            self.answer(answer, &message, &packet).await;
        }
    }

    /// Answers on the link of the question: to all, because several programs of a machine share the port and a unicast packet
    /// reaches only one of them; to the asker alone when it is no mDNS program (RFC 6762 §6.7).
    async fn answer(&self, mut answer: Message, query: &Message, packet: &Packet) {
        let sent = if packet.sender.port() == self.options.port {
            packet.link.send(&answer.encode()).await
        } else {
            answer.questions.clone_from(&query.questions);
            packet.link.send_to(&answer.encode(), packet.sender).await
        };
        if let Err(error) = sent {
            self.log.debug(format_args!("mDNS cannot answer on {:?}: {error}", packet.link.place));
        }
    }
}

/// Never, or at a time.
async fn at(time: Option<Clock>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Hands on what arrives at a link until the link is broken or the engine gone.
async fn receive(link: Link, packets: mpsc::Sender<Packet>) {
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        let (length, sender) = match link.socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) if is_passing(&error) => continue,
            Err(_) => return,
        };
        let packet = Packet { bytes: buffer[..length].to_vec(), sender, link: link.clone() };
        if let Err(mpsc::error::TrySendError::Closed(_)) = packets.try_send(packet) {
            return;
        }
    }
}

/// Errors that tell of an earlier packet to somebody who has gone.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
