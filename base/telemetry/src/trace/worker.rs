//! One exporter's worker: gathers finished spans and sends them in batches.
//!
//! *Invariant:* whatever the collector does, it costs one queue of bounded length and one line in the log until it answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pillion_core::log::Logger;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::export::{ExportError, Exporter};
use super::span::SpanRecord;

/// First wait before a batch is sent again; each further one is twice as long, up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT: Duration = Duration::from_millis(500);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long one batch is tried. *Source:* the time an OTLP exporter of the original tries.
const RETRY_TIME: Duration = Duration::from_secs(60);
/// Time for what is left when the sidecar stops.
const FLUSH_TIME: Duration = Duration::from_secs(3);

/// How spans are gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// Spans that wait at most; more are dropped.
    pub queue_max: usize,
    /// Spans in one export.
    pub batch_max: usize,
    /// How long the first span of a batch waits for others.
    pub delay: Duration,
    /// How long one export may take.
    pub timeout: Duration,
}

impl Default for BatchSettings {
    /// *Source:* the defaults of `OTEL_BSP_*`, but for the delay, which is 5 s there: a trace is looked at right after the call.
    fn default() -> Self {
        Self { queue_max: 2048, batch_max: 512, delay: Duration::from_secs(1), timeout: Duration::from_secs(30) }
    }
}

/// Sends the spans of one exporter.
pub struct ExportWorker {
    exporter: Exporter,
    receiver: mpsc::Receiver<Arc<SpanRecord>>,
    /// Spans that found the queue full.
    lost: Arc<AtomicU64>,
    settings: BatchSettings,
    /// The collector did not take the last batch, and the log says so.
    broken: bool,
    log: Logger,
}

impl ExportWorker {
    pub(super) fn new(
        exporter: Exporter,
        receiver: mpsc::Receiver<Arc<SpanRecord>>,
        lost: Arc<AtomicU64>,
        settings: BatchSettings,
        log: Logger,
    ) -> Self {
        Self { exporter, receiver, lost, settings, broken: false, log }
    }

    /// Sends spans until cancelled, then what is left, for at most three seconds.
    pub async fn run(mut self, cancel: CancellationToken) {
        let batch_max = self.settings.batch_max.max(1);
        let mut batch = Vec::with_capacity(batch_max);
        while let Some(Some(first)) = cancel.run_until_cancelled(self.receiver.recv()).await {
            batch.push(first);
            let full_by = Instant::now() + self.settings.delay;
            while batch.len() < batch_max {
                let more = tokio::time::timeout_at(full_by, self.receiver.recv_many(&mut batch, batch_max));
                match cancel.run_until_cancelled(more).await {
                    Some(Ok(count)) if count > 0 => {}
                    _ => break,
                }
            }
            self.deliver(&mut batch, &cancel).await;
        }
        self.receiver.close();
        // Nothing is lost but spans when this takes too long.
        let _ = tokio::time::timeout(FLUSH_TIME, self.flush(batch)).await;
    }

    /// Sends a batch, again and again while the collector may only be away for a moment.
    async fn deliver(&mut self, batch: &mut Vec<Arc<SpanRecord>>, cancel: &CancellationToken) {
        let give_up = Instant::now() + RETRY_TIME;
        let mut wait = RETRY_WAIT;
        while !batch.is_empty() {
            let take = batch.len().min(self.settings.batch_max.max(1));
            let Some(outcome) = cancel.run_until_cancelled(self.attempt(batch.get(..take).unwrap_or_default())).await
            else {
                return; // the rest is for the flush
            };
            match outcome {
                Ok(()) => {
                    batch.drain(..take);
                    self.recovered();
                }
                Err(error) => {
                    self.warn(&error);
                    if !error.worth_a_retry || Instant::now() + wait > give_up {
                        self.lost.fetch_add(take as u64, Ordering::Relaxed);
                        batch.drain(..take);
                        continue;
                    }
                    if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return;
                    }
                    wait = (wait * 2).min(RETRY_WAIT_MAX);
                }
            }
        }
    }

    async fn attempt(&mut self, batch: &[Arc<SpanRecord>]) -> Result<(), ExportError> {
        // Boxed: a request with its connection is large, and this is not a hot path.
        match tokio::time::timeout(self.settings.timeout, Box::pin(self.exporter.export(batch))).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ExportError::retry(format!("no answer within {:?}", self.settings.timeout))),
        }
    }

    async fn flush(&mut self, mut batch: Vec<Arc<SpanRecord>>) {
        loop {
            while batch.len() < self.settings.batch_max
                && let Ok(record) = self.receiver.try_recv()
            {
                batch.push(record);
            }
            if batch.is_empty() {
                return;
            }
            let take = batch.len().min(self.settings.batch_max.max(1));
            if let Err(error) = self.attempt(batch.get(..take).unwrap_or_default()).await {
                return self.warn(&error);
            }
            batch.drain(..take);
        }
    }

    /// One line until it works again.
    fn warn(&mut self, error: &ExportError) {
        if !std::mem::replace(&mut self.broken, true) {
            self.log.warn(format_args!(
                "spans cannot be sent to {}: {}; up to {} are kept and tried again, calls go on as before",
                self.exporter.name(),
                error.message,
                self.settings.queue_max
            ));
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.broken) {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            self.log.info(format_args!("spans are sent to {} again, {lost} were lost", self.exporter.name()));
        }
    }
}
