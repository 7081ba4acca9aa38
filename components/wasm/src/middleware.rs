//! `middleware.http.wasm`: a pool of guests in front of what comes next.
//!
//! *Invariant:* a request has one guest from `handle_request` to the end of `handle_response`; a guest that failed, or whose
//! caller went away, does not return to the pool.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use pillion_contract::{
    ComponentError, ErrorKind, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next, full_body,
};

use crate::exchange::Exchange;
use crate::fetch::fetch;
use crate::guest::Guest;
use crate::metadata::Settings;
use crate::module::Compiled;

/// Guests that are kept while no request needs them. As in the original, there is no limit to guests at work: each request has
/// one, and how many requests there are is limited elsewhere.
const IDLE_GUESTS: usize = 32;

/// The component.
struct WasmMiddleware {
    compiled: Compiled,
    idle: Mutex<Vec<Guest>>,
}

impl fmt::Debug for WasmMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WasmMiddleware({} idle guests)", self.idle.lock().len())
    }
}

/// Makes the component.
///
/// # Errors
/// The metadata is wrong, the module cannot be fetched or is no guest, or its start function failed.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let settings = Settings::parse(&context.metadata)?;
    let wasm = fetch(&settings.location).await.map_err(|problem| {
        ComponentError::new(ErrorKind::InvalidRequest, format!("wasm: failed to parse metadata: {problem}"))
    })?;
    let log = context.log.clone();
    let compiled =
        tokio::task::spawn_blocking(move || Compiled::new(&wasm, settings.guest_config, settings.strict_sandbox, log));
    let invalid = |problem: String| ComponentError::new(ErrorKind::InvalidRequest, problem);
    let compiled = compiled
        .await
        .map_err(|error| ComponentError::caused(ErrorKind::Internal, "wasm: error compiling guest", error))?
        .map_err(invalid)?;
    // One guest now, so that a guest that cannot start fails the start of the sidecar and not the first request.
    let guest = Guest::start(&compiled).await.map_err(invalid)?;
    Ok(Arc::new(WasmMiddleware { compiled, idle: Mutex::new(vec![guest]) }))
}

#[async_trait]
impl HttpMiddleware for WasmMiddleware {
    async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse {
        match self.run(request, next).await {
            Ok(response) => response,
            Err(problem) => {
                self.compiled.log.error(&problem);
                failure(problem)
            }
        }
    }
}

impl WasmMiddleware {
    async fn run(&self, request: HttpRequest, next: Next<'_>) -> Result<HttpResponse, String> {
        let idle = self.idle.lock().pop();
        let mut guest = match idle {
            Some(guest) => guest,
            None => Guest::start(&self.compiled).await?,
        };
        guest.attach(Box::new(Exchange::new(request, guest.features())));
        let called = guest.handle_request().await;
        guest.flush_output();
        let (go_on, mark) = called.map_err(|error| format!("wasm: handle_request: {error}"))?;
        if go_on {
            let request = guest.exchange().ok_or(LOST)?.take_request();
            let response = next.run(request).await;
            let taken = guest.exchange().ok_or(LOST)?.put_response(response).await;
            let called = guest.handle_response(mark, taken.is_err()).await;
            guest.flush_output();
            called.map_err(|error| format!("wasm: handle_response: {error}"))?;
            taken.map_err(|problem| format!("wasm: {problem}"))?;
        }
        let exchange = guest.detach().ok_or(LOST)?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_GUESTS {
            idle.push(guest);
        }
        drop(idle);
        Ok(exchange.response.into_response())
    }
}

/// Cannot happen: only `detach` takes the exchange away.
const LOST: &str = "wasm: the request was lost";

fn failure(problem: String) -> HttpResponse {
    let mut response = http::Response::new(full_body(problem));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
