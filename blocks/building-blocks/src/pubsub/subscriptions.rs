//! The running subscriptions of an app: start, stop, list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pillion_contract::{AckHandle, Delivery, Outcome, SubscribeRequest};
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_resources::types::{RouteRule, Subscription};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::delivery::{DeliverySink, Worker};
use super::routing::Router;
use super::streaming::{TopicStream, stream};
use super::table::{Kind, SubscriptionInfo, Table, TopicSubscription};
use super::{Entry, PubSubs, bulk, is_raw};

/// Messages of one subscription the app works on at a time; brokers limit themselves further.
const IN_FLIGHT_LIMIT: usize = 100;

/// How long a broker may take to pause. *Source:* the original's limit.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);
/// A paused broker that gives nothing for this long has nothing more. *Source:* as the original.
pub(super) const DRAIN_QUIET: Duration = Duration::from_millis(100);
/// How long the messages of a paused broker are worked on at most. *Source:* as the original.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How long the messages of a component that was replaced are still taken; a broker with a server gives the others to the new one.
pub(super) const REST_LIMIT: Duration = Duration::from_secs(5);

/// What subscriptions are called on the board.
pub(super) const BOARD_KIND: &str = "subscription";

/// Owns the tasks that move messages from brokers to the app.
pub struct Subscriptions {
    pub(super) pubsubs: Arc<PubSubs>,
    pub(super) table: Mutex<Table>,
    pub(super) running: tokio::sync::Mutex<Option<Running>>,
    pub(super) streams: Mutex<Vec<OpenStream>>,
    /// Nothing is subscribed to any more.
    pub(super) closed: CancellationToken,
    /// The sidecar ends.
    ended: CancellationToken,
    board: Board,
    pub(super) log: Logger,
}

pub(super) struct Running {
    pub(super) sink: Arc<dyn DeliverySink>,
    pub(super) closing: CancellationToken,
    pub(super) open: Vec<Open>,
    /// Also those of subscriptions that are not open any more and still work on messages.
    pub(super) tasks: JoinSet<()>,
}

/// A subscription at its broker.
pub(super) struct Open {
    pub(super) subscription: TopicSubscription,
    pub(super) entry: Weak<Entry>,
    pub(super) worker: Weak<Current>,
    pub(super) ending: Ending,
}

pub(super) struct OpenStream {
    pub(super) subscription: TopicSubscription,
    /// Ends with the stream.
    pub(super) closed: CancellationToken,
    pub(super) entry: Weak<Entry>,
    /// Its task owns it: the app sees its stream end with it.
    pub(super) worker: Weak<Current>,
    pub(super) ending: Ending,
    /// Of the sidecar itself; see [`DeliverySink::is_internal`].
    pub(super) is_internal: bool,
    pub(super) task: JoinHandle<()>,
}

impl OpenStream {
    /// It takes messages.
    pub(super) fn is_live(&self) -> bool {
        !self.ending.closing.is_cancelled() && !self.task.is_finished()
    }
}

/// How a subscription is told to end.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) closing: CancellationToken,
    /// The component is replaced: what the old one still has is worked on, as nobody will ask it again.
    pub(super) takes_rest: Arc<AtomicBool>,
}

impl Ending {
    fn new(closing: CancellationToken) -> Self {
        Self { closing, takes_rest: Arc::default() }
    }

    pub(super) fn end(&self, takes_rest: bool) {
        self.takes_rest.store(takes_rest, Ordering::Relaxed);
        self.closing.cancel();
    }
}

/// What delivers the next message; replaced when rules or policies change.
pub(super) struct Current(pub(super) ArcSwap<Worker>);

impl Current {
    pub(super) fn get(&self) -> Arc<Worker> {
        self.0.load_full()
    }
}

/// What [`Subscriptions::open`] makes.
pub(super) struct Opened {
    pub(super) entry: Arc<Entry>,
    pub(super) worker: Arc<Current>,
    pub(super) ending: Ending,
    pub(super) deliveries: mpsc::Receiver<Delivery>,
}

impl Opened {
    /// Works until the subscription ends; the entry is held so long, so that the component is not closed under it.
    async fn run(worker: Arc<Current>, ending: Ending, deliveries: mpsc::Receiver<Delivery>, entry: Arc<Entry>) {
        run(worker, deliveries, &ending).await;
        drop(entry);
    }
}

impl Subscriptions {
    /// Makes it without subscriptions.
    pub fn new(pubsubs: Arc<PubSubs>, log: &Logger) -> Self {
        Self {
            pubsubs,
            table: Mutex::default(),
            running: tokio::sync::Mutex::default(),
            streams: Mutex::default(),
            closed: CancellationToken::new(),
            ended: CancellationToken::new(),
            board: Board::default(),
            log: log.scope("dapr.runtime.processor.subscription"),
        }
    }

    /// Where it is told which subscriptions could not be made or have ended.
    #[must_use]
    pub fn with_board(mut self, board: Board) -> Self {
        self.board = board;
        self
    }

    /// Sets the manifests, in load order; scopes have been applied by the caller. Takes effect at the next start.
    pub fn set_declarative(&self, subscriptions: &[Subscription]) {
        self.table.lock().declarative = subscriptions.iter().map(TopicSubscription::from).collect();
    }

    /// Sets what the app answered (see [`super::ask_app`]). Takes effect at the next start.
    pub fn set_programmatic(&self, subscriptions: Vec<TopicSubscription>) {
        self.table.lock().programmatic = subscriptions;
    }

    /// Subscribes to everything in the table; what fails is logged, the rest goes on. Does nothing when started or closed.
    pub async fn start(&self, sink: Arc<dyn DeliverySink>) {
        let mut running = self.running.lock().await;
        if running.is_some() || self.closed.is_cancelled() {
            return;
        }
        let closing = self.closed.child_token();
        self.board.clear_kind(BOARD_KIND);
        let mut started =
            Running { sink: sink.clone(), closing: closing.clone(), open: Vec::new(), tasks: JoinSet::new() };
        let mut topics: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for info in self.table.lock().merged() {
            topics.entry(info.subscription.pubsub_name.clone()).or_default().push(info.subscription.topic.clone());
        }
        for (pubsub_name, topics) in topics {
            self.log.info(format_args!(
                "app is subscribed to the following topics: [{}] through pubsub={pubsub_name}",
                topics.join(" ")
            ));
        }
        let merged = self.table.lock().merged();
        for info in merged {
            self.open_into(&mut started, info.subscription, None).await;
        }
        *running = Some(started);
    }

    /// Opens one of the app's subscriptions; what fails is told.
    pub(super) async fn open_into(
        &self,
        running: &mut Running,
        subscription: TopicSubscription,
        upcoming: Option<&Arc<Entry>>,
    ) {
        let (name, topic) = (subscription.pubsub_name.clone(), subscription.topic.clone());
        let part = format!("{name}/{topic}");
        match self.open(subscription.clone(), running.sink.clone(), running.closing.child_token(), upcoming).await {
            Ok(Opened { entry, worker, ending, deliveries }) => {
                self.board.clear(BOARD_KIND, &part);
                running.open.push(Open {
                    subscription,
                    entry: Arc::downgrade(&entry),
                    worker: Arc::downgrade(&worker),
                    ending: ending.clone(),
                });
                running.tasks.spawn(Opened::run(worker, ending, deliveries, entry));
            }
            Err(problem) => {
                self.log.error(format_args!("failed to subscribe to topic {topic} of pubsub {name}: {problem}"));
                self.board.unhealthy(
                    BOARD_KIND,
                    part,
                    "the subscription could not be made, so that the app gets no messages of this topic",
                    problem,
                    format!("correct the subscription or the component {name}, and look whether its server is there"),
                );
            }
        }
    }

    /// Takes no more messages, waits at most `limit` for those the app is working on, and gives the others back.
    pub async fn stop(&self, limit: Duration) {
        let mut slot = self.running.lock().await;
        let Some(running) = slot.as_mut() else { return };
        running.closing.cancel();
        // Stays in its slot meanwhile: when this future is dropped the next stop goes on waiting.
        if tokio::time::timeout(limit, async { while running.tasks.join_next().await.is_some() {} }).await.is_err() {
            self.report_drain(limit);
        }
        *slot = None; // aborts what is left
    }

    /// Asks the brokers of all subscriptions to give no more messages. What one that can do that has given already still
    /// reaches the app when the subscriptions close.
    pub async fn pause(&self) {
        let names: BTreeSet<String> = self.list().into_iter().map(|info| info.subscription.pubsub_name).collect();
        let pauses = names.into_iter().filter_map(|name| self.pubsubs.entry(&name)).map(|entry| async move {
            let name = &entry.name;
            match tokio::time::timeout(PAUSE_LIMIT, entry.component.pause()).await {
                Ok(Ok(paused)) => entry.paused.store(paused, Ordering::Relaxed),
                Ok(Err(error)) => self.log.warn(format_args!("failed to pause pubsub {name}: {error}")),
                Err(_elapsed) => {
                    let limit = pillion_core::duration::format_go(PAUSE_LIMIT);
                    self.log.warn(format_args!("failed to pause pubsub {name}: no answer within {limit}"));
                }
            }
        });
        futures_util::future::join_all(pauses).await;
    }

    /// Ends when no more messages are taken.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Takes no more messages for good, streams included; what the app is working on goes on.
    pub fn close(&self) {
        self.closed.cancel();
        for open in self.streams.lock().iter() {
            open.ending.closing.cancel();
        }
    }

    /// The end of the sidecar: as [`Self::close`], and waits as [`Self::stop`] does.
    pub async fn shutdown(&self, limit: Duration) {
        self.ended.cancel();
        self.close();
        let streams = std::mem::take(&mut *self.streams.lock());
        let drain_streams = async {
            let deadline = tokio::time::Instant::now() + limit;
            for mut open in streams {
                if tokio::time::timeout_at(deadline, &mut open.task).await.is_err() {
                    self.report_drain(limit);
                    open.task.abort();
                }
            }
        };
        tokio::join!(self.stop(limit), drain_streams);
    }

    /// Ends when [`Self::shutdown`] begins, for a front that still waits for what its app wants.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn report_drain(&self, limit: Duration) {
        let limit = pillion_core::duration::format_go(limit);
        self.log.warn(format_args!("drain exceeded {limit}; messages under way will be delivered again"));
    }

    /// Whether [`Self::start`] has been called and [`Self::stop`] has not.
    pub async fn is_running(&self) -> bool {
        self.running.lock().await.is_some()
    }

    /// Opens a streaming subscription; each is independent of all others.
    ///
    /// # Errors
    /// Unknown component, topic not allowed, the broker refused, or the end has begun; a text for the stream's status.
    pub async fn open_stream(
        &self,
        pubsub_name: &str,
        topic: &str,
        metadata: BTreeMap<String, String>,
        dead_letter_topic: &str,
    ) -> Result<TopicStream, String> {
        let rule = RouteRule { matches: String::new(), path: "/".to_owned() };
        let subscription = TopicSubscription {
            pubsub_name: pubsub_name.to_owned(),
            topic: topic.to_owned(),
            metadata,
            rules: vec![rule],
            dead_letter_topic: dead_letter_topic.to_owned(),
            ..TopicSubscription::default()
        };
        let closed = CancellationToken::new();
        let closing = closed.child_token(); // ends with the stream; on its own it lets the app answer what it has
        let (sink, stream) = stream(closed.clone());
        let opened = self.open(subscription.clone(), sink, closing, None).await?;
        let mut streams = self.streams.lock();
        if self.closed.is_cancelled() {
            return Err("the sidecar is shutting down".to_owned());
        }
        streams.retain(|open| !open.task.is_finished());
        streams.push(spawn_stream(subscription, closed, opened));
        Ok(stream)
    }

    /// What the metadata API lists: the merged table, then open streams.
    pub fn list(&self) -> Vec<SubscriptionInfo> {
        let mut list = self.table.lock().merged();
        let streams = self.streams.lock();
        let open = streams.iter().filter(|open| open.is_live() && !open.is_internal);
        list.extend(
            open.map(|open| SubscriptionInfo { subscription: open.subscription.clone(), kind: Kind::Streaming }),
        );
        list
    }

    pub(super) async fn open(
        &self,
        subscription: TopicSubscription,
        sink: Arc<dyn DeliverySink>,
        closing: CancellationToken,
        upcoming: Option<&Arc<Entry>>,
    ) -> Result<Opened, String> {
        let (name, topic) = (&subscription.pubsub_name, &subscription.topic);
        let entry = self.current_entry(name, upcoming).ok_or_else(|| format!("pubsub '{name}' not found"))?;
        let is_internal = sink.is_internal();
        if !is_internal && !entry.scopes.may_subscribe(topic) {
            return Err(format!("subscription to topic '{topic}' on pubsub '{name}' is not allowed"));
        }
        let router = Router::compile(&subscription.rules)?;
        let request = SubscribeRequest {
            topic: self.pubsubs.broker_topic(&entry, topic),
            metadata: subscription.metadata.clone(),
        };
        let deliveries = entry.component.subscribe(request).await.map_err(|error| error.to_string())?;
        let worker = Worker {
            pubsubs: self.pubsubs.clone(),
            router,
            raw: is_raw(&subscription.metadata),
            namespace: if entry.namespaced { self.pubsubs.namespace.clone() } else { String::new() },
            sink,
            policy: self.pubsubs.inbound_policy(name, is_internal),
            closing: closing.clone(),
            board: self.board.clone(),
            log: self.log.clone(),
            subscription,
        };
        let worker = Arc::new(Current(ArcSwap::from_pointee(worker)));
        Ok(Opened { entry, worker, ending: Ending::new(closing), deliveries })
    }
}

pub(super) fn spawn_stream(subscription: TopicSubscription, closed: CancellationToken, opened: Opened) -> OpenStream {
    let Opened { entry, worker, ending, deliveries } = opened;
    let is_internal = worker.get().sink.is_internal();
    OpenStream {
        is_internal,
        subscription,
        closed,
        entry: Arc::downgrade(&entry),
        worker: Arc::downgrade(&worker),
        ending: ending.clone(),
        task: tokio::spawn(Opened::run(worker, ending, deliveries, entry)),
    }
}

/// Moves the messages of one subscription until it closes.
async fn run(worker: Arc<Current>, deliveries: mpsc::Receiver<Delivery>, ending: &Ending) {
    if worker.get().subscription.bulk_subscribe.enabled {
        bulk::run(&worker, deliveries, || ending.takes_rest.load(Ordering::Relaxed)).await;
    } else {
        run_single(&worker, deliveries, ending).await;
    }
}

/// Takes deliveries until closing, then waits for those under way; the receiver lives until they are answered.
async fn run_single(worker: &Arc<Current>, mut deliveries: mpsc::Receiver<Delivery>, ending: &Ending) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = ending.closing.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            delivery = deliveries.recv(), if tasks.len() < IN_FLIGHT_LIMIT => {
                let Some(delivery) = delivery else {
                    worker.get().report_end();
                    break;
                };
                tasks.spawn(work(worker.get(), delivery));
            }
        }
    }
    let last = worker.get();
    let takes_rest = ending.takes_rest.load(Ordering::Relaxed);
    let is_paused = || {
        let entry = last.pubsubs.entry(&last.subscription.pubsub_name);
        entry.is_some_and(|entry| entry.paused.load(Ordering::Relaxed))
    };
    if takes_rest || is_paused() {
        let limit = if takes_rest { REST_LIMIT } else { DRAIN_LIMIT };
        let drained = drain(&last, &mut deliveries, &mut tasks);
        if tokio::time::timeout(limit, drained).await.is_err() && !takes_rest {
            last.log.warn("a paused pubsub goes on giving messages; they will be delivered again");
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Takes what a paused broker had given already, until nothing has come for a while and the app has answered all.
async fn drain(worker: &Arc<Worker>, deliveries: &mut mpsc::Receiver<Delivery>, tasks: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            biased;
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            delivery = deliveries.recv(), if tasks.len() < IN_FLIGHT_LIMIT => match delivery {
                Some(delivery) => drop(tasks.spawn(work(worker.clone(), delivery))),
                None => return,
            },
            () = tokio::time::sleep(DRAIN_QUIET), if tasks.is_empty() => return,
        }
    }
}

async fn work(worker: Arc<Worker>, delivery: Delivery) {
    let outcome = worker.process(delivery.message).await;
    answer(&worker, delivery.ack, outcome);
}

/// Answers a message. While its subscription closes, one that was not processed is given back without an answer: a broker
/// that counts refusals, or has a dead letter queue of its own, must not count the end of a sidecar as one.
pub(super) fn answer(worker: &Worker, ack: AckHandle, outcome: Outcome) {
    match outcome {
        Outcome::Nack if worker.closing.is_cancelled() => drop(ack),
        outcome => ack.answer(outcome),
    }
}
