//! Health, metadata, shutdown. *Source:* spec http_api.md §3.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pillion_core::board::Part;
use pillion_core::duration::format_go;
use pillion_core::error::{ApiError, table};
use serde::Serialize;

use super::front::{Incall, Shared};
use super::path;
use super::respond::{self, HttpResponse};
use crate::runtime_info::{AppConnection, ComponentInfo, PLACEMENT_DISCONNECTED, RuntimeMetadata, SubscriptionInfo};

type Answer = Result<HttpResponse, ApiError>;

impl Shared {
    pub(super) fn health(&self, call: &Incall) -> Answer {
        let unready = self.api.info.unready();
        if !unready.is_empty() {
            return Err(ApiError::of(&table::HEALTH_NOT_READY, &[&format_args!("[{}]", unready.join(" "))]));
        }
        let asked = call.uri.query().and_then(|query| path::query_pairs(query).find(|(key, _)| key == "appid"));
        if asked.is_some_and(|(_, id)| id != self.api.info.app_id()) {
            return Err(ApiError::of(&table::HEALTH_APPID_NOT_MATCH, &[]));
        }
        Ok(respond::no_content())
    }

    pub(super) fn outbound_health(&self) -> Answer {
        if self.api.info.outbound_ready() {
            return Ok(respond::no_content());
        }
        Err(ApiError::of(&table::OUTBOUND_HEALTH_NOT_READY, &[]))
    }

    pub(super) fn get_metadata(&self) -> HttpResponse {
        respond::json(&Metadata::from(self.api.info.metadata()))
    }

    pub(super) async fn set_metadata(&self, key: Cow<'_, str>, call: Incall) -> Answer {
        let value = self.whole(call.body).await.map_err(|error| ApiError::of(&table::BODY_READ, &[&error]))?;
        self.api.info.set_attribute(key.into_owned(), String::from_utf8_lossy(&value).into_owned());
        Ok(respond::no_content())
    }

    pub(super) fn shutdown(&self, call: &Incall) -> HttpResponse {
        let force =
            call.headers.get("dapr-force-shutdown").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        self.api.info.shutdown(force);
        respond::no_content()
    }
}

/// The body of `GET /v1.0/metadata`; empty parts are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    id: String,
    runtime_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enabled_features: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component>,
    extended: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<Subscription>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http_endpoints: Vec<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_connection_properties: Option<Connection>,
    actor_runtime: ActorRuntime,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resiliencies: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mcp_servers: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    workflow_access_policies: Vec<Named>,
    /// Ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    circuit_breakers: Vec<Breaker>,
    /// Ours: what waits or is unhealthy, and what to do; absent when all is well.
    #[serde(rename = "pillionDoctor", skip_serializing_if = "Vec::is_empty")]
    doctor: Vec<DoctorPart>,
    /// Ours: the version of this program behind the compatible one.
    pillion_version: &'static str,
}

#[derive(Serialize)]
struct Named {
    name: String,
}

#[derive(Serialize)]
struct Component {
    name: String,
    r#type: String,
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<String>,
}

#[derive(Serialize)]
struct Subscription {
    pubsubname: String,
    topic: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule>,
    #[serde(rename = "deadLetterTopic")]
    dead_letter_topic: String,
    r#type: &'static str,
}

#[derive(Serialize)]
struct Rule {
    #[serde(rename = "match", skip_serializing_if = "String::is_empty")]
    matches: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    port: u16,
    protocol: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    channel_address: String,
    #[serde(skip_serializing_if = "is_zero")]
    max_concurrency: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    #[serde(skip_serializing_if = "String::is_empty")]
    health_check_path: String,
    health_probe_interval: String,
    health_probe_timeout: String,
    health_threshold: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorRuntime {
    runtime_status: &'static str,
    host_ready: bool,
    placement: &'static str,
}

#[derive(Serialize)]
struct Breaker {
    name: String,
    target: String,
    state: String,
}

/// One part that waits or is unhealthy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DoctorPart {
    part: &'static str,
    name: String,
    state: &'static str,
    reason: String,
    since: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    what_to_do: String,
}

impl From<Part> for DoctorPart {
    fn from(part: Part) -> Self {
        Self {
            part: part.kind,
            state: part.trouble.name(),
            since: part.since_text(),
            name: part.name,
            reason: part.reason,
            last_error: part.last_error,
            what_to_do: part.advice,
        }
    }
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl From<RuntimeMetadata> for Metadata {
    fn from(metadata: RuntimeMetadata) -> Self {
        let named = |names: Vec<String>| names.into_iter().map(|name| Named { name }).collect();
        let breakers = metadata.breakers.into_iter();
        Self {
            id: metadata.id,
            runtime_version: metadata.runtime_version,
            enabled_features: metadata.enabled_features,
            components: metadata.components.into_iter().map(Component::from).collect(),
            extended: metadata.extended,
            subscriptions: metadata.subscriptions.into_iter().map(Subscription::from).collect(),
            http_endpoints: named(metadata.http_endpoints),
            app_connection_properties: metadata.app_connection.map(Connection::from),
            actor_runtime: ActorRuntime {
                runtime_status: "DISABLED",
                host_ready: false,
                placement: PLACEMENT_DISCONNECTED,
            },
            resiliencies: named(metadata.resiliencies),
            mcp_servers: named(metadata.mcp_servers),
            workflow_access_policies: named(metadata.workflow_access_policies),
            circuit_breakers: breakers
                .map(|breaker| Breaker { name: breaker.name, target: breaker.target, state: breaker.state })
                .collect(),
            doctor: metadata.parts.into_iter().map(DoctorPart::from).collect(),
            pillion_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl From<ComponentInfo> for Component {
    fn from(info: ComponentInfo) -> Self {
        Self { name: info.name, r#type: info.component_type, version: info.version, capabilities: info.capabilities }
    }
}

impl From<SubscriptionInfo> for Subscription {
    fn from(info: SubscriptionInfo) -> Self {
        Self {
            pubsubname: info.pubsub_name,
            topic: info.topic,
            metadata: info.metadata,
            rules: info.rules.into_iter().map(|rule| Rule { matches: rule.matches, path: rule.path }).collect(),
            dead_letter_topic: info.dead_letter_topic,
            r#type: info.kind,
        }
    }
}

impl From<AppConnection> for Connection {
    fn from(connection: AppConnection) -> Self {
        let health = connection.health.map(|(path, interval, timeout, threshold)| Health {
            health_check_path: path,
            health_probe_interval: format_go(interval),
            health_probe_timeout: format_go(timeout),
            health_threshold: threshold,
        });
        Self {
            port: connection.port,
            protocol: connection.protocol,
            channel_address: connection.channel_address,
            max_concurrency: connection.max_concurrency,
            health,
        }
    }
}
