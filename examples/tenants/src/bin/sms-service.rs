//! The SMS service. It subscribes by program: `GET /dapr/subscribe` names the topic, a CEL rule that
//! sends tenants with a phone number to `/sms` and everything else to `/no-phone`, and the dead letter topic.
//! A tenant named `poison` is refused with 500 for ever, so that it ends in the dead letter topic.

use std::error::Error;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tenants::consumer::{Event, drop_event, success};
use tenants::ledger::{Ledger, Stats};
use tenants::server;

/// `size(...)` would fail on a bare number, and `has` on one is an error that `&&` may meet first;
/// the type comes first so that a payload of any shape is decided without an error.
const HAS_PHONE: &str = "type(event.data) == map && has(event.data.phone)";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let routes = Router::new()
        .route("/dapr/subscribe", get(subscriptions))
        .route("/sms", post(send_sms))
        .route("/no-phone", post(skip))
        .route("/stats", get(stats))
        .with_state(Arc::new(Ledger::default()));
    server::serve("sms-service", 8083, routes).await
}

async fn subscriptions() -> Json<Value> {
    Json(json!([{
        "pubsubname": "my-pub-sub",
        "topic": "tenants",
        "deadLetterTopic": "tenants-dead",
        "routes": { "rules": [{ "match": HAS_PHONE, "path": "/sms" }], "default": "/no-phone" },
    }]))
}

async fn send_sms(State(ledger): State<Arc<Ledger>>, body: String) -> Response {
    let Ok(event) = serde_json::from_str::<Event>(&body) else {
        eprintln!("not a CloudEvent: {body}");
        return drop_event().into_response();
    };
    if event.field("name") == "poison" {
        eprintln!("refused tenant {}: poison", event.tenant_id());
        return (StatusCode::INTERNAL_SERVER_ERROR, "poison").into_response();
    }
    println!("SMS to {:?} for tenant {}", event.field("phone"), event.tenant_id());
    ledger.accept(event.tenant_id());
    success().into_response()
}

async fn skip(State(ledger): State<Arc<Ledger>>) -> Json<Value> {
    ledger.skip();
    success()
}

async fn stats(State(ledger): State<Arc<Ledger>>) -> Json<Stats> {
    Json(ledger.stats())
}
