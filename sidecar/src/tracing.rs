//! From the Configuration and the `OTEL_*` variables to a tracer.
//!
//! *Source:* spec metrics.md §5.1; the meaning of the variables is that of the OpenTelemetry specification. *Invariant:* what the
//! Configuration says counts before a variable.

use std::time::Duration;

use pillion_core::duration::parse_go;
use pillion_core::log::Logger;
use pillion_resources::types::Tracing;
use pillion_telemetry::trace::{
    BatchSettings, ExporterSettings, OtlpProtocol, OtlpSettings, Tracer, TracerSettings, Trust,
};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::environment::Environment;

/// The tracer of a sidecar and what sends its spans.
pub(crate) struct Tracers {
    pub(crate) tracer: Tracer,
    workers: TaskTracker,
    cancel: CancellationToken,
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
        log: &Logger,
    ) -> Result<Self, String> {
        let settings = settings(tracing, app_id, environment, log)?;
        let (tracer, exporters) =
            Tracer::new(settings, log).map_err(|error| format!("failed to setup tracing: {error}"))?;
        let (workers, cancel) = (TaskTracker::new(), CancellationToken::new());
        for exporter in exporters {
            workers.spawn(exporter.run(cancel.clone()));
        }
        Ok(Self { tracer, workers, cancel })
    }

    /// Sends what is left; takes a few seconds at most.
    pub(crate) async fn stop(&self) {
        self.cancel.cancel();
        self.workers.close();
        self.workers.wait().await;
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
    Ok(TracerSettings { sampling_rate, exporters, resource: resource(app_id, environment), batch: batch(environment) })
}

/// The collector, and whether a variable names it.
fn otlp(otel: &Json, environment: &Environment, log: &Logger) -> Result<Option<(OtlpSettings, bool)>, String> {
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
        let Some(endpoint) = variable(environment, "ENDPOINT") else { return Ok(None) };
        let protocol = variable(environment, "PROTOCOL").unwrap_or_default();
        secure &= variable(environment, "INSECURE") != Some("true") && !endpoint.starts_with("http://");
        let bare = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://")).unwrap_or(endpoint);
        let protocol = if protocol.starts_with("http") { OtlpProtocol::Http } else { OtlpProtocol::Grpc };
        (http_path(bare, protocol, environment), protocol)
    };
    let mut headers = configured_headers(otel, environment, log);
    if headers.is_empty() {
        headers = pairs(variable(environment, "HEADERS").unwrap_or_default());
    }
    let timeout = match parse_go(text("timeout")) {
        Ok(timeout) if !timeout.is_zero() => Some(timeout),
        _ => variable(environment, "TIMEOUT").and_then(|millis| millis.parse().ok()).map(Duration::from_millis),
    };
    let trust = match variable(environment, "CERTIFICATE") {
        Some(file) => Trust::Pem(std::fs::read(file).map_err(|error| {
            format!("failed to setup tracing: OTEL_EXPORTER_OTLP_CERTIFICATE: cannot read {file}: {error}")
        })?),
        None => Trust::System,
    };
    let settings = OtlpSettings { endpoint, protocol, secure, trust, headers, timeout };
    Ok(Some((settings, configured.is_empty())))
}

/// A variable of the trace exporter, else that of all exporters.
fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    let own = environment.non_empty(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
    own.or_else(|| environment.non_empty(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// The endpoint of all exporters is a base: the path of traces is added to a path it has. *Source:* OTLP exporter specification.
fn http_path(endpoint: &str, protocol: OtlpProtocol, environment: &Environment) -> String {
    let is_base = environment.non_empty("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_none();
    let endpoint = endpoint.trim_end_matches('/');
    if protocol == OtlpProtocol::Http && is_base && endpoint.contains('/') {
        return format!("{endpoint}/v1/traces");
    }
    endpoint.to_owned()
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

/// `k=v,k=v` with percent-encoded values.
fn pairs(list: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim().to_owned(), unescape(value.trim()))).filter(|(key, _)| !key.is_empty())
    };
    list.split(',').filter_map(pair).collect()
}

fn unescape(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn resource(app_id: &str, environment: &Environment) -> Vec<(String, String)> {
    const SERVICE: &str = "service.name";
    let mut attributes = pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    let named = attributes.iter().find(|(key, _)| key == SERVICE).map(|(_, value)| value.clone());
    attributes.retain(|(key, _)| key != SERVICE);
    let name = environment.non_empty("OTEL_SERVICE_NAME").map(str::to_owned).or(named);
    attributes.insert(0, (SERVICE.to_owned(), name.unwrap_or_else(|| app_id.to_owned())));
    attributes
}

/// `OTEL_BSP_*`; what is not a number above zero is left at its default.
fn batch(environment: &Environment) -> BatchSettings {
    let defaults = BatchSettings::default();
    let number = |name: &str| environment.get(name)?.trim().parse::<usize>().ok().filter(|number| *number > 0);
    let millis = |name: &str| number(name).map(|millis| Duration::from_millis(millis as u64));
    BatchSettings {
        queue_max: number("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(defaults.queue_max),
        batch_max: number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(defaults.batch_max),
        delay: millis("OTEL_BSP_SCHEDULE_DELAY").unwrap_or(defaults.delay),
        timeout: millis("OTEL_BSP_EXPORT_TIMEOUT").unwrap_or(defaults.timeout),
    }
}

#[cfg(test)]
mod tests {
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
        let name = |variables: &[(&str, &str)]| of(Tracing::default(), variables).resource;
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
