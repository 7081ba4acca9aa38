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
use crate::export::{
    BatchSettings, Collector, OtlpSettings, Pages, Queue, Reporter, Resource, Signal, Target, Worker, frame,
};
use crate::text::hex_pair;

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

/// Where a finished span waits for one exporter.
#[derive(Debug)]
pub(super) enum Outlet {
    Records(Arc<Queue<Batch>>),
    /// Written at once: that is little more than a copy, and less than handing a record to another thread and freeing it there.
    Zipkin(ZipkinEncoder, Arc<Queue<Pages>>),
}

impl Outlet {
    fn take(&self, record: Box<SpanRecord>) {
        match self {
            Self::Records(queue) => queue.push(record),
            Self::Zipkin(encoder, queue) => queue.write(|page| encoder.write(page, &record)),
        }
    }
}

/// The outlets of all exporters.
#[derive(Debug)]
pub(super) struct Outlets(Vec<Outlet>);

impl Outlets {
    pub(super) fn new(outlets: Vec<Outlet>) -> Self {
        Self(outlets)
    }

    /// Gives a span to each outlet that has room.
    pub(super) fn take(&self, record: Box<SpanRecord>) {
        if let Some((last, others)) = self.0.split_last() {
            others.iter().for_each(|outlet| outlet.take(record.clone()));
            last.take(record);
        }
    }
}

/// Sends the spans of one exporter.
pub struct ExportWorker(Sends);

enum Sends {
    Records(Worker<Batch>),
    Zipkin(Worker<Pages>),
}

impl ExportWorker {
    /// # Errors
    /// An endpoint, header or certificate that cannot be used.
    pub(super) fn new(
        settings: ExporterSettings,
        resource: &Arc<Resource>,
        batch: BatchSettings,
        log: &Logger,
    ) -> Result<(Outlet, Self), String> {
        let reporter = Reporter::new("spans", log.clone());
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
                let collector = Collector::json(&endpoint).map_err(|error| {
                    format!(
                        "invalid zipkin endpointAddress {endpoint:?}: {error}; expected http://host:port/api/v2/spans"
                    )
                })?;
                let target = Target::Collector(Box::new(collector));
                let queue = Arc::new(Queue::new(&batch));
                let outlet = Outlet::Zipkin(ZipkinEncoder::new(resource), queue.clone());
                let worker = Worker::new(queue, Arc::new(zipkin::body), target, batch, reporter);
                return Ok((outlet, Self(Sends::Zipkin(worker))));
            }
            ExporterSettings::Otlp(settings) => {
                let (resource, protocol) = (resource.clone(), settings.protocol);
                encode = Arc::new(move |batch| frame(&otlp::to_request(&batch, &resource), protocol));
                Target::Collector(Box::new(Collector::otlp(&settings, Signal::Traces)?))
            }
        };
        let queue = Arc::new(Queue::new(&batch));
        let worker = Worker::new(queue.clone(), encode, target, batch, reporter);
        Ok((Outlet::Records(queue), Self(Sends::Records(worker))))
    }

    /// Sends spans until cancelled, then what is left, for at most three seconds.
    pub async fn run(self, cancel: CancellationToken) {
        match self.0 {
            Sends::Records(worker) => worker.run(cancel).await,
            Sends::Zipkin(worker) => worker.run(cancel).await,
        }
    }
}

/// An id in hex.
fn hex(id: &[u8]) -> String {
    id.iter().flat_map(|byte| hex_pair(*byte).map(char::from)).collect()
}

#[cfg(test)]
mod tests;
