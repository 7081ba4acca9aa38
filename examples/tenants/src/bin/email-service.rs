//! The e-mail service. Its subscriptions are declared in `components/subscription.yaml`: topic `tenants`
//! comes to `/tenants`, what nobody could process comes to `/dead`.

use std::error::Error;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use tenants::consumer::{Event, drop_event, success};
use tenants::ledger::{Ledger, Stats};
use tenants::server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let routes = Router::new()
        .route("/tenants", post(send_email))
        .route("/dead", post(bury))
        .route("/stats", get(stats))
        .with_state(Arc::new(Ledger::default()));
    server::serve("email-service", 8082, routes).await
}

async fn send_email(State(ledger): State<Arc<Ledger>>, body: String) -> Json<Value> {
    let Ok(event) = serde_json::from_str::<Event>(&body) else {
        eprintln!("not a CloudEvent: {body}");
        return drop_event();
    };
    println!("e-mail to {:?} for tenant {}", event.field("emailId"), event.tenant_id());
    ledger.accept(event.tenant_id());
    success()
}

async fn bury(State(ledger): State<Arc<Ledger>>, body: String) -> Json<Value> {
    let id = serde_json::from_str::<Event>(&body).map(|event| event.tenant_id()).unwrap_or_default();
    println!("dead letter: tenant {id:?}");
    ledger.bury(id);
    success()
}

async fn stats(State(ledger): State<Arc<Ledger>>) -> Json<Stats> {
    Json(ledger.stats())
}
