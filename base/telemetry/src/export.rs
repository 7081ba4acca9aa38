//! What spans, metrics and log lines need to get to a collector.
//!
//! *Job:* batches of bounded length, one connection per collector, what its answers mean. *Neighbours:* `trace`, `metrics` and
//! `logs` turn what they have into bodies; the sidecar runs their workers. *Invariant:* whatever a collector does, whoever
//! records never waits, memory is bounded, and the log tells of it once until it works again.

mod client;
mod collector;
mod messages;
mod queue;
mod settings;
mod worker;

pub use client::Trust;
pub use settings::{BatchSettings, OtlpProtocol, OtlpSettings, Resource};

pub(crate) use collector::{Collector, Signal, frame};
pub(crate) use messages::{AnyValue, ArrayValue, KeyValue, ResourceMessage, SCHEMA, Scope, Value, text_value};
pub(crate) use queue::{Pages, Queue};
pub(crate) use worker::{Reporter, Target, Worker};

use std::time::{Duration, SystemTime};

/// Why a batch was not taken.
#[derive(Debug)]
pub(crate) struct ExportError {
    pub(crate) message: String,
    /// The same batch may be taken later.
    pub(crate) worth_a_retry: bool,
}

impl ExportError {
    pub(crate) fn retry(message: impl Into<String>) -> Self {
        Self { message: message.into(), worth_a_retry: true }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), worth_a_retry: false }
    }
}

pub(crate) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Nanoseconds since 1970, as OTLP has times.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(since_epoch(time).as_nanos()).unwrap_or(u64::MAX)
}
