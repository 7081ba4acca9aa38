//! Metrics for an OpenTelemetry collector: all series and the figures of the process, again and again.
//!
//! *Source:* the OTLP specification 1.x; names, labels and buckets are those of the Prometheus text. *Invariant:* values are
//! cumulative since the start of the sidecar, so an export that fails loses nothing that the next one does not have.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use super::cell::Cell;
use super::otlp_messages::{
    Data, ExportMetricsServiceRequest, GaugeMessage, HistogramMessage, HistogramPoint, MetricMessage, NumberPoint,
    ResourceMetrics, ScopeMetrics, SumMessage,
};
use super::process::{self, Figure};
use super::table::{Column, Row, Table};
use crate::export::{
    Collector, ExportError, KeyValue, OtlpProtocol, OtlpSettings, Reporter, Resource, SCHEMA, Scope, Signal, frame,
    nanoseconds, text_value,
};
use crate::trace::DAPR_SCOPE;

/// Since the start, not since the last export.
const CUMULATIVE: i32 = 2;
/// Series in one body, so that it stays below the 4 MiB a collector takes.
const POINTS_MAX: usize = 1000;
/// Time for the last export when the sidecar stops.
const FLUSH_TIME: Duration = Duration::from_secs(3);

/// When metrics are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From one export to the next.
    pub interval: Duration,
    /// How long one export may take.
    pub timeout: Duration,
}

impl Default for Schedule {
    /// *Source:* the defaults of `OTEL_METRIC_EXPORT_*`.
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), timeout: Duration::from_secs(30) }
    }
}

/// Sends the metrics of a sidecar.
pub struct MetricsExport {
    metrics: Metrics,
    collector: Collector,
    protocol: OtlpProtocol,
    resource: Arc<Resource>,
    schedule: Schedule,
    reporter: Reporter,
}

impl MetricsExport {
    /// Sends `metrics` to a collector.
    ///
    /// # Errors
    /// An endpoint, header or certificate that cannot be used.
    pub fn new(
        metrics: Metrics,
        settings: &OtlpSettings,
        schedule: Schedule,
        resource: Resource,
        log: &Logger,
    ) -> Result<Self, String> {
        Ok(Self {
            metrics,
            collector: Collector::otlp(settings, Signal::Metrics)?,
            protocol: settings.protocol,
            resource: Arc::new(resource),
            schedule,
            reporter: Reporter::new("metrics", log.clone()),
        })
    }

    /// Sends until cancelled, then once more, for at most three seconds.
    pub async fn run(mut self, cancel: CancellationToken) {
        while cancel.run_until_cancelled(tokio::time::sleep(self.schedule.interval)).await.is_some() {
            let limit = self.schedule.timeout;
            if cancel.run_until_cancelled(tokio::time::timeout(limit, self.export())).await.is_none() {
                break;
            }
        }
        // Nothing is lost but the last interval when this takes too long.
        let _ = tokio::time::timeout(FLUSH_TIME, self.export()).await;
    }

    async fn export(&mut self) {
        let (metrics, resource, protocol) = (self.metrics.clone(), self.resource.clone(), self.protocol);
        // On another thread: there may be thousands of series. Only fails when the process ends.
        let bodies = tokio::task::spawn_blocking(move || bodies(&metrics, &resource, protocol, SystemTime::now()));
        for body in bodies.await.unwrap_or_default() {
            let limit = self.schedule.timeout;
            // Boxed: a request with its connection is large, and this is not a hot path.
            let sent = match tokio::time::timeout(limit, Box::pin(self.collector.send(body))).await {
                Ok(sent) => sent,
                Err(_) => Err(ExportError::retry(format!("no answer within {limit:?}"))),
            };
            match sent {
                Ok(()) => self.reporter.worked(self.collector.name(), || 0),
                Err(error) => {
                    let next = self.schedule.interval;
                    let kept = format_args!("all values are sent again in {next:?}");
                    return self.reporter.failed(self.collector.name(), &error, &kept);
                }
            }
        }
    }
}

/// Everything recorded so far and the figures of the process, in as many bodies as it takes.
fn bodies(metrics: &Metrics, resource: &Resource, protocol: OtlpProtocol, now: SystemTime) -> Vec<Bytes> {
    let figures = metrics.0.as_deref().map(|parts| process::figures(parts.started)).unwrap_or_default();
    requests(metrics, &figures, resource, now).iter().map(|request| frame(request, protocol)).collect()
}

fn requests(
    metrics: &Metrics,
    figures: &[Figure],
    resource: &Resource,
    now: SystemTime,
) -> Vec<ExportMetricsServiceRequest> {
    let Some(parts) = &metrics.0 else { return Vec::new() };
    let times = (nanoseconds(parts.started), nanoseconds(now));
    let mut bodies: Vec<(usize, Vec<MetricMessage>)> = Vec::new();
    for table in &parts.tables {
        let rows = table.sorted();
        for (index, column) in table.columns().iter().enumerate() {
            for rows in rows.chunks(POINTS_MAX) {
                let Some((count, message)) = metric(table, column, index, rows, times) else { continue };
                match bodies.last_mut().filter(|(points, _)| points + count <= POINTS_MAX) {
                    Some((points, messages)) => {
                        *points += count;
                        messages.push(message);
                    }
                    None => bodies.push((count, vec![message])),
                }
            }
        }
    }
    if !figures.is_empty() {
        bodies.push((figures.len(), figures.iter().map(|figure| process_metric(figure, times)).collect()));
    }
    let request = |metrics: Vec<MetricMessage>| ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.message()),
            scope_metrics: vec![ScopeMetrics { scope: Some(Scope { name: DAPR_SCOPE.to_owned() }), metrics }],
            schema_url: SCHEMA.to_owned(),
        }],
    };
    bodies.into_iter().map(|(_, metrics)| request(metrics)).collect()
}

/// One metric with the series of these rows that were recorded, and their number; `None` without any.
fn metric(
    table: &Table,
    column: &Column,
    index: usize,
    rows: &[Arc<Row>],
    times: (u64, u64),
) -> Option<(usize, MetricMessage)> {
    let (mut sums, mut gauges, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match row.cell(index) {
            Some(Cell::Counter(value)) => {
                let value = value.load(std::sync::atomic::Ordering::Relaxed);
                if value > 0 {
                    sums.push(number(table, row, i64::try_from(value).unwrap_or(i64::MAX), times));
                }
            }
            Some(cell @ Cell::Gauge(_)) => {
                gauges.extend(cell.gauge().map(|value| number(table, row, value, times)));
            }
            Some(Cell::Histogram(histogram)) => {
                let (bucket_counts, sum) = histogram.read();
                let count = bucket_counts.iter().sum();
                if count > 0 {
                    histograms.push(HistogramPoint {
                        start_time_unix_nano: times.0,
                        time_unix_nano: times.1,
                        count,
                        sum: Some(sum),
                        bucket_counts,
                        explicit_bounds: histogram.bounds.to_vec(),
                        attributes: attributes(table, row),
                    });
                }
            }
            None => {}
        }
    }
    let count = sums.len() + gauges.len() + histograms.len();
    let data = if !sums.is_empty() {
        Data::Sum(SumMessage { data_points: sums, aggregation_temporality: CUMULATIVE, is_monotonic: true })
    } else if !gauges.is_empty() {
        Data::Gauge(GaugeMessage { data_points: gauges })
    } else if !histograms.is_empty() {
        Data::Histogram(HistogramMessage { data_points: histograms, aggregation_temporality: CUMULATIVE })
    } else {
        return None;
    };
    let message = MetricMessage {
        name: column.name.to_owned(),
        description: column.help.to_owned(),
        unit: column.unit.to_owned(),
        data: Some(data),
    };
    Some((count, message))
}

fn number(table: &Table, row: &Row, value: i64, times: (u64, u64)) -> NumberPoint {
    NumberPoint {
        start_time_unix_nano: times.0,
        time_unix_nano: times.1,
        as_double: None,
        as_int: Some(value),
        attributes: attributes(table, row),
    }
}

/// A figure has no labels of its own: the resource says whose process it is.
fn process_metric(figure: &Figure, times: (u64, u64)) -> MetricMessage {
    let data_points = vec![NumberPoint {
        start_time_unix_nano: times.0,
        time_unix_nano: times.1,
        as_double: Some(figure.value),
        as_int: None,
        attributes: Vec::new(),
    }];
    let data = if figure.is_counter {
        Data::Sum(SumMessage { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
    } else {
        Data::Gauge(GaugeMessage { data_points })
    };
    MetricMessage {
        name: figure.name.to_owned(),
        description: figure.help.to_owned(),
        unit: figure.unit.to_owned(),
        data: Some(data),
    }
}

fn attributes(table: &Table, row: &Row) -> Vec<KeyValue> {
    let attribute =
        |(key, value): (&str, &str)| KeyValue { key: key.to_owned(), value: Some(text_value(value.to_owned())) };
    table.labels(row).map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{MetricsOptions, Target};

    #[test]
    fn series_are_those_of_the_text_form() {
        let metrics = Metrics::new(&MetricsOptions::new("shop", "default"));
        let resource = Resource { attributes: vec![("service.name".to_owned(), "shop".to_owned())] };
        let now = SystemTime::now();
        assert!(requests(&metrics, &[], &resource, now).is_empty(), "nothing was recorded");
        metrics.http().unwrap().served("GET", "/a", 200, (10, 2000), Duration::from_millis(7));
        let target = Target { resiliency: "r", namespace: "n", flow_direction: "outbound", target: "app_b" };
        metrics.resiliency().unwrap().policy(&target, false, false, true).applied(Some("closed"));
        let requests = requests(&metrics, &[], &resource, now);
        let [request] = requests.as_slice() else { panic!("{requests:?}") };
        let resource = &request.resource_metrics[0];
        assert_eq!(resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
        let messages = &resource.scope_metrics[0].metrics;
        let find = |name: &str| messages.iter().find(|message| message.name == name).unwrap();
        let Some(Data::Histogram(latency)) = &find("dapr_http_server_latency").data else { panic!() };
        assert_eq!(
            (latency.aggregation_temporality, find("dapr_http_server_latency").unit.as_str()),
            (CUMULATIVE, "ms")
        );
        let point = &latency.data_points[0];
        assert_eq!(
            (point.count, point.sum, point.explicit_bounds.len(), point.bucket_counts.len()),
            (1, Some(7.0), 34, 35)
        );
        assert_eq!(point.bucket_counts[6], 1, "from 6 to 8 ms");
        let labels: Vec<&str> = point.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(labels, ["app_id", "method", "path", "status"]);
        assert!(point.start_time_unix_nano > 0 && point.time_unix_nano >= point.start_time_unix_nano);
        let Some(Data::Sum(count)) = &find("dapr_http_server_request_count").data else { panic!() };
        assert_eq!((count.is_monotonic, count.data_points[0].as_int), (true, Some(1)));
        assert_eq!(find("dapr_http_server_request_bytes").unit, "By");
        let Some(Data::Gauge(states)) = &find("dapr_resiliency_cb_state").data else { panic!() };
        let values: Vec<Option<i64>> = states.data_points.iter().map(|point| point.as_int).collect();
        assert_eq!(values.iter().filter(|value| **value == Some(1)).count(), 1, "{values:?}");
        assert!(values.contains(&Some(0)), "a zero is a value");
    }

    #[test]
    fn figures_of_the_process_are_sent_too() {
        let metrics = Metrics::new(&MetricsOptions::new("shop", "default"));
        let figures = process::figures(SystemTime::now());
        let requests = requests(&metrics, &figures, &Resource::default(), SystemTime::now());
        let [request] = requests.as_slice() else { panic!("{requests:?}") };
        let messages = &request.resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<&str> = messages.iter().map(|message| message.name.as_str()).collect();
        assert_eq!(names, figures.iter().map(|figure| figure.name).collect::<Vec<_>>());
        let find = |name: &str| messages.iter().find(|message| message.name == name).unwrap();
        let memory = find("process_resident_memory_bytes");
        let Some(Data::Gauge(gauge)) = &memory.data else { panic!("{memory:?}") };
        assert!(gauge.data_points[0].as_double.unwrap() > 100_000.0, "{gauge:?}");
        assert_eq!((memory.unit.as_str(), gauge.data_points[0].as_int), ("By", None));
        let processor = find("process_cpu_seconds_total");
        assert!(matches!(&processor.data, Some(Data::Sum(sum)) if sum.is_monotonic), "{processor:?}");
    }

    #[test]
    fn many_series_are_split() {
        let metrics = Metrics::new(&MetricsOptions::new("shop", "default"));
        for number in 0..1500 {
            metrics.http().unwrap().served("GET", &format!("/{number}"), 200, (0, 0), Duration::ZERO);
        }
        let requests = requests(&metrics, &[], &Resource::default(), SystemTime::now());
        let points = |request: &ExportMetricsServiceRequest| -> usize {
            let messages = &request.resource_metrics[0].scope_metrics[0].metrics;
            messages
                .iter()
                .map(|message| match message.data.as_ref().unwrap() {
                    Data::Gauge(gauge) => gauge.data_points.len(),
                    Data::Sum(sum) => sum.data_points.len(),
                    Data::Histogram(histogram) => histogram.data_points.len(),
                })
                .sum()
        };
        let counts: Vec<usize> = requests.iter().map(points).collect();
        assert!(counts.iter().all(|count| *count <= POINTS_MAX), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 3 * 1500 + 2);
    }
}
