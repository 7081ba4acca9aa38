//! The `OTEL_*` variables that spans, metrics and log lines share.
//!
//! *Source:* the OTLP exporter and environment variable specifications of OpenTelemetry. *Invariant:* a variable of one signal
//! counts before that of all.

use std::time::Duration;

use pillion_telemetry::export::{BatchSettings, OtlpProtocol, OtlpSettings, Resource, Trust};

use crate::environment::Environment;

/// The variables of one signal.
#[derive(Clone, Copy)]
pub(super) struct Variables<'a> {
    pub(super) environment: &'a Environment,
    /// `TRACES`, `METRICS` or `LOGS`.
    pub(super) signal: &'static str,
}

impl<'a> Variables<'a> {
    /// `OTEL_EXPORTER_OTLP_<signal>_<name>`, else `OTEL_EXPORTER_OTLP_<name>`.
    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        let own = self.environment.non_empty(&format!("OTEL_EXPORTER_OTLP_{}_{name}", self.signal));
        own.or_else(|| self.environment.non_empty(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    pub(super) fn protocol(self) -> OtlpProtocol {
        let protocol = self.get("PROTOCOL").unwrap_or_default();
        if protocol.starts_with("http") { OtlpProtocol::Http } else { OtlpProtocol::Grpc }
    }

    /// Where `endpoint` is, without its scheme, and whether there is TLS.
    pub(super) fn place(self, endpoint: &str) -> (String, bool) {
        let secure = self.get("INSECURE") != Some("true") && !endpoint.starts_with("http://");
        let bare = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://")).unwrap_or(endpoint);
        (self.with_path(bare), secure)
    }

    /// The endpoint of all signals is a base: the path of the signal is added to a path it has.
    fn with_path(self, endpoint: &str) -> String {
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", self.signal);
        let endpoint = endpoint.trim_end_matches('/');
        if self.protocol() == OtlpProtocol::Http && self.environment.non_empty(&own).is_none() && endpoint.contains('/')
        {
            return format!("{endpoint}/v1/{}", self.signal.to_ascii_lowercase());
        }
        endpoint.to_owned()
    }

    pub(super) fn headers(self) -> Vec<(String, String)> {
        pairs(self.get("HEADERS").unwrap_or_default())
    }

    pub(super) fn timeout(self) -> Option<Duration> {
        self.get("TIMEOUT").and_then(|millis| millis.parse().ok()).map(Duration::from_millis)
    }

    /// # Errors
    /// The file of certificates cannot be read.
    pub(super) fn trust(self) -> Result<Trust, String> {
        let Some(file) = self.get("CERTIFICATE") else { return Ok(Trust::System) };
        let pem = std::fs::read(file);
        pem.map(Trust::Pem).map_err(|error| format!("OTEL_EXPORTER_OTLP_CERTIFICATE: cannot read {file}: {error}"))
    }

    /// The collector the variables name, else the one on this machine.
    ///
    /// # Errors
    /// As [`Self::trust`].
    pub(super) fn collector(self) -> Result<OtlpSettings, String> {
        let protocol = self.protocol();
        let port = if protocol == OtlpProtocol::Grpc { 4317 } else { 4318 };
        let (endpoint, secure) = match self.get("ENDPOINT") {
            Some(endpoint) => self.place(endpoint),
            None => (format!("localhost:{port}"), false),
        };
        let (trust, headers) = (self.trust()?, self.headers());
        Ok(OtlpSettings { endpoint, protocol, secure, trust, headers, timeout: self.timeout() })
    }
}

/// `k=v,k=v` with percent-encoded values.
fn pairs(list: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
        Some((key.trim().to_owned(), value)).filter(|(key, _)| !key.is_empty())
    };
    list.split(',').filter_map(pair).collect()
}

/// What the sidecar is called in everything it sends: the app, unless it is named.
pub(super) fn resource(app_id: &str, environment: &Environment) -> Resource {
    const SERVICE: &str = "service.name";
    let mut attributes = pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    let named = attributes.iter().find(|(key, _)| key == SERVICE).map(|(_, value)| value.clone());
    attributes.retain(|(key, _)| key != SERVICE);
    let name = environment.non_empty("OTEL_SERVICE_NAME").map(str::to_owned).or(named);
    attributes.insert(0, (SERVICE.to_owned(), name.unwrap_or_else(|| app_id.to_owned())));
    Resource { attributes }
}

/// `OTEL_BSP_*` or `OTEL_BLRP_*`; what is not a number above zero is left at its default.
pub(super) fn batch(environment: &Environment, prefix: &str) -> BatchSettings {
    let defaults = BatchSettings::default();
    let name = |part: &str| format!("{prefix}_{part}");
    let count = |part: &str| number(environment, &name(part)).and_then(|number| usize::try_from(number).ok());
    BatchSettings {
        queue_max: count("MAX_QUEUE_SIZE").unwrap_or(defaults.queue_max),
        batch_max: count("MAX_EXPORT_BATCH_SIZE").unwrap_or(defaults.batch_max),
        delay: milliseconds(environment, &name("SCHEDULE_DELAY")).unwrap_or(defaults.delay),
        timeout: milliseconds(environment, &name("EXPORT_TIMEOUT")).unwrap_or(defaults.timeout),
    }
}

pub(super) fn milliseconds(environment: &Environment, name: &str) -> Option<Duration> {
    number(environment, name).map(Duration::from_millis)
}

fn number(environment: &Environment, name: &str) -> Option<u64> {
    environment.get(name)?.trim().parse().ok().filter(|number| *number > 0)
}
