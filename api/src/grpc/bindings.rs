//! Output bindings over gRPC. *Source:* spec http_api.md §7 and the original's `InvokeBinding` for what of a call's metadata a binding
//! gets.

use std::collections::BTreeMap;

use pillion_contract::BindingRequest;
use pillion_proto::runtime::v1 as pb;
use pillion_runtime::message::DAPR_API_TOKEN;
use pillion_telemetry::trace::{BAGGAGE, NO_CONTEXT, TRACE_PARENT, TRACE_STATE, check_baggage};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, KeyAndValueRef, MetadataMap};
use tonic::{Request, Response, Status};

use super::{GrpcApi, status};

/// Belong to the connection, not to the call.
const TRANSPORT: [&str; 3] = ["te", "trailer", "grpc-accept-encoding"];

impl GrpcApi {
    pub(super) async fn ask_binding(
        &self,
        request: Request<pb::InvokeBindingRequest>,
    ) -> Result<Response<pb::InvokeBindingResponse>, Status> {
        let (sent, _, asked) = request.into_parts();
        let mut metadata: BTreeMap<String, String> = asked.metadata.into_iter().collect();
        add_call(&mut metadata, &sent)?;
        let request = BindingRequest { operation: asked.operation, data: asked.data, metadata };
        match self.bindings.invoke(&asked.name, request).await {
            Ok(answer) => {
                let answer = answer.unwrap_or_default();
                let headers = headers(&answer.metadata);
                let message =
                    pb::InvokeBindingResponse { data: answer.data, metadata: answer.metadata.into_iter().collect() };
                let mut response = Response::new(message);
                *response.metadata_mut() = headers;
                Ok(response)
            }
            Err(failure) => {
                let mut refused = status::from_api_error(&failure.error);
                let sent = headers(&failure.metadata);
                for pair in sent.iter() {
                    if let KeyAndValueRef::Ascii(key, value) = pair {
                        refused.metadata_mut().insert(key.clone(), value.clone());
                    }
                }
                Err(refused)
            }
        }
    }
}

/// The metadata of the call itself: what the request says of a key counts, but for the trace.
fn add_call(metadata: &mut BTreeMap<String, String>, sent: &MetadataMap) -> Result<(), Status> {
    let baggage: Vec<&str> = sent.get_all(BAGGAGE.as_str()).iter().filter_map(|value| value.to_str().ok()).collect();
    if !baggage.is_empty() {
        let baggage = baggage.join(",");
        check_baggage(baggage.as_bytes()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        metadata.insert(BAGGAGE.as_str().to_owned(), baggage);
    }
    for (key, value) in sent.as_ref() {
        let key = key.as_str();
        if key.ends_with("-bin") || key == DAPR_API_TOKEN || TRANSPORT.contains(&key) {
            continue;
        }
        let Ok(value) = value.to_str() else { continue };
        let name = if key.starts_with("grpc-") { format!("dapr-{key}") } else { key.to_owned() };
        let is_trace = key == TRACE_PARENT.as_str() || key == TRACE_STATE.as_str();
        if is_trace || !metadata.contains_key(&name) {
            metadata.insert(name, value.to_owned());
        }
    }
    // A binding always gets a trace over gRPC, as in the original.
    metadata
        .entry(TRACE_PARENT.as_str().to_owned())
        .or_insert_with(|| String::from_utf8_lossy(NO_CONTEXT.as_bytes()).into_owned());
    Ok(())
}

/// `metadata.<key>` headers; pairs that cannot be headers are left out.
fn headers(metadata: &BTreeMap<String, String>) -> MetadataMap {
    let mut headers = MetadataMap::with_capacity(metadata.len());
    for (key, value) in metadata {
        let name = AsciiMetadataKey::from_bytes(format!("metadata.{}", key.to_ascii_lowercase()).as_bytes());
        if let (Ok(name), Ok(value)) = (name, AsciiMetadataValue::try_from(value.as_str())) {
            headers.insert(name, value);
        }
    }
    headers
}
