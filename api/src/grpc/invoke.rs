//! Service invocation by message (`InvokeService`), which callers may use for HTTP and gRPC apps alike.

use http::{HeaderMap, HeaderValue, Method};
use pillion_invocation::InvokeError;
use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::common::v1::{HttpExtension, InvokeResponse};
use pillion_proto::google::protobuf::Any;
use pillion_proto::runtime::v1 as pb;
use pillion_runtime::app_channel::{from_metadata, to_metadata};
use pillion_runtime::body::Body;
use pillion_runtime::message::{AppStatus, DAPR_API_TOKEN, InvokeRequest, NO_VERB};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{GrpcApi, status};

/// Response header with the HTTP status of the app.
pub(super) const HTTP_STATUS: &str = "dapr-http-status";

impl GrpcApi {
    pub(super) async fn call_app(
        &self,
        request: Request<pb::InvokeServiceRequest>,
    ) -> Result<Response<InvokeResponse>, Status> {
        let (metadata, _, call) = request.into_parts();
        let message = call.message.unwrap_or_default();
        let extension = message.http_extension.unwrap_or_default();
        let data = message.data.unwrap_or_default();
        let request = InvokeRequest {
            method: message.method,
            verb: verb(&extension),
            query: extension.querystring,
            headers: headers(&metadata, &message.content_type),
            body: Body::full(data.value),
            data_type_url: data.type_url,
        };
        let answer = self.invoker.invoke_message(&call.id, request).await.map_err(|error| refuse(&call.id, error))?;
        let content_type = answer.content_type().to_owned();
        let mut metadata = response_metadata(&answer.headers);
        let body = answer.body.as_full().unwrap_or_default(); // the block has read it
        match answer.status {
            AppStatus::Http(code) => {
                metadata.insert(HTTP_STATUS, tonic::metadata::MetadataValue::from(code));
                if let Some(mut status) = status::from_http(code, &String::from_utf8_lossy(&body)) {
                    *status.metadata_mut() = metadata;
                    return Err(status);
                }
            }
            AppStatus::Grpc(0) => {}
            AppStatus::Grpc(code) => {
                let mut status = status::from_parts(code, &answer.status_message, answer.status_details);
                *status.metadata_mut() = metadata;
                return Err(status);
            }
        }
        let data = Some(Any { type_url: answer.data_type_url, value: body });
        let mut response = Response::new(InvokeResponse { data, content_type });
        *response.metadata_mut() = metadata;
        Ok(response)
    }
}

/// What the gRPC caller sent along, as the headers of the call; the content type is that of the message.
fn headers(metadata: &MetadataMap, content_type: &str) -> HeaderMap {
    let mut headers = from_metadata(metadata);
    headers.remove(DAPR_API_TOKEN);
    headers.remove(http::header::CONTENT_TYPE);
    if let Ok(value) = HeaderValue::from_str(content_type)
        && !content_type.is_empty()
    {
        headers.insert(http::header::CONTENT_TYPE, value);
    }
    headers
}

/// The headers of the app without those that belong to the two connections.
fn response_metadata(headers: &HeaderMap) -> MetadataMap {
    let mut metadata = to_metadata(headers);
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "content-length"] {
        metadata.remove(name);
    }
    metadata
}

/// What a policy does to a call has no error code, and no details.
fn refuse(id: &str, error: InvokeError) -> Status {
    match error {
        InvokeError::TimedOut => Status::deadline_exceeded(error.to_string()),
        InvokeError::Refused(reason) => Status::unknown(reason),
        InvokeError::Failed(_) => status::from_api_error(&error.into_api_error(id)),
    }
}

/// A call without verb travels as POST, which is what gRPC apps expect and HTTP apps accept.
fn verb(extension: &HttpExtension) -> Method {
    match extension.verb() {
        Verb::Get => Method::GET,
        Verb::Head => Method::HEAD,
        Verb::Put => Method::PUT,
        Verb::Delete => Method::DELETE,
        Verb::Connect => Method::CONNECT,
        Verb::Options => Method::OPTIONS,
        Verb::Trace => Method::TRACE,
        Verb::Patch => Method::PATCH,
        Verb::Post => Method::POST,
        // Only an app that speaks HTTP needs one, and refuses the call.
        Verb::None => Method::from_bytes(NO_VERB.as_bytes()).unwrap_or(Method::POST),
    }
}
