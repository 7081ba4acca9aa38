//! The notification service: `POST /notification` publishes the tenant to topic `tenants` of `my-pub-sub`
//! through its sidecar's HTTP API and answers 202.
//!
//! Switches: `PUBLISH=dapr|none`, `PAYLOAD=object|int`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tenants::client::Client;
use tenants::server;
use tenants::switches::{Payload, Publish, sidecar_url, switch};

struct Notification {
    client: Client,
    publish_url: String,
    publish: Publish,
    payload: Payload,
    received: AtomicU64,
    published: AtomicU64,
    failed: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Notification {
        client: Client::new(),
        publish_url: format!("{}/v1.0/publish/my-pub-sub/tenants", sidecar_url()?),
        publish: switch("PUBLISH", &[("dapr", Publish::Dapr), ("none", Publish::None)])?,
        payload: switch("PAYLOAD", &[("object", Payload::Object), ("int", Payload::Int)])?,
        received: AtomicU64::new(0),
        published: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    };
    let routes =
        Router::new().route("/notification", post(notify)).route("/stats", get(stats)).with_state(Arc::new(service));
    server::serve("notification-service", 8081, routes).await
}

/// 202 once the sidecar has taken the message, 400 for a body that is no JSON object, 502 when the publish failed.
async fn notify(State(service): State<Arc<Notification>>, body: String) -> (StatusCode, Json<Value>) {
    let serial = service.received.fetch_add(1, Ordering::Relaxed) + 1;
    let tenant = match serde_json::from_str::<Value>(&body) {
        Ok(tenant) if tenant.is_object() => tenant,
        _ => {
            return (
                StatusCode::BAD_REQUEST,
                Json(json!({ "error": "expected a JSON object with id, name, emailId" })),
            );
        }
    };
    if service.publish == Publish::None {
        return (StatusCode::ACCEPTED, Json(json!({ "published": false })));
    }
    let message = match service.payload {
        Payload::Object => body,
        Payload::Int => tenant_number(&tenant).unwrap_or(serial).to_string(),
    };
    match service.client.post(&service.publish_url, &[], message.into_bytes()).await {
        Ok((status, _)) if status.is_success() => {
            service.published.fetch_add(1, Ordering::Relaxed);
            (StatusCode::ACCEPTED, Json(json!({ "published": true })))
        }
        Ok((status, answer)) => {
            service.refuse(format!("publish answered {status}: {}", String::from_utf8_lossy(&answer)))
        }
        Err(error) => service.refuse(error.to_string()),
    }
}

async fn stats(State(service): State<Arc<Notification>>) -> Json<Value> {
    Json(json!({
        "received": service.received.load(Ordering::Relaxed),
        "published": service.published.load(Ordering::Relaxed),
        "failed": service.failed.load(Ordering::Relaxed),
    }))
}

impl Notification {
    fn refuse(&self, reason: String) -> (StatusCode, Json<Value>) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        eprintln!("{reason}");
        (StatusCode::BAD_GATEWAY, Json(json!({ "error": reason })))
    }
}

/// The tenant's id as a number, however it was written.
fn tenant_number(tenant: &Value) -> Option<u64> {
    let id = tenant.get("id")?;
    id.as_u64().or_else(|| id.as_str()?.parse().ok())
}
