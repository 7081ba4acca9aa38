//! Output bindings over HTTP. *Source:* spec http_api.md §7.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::HeaderName;
use pillion_contract::BindingRequest;
use pillion_core::error::{ApiError, table};
use pillion_core::json;
use pillion_runtime::body::Body;
use pillion_telemetry::trace::{BAGGAGE, TRACE_PARENT, TRACE_STATE, check_baggage};
use serde::Deserialize;
use serde_json::Value;

use super::front::{Incall, Shared};
use super::respond::{self, HttpResponse};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    data: Value,
    metadata: Option<BTreeMap<String, String>>,
    operation: String,
}

impl Shared {
    pub(super) async fn invoke_binding(&self, name: &str, call: Incall) -> HttpResponse {
        let request = match self.binding_request(call).await {
            Ok(request) => request,
            Err(error) => return respond::error(&error),
        };
        match self.api.bindings.invoke(name, request).await {
            Ok(None) => respond::no_content(),
            Ok(Some(answer)) => {
                let mut response = respond::json_bytes(200, Body::full(answer.data));
                respond::add_metadata(&mut response, &answer.metadata);
                response
            }
            Err(failure) => {
                let mut response = respond::error(&failure.error);
                respond::add_metadata(&mut response, &failure.metadata);
                response
            }
        }
    }

    async fn binding_request(&self, call: Incall) -> Result<BindingRequest, ApiError> {
        let malformed = |problem: &str| ApiError::of(&table::MALFORMED_REQUEST, &[&problem]);
        let body = self.whole(call.body).await.map_err(|error| malformed(&error.to_string()))?;
        let asked = json::first_of::<Asked>(&body).ok_or_else(|| malformed("EOF"))?;
        let asked = asked.map_err(|error| malformed(&json::error_text(&error)))?;
        let mut metadata = asked.metadata.unwrap_or_default();
        // Binding and system behind it take part in the trace of the call.
        if !self.options.tracer.is_off() {
            for name in [TRACE_PARENT, TRACE_STATE] {
                if let Some(value) = joined(&call.headers, &name) {
                    metadata.insert(name.as_str().to_owned(), value);
                }
            }
        }
        if let Some(baggage) = joined(&call.headers, &BAGGAGE) {
            check_baggage(baggage.as_bytes()).map_err(|error| {
                ApiError::new(&table::MALFORMED_REQUEST, format!("invalid baggage header: {error}"))
            })?;
            metadata.insert(BAGGAGE.as_str().to_owned(), baggage);
        }
        // The data is JSON of its own, in the compact form and with sorted keys, as the original writes it.
        Ok(BindingRequest { operation: asked.operation, data: asked.data.to_string().into(), metadata })
    }
}

/// All values of a header; `None` without any.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
