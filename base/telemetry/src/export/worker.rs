//! Sends what waits in a queue, in batches.
//!
//! *Job:* gather, encode, send, try again, give up. *Neighbours:* whoever records pushes into the [`Queue`]; an encoder, given at
//! the start, makes a body of a batch; a [`Target`] takes it. *Invariant:* whatever the collector does, it costs one queue of
//! bounded length and one line in the log until it answers again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pillion_core::log::Logger;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::Waiting;
use super::{BatchSettings, Collector, ExportError, Queue};

/// First wait before a batch is sent again; each further one is twice as long, up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT: Duration = Duration::from_millis(500);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long one batch is tried. *Source:* the time an OTLP exporter of the original tries.
const RETRY_TIME: Duration = Duration::from_secs(60);
/// Time for what is left when the sidecar stops.
const FLUSH_TIME: Duration = Duration::from_secs(3);
/// A batch of so many is encoded on another thread: requests are served on this one.
const LARGE_BATCH: usize = 32;

/// Makes a body of a batch.
pub(crate) type Encode<B> = Arc<dyn Fn(B) -> Bytes + Send + Sync>;

/// Where bodies go.
pub(crate) enum Target {
    /// The encoder has done all there is to do.
    Nowhere,
    Collector(Box<Collector>),
}

impl Target {
    fn name(&self) -> &str {
        match self {
            Self::Nowhere => "the log",
            Self::Collector(collector) => collector.name(),
        }
    }

    async fn send(&mut self, body: Bytes) -> Result<(), ExportError> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Collector(collector) => collector.send(body).await,
        }
    }
}

/// Tells the log of a collector that is away: one line until it is back.
pub(crate) struct Reporter {
    /// `spans`, `metrics`, `log lines`.
    pub(crate) what: &'static str,
    pub(crate) log: Logger,
    broken: bool,
}

impl Reporter {
    pub(crate) fn new(what: &'static str, log: Logger) -> Self {
        Self { what, log, broken: false }
    }

    /// `kept`: what is done about it.
    pub(crate) fn failed(&mut self, name: &str, error: &ExportError, kept: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.broken, true) {
            let what = self.what;
            self.log.warn(format_args!(
                "{what} cannot be sent to {name}: {}; {kept}, calls go on as before",
                error.message
            ));
        }
    }

    /// `lost` is only asked when there is something to tell.
    pub(crate) fn worked(&mut self, name: &str, lost: impl FnOnce() -> u64) {
        if std::mem::take(&mut self.broken) {
            self.log.info(format_args!("{} are sent to {name} again, {} were lost", self.what, lost()));
        }
    }
}

/// A batch on its way.
struct Body {
    bytes: Bytes,
    count: u64,
}

pub(crate) struct Worker<W: Waiting> {
    queue: Arc<Queue<W>>,
    encode: Encode<W::Batch>,
    target: Target,
    settings: BatchSettings,
    reporter: Reporter,
}

impl<W: Waiting> Worker<W> {
    pub(crate) fn new(
        queue: Arc<Queue<W>>,
        encode: Encode<W::Batch>,
        target: Target,
        settings: BatchSettings,
        reporter: Reporter,
    ) -> Self {
        Self { queue, encode, target, settings, reporter }
    }

    /// Sends until cancelled, then what is left, for at most three seconds.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut left = None;
        while left.is_none() && cancel.run_until_cancelled(self.queue.some()).await.is_some() {
            // Either way it is time: enough, or late.
            let gathered = tokio::time::timeout(self.settings.delay, self.queue.enough());
            if cancel.run_until_cancelled(gathered).await.is_none() {
                break;
            }
            loop {
                let body = self.body().await;
                left = self.deliver(body, &cancel).await;
                if left.is_some() || !self.queue.has_enough() {
                    break;
                }
            }
        }
        self.queue.close();
        // Nothing is lost but telemetry when this takes too long.
        let _ = tokio::time::timeout(FLUSH_TIME, self.flush(left)).await;
    }

    async fn body(&self) -> Body {
        let (batch, length) = self.queue.take();
        let count = length as u64;
        if W::IS_WRITTEN || length < LARGE_BATCH {
            return Body { bytes: (self.encode)(batch), count };
        }
        let encode = self.encode.clone();
        // Only fails when the process ends.
        let bytes = tokio::task::spawn_blocking(move || encode(batch)).await.unwrap_or_default();
        Body { bytes, count }
    }

    /// Sends a batch, again and again while the collector may only be away for a moment. Gives it back when cancelled.
    async fn deliver(&mut self, body: Body, cancel: &CancellationToken) -> Option<Body> {
        let give_up = Instant::now() + RETRY_TIME;
        let mut wait = RETRY_WAIT;
        loop {
            let Some(outcome) = cancel.run_until_cancelled(self.attempt(body.bytes.clone())).await else {
                return Some(body);
            };
            let Err(error) = outcome else {
                self.reporter.worked(self.target.name(), || self.queue.take_lost());
                return None;
            };
            self.warn(&error);
            if !error.worth_a_retry || Instant::now() + wait > give_up {
                self.queue.lose(body.count);
                return None;
            }
            if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Some(body);
            }
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    async fn attempt(&mut self, body: Bytes) -> Result<(), ExportError> {
        // Boxed: a request with its connection is large, and this is not a hot path.
        match tokio::time::timeout(self.settings.timeout, Box::pin(self.target.send(body))).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ExportError::retry(format!("no answer within {:?}", self.settings.timeout))),
        }
    }

    async fn flush(&mut self, left: Option<Body>) {
        let mut next = left;
        loop {
            let body = match next.take() {
                Some(body) => body,
                None => self.body().await,
            };
            if body.count == 0 {
                return;
            }
            if let Err(error) = self.attempt(body.bytes).await {
                return self.warn(&error);
            }
        }
    }

    fn warn(&mut self, error: &ExportError) {
        let kept = format_args!("up to {} are kept and tried again", self.queue.length_max());
        self.reporter.failed(self.target.name(), error, &kept);
    }
}
