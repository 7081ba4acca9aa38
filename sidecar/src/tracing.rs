//! From the Configuration and the `OTEL_*` variables to a tracer, and to the export of metrics and log lines.
//!
//! *Source:* spec metrics.md §5.1; the meaning of the variables is that of the OpenTelemetry specification. *Invariant:* what the
//! Configuration says counts before a variable.

mod signals;
mod variables;

use std::sync::Arc;

use pillion_core::duration::parse_go;
use pillion_core::log::{LogTap, Logger};
use pillion_resources::types::Tracing;
use pillion_telemetry::export::{OtlpProtocol, OtlpSettings};
use pillion_telemetry::logs::LogExport;
use pillion_telemetry::metrics::{Metrics, MetricsExport};
use pillion_telemetry::trace::{ExporterSettings, Tracer, TracerSettings};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::environment::Environment;

pub(crate) use signals::wants_metrics;
use variables::{Variables, batch, resource};

/// The tracer of a sidecar, and what sends its spans, metrics and log lines.
pub(crate) struct Tracers {
    pub(crate) tracer: Tracer,
    workers: TaskTracker,
    cancel: CancellationToken,
    /// Sees the lines of this logger.
    tap: Option<(Logger, Arc<dyn LogTap>)>,
}

impl Tracers {
    /// Makes the tracer and starts to send. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub(crate) fn start(
        tracing: &Tracing,
        app_id: &str,
        environment: &Environment,
        metrics: &Metrics,
        log: &Logger,
    ) -> Result<Self, String> {
        let settings = settings(tracing, app_id, environment, log)?;
        let (tracer, exporters) =
            Tracer::new(settings, log).map_err(|error| format!("failed to setup tracing: {error}"))?;
        let (workers, cancel) = (TaskTracker::new(), CancellationToken::new());
        for exporter in exporters {
            workers.spawn(exporter.run(cancel.clone()));
        }
        let resource = resource(app_id, environment);
        let mut tracers = Self { tracer, workers, cancel, tap: None };
        let failed =
            |signal: &'static str| move |error: String| format!("failed to setup the export of {signal}: {error}");
        if let Some((collector, schedule)) = signals::metrics(environment, log).map_err(failed("metrics"))? {
            let exporter = MetricsExport::new(metrics.clone(), &collector, schedule, resource.clone(), log);
            tracers.workers.spawn(exporter.map_err(failed("metrics"))?.run(tracers.cancel.clone()));
        }
        if let Some((collector, batch)) = signals::logs(environment).map_err(failed("logs"))? {
            let (tap, exporter) = LogExport::new(&collector, batch, resource, log).map_err(failed("logs"))?;
            tracers.workers.spawn(exporter.run(tracers.cancel.clone()));
            log.set_tap(tap.clone());
            tracers.tap = Some((log.clone(), tap));
        }
        Ok(tracers)
    }

    /// Sends what is left; takes a few seconds at most.
    pub(crate) async fn stop(&self) {
        self.cancel.cancel();
        self.workers.close();
        self.workers.wait().await;
    }
}

impl Drop for Tracers {
    fn drop(&mut self) {
        // A start that failed after this ends here, without anything left to send.
        self.cancel.cancel();
        if let Some((log, tap)) = &self.tap {
            log.remove_tap(tap);
        }
    }
}

fn settings(
    tracing: &Tracing,
    app_id: &str,
    environment: &Environment,
    log: &Logger,
) -> Result<TracerSettings, String> {
    let mut sampling_rate = tracing.sampling_rate.clone();
    let mut exporters = Vec::new();
    if tracing.stdout {
        exporters.push(ExporterSettings::Stdout);
    }
    if !tracing.zipkin_endpoint.is_empty() {
        exporters.push(ExporterSettings::Zipkin { endpoint: tracing.zipkin_endpoint.clone() });
    }
    if let Some((otlp, by_variable)) = otlp(tracing.otel.as_ref().unwrap_or(&Json::Null), environment, log)? {
        // Whoever names a collector in a variable wants to see something there. Source: the original does the same.
        if by_variable && sampling_rate.is_empty() {
            "1".clone_into(&mut sampling_rate);
        }
        exporters.push(ExporterSettings::Otlp(otlp));
    }
    Ok(TracerSettings {
        sampling_rate,
        exporters,
        resource: resource(app_id, environment),
        batch: batch(environment, "OTEL_BSP"),
    })
}

/// The collector, and whether a variable names it.
fn otlp(otel: &Json, environment: &Environment, log: &Logger) -> Result<Option<(OtlpSettings, bool)>, String> {
    let variables = Variables { environment, signal: "TRACES" };
    let text = |field: &str| otel.get(field).and_then(Json::as_str).unwrap_or_default();
    let mut secure = otel.get("isSecure").and_then(Json::as_bool).unwrap_or(true);
    let configured = text("endpointAddress");
    let (endpoint, protocol) = if !configured.is_empty() {
        let protocol = match text("protocol") {
            "" => return Ok(None), // half a collector is none, as in the original
            "grpc" => OtlpProtocol::Grpc,
            "http" => OtlpProtocol::Http,
            other => {
                return Err(format!(
                    "failed to setup tracing: invalid protocol {other} provided for Otel endpoint; expected grpc or http"
                ));
            }
        };
        (configured.to_owned(), protocol)
    } else {
        let Some(endpoint) = variables.get("ENDPOINT") else { return Ok(None) };
        let (endpoint, allowed) = variables.place(endpoint);
        secure &= allowed;
        (endpoint, variables.protocol())
    };
    let mut headers = configured_headers(otel, environment, log);
    if headers.is_empty() {
        headers = variables.headers();
    }
    let timeout = match parse_go(text("timeout")) {
        Ok(timeout) if !timeout.is_zero() => Some(timeout),
        _ => variables.timeout(),
    };
    let trust = variables.trust().map_err(|error| format!("failed to setup tracing: {error}"))?;
    let settings = OtlpSettings { endpoint, protocol, secure, trust, headers, timeout };
    Ok(Some((settings, configured.is_empty())))
}

/// `otel.headers`: `k=v` texts, or names with values.
fn configured_headers(otel: &Json, environment: &Environment, log: &Logger) -> Vec<(String, String)> {
    let items = otel.get("headers").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let header = |item: &Json| {
        if let Some(text) = item.as_str() {
            return text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        }
        let text = |field: &str| item.get(field).and_then(Json::as_str).filter(|text| !text.is_empty());
        let name = text("name")?;
        let value = text("value").or_else(|| text("envRef").and_then(|variable| environment.get(variable)));
        if value.is_none() {
            log.warn(format_args!(
                "spec.tracing.otel.headers: {name} has no value here and is not sent; expected value or envRef"
            ));
        }
        Some((name.to_owned(), value?.to_owned()))
    };
    items.iter().filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pillion_telemetry::export::BatchSettings;
    use serde_json::json;

    use super::*;

    fn of(tracing: Tracing, variables: &[(&str, &str)]) -> TracerSettings {
        let environment = variables.iter().fold(Environment::default(), |all, (name, value)| all.with(name, value));
        settings(&tracing, "cart", &environment, &Logger::silent()).unwrap()
    }

    fn only_otlp(settings: &TracerSettings) -> &OtlpSettings {
        match settings.exporters.as_slice() {
            [ExporterSettings::Otlp(otlp)] => otlp,
            other => panic!("{other:?}"),
        }
    }

    fn configured(otel: Json) -> Tracing {
        Tracing { otel: Some(otel), ..Tracing::default() }
    }

    #[test]
    fn a_collector_is_an_endpoint_and_a_protocol() {
        let defaults = json!({"isSecure": true});
        assert!(of(configured(defaults.clone()), &[]).exporters.is_empty());
        assert!(of(configured(json!({"endpointAddress": "c:1"})), &[]).exporters.is_empty());
        let full = of(
            configured(json!({
                "endpointAddress": "c:1", "protocol": "http", "isSecure": false, "timeout": "30s",
                "headers": ["a=1=2", {"name": "b", "value": "3"}, {"name": "c", "envRef": "C"}, {"name": "d"}],
            })),
            &[("C", "4"), ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x=1"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "5")],
        );
        let otlp = only_otlp(&full);
        assert_eq!((otlp.endpoint.as_str(), otlp.protocol, otlp.secure), ("c:1", OtlpProtocol::Http, false));
        assert_eq!(otlp.timeout, Some(Duration::from_secs(30)));
        let headers: Vec<(&str, &str)> =
            otlp.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("a", "1=2"), ("b", "3"), ("c", "4")], "none of the variable's");
        assert_eq!(full.sampling_rate, "");
        let other = configured(json!({"endpointAddress": "c:1", "protocol": "tcp"}));
        let refused = settings(&other, "cart", &Environment::default(), &Logger::silent()).err().unwrap();
        assert!(refused.contains("invalid protocol tcp"), "{refused}");
    }

    #[test]
    fn variables_stand_in_for_a_missing_collector() {
        let secure = configured(json!({"isSecure": true}));
        let cases = [
            (vec![("ENDPOINT", "http://c:4317")], "c:4317", OtlpProtocol::Grpc, false),
            (vec![("ENDPOINT", "c:4317")], "c:4317", OtlpProtocol::Grpc, true),
            (vec![("ENDPOINT", "c:4317"), ("INSECURE", "true")], "c:4317", OtlpProtocol::Grpc, false),
            (
                vec![("ENDPOINT", "https://c/x/"), ("PROTOCOL", "http/protobuf")],
                "c/x/v1/traces",
                OtlpProtocol::Http,
                true,
            ),
            (
                vec![("ENDPOINT", "c:1"), ("TRACES_ENDPOINT", "d:2/p"), ("TRACES_PROTOCOL", "http/json")],
                "d:2/p",
                OtlpProtocol::Http,
                true,
            ),
        ];
        for (variables, endpoint, protocol, is_secure) in cases {
            let named: Vec<(String, &str)> =
                variables.iter().map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), *value)).collect();
            let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let settings = of(secure.clone(), &named);
            let otlp = only_otlp(&settings);
            assert_eq!(
                (otlp.endpoint.as_str(), otlp.protocol, otlp.secure),
                (endpoint, protocol, is_secure),
                "{named:?}"
            );
            assert_eq!(settings.sampling_rate, "1");
        }
        let with_headers = of(
            secure,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:1"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=x%20y, b=2"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ],
        );
        let otlp = only_otlp(&with_headers);
        assert_eq!(otlp.headers, [("a".to_owned(), "x y".to_owned()), ("b".to_owned(), "2".to_owned())]);
        assert_eq!(otlp.timeout, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_service_is_the_app_unless_it_is_named() {
        let name = |variables: &[(&str, &str)]| of(Tracing::default(), variables).resource.attributes;
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(name(&[]), [pair("service.name", "cart")]);
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=prod,service.name=x");
        assert_eq!(name(&[attributes]), [pair("service.name", "x"), pair("service.namespace", "prod")]);
        assert_eq!(name(&[attributes, ("OTEL_SERVICE_NAME", "y")])[0], pair("service.name", "y"));
    }

    #[test]
    fn other_exporters_and_batches_are_read() {
        let tracing =
            Tracing { stdout: true, zipkin_endpoint: "http://z:9411/api/v2/spans".to_owned(), ..Tracing::default() };
        let settings = of(tracing, &[("OTEL_BSP_MAX_QUEUE_SIZE", "7"), ("OTEL_BSP_SCHEDULE_DELAY", "0")]);
        let zipkin = ExporterSettings::Zipkin { endpoint: "http://z:9411/api/v2/spans".to_owned() };
        assert_eq!(settings.exporters, [ExporterSettings::Stdout, zipkin]);
        assert_eq!(settings.batch, BatchSettings { queue_max: 7, ..BatchSettings::default() });
    }
}
