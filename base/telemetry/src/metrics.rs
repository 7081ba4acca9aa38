//! The metrics of one sidecar: what is counted, under which names and labels, and how it is told.
//!
//! *Job:* [`Metrics`] is the registry, a value every block gets a clone of; its parts record typed events. *Neighbours:* the
//! blocks and fronts record, the sidecar's metrics server prints [`Metrics::text`], [`MetricsExport`] sends the same to an
//! OpenTelemetry collector. *Invariant:* switched off, recording is
//! one comparison; switched on, it takes neither an allocation nor a lock that others hold for long. The number of series is
//! bounded. Names and labels are those of spec metrics.md §2, and stand nowhere else.

mod cell;
mod component;
mod error_code;
mod grpc;
mod http;
mod options;
mod otlp;
mod otlp_messages;
mod path;
mod pattern;
pub mod process;
mod resiliency;
mod rules;
mod service;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use component::{ComponentMetrics, Ingress};
pub use error_code::ErrorCodeMetrics;
pub use grpc::GrpcMetrics;
pub use http::HttpMetrics;
pub use options::MetricsOptions;
pub use otlp::{MetricsExport, Schedule};
pub use resiliency::{PolicyMetrics, ResiliencyMetrics, Target};
pub use rules::Rules;
pub use service::{AccessDecision, CallKind, ServiceMetrics};

use cell::{Bounds, Kind, SIZE_BYTES};
use table::{Column, Table};

/// The metrics of one sidecar. Cheap to clone; all clones record into the same series.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Parts>>);

struct Parts {
    http: HttpMetrics,
    grpc: GrpcMetrics,
    component: ComponentMetrics,
    service: ServiceMetrics,
    resiliency: ResiliencyMetrics,
    error_code: Option<ErrorCodeMetrics>,
    tables: Vec<Arc<Table>>,
    /// Since when values are summed up.
    started: SystemTime,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Metrics(on)" } else { "Metrics(off)" })
    }
}

impl Metrics {
    /// Metrics that record.
    pub fn new(options: &MetricsOptions) -> Self {
        let mut builder = Builder { options, latency: options.latency_bounds(), tables: Vec::new() };
        let parts = Parts {
            http: HttpMetrics::new(&mut builder),
            grpc: GrpcMetrics::new(&mut builder),
            component: ComponentMetrics::new(&mut builder),
            service: ServiceMetrics::new(&mut builder),
            resiliency: ResiliencyMetrics::new(&mut builder),
            error_code: options.record_error_codes.then(|| ErrorCodeMetrics::new(&mut builder)),
            tables: builder.tables,
            started: SystemTime::now(),
        };
        Self(Some(Arc::new(parts)))
    }

    /// Metrics that record nothing and cost nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// HTTP server and client.
    pub fn http(&self) -> Option<&HttpMetrics> {
        self.0.as_deref().map(|parts| &parts.http)
    }

    /// gRPC server and client.
    pub fn grpc(&self) -> Option<&GrpcMetrics> {
        self.0.as_deref().map(|parts| &parts.grpc)
    }

    /// Building blocks.
    pub fn component(&self) -> Option<&ComponentMetrics> {
        self.0.as_deref().map(|parts| &parts.component)
    }

    /// The runtime and service invocation.
    pub fn service(&self) -> Option<&ServiceMetrics> {
        self.0.as_deref().map(|parts| &parts.service)
    }

    /// Resiliency policies.
    pub fn resiliency(&self) -> Option<&ResiliencyMetrics> {
        self.0.as_deref().map(|parts| &parts.resiliency)
    }

    /// Errors by code; only when the Configuration asks for them.
    pub fn error_code(&self) -> Option<&ErrorCodeMetrics> {
        self.0.as_deref().and_then(|parts| parts.error_code.as_ref())
    }

    /// Everything recorded so far in the Prometheus text format 0.0.4.
    pub fn text(&self) -> String {
        self.0.as_deref().map_or_else(String::new, |parts| text::print(&parts.tables))
    }
}

/// Makes the tables of the typed parts.
struct Builder<'a> {
    options: &'a MetricsOptions,
    latency: Bounds,
    tables: Vec<Arc<Table>>,
}

impl Builder<'_> {
    /// A table with `app_id`.
    fn table(&mut self, labels: &'static [&'static str], columns: Vec<Column>) -> Arc<Table> {
        let app_id = self.options.app_id.clone();
        self.add(&[("app_id", &app_id)], labels, columns)
    }

    /// A table with `app_id` and `namespace`.
    fn namespaced(&mut self, labels: &'static [&'static str], columns: Vec<Column>) -> Arc<Table> {
        let (app_id, namespace) = (self.options.app_id.clone(), self.options.namespace.clone());
        self.add(&[("app_id", &app_id), ("namespace", &namespace)], labels, columns)
    }

    fn add(
        &mut self,
        constant: &[(&'static str, &str)],
        labels: &'static [&'static str],
        columns: Vec<Column>,
    ) -> Arc<Table> {
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let rules = self.options.rules.of(&names, labels);
        let table = Table::new(constant, labels, columns, rules);
        self.tables.push(table.clone());
        table
    }

    fn latency(&self, name: &'static str, help: &'static str) -> Column {
        Column { name, help, unit: "ms", kind: Kind::Histogram(self.latency.clone()) }
    }
}

fn counter(name: &'static str, help: &'static str) -> Column {
    Column { name, help, unit: "", kind: Kind::Counter }
}

fn gauge(name: &'static str, help: &'static str) -> Column {
    Column { name, help, unit: "", kind: Kind::Gauge }
}

fn size(name: &'static str, help: &'static str) -> Column {
    Column { name, help, unit: "By", kind: Kind::Histogram(Bounds::from(SIZE_BYTES)) }
}

/// Milliseconds with their fraction.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Milliseconds without their fraction, as server latencies are recorded.
fn whole_milliseconds(duration: Duration) -> f64 {
    duration.as_millis() as f64
}

/// A whole number as text, without allocating.
struct Decimal {
    digits: [u8; 11],
    start: usize,
}

impl Decimal {
    fn new(number: i32) -> Self {
        let mut decimal = Self { digits: [b'0'; 11], start: 11 };
        let mut rest = number.unsigned_abs();
        while rest > 0 || decimal.start == 11 {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        if number < 0 {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'-';
        }
        decimal
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}
