//! The resource kinds as values, after parsing and defaulting; see spec resources.md.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where a manifest was read: file and line of the document's first line (1-based).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// File; empty for built-in resources.
    pub file: PathBuf,
    /// Line of the document's start.
    pub line: usize,
}

/// A `metadata[]`, `headers[]` or `env[]` item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameValue {
    /// Key.
    pub name: String,
    /// Literal value in string form (numbers and booleans as their text, objects as JSON); `None` when not given.
    pub value: Option<String>,
    /// Reference to a secret: (secret name, key; the key defaults to the name).
    pub secret_key_ref: Option<(String, String)>,
    /// Name of an environment variable; used only when `value` is absent.
    pub env_ref: Option<String>,
    /// Line of the item, for messages.
    pub line: usize,
}

/// `kind: Component`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Component {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `spec.type`.
    pub component_type: String,
    /// `spec.version`, as written.
    pub version: String,
    /// `spec.ignoreErrors`.
    pub ignore_errors: bool,
    /// `spec.initTimeout`; 5 s when absent or invalid.
    pub init_timeout: Duration,
    /// `spec.metadata`.
    pub metadata: Vec<NameValue>,
    /// `auth.secretStore`.
    pub secret_store: Option<String>,
    /// `scopes`; empty = all apps.
    pub scopes: Vec<String>,
    /// Where it was read.
    pub origin: Origin,
}

/// One rule of a subscription's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRule {
    /// CEL expression over `event`; empty = always (the default route).
    pub matches: String,
    /// Path on the app.
    pub path: String,
}

/// `bulkSubscribe` of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkSubscribe {
    /// Whether events come in batches.
    pub enabled: bool,
    /// 0 = default (100).
    pub max_messages_count: i32,
    /// 0 = default (1000 ms).
    pub max_await_duration_ms: i32,
}

/// `kind: Subscription`, v1alpha1 (`route`) and v2alpha1 (`routes`) in one form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `spec.pubsubname`.
    pub pubsub_name: String,
    /// `spec.topic`.
    pub topic: String,
    /// `spec.metadata`.
    pub metadata: BTreeMap<String, String>,
    /// Rules in order, then the default route as a rule with an empty `matches`.
    pub rules: Vec<RouteRule>,
    /// `spec.deadLetterTopic`; empty = none.
    pub dead_letter_topic: String,
    /// `spec.bulkSubscribe`.
    pub bulk_subscribe: BulkSubscribe,
    /// `scopes`; empty = all apps.
    pub scopes: Vec<String>,
    /// Where it was read.
    pub origin: Origin,
}

/// `kind: HTTPEndpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `spec.baseUrl`.
    pub base_url: String,
    /// `spec.headers`.
    pub headers: Vec<NameValue>,
    /// `spec.clientTLS` fields, by name (`rootCA`, `certificate`, `privateKey`).
    pub client_tls: Vec<NameValue>,
    /// `auth.secretStore`.
    pub secret_store: Option<String>,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// Where it was read.
    pub origin: Origin,
}

/// A retry policy as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetrySpec {
    /// `constant` or `exponential`; empty = constant.
    pub policy: String,
    /// `duration` text; empty = 5s.
    pub duration: String,
    /// `maxInterval` text; empty = 60s.
    pub max_interval: String,
    /// `maxRetries`; `None` = -1 = unlimited.
    pub max_retries: Option<i64>,
    /// `matching.httpStatusCodes`.
    pub http_status_codes: String,
    /// `matching.gRPCStatusCodes`.
    pub grpc_status_codes: String,
}

/// A circuit breaker policy as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreakerSpec {
    /// `maxRequests`; 0 = 1.
    pub max_requests: u32,
    /// `interval` text; empty = 0s.
    pub interval: String,
    /// `timeout` text; empty = 60s.
    pub timeout: String,
    /// `trip` CEL expression; empty = `consecutiveFailures > 5`.
    pub trip: String,
}

/// Names of the policies of one target (or one direction of a component target).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyNames {
    /// Name in `policies.timeouts`.
    pub timeout: String,
    /// Name in `policies.retries`.
    pub retry: String,
    /// Name in `policies.circuitBreakers`.
    pub circuit_breaker: String,
    /// `circuitBreakerCacheSize`; 0 = default (apps 100, actors 5000).
    pub circuit_breaker_cache_size: usize,
    /// `circuitBreakerScope` of actor targets: type, id, both; empty elsewhere.
    pub circuit_breaker_scope: String,
}

/// A component target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentPolicyNames {
    /// Towards the component.
    pub outbound: PolicyNames,
    /// From the component to the app.
    pub inbound: PolicyNames,
}

/// `kind: Resiliency`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resiliency {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `spec.policies.timeouts`, as written.
    pub timeouts: BTreeMap<String, String>,
    /// `spec.policies.retries`.
    pub retries: BTreeMap<String, RetrySpec>,
    /// `spec.policies.circuitBreakers`.
    pub circuit_breakers: BTreeMap<String, CircuitBreakerSpec>,
    /// `spec.targets.apps`.
    pub apps: BTreeMap<String, PolicyNames>,
    /// `spec.targets.actors`.
    pub actors: BTreeMap<String, PolicyNames>,
    /// `spec.targets.components`.
    pub components: BTreeMap<String, ComponentPolicyNames>,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// Where it was read.
    pub origin: Origin,
}

/// A resource whose block reads it by itself, or that is not used where it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OtherResource {
    /// `MCPServer`, `WorkflowAccessPolicy` or `Configuration`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// The whole document.
    pub document: serde_json::Value,
    /// Where it was read.
    pub origin: Origin,
}

/// `spec.secrets.scopes[]` of a Configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsScope {
    /// `storeName`.
    pub store_name: String,
    /// `defaultAccess` is `deny` (compared without case).
    pub deny_by_default: bool,
    /// `allowedSecrets`.
    pub allowed: Vec<String>,
    /// `deniedSecrets`.
    pub denied: Vec<String>,
}

/// `spec.accessControl` of a Configuration, as written over the defaults: who may call what of this app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessControlSpec {
    /// `defaultAction`, for callers without a policy.
    pub default_action: String,
    /// `trustDomain`.
    pub trust_domain: String,
    /// `policies`; `None` when not given, which with an empty `defaultAction` is not the same as an empty list.
    pub policies: Option<Vec<AccessPolicy>>,
}

/// `spec.accessControl.policies[]`: what one calling app may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// `appId` of the caller.
    pub app_id: String,
    /// `defaultAction`, for operations that are not listed; empty = the one above the policies.
    pub default_action: String,
    /// `trustDomain` of the caller.
    pub trust_domain: String,
    /// `namespace` of the caller.
    pub namespace: String,
    /// `operations`, in order.
    pub operations: Vec<AccessOperation>,
}

/// `spec.accessControl.policies[].operations[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessOperation {
    /// `name`: a path, with `*` for any characters of a segment, `/*` for one segment and `/**` for any number.
    pub name: String,
    /// `httpVerb`: verbs in capitals, or `*`.
    pub http_verbs: Vec<String>,
    /// `action`: `allow`; anything else denies.
    pub action: String,
}

/// `spec.api.allowed[]` / `denied[]` of a Configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiRule {
    /// Group name, for example `state`.
    pub name: String,
    /// `v1`, `v1alpha1`, …
    pub version: String,
    /// `http` or `grpc`, lower case; a rule without protocol matches nothing.
    pub protocol: String,
}

/// `spec.nameResolution` of a Configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameResolution {
    /// For example `mdns` or `sqlite` (without `nameresolution.`).
    pub component: String,
    /// Version.
    pub version: String,
    /// Free-form settings.
    pub configuration: serde_json::Value,
}

/// `spec.tracing` of a Configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// `samplingRate` as written; empty acts as 0.0001.
    pub sampling_rate: String,
    /// `stdout`.
    pub stdout: bool,
    /// `zipkin.endpointAddress`.
    pub zipkin_endpoint: String,
    /// `otel` block.
    pub otel: Option<serde_json::Value>,
}

/// One handler of an HTTP pipeline: a component of type `middleware.http.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineHandler {
    /// Name of the component.
    pub name: String,
    /// Its type.
    pub component_type: String,
    /// Its version; empty = `v1`.
    pub version: String,
}

/// `kind: Configuration`, several files merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// `metadata.name` of the last file.
    pub name: String,
    /// `spec.tracing`.
    pub tracing: Tracing,
    /// `spec.nameResolution`.
    pub name_resolution: Option<NameResolution>,
    /// `spec.secrets.scopes`.
    pub secrets_scopes: Vec<SecretsScope>,
    /// `spec.api.allowed`.
    pub api_allowed: Vec<ApiRule>,
    /// `spec.api.denied`.
    pub api_denied: Vec<ApiRule>,
    /// `spec.features`: name → enabled; a feature of the original that this version does not have is never enabled.
    pub features: BTreeMap<String, bool>,
    /// `spec.components.deny`.
    pub components_deny: Vec<String>,
    /// `spec.logging.apiLogging.enabled`.
    pub api_logging: Option<bool>,
    /// `spec.logging.apiLogging.obfuscateURLs`.
    pub api_logging_obfuscate_urls: bool,
    /// `spec.logging.apiLogging.omitHealthChecks`.
    pub api_logging_omit_health_checks: bool,
    /// `spec.httpPipeline.handlers`, the outermost first.
    pub http_pipeline: Vec<PipelineHandler>,
    /// `spec.appHttpPipeline.handlers`, the outermost first.
    pub app_http_pipeline: Vec<PipelineHandler>,
    /// `spec.mtls.enabled`; `None` when not given.
    pub mtls_enabled: Option<bool>,
    /// `spec.accessControl`.
    pub access_control: AccessControlSpec,
    /// The whole `spec`, for parts whose block is not built yet.
    pub spec: serde_json::Value,
}
