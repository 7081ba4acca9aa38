//! The running input bindings of an app: start, stop, replace.
//!
//! *Neighbours:* `sidecar` starts them once the app is well and stops them when it is not; `discovery` asks what the app takes; a sink
//! delivers. *Source:* dapr `pkg/runtime/processor/binding` for what happens to events while an input closes. *Invariant:* from the
//! moment an input closes each of its events is refused until the last one the app had is answered, and a moment longer; then the
//! source ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pillion_contract::{BindingDelivery, InputBinding, Metadata};
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_telemetry::metrics::Metrics;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::discovery::AppBindings;
use super::names_direction;
use super::sink::EventSink;
use crate::retired::{Retired, Usage};

/// Events of one binding the app works on at a time; bindings limit themselves further.
const IN_FLIGHT_LIMIT: usize = 100;
/// How long a source stays open after its last answer, so that the answer gets there. *Source:* the original.
const LINGER: Duration = Duration::from_millis(400);
/// *Source:* the wire text of the original; components behind sockets see it.
const CLOSED: &str = "input binding is closed";
/// What input bindings are called on the board.
const BOARD_KIND: &str = "inputBinding";

/// Owns the tasks that move events from bindings to the app.
pub struct InputBindings {
    metrics: Metrics,
    board: Board,
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
    running: tokio::sync::Mutex<Option<Running>>,
    /// No more events are taken, for good.
    closed: CancellationToken,
    log: Logger,
}

/// What the manifest of an input binding says to this block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSettings {
    /// Where events go: a path of an HTTP app; the name of the component unless the field `route` says otherwise.
    pub route: String,
    /// The field `direction` names it, so that the app need not be asked.
    pub is_wanted: bool,
}

impl InputSettings {
    /// Reads the fields `route` and `direction`.
    pub fn of(name: &str, metadata: &Metadata) -> Self {
        let route = metadata.get("route").filter(|route| !route.is_empty()).unwrap_or(name);
        let is_wanted = metadata.get("direction").is_some_and(|field| names_direction(field, "input"));
        Self { route: route.to_owned(), is_wanted }
    }
}

struct Entry {
    name: String,
    component: Arc<dyn InputBinding>,
    settings: InputSettings,
    usage: Usage,
}

struct Running {
    sink: Arc<dyn EventSink>,
    app: Arc<AppBindings>,
    /// Cancelled when the binding of this name is to end.
    open: BTreeMap<String, CancellationToken>,
    /// Also those of bindings that were replaced or removed and still work on events.
    tasks: JoinSet<()>,
}

impl InputBindings {
    /// Makes it without bindings.
    pub fn new(log: &Logger) -> Self {
        Self {
            metrics: Metrics::off(),
            board: Board::default(),
            entries: Mutex::default(),
            running: tokio::sync::Mutex::default(),
            closed: CancellationToken::new(),
            log: log.scope("dapr.runtime.processor.binding"),
        }
    }

    /// The same, recording events.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where it is told which bindings give no events.
    #[must_use]
    pub fn with_board(self, board: Board) -> Self {
        Self { board, ..self }
    }

    /// Adds a component, replacing one of the same name, which is returned; it gives events at once when the others do.
    pub async fn add(
        &self,
        name: &str,
        component: Arc<dyn InputBinding>,
        settings: InputSettings,
    ) -> Option<Retired<dyn InputBinding>> {
        let entry = Arc::new(Entry { name: name.to_owned(), component, settings, usage: Usage::default() });
        let mut running = self.running.lock().await;
        let before = self.entries.lock().insert(name.to_owned(), entry.clone());
        if let Some(running) = running.as_mut() {
            running.end(name);
            self.open(running, &[entry]).await;
        }
        before.map(|entry| entry.retired())
    }

    /// Removes a component and returns it, so that it can be closed once the app has answered all of its events.
    pub async fn remove(&self, name: &str) -> Option<Retired<dyn InputBinding>> {
        let mut running = self.running.lock().await;
        let before = self.entries.lock().remove(name);
        if let Some(running) = running.as_mut() {
            running.end(name);
        }
        self.board.clear(BOARD_KIND, name);
        before.map(|entry| entry.retired())
    }

    /// Opens every binding the app takes; what fails is told, the rest goes on. Does nothing when started or closed.
    pub async fn start(&self, sink: Arc<dyn EventSink>, app: Arc<AppBindings>) {
        let mut running = self.running.lock().await;
        if running.is_some() || self.closed.is_cancelled() {
            return;
        }
        let entries: Vec<Arc<Entry>> = self.entries.lock().values().cloned().collect();
        let started = running.insert(Running { sink, app, open: BTreeMap::new(), tasks: JoinSet::new() });
        self.open(started, &entries).await;
    }

    /// Takes no more events, waits at most `limit` for those the app is working on; bindings can be started again.
    pub async fn stop(&self, limit: Duration) {
        let mut slot = self.running.lock().await;
        let Some(running) = slot.as_mut() else { return };
        running.open.values().for_each(CancellationToken::cancel);
        // Stays in its slot meanwhile: when this future is dropped the next stop goes on waiting.
        if tokio::time::timeout(limit, async { while running.tasks.join_next().await.is_some() {} }).await.is_err() {
            let limit = pillion_core::duration::format_go(limit);
            self.log.warn(format_args!("drain exceeded {limit}; events under way are not answered"));
        }
        *slot = None; // aborts what is left
    }

    /// Takes no more events for good: sources end in the background, each after the last answer of the app.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// The end of the sidecar: as [`Self::close`], and waits as [`Self::stop`] does.
    pub async fn shutdown(&self, limit: Duration) {
        self.close();
        self.stop(limit).await;
    }

    /// Opens these bindings, if the app takes them.
    async fn open(&self, running: &mut Running, entries: &[Arc<Entry>]) {
        while running.tasks.try_join_next().is_some() {}
        let asked = entries.iter().map(|entry| self.is_wanted(entry, &running.app));
        let asked = tokio::select! {
            biased;
            () = self.closed.cancelled() => return,
            asked = futures_util::future::join_all(asked) => asked,
        };
        for entry in entries.iter().zip(asked).filter_map(|(entry, is_wanted)| is_wanted.then_some(entry)) {
            let name = entry.name.clone();
            match entry.component.read().await {
                Ok(deliveries) => {
                    self.board.clear(BOARD_KIND, &name);
                    let closing = self.closed.child_token();
                    running.open.insert(name, closing.clone());
                    let reading = Reading {
                        entry: entry.clone(),
                        sink: running.sink.clone(),
                        metrics: self.metrics.clone(),
                        log: self.log.clone(),
                    };
                    running.tasks.spawn(reading.run(deliveries, closing));
                }
                Err(error) => {
                    self.log.error(format_args!("error reading from input binding {name}: {error}"));
                    let advice = format!("correct the component {name}, and look whether its server is there");
                    let reason = "it cannot be read, so that the app gets no events of it";
                    self.board.unhealthy(BOARD_KIND, name, reason, error.to_string(), advice);
                }
            }
        }
    }

    async fn is_wanted(&self, entry: &Entry, app: &AppBindings) -> bool {
        if entry.settings.is_wanted {
            return true;
        }
        let name = &entry.name;
        match app.wants(name, &entry.settings.route).await {
            Ok(is_wanted) => {
                self.board.clear(BOARD_KIND, name);
                if !is_wanted {
                    self.log.info(format_args!("app has not subscribed to binding {name}."));
                }
                is_wanted
            }
            Err(problem) => {
                self.log.warn(format_args!("failed to read from bindings: {problem}"));
                self.board.unhealthy(
                    BOARD_KIND,
                    name.clone(),
                    "the app could not be asked whether it takes the events of this binding, so that it gets none",
                    problem,
                    format!("let the app answer in time, or set the field direction of {name} to input, then it is not asked"),
                );
                false
            }
        }
    }
}

impl Running {
    /// A binding gives no more events; its task ends with the last answer.
    fn end(&mut self, name: &str) {
        if let Some(closing) = self.open.remove(name) {
            closing.cancel();
        }
    }
}

impl Entry {
    fn retired(&self) -> Retired<dyn InputBinding> {
        Retired { component: self.component.clone(), ended: self.usage.ended() }
    }
}

/// The task of one binding; it holds the entry, so that the component is not closed under it.
struct Reading {
    entry: Arc<Entry>,
    sink: Arc<dyn EventSink>,
    metrics: Metrics,
    log: Logger,
}

impl Reading {
    async fn run(self, mut deliveries: mpsc::Receiver<BindingDelivery>, closing: CancellationToken) {
        let reading = Arc::new(self);
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                delivery = deliveries.recv(), if tasks.len() < IN_FLIGHT_LIMIT => match delivery {
                    Some(delivery) => drop(tasks.spawn(reading.clone().work(delivery))),
                    None => break, // the component says by itself why
                },
            }
        }
        refuse(&mut deliveries, &mut tasks).await;
    }

    async fn work(self: Arc<Self>, delivery: BindingDelivery) {
        let name = &self.entry.name;
        let started = Instant::now();
        let reply = self.sink.deliver(name, &self.entry.settings.route, delivery.event).await;
        if let Some(metrics) = self.metrics.component() {
            metrics.input_binding(name, reply.is_ok(), started.elapsed());
        }
        if let Err(problem) = &reply {
            self.log.debug(format_args!("error from app consumer for binding [{name}]: {problem}"));
        }
        delivery.reply.answer(reply);
    }
}

/// Refuses what comes until the app has answered what it had, and a moment longer, so that the last answer gets there.
async fn refuse(deliveries: &mut mpsc::Receiver<BindingDelivery>, tasks: &mut JoinSet<()>) {
    let was_busy = !tasks.is_empty();
    let mut is_open = true;
    while !tasks.is_empty() {
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            delivery = deliveries.recv(), if is_open => match delivery {
                Some(delivery) => delivery.reply.answer(Err(CLOSED.to_owned())),
                None => is_open = false,
            },
        }
    }
    let rest = async {
        while let Some(delivery) = deliveries.recv().await {
            delivery.reply.answer(Err(CLOSED.to_owned()));
        }
    };
    if was_busy {
        let _ = tokio::time::timeout(LINGER, rest).await; // it ends by itself only when the component has closed
    }
}
