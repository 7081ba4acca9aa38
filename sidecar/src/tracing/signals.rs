//! Metrics and log lines for an OpenTelemetry collector: only for those who ask for them.
//!
//! *Source:* the environment variable specification of OpenTelemetry, but for its default: what nobody asked for is not sent.

use pillion_core::log::Logger;
use pillion_telemetry::export::{BatchSettings, OtlpSettings};
use pillion_telemetry::metrics::Schedule;

use super::variables::{Variables, batch, milliseconds};
use crate::environment::Environment;

/// Whether somebody asks for a signal: by `OTEL_<signal>_EXPORTER`, or by naming a collector for it.
fn is_wanted(environment: &Environment, signal: &str) -> bool {
    if environment.is_truthy("OTEL_SDK_DISABLED") {
        return false;
    }
    match environment.non_empty(&format!("OTEL_{signal}_EXPORTER")) {
        Some(list) => list.split(',').any(|name| name.trim() == "otlp"),
        None => environment.non_empty(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")).is_some(),
    }
}

/// Whether metrics are sent to a collector.
pub(crate) fn wants_metrics(environment: &Environment) -> bool {
    is_wanted(environment, "METRICS")
}

/// Where metrics go and how often, when somebody asks for them.
///
/// # Errors
/// A file of certificates that cannot be read.
pub(super) fn metrics(environment: &Environment, log: &Logger) -> Result<Option<(OtlpSettings, Schedule)>, String> {
    if !wants_metrics(environment) {
        return Ok(None);
    }
    let preference = environment.non_empty("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE").unwrap_or("cumulative");
    if !preference.eq_ignore_ascii_case("cumulative") {
        log.warn(format_args!(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is {preference:?}: only cumulative is supported, and used"
        ));
    }
    let defaults = Schedule::default();
    let schedule = Schedule {
        interval: milliseconds(environment, "OTEL_METRIC_EXPORT_INTERVAL").unwrap_or(defaults.interval),
        timeout: milliseconds(environment, "OTEL_METRIC_EXPORT_TIMEOUT").unwrap_or(defaults.timeout),
    };
    Ok(Some((Variables { environment, signal: "METRICS" }.collector()?, schedule)))
}

/// Where log lines go and how they are gathered, when somebody asks for them.
///
/// # Errors
/// A file of certificates that cannot be read.
pub(super) fn logs(environment: &Environment) -> Result<Option<(OtlpSettings, BatchSettings)>, String> {
    if !is_wanted(environment, "LOGS") {
        return Ok(None);
    }
    let collector = Variables { environment, signal: "LOGS" }.collector()?;
    Ok(Some((collector, batch(environment, "OTEL_BLRP"))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pillion_telemetry::export::OtlpProtocol;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().fold(Environment::default(), |all, (name, value)| all.with(name, value))
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        for (variables, wanted) in [
            (vec![], false),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")], false),
            (vec![("OTEL_METRICS_EXPORTER", "none")], false),
            (vec![("OTEL_METRICS_EXPORTER", "prometheus")], false),
            (vec![("OTEL_METRICS_EXPORTER", "prometheus, otlp")], true),
            (vec![("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_SDK_DISABLED", "true")], false),
            (vec![("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:4317")], true),
            (vec![("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:4317"), ("OTEL_METRICS_EXPORTER", "none")], false),
        ] {
            assert_eq!(wants_metrics(&environment(&variables)), wanted, "{variables:?}");
        }
        assert_eq!(logs(&environment(&[("OTEL_METRICS_EXPORTER", "otlp")])).unwrap(), None);
    }

    #[test]
    fn the_collector_is_the_one_named_or_the_one_here() {
        let silent = Logger::silent();
        let (here, schedule) = metrics(&environment(&[("OTEL_METRICS_EXPORTER", "otlp")]), &silent).unwrap().unwrap();
        assert_eq!((here.endpoint.as_str(), here.protocol, here.secure), ("localhost:4317", OtlpProtocol::Grpc, false));
        assert_eq!(schedule, Schedule::default());
        let named = environment(&[
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/base/"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "k=v"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
            ("OTEL_BLRP_MAX_QUEUE_SIZE", "9"),
        ]);
        let (collector, schedule) = metrics(&named, &silent).unwrap().unwrap();
        assert_eq!((collector.endpoint.as_str(), collector.secure), ("c/base/v1/metrics", true));
        assert_eq!((collector.headers.len(), schedule.interval), (0, Duration::from_millis(250)));
        let (collector, batch) = logs(&named).unwrap().unwrap();
        assert_eq!((collector.endpoint.as_str(), collector.headers.len()), ("c/base/v1/logs", 1));
        assert_eq!(batch, BatchSettings { queue_max: 9, ..BatchSettings::default() });
    }
}
