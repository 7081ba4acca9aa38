//! What the fronts ask of the sidecar around them: health, metadata, shutdown.

use std::collections::BTreeMap;
use std::time::Duration;

use pillion_core::board::Part;

/// What metadata says of the placement service while there is no connection to it. *Source:* wire text of the original.
pub(crate) const PLACEMENT_DISCONNECTED: &str = "placement: disconnected";

/// A loaded component, as the metadata API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentInfo {
    /// `metadata.name`.
    pub name: String,
    /// `spec.type`.
    pub component_type: String,
    /// `spec.version`.
    pub version: String,
    /// For example `ETAG`, `TRANSACTIONAL`.
    pub capabilities: Vec<String>,
}

/// One rule of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleInfo {
    /// CEL expression; empty for the default route.
    pub matches: String,
    /// Path on the app.
    pub path: String,
}

/// An active subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Pub/sub component.
    pub pubsub_name: String,
    /// Topic.
    pub topic: String,
    /// Subscription metadata.
    pub metadata: BTreeMap<String, String>,
    /// Rules in order.
    pub rules: Vec<RuleInfo>,
    /// Dead letter topic; empty = none.
    pub dead_letter_topic: String,
    /// `DECLARATIVE`, `PROGRAMMATIC` or `STREAMING`.
    pub kind: &'static str,
}

/// How the app is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppConnection {
    /// Port.
    pub port: u16,
    /// `http`, `grpc`, …
    pub protocol: String,
    /// Host.
    pub channel_address: String,
    /// `--app-max-concurrency`; 0 = unlimited.
    pub max_concurrency: i32,
    /// Health check settings, when on: path, interval, timeout, threshold.
    pub health: Option<(String, Duration, Duration, u32)>,
}

/// A circuit breaker that has been used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakerInfo {
    /// Policy name.
    pub name: String,
    /// What it guards.
    pub target: String,
    /// `closed`, `half-open` or `open`.
    pub state: String,
}

/// The answer of the metadata API.
#[derive(Clone, Debug, Default)]
pub struct RuntimeMetadata {
    /// App id.
    pub id: String,
    /// Compatible runtime version.
    pub runtime_version: String,
    /// Enabled features.
    pub enabled_features: Vec<String>,
    /// Loaded components.
    pub components: Vec<ComponentInfo>,
    /// Attributes set by PUT, and those the runtime adds.
    pub extended: BTreeMap<String, String>,
    /// Active subscriptions.
    pub subscriptions: Vec<SubscriptionInfo>,
    /// Names of HTTPEndpoint resources.
    pub http_endpoints: Vec<String>,
    /// App connection, when there is an app port.
    pub app_connection: Option<AppConnection>,
    /// Names of Resiliency resources.
    pub resiliencies: Vec<String>,
    /// Names of MCPServer resources.
    pub mcp_servers: Vec<String>,
    /// Names of WorkflowAccessPolicy resources.
    pub workflow_access_policies: Vec<String>,
    /// State of circuit breakers; ours, under `extended`-like key `circuitBreakers`.
    pub breakers: Vec<BreakerInfo>,
    /// What waits or is unhealthy; ours, under the key `pillionDoctor`.
    pub parts: Vec<Part>,
}

/// The sidecar, as its fronts see it.
pub trait RuntimeInfo: Send + Sync {
    /// Own app id.
    fn app_id(&self) -> &str;

    /// Names of the parts that are not ready; empty when ready (`/v1.0/healthz`).
    fn unready(&self) -> Vec<String>;

    /// Whether calls to the outside work (`/v1.0/healthz/outbound`).
    fn outbound_ready(&self) -> bool;

    /// All metadata.
    fn metadata(&self) -> RuntimeMetadata;

    /// Own namespace.
    fn namespace(&self) -> &str;

    /// Services of the control plane this sidecar was given an address of, `placement` and `scheduler`, and does not use yet.
    fn control_plane_given(&self) -> &[&'static str];

    /// Sets an attribute of `extended`.
    fn set_attribute(&self, key: String, value: String);

    /// Starts a shutdown: graceful, or at once with exit code 1.
    fn shutdown(&self, force: bool);
}
