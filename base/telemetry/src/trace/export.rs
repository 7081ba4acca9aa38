//! Where finished spans go.

mod otlp;
mod otlp_messages;
mod stdout;
mod zipkin;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pillion_core::log::Logger;

use super::client::Trust;
use super::span::SpanRecord;

use otlp::OtlpExporter;
use stdout::StdoutExporter;
use zipkin::ZipkinExporter;

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

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// HTTP with protobuf.
    Http,
}

/// An OTLP collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// `host:port`, or `host` with the protocol's port; for HTTP a path may follow, `/v1/traces` is the usual one.
    pub endpoint: String,
    /// Protocol.
    pub protocol: OtlpProtocol,
    /// Over TLS.
    pub secure: bool,
    /// Which certificates are trusted then.
    pub trust: Trust,
    /// Headers or metadata of each export.
    pub headers: Vec<(String, String)>,
    /// Time for one export; `None` = 10 s.
    pub timeout: Option<Duration>,
}

/// What all spans of a sidecar have in common.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) attributes: Vec<(String, String)>,
}

impl Resource {
    pub(super) fn new(attributes: Vec<(String, String)>) -> Self {
        Self { attributes }
    }

    pub(super) fn service_name(&self) -> &str {
        self.attributes.iter().find(|(key, _)| key == "service.name").map_or("", |(_, value)| value)
    }
}

/// Why a batch was not taken.
#[derive(Debug)]
pub(super) struct ExportError {
    pub(super) message: String,
    /// The same batch may be taken later.
    pub(super) worth_a_retry: bool,
}

impl ExportError {
    pub(super) fn retry(message: impl Into<String>) -> Self {
        Self { message: message.into(), worth_a_retry: true }
    }

    fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), worth_a_retry: false }
    }

    /// From the status of an HTTP answer: only those that say "later" are worth a retry.
    fn of_http(status: u16, body: &[u8]) -> Self {
        let told = String::from_utf8_lossy(body);
        let told: String = told.trim().chars().take(200).collect();
        let message = if told.is_empty() {
            format!("it answered with status {status}")
        } else {
            format!("it answered with status {status}: {told}")
        };
        Self { message, worth_a_retry: matches!(status, 408 | 429 | 502..=504) }
    }
}

/// An exporter of any kind.
pub(super) enum Exporter {
    Stdout(StdoutExporter),
    Zipkin(ZipkinExporter),
    Otlp(OtlpExporter),
}

impl Exporter {
    /// # Errors
    /// An endpoint, header or certificate that cannot be used.
    pub(super) fn new(settings: ExporterSettings, resource: Arc<Resource>, log: &Logger) -> Result<Self, String> {
        Ok(match settings {
            ExporterSettings::Stdout => Self::Stdout(StdoutExporter::new(log)),
            ExporterSettings::Zipkin { endpoint } => Self::Zipkin(ZipkinExporter::new(&endpoint, resource)?),
            ExporterSettings::Otlp(settings) => Self::Otlp(OtlpExporter::new(settings, resource)?),
        })
    }

    /// What it is in the log.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Stdout(_) => "the log",
            Self::Zipkin(exporter) => exporter.name(),
            Self::Otlp(exporter) => exporter.name(),
        }
    }

    pub(super) async fn export(&mut self, batch: &[Arc<SpanRecord>]) -> Result<(), ExportError> {
        match self {
            Self::Stdout(exporter) => {
                exporter.export(batch);
                Ok(())
            }
            Self::Zipkin(exporter) => exporter.export(batch).await,
            Self::Otlp(exporter) => exporter.export(batch).await,
        }
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// An id in hex.
fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::with_capacity(2 * id.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
        out
    })
}

#[cfg(test)]
mod tests;
