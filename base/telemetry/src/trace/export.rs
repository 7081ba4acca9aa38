//! Where finished spans go.

mod otlp;
mod otlp_messages;
mod stdout;
mod zipkin;

use std::sync::Arc;

use bytes::Bytes;
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;

use super::span::SpanRecord;
use super::tracer::SpanQueue;
use crate::export::{BatchSettings, Collector, OtlpSettings, Reporter, Resource, Signal, Target, Worker, frame};

use stdout::StdoutExporter;
use zipkin::ZipkinEncoder;

/// One place spans go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExporterSettings {
    /// Lines in the log.
    Stdout,
    /// The spans API of Zipkin, version 2.
    Zipkin {
        /// URL, path included.
        endpoint: String,
    },
    /// The OpenTelemetry protocol.
    Otlp(OtlpSettings),
}

/// Finished spans of one batch.
type Batch = Vec<Box<SpanRecord>>;

/// Sends the spans of one exporter.
pub struct ExportWorker(Worker<Box<SpanRecord>>);

impl ExportWorker {
    /// # Errors
    /// An endpoint, header or certificate that cannot be used.
    pub(super) fn new(
        settings: ExporterSettings,
        resource: &Arc<Resource>,
        queue: Arc<SpanQueue>,
        batch: BatchSettings,
        log: &Logger,
    ) -> Result<Self, String> {
        let encode: Arc<dyn Fn(Batch) -> Bytes + Send + Sync>;
        let target = match settings {
            ExporterSettings::Stdout => {
                let exporter = StdoutExporter::new(log);
                encode = Arc::new(move |batch| {
                    exporter.export(&batch);
                    Bytes::new()
                });
                Target::Nowhere
            }
            ExporterSettings::Zipkin { endpoint } => {
                let encoder = ZipkinEncoder::new(resource);
                encode = Arc::new(move |batch| encoder.encode(&batch).into());
                let collector = Collector::json(&endpoint).map_err(|error| {
                    format!(
                        "invalid zipkin endpointAddress {endpoint:?}: {error}; expected http://host:port/api/v2/spans"
                    )
                })?;
                Target::Collector(Box::new(collector))
            }
            ExporterSettings::Otlp(settings) => {
                let (resource, protocol) = (resource.clone(), settings.protocol);
                encode = Arc::new(move |batch| frame(&otlp::to_request(&batch, &resource), protocol));
                Target::Collector(Box::new(Collector::otlp(&settings, Signal::Traces)?))
            }
        };
        Ok(Self(Worker::new(queue, encode, target, batch, Reporter::new("spans", log.clone()))))
    }

    /// Sends spans until cancelled, then what is left, for at most three seconds.
    pub async fn run(self, cancel: CancellationToken) {
        self.0.run(cancel).await;
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// An id in hex.
fn hex(id: &[u8]) -> String {
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    id.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests;
