//! How a collector is reached, how batches are gathered, and whose they are.

use std::time::Duration;

use super::{KeyValue, ResourceMessage, Trust, text_value};

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
    /// `host:port`, or `host` with the protocol's port; for HTTP a path may follow, that of the signal (`/v1/traces`, …) is the
    /// usual one.
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

/// How spans or log lines are gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// How many wait at most; more are dropped.
    pub queue_max: usize,
    /// How many are in one export.
    pub batch_max: usize,
    /// How long the first of a batch waits for others.
    pub delay: Duration,
    /// How long one export may take.
    pub timeout: Duration,
}

impl Default for BatchSettings {
    /// *Source:* the defaults of `OTEL_BSP_*` and `OTEL_BLRP_*`; but the delay of spans, which is 5 s there: a trace is looked at
    /// right after the call.
    fn default() -> Self {
        Self { queue_max: 2048, batch_max: 512, delay: Duration::from_secs(1), timeout: Duration::from_secs(30) }
    }
}

/// What everything a sidecar sends has in common: attributes, `service.name` among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Keys and values.
    pub attributes: Vec<(String, String)>,
}

impl Resource {
    pub(crate) fn service_name(&self) -> &str {
        self.attributes.iter().find(|(key, _)| key == "service.name").map_or("", |(_, value)| value)
    }

    pub(crate) fn message(&self) -> ResourceMessage {
        let attributes = self.attributes.iter();
        ResourceMessage {
            attributes: attributes
                .map(|(key, value)| KeyValue { key: key.clone(), value: Some(text_value(value.clone())) })
                .collect(),
        }
    }
}
