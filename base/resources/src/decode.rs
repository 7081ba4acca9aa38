//! Makes typed resources from documents that [`crate::check`] has brought into the schema's form.

use std::collections::BTreeMap;
use std::time::Duration;

use pillion_core::duration;
use serde_json::Value as Json;

use crate::check::Checker;
use crate::manifest::Other;
use crate::types::{
    BulkSubscribe, CircuitBreakerSpec, Component, ComponentPolicyNames, HttpEndpoint, NameValue, Origin, PolicyNames,
    Resiliency, RetrySpec, RouteRule, Subscription,
};

/// *Source:* `spec.initTimeout` when absent or invalid.
const INIT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Text at a path of keys; empty when absent.
pub(crate) fn text(value: &Json, path: &[&str]) -> String {
    at(value, path).as_str().unwrap_or_default().to_owned()
}

/// Boolean at a path of keys.
pub(crate) fn boolean(value: &Json, path: &[&str]) -> Option<bool> {
    at(value, path).as_bool()
}

/// Value at a path of keys; null when absent.
pub(crate) fn at<'a>(value: &'a Json, path: &[&str]) -> &'a Json {
    path.iter().fold(value, |value, key| value.get(key).unwrap_or(&Json::Null))
}

/// Items of a list; none when absent.
pub(crate) fn items<'a>(value: &'a Json, path: &[&str]) -> &'a [Json] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// Texts of a list.
pub(crate) fn texts(value: &Json, path: &[&str]) -> Vec<String> {
    items(value, path).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Entries of a map of objects.
pub(crate) fn entries<'a>(value: &'a Json, path: &[&str]) -> impl Iterator<Item = (&'a String, &'a Json)> + use<'a> {
    at(value, path).as_object().into_iter().flatten()
}

fn optional_text(value: &Json, path: &[&str]) -> Option<String> {
    Some(text(value, path)).filter(|text| !text.is_empty())
}

/// String form of a dynamic value: text as it is, everything else as JSON; `None` for null.
pub(crate) fn dynamic(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

pub(crate) fn name_values(value: &Json, path: &[&str], checker: &Checker) -> Vec<NameValue> {
    let field = path.join(".");
    let item = |(index, item): (usize, &Json)| NameValue {
        name: text(item, &["name"]),
        value: dynamic(at(item, &["value"])),
        secret_key_ref: secret_key_ref(item),
        env_ref: optional_text(item, &["envRef"]),
        line: checker.line(&format!("{field}[{index}]")),
    };
    items(value, path).iter().enumerate().map(item).collect()
}

fn secret_key_ref(item: &Json) -> Option<(String, String)> {
    let name = optional_text(item, &["secretKeyRef", "name"])?;
    let key = optional_text(item, &["secretKeyRef", "key"]).unwrap_or_else(|| name.clone());
    Some((name, key))
}

pub(crate) fn component(document: &Json, origin: Origin, checker: &Checker) -> Component {
    let init_timeout = optional_text(document, &["spec", "initTimeout"])
        .and_then(|text| duration::parse_go(&text).ok())
        .unwrap_or(INIT_TIMEOUT_DEFAULT);
    Component {
        name: text(document, &["metadata", "name"]),
        namespace: optional_text(document, &["metadata", "namespace"]),
        component_type: text(document, &["spec", "type"]),
        version: text(document, &["spec", "version"]),
        ignore_errors: boolean(document, &["spec", "ignoreErrors"]).unwrap_or(false),
        init_timeout,
        metadata: name_values(document, &["spec", "metadata"], checker),
        secret_store: optional_text(document, &["auth", "secretStore"]),
        scopes: texts(document, &["scopes"]),
        origin,
    }
}

pub(crate) fn http_endpoint(document: &Json, origin: Origin, checker: &Checker) -> HttpEndpoint {
    let tls = |name: &&str| {
        let value = at(document, &["spec", "clientTLS", name]);
        (!value.is_null()).then(|| NameValue {
            name: (*name).to_owned(),
            value: dynamic(at(value, &["value"])),
            secret_key_ref: secret_key_ref(value),
            env_ref: None,
            line: checker.line(&format!("spec.clientTLS.{name}")),
        })
    };
    let mut client_tls: Vec<NameValue> = ["rootCA", "certificate", "privateKey"].iter().filter_map(tls).collect();
    if let Some(renegotiation) = optional_text(document, &["spec", "clientTLS", "renegotiation"]) {
        let line = checker.line("spec.clientTLS.renegotiation");
        client_tls.push(NameValue {
            name: "renegotiation".to_owned(),
            value: Some(renegotiation),
            line,
            ..NameValue::default()
        });
    }
    HttpEndpoint {
        name: text(document, &["metadata", "name"]),
        namespace: optional_text(document, &["metadata", "namespace"]),
        base_url: text(document, &["spec", "baseUrl"]),
        headers: name_values(document, &["spec", "headers"], checker),
        client_tls,
        secret_store: optional_text(document, &["auth", "secretStore"]),
        scopes: texts(document, &["scopes"]),
        origin,
    }
}

pub(crate) fn subscription(document: &Json, origin: Origin) -> Subscription {
    let spec = at(document, &["spec"]);
    let mut rules: Vec<RouteRule> = items(spec, &["routes", "rules"])
        .iter()
        .map(|rule| RouteRule { matches: text(rule, &["match"]), path: text(rule, &["path"]) })
        .collect();
    let default = optional_text(spec, &["routes", "default"]).or_else(|| optional_text(spec, &["route"]));
    rules.extend(default.map(|path| RouteRule { matches: String::new(), path }));
    let count = |name: &str| {
        at(spec, &["bulkSubscribe", name]).as_i64().and_then(|value| i32::try_from(value).ok()).unwrap_or(0)
    };
    Subscription {
        name: text(document, &["metadata", "name"]),
        namespace: optional_text(document, &["metadata", "namespace"]),
        pubsub_name: text(spec, &["pubsubname"]),
        topic: text(spec, &["topic"]),
        metadata: text_map(spec, &["metadata"]),
        rules,
        dead_letter_topic: text(spec, &["deadLetterTopic"]),
        bulk_subscribe: BulkSubscribe {
            enabled: boolean(spec, &["bulkSubscribe", "enabled"]).unwrap_or(false),
            max_messages_count: count("maxMessagesCount"),
            max_await_duration_ms: count("maxAwaitDurationMs"),
        },
        scopes: texts(document, &["scopes"]),
        origin,
    }
}

fn text_map(value: &Json, path: &[&str]) -> BTreeMap<String, String> {
    entries(value, path).filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

pub(crate) fn resiliency(document: &Json, origin: Origin) -> Resiliency {
    let spec = at(document, &["spec"]);
    let policies = |kind: &'static str| entries(spec, &["policies", kind]).map(|(name, value)| (name.clone(), value));
    let targets = |kind: &'static str| entries(spec, &["targets", kind]).map(|(name, value)| (name.clone(), value));
    Resiliency {
        name: text(document, &["metadata", "name"]),
        namespace: optional_text(document, &["metadata", "namespace"]),
        timeouts: text_map(spec, &["policies", "timeouts"]),
        retries: policies("retries").map(|(name, value)| (name, retry(value))).collect(),
        circuit_breakers: policies("circuitBreakers").map(|(name, value)| (name, circuit_breaker(value))).collect(),
        apps: targets("apps").map(|(name, value)| (name, policy_names(value))).collect(),
        actors: targets("actors").map(|(name, value)| (name, policy_names(value))).collect(),
        components: targets("components").map(|(name, value)| (name, component_policies(value))).collect(),
        scopes: texts(document, &["scopes"]),
        origin,
    }
}

fn retry(value: &Json) -> RetrySpec {
    RetrySpec {
        policy: text(value, &["policy"]),
        duration: text(value, &["duration"]),
        max_interval: text(value, &["maxInterval"]),
        max_retries: at(value, &["maxRetries"]).as_i64(),
        http_status_codes: text(value, &["matching", "httpStatusCodes"]),
        grpc_status_codes: text(value, &["matching", "gRPCStatusCodes"]),
    }
}

fn circuit_breaker(value: &Json) -> CircuitBreakerSpec {
    CircuitBreakerSpec {
        max_requests: at(value, &["maxRequests"]).as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        interval: text(value, &["interval"]),
        timeout: text(value, &["timeout"]),
        trip: text(value, &["trip"]),
    }
}

fn policy_names(value: &Json) -> PolicyNames {
    PolicyNames {
        timeout: text(value, &["timeout"]),
        retry: text(value, &["retry"]),
        circuit_breaker: text(value, &["circuitBreaker"]),
        circuit_breaker_cache_size: at(value, &["circuitBreakerCacheSize"])
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(0),
        circuit_breaker_scope: text(value, &["circuitBreakerScope"]),
    }
}

fn component_policies(value: &Json) -> ComponentPolicyNames {
    ComponentPolicyNames {
        outbound: policy_names(at(value, &["outbound"])),
        inbound: policy_names(at(value, &["inbound"])),
    }
}

pub(crate) fn other(document: &Json, kind: &str, origin: Origin) -> Other {
    let name = text(document, &["metadata", "name"]);
    let url = ["streamableHTTP", "sse"]
        .iter()
        .find_map(|transport| optional_text(document, &["spec", "endpoint", transport, "url"]));
    Other {
        kind: kind.to_owned(),
        namespace: optional_text(document, &["metadata", "namespace"]),
        scopes: texts(document, &["scopes"]),
        log_name: url.map_or_else(|| name.clone(), |url| format!("{name} ({url})")),
        name,
        origin,
        document: document.clone(),
        is_refused: false,
    }
}
