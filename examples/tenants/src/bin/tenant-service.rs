//! The tenant service: `POST /tenant` stores a tenant and has the notification service told, by app ID
//! through its sidecar, or straight when `NOTIFY_URL` is set.
//!
//! Switches: `NOTIFY_MODE=sync|async|none`, `INVOKE=header|path`, `NOTIFY_URL=<url>`, `STORE=memory|dapr`.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tenants::client::Client;
use tenants::server;
use tenants::switches::{BadSwitch, Invoke, NotifyMode, Store, sidecar_url, switch, text};
use tenants::tenant::{NewTenant, Numbers, Tenant};

type Answer = (StatusCode, Json<Value>);

struct Service {
    client: Client,
    notify_mode: NotifyMode,
    notify_url: String,
    notify_headers: &'static [(&'static str, &'static str)],
    /// `None` keeps tenants in `memory`.
    state_url: Option<String>,
    memory: Mutex<HashMap<String, Tenant>>,
    numbers: Numbers,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    created: AtomicU64,
    notified: AtomicU64,
    failed: AtomicU64,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let routes = Router::new()
        .route("/tenant", post(create))
        .route("/tenant/{id}", get(find))
        .route("/stats", get(stats))
        .with_state(Arc::new(Service::from_environment()?));
    server::serve("tenant-service", 8080, routes).await
}

async fn create(State(service): State<Arc<Service>>, body: String) -> Answer {
    let tenant = match serde_json::from_str::<NewTenant>(&body) {
        Ok(new) => match new.accept(service.numbers.next_id()) {
            Ok(tenant) => tenant,
            Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
        },
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("body: {error}")),
    };
    if let Err(reason) = service.store(&tenant).await {
        return refuse(StatusCode::BAD_GATEWAY, &reason);
    }
    service.counters.created.fetch_add(1, Ordering::Relaxed);
    let answer = json!({ "id": &tenant.id, "name": &tenant.name, "emailId": &tenant.email_id });
    match service.notify_mode {
        NotifyMode::None => {}
        NotifyMode::Async => {
            tokio::spawn(async move {
                if let Err(reason) = service.notify(&tenant).await {
                    eprintln!("notification of tenant {}: {reason}", tenant.id);
                }
            });
        }
        NotifyMode::Sync => {
            if let Err(reason) = service.notify(&tenant).await {
                eprintln!("notification of tenant {}: {reason}", tenant.id);
                return refuse(StatusCode::BAD_GATEWAY, &reason);
            }
        }
    }
    (StatusCode::CREATED, Json(answer))
}

async fn find(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Answer {
    match service.load(&id).await {
        Ok(Some(tenant)) => (StatusCode::OK, Json(tenant)),
        Ok(None) => refuse(StatusCode::NOT_FOUND, &format!("no tenant {id}")),
        Err(reason) => refuse(StatusCode::BAD_GATEWAY, &reason),
    }
}

async fn stats(State(service): State<Arc<Service>>) -> Json<Value> {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let Counters { created, notified, failed, in_flight, in_flight_max } = &service.counters;
    Json(json!({
        "created": of(created),
        "notified": of(notified),
        "failed": of(failed),
        "inFlight": of(in_flight),
        "inFlightMax": of(in_flight_max),
    }))
}

fn refuse(status: StatusCode, reason: &str) -> Answer {
    (status, Json(json!({ "error": reason })))
}

impl Service {
    fn from_environment() -> Result<Self, BadSwitch> {
        let sidecar = sidecar_url()?;
        let invoke = switch("INVOKE", &[("header", Invoke::Header), ("path", Invoke::Path)])?;
        let (notify_url, notify_headers): (_, &'static [_]) = match (text("NOTIFY_URL"), invoke) {
            (Some(url), _) => (url, &[]),
            (None, Invoke::Header) => (format!("{sidecar}/notification"), &[("dapr-app-id", "notification-service")]),
            (None, Invoke::Path) => (format!("{sidecar}/v1.0/invoke/notification-service/method/notification"), &[]),
        };
        let store = switch("STORE", &[("memory", Store::Memory), ("dapr", Store::Dapr)])?;
        Ok(Self {
            client: Client::new(),
            notify_mode: switch(
                "NOTIFY_MODE",
                &[("sync", NotifyMode::Sync), ("async", NotifyMode::Async), ("none", NotifyMode::None)],
            )?,
            notify_url,
            notify_headers,
            state_url: (store == Store::Dapr).then(|| format!("{sidecar}/v1.0/state/statestore")),
            memory: Mutex::default(),
            numbers: Numbers::from_now(),
            counters: Counters::default(),
        })
    }

    async fn notify(&self, tenant: &Tenant) -> Result<(), String> {
        let body = serde_json::to_vec(tenant).map_err(|error| error.to_string())?;
        let in_flight = self.counters.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.counters.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        let answer = self.client.post(&self.notify_url, self.notify_headers, body).await;
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        let outcome = match answer {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, body)) => Err(format!("notification answered {status}: {}", String::from_utf8_lossy(&body))),
            Err(error) => Err(error.to_string()),
        };
        let counter = if outcome.is_ok() { &self.counters.notified } else { &self.counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    async fn store(&self, tenant: &Tenant) -> Result<(), String> {
        let Some(url) = &self.state_url else {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.id.clone(), tenant.clone());
            return Ok(());
        };
        let items = json!([{ "key": &tenant.id, "value": tenant }]).to_string();
        match self.client.post(url, &[], items.into_bytes()).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, body)) => Err(format!("state store answered {status}: {}", String::from_utf8_lossy(&body))),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn load(&self, id: &str) -> Result<Option<Value>, String> {
        let Some(url) = &self.state_url else {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            return memory
                .get(id)
                .map(|tenant| serde_json::to_value(tenant).map_err(|error| error.to_string()))
                .transpose();
        };
        match self.client.get(&format!("{url}/{id}")).await {
            Ok((StatusCode::NO_CONTENT | StatusCode::NOT_FOUND, _)) => Ok(None),
            Ok((status, body)) if status.is_success() => {
                serde_json::from_slice(&body).map(Some).map_err(|error| format!("state store's answer: {error}"))
            }
            Ok((status, body)) => Err(format!("state store answered {status}: {}", String::from_utf8_lossy(&body))),
            Err(error) => Err(error.to_string()),
        }
    }
}
