//! From errors to gRPC statuses, with the machine-readable details in `grpc-status-details-bin`.
//!
//! Three kinds of error reach a gRPC caller: an [`ApiError`] of a block, an HTTP status of an app that was called
//! through `InvokeService`, and a gRPC status that another sidecar or an app sent. *Source:* spec errors.md §2, §3, §5.

use std::collections::HashMap;

use http::{HeaderMap, StatusCode};
use pillion_core::error::{ApiError, ErrorDetail, GrpcCode, Shape};
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc::{self, bad_request, help};
use prost::Message as _;
use tonic::{Code, Status};

use crate::error_labels::ErrorLabels;

/// `ErrorInfo.domain` of every error made here.
const ERROR_DOMAIN: &str = "dapr.io";

/// Longest `http.error_message`, in bytes.
const ERROR_MESSAGE_BYTES_MAX: usize = 63;

/// The status of a block's error. What HTTP calls a legacy error has no `grpc-status-details-bin`, unless its row is
/// [`Shape::Basic`].
pub fn from_api_error(error: &ApiError) -> Status {
    let mut status = status_of(error);
    ErrorLabels::mark_status(&mut status, error);
    status
}

fn status_of(error: &ApiError) -> Status {
    if let Some(chosen) = &error.component {
        let info =
            rpc::ErrorInfo { reason: chosen.reason.clone(), domain: chosen.domain.clone(), ..Default::default() };
        return from_parts(error.grpc as i32, &chosen.message, vec![Any::from_message(&info)]);
    }
    let mut details: Vec<Any> = error.details.iter().map(detail).collect();
    if error.spec.shape == Shape::Basic && details.is_empty() {
        details.push(detail(&ErrorDetail::ErrorInfo { reason: error.spec.code.to_owned(), metadata: None }));
    }
    from_parts(error.grpc as i32, &error.message, details)
}

/// The status of an app's HTTP answer, `None` for 2xx. Its message is the text of the HTTP status; the code and the
/// beginning of `body` are in the details.
pub fn from_http(http_status: u16, body: &str) -> Option<Status> {
    let code = GrpcCode::from_http_status(http_status);
    if code == GrpcCode::Ok {
        return None;
    }
    let text = http_status_text(http_status);
    let metadata = HashMap::from([
        ("http.code".to_owned(), http_status.to_string()),
        ("http.error_message".to_owned(), beginning(body, ERROR_MESSAGE_BYTES_MAX).to_owned()),
    ]);
    let info = rpc::ErrorInfo { reason: text.to_owned(), domain: ERROR_DOMAIN.to_owned(), metadata };
    Some(from_parts(code as i32, text, vec![Any::from_message(&info)]))
}

/// A caller without the right API token. `why` goes into the details.
pub fn unauthorized(why: &str) -> Status {
    from_http(401, why).unwrap_or_else(|| Status::unauthenticated("Unauthorized"))
}

/// A call that the allow and deny lists of the API keep from this caller.
pub fn not_available() -> Status {
    from_http(501, "requested endpoint is not available").unwrap_or_else(|| Status::unimplemented("Not Implemented"))
}

/// The refusal of a message over the limit as the original words it, when the head of an answer is such a refusal.
pub(super) fn too_large(headers: &HeaderMap) -> Option<Status> {
    let refused = Status::from_header_map(headers).filter(|status| status.code() == Code::OutOfRange)?;
    let sizes = refused.message().strip_prefix("Error, decoded message length too large: found ")?;
    let (found, rest) = sizes.split_once(" bytes, the limit is: ")?;
    let limit = rest.strip_suffix(" bytes")?;
    Some(Status::resource_exhausted(format!("grpc: received message larger than max ({found} vs. {limit})")))
}

/// The status of a number, a message and details as they came from a peer or an app.
pub fn from_parts(code: i32, message: &str, details: Vec<Any>) -> Status {
    if details.is_empty() {
        return Status::new(Code::from_i32(code), message);
    }
    let status = rpc::Status { code, message: message.to_owned(), details };
    Status::with_details(Code::from_i32(code), message, status.encode_to_vec().into())
}

/// The details that a status carries; empty when there are none or they are not a `google.rpc.Status`.
pub fn details_of(status: &Status) -> Vec<Any> {
    rpc::Status::decode(status.details()).map(|decoded| decoded.details).unwrap_or_default()
}

fn detail(detail: &ErrorDetail) -> Any {
    match detail {
        ErrorDetail::ErrorInfo { reason, metadata } => Any::from_message(&rpc::ErrorInfo {
            reason: reason.clone(),
            domain: ERROR_DOMAIN.to_owned(),
            metadata: metadata.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        }),
        ErrorDetail::ResourceInfo { resource_type, resource_name, owner, description } => {
            Any::from_message(&rpc::ResourceInfo {
                resource_type: resource_type.clone(),
                resource_name: resource_name.clone(),
                owner: owner.clone(),
                description: description.clone(),
            })
        }
        ErrorDetail::BadRequest(violations) => {
            let violations = violations.iter().map(|(field, description)| bad_request::FieldViolation {
                field: field.clone(),
                description: description.clone(),
                ..Default::default()
            });
            Any::from_message(&rpc::BadRequest { field_violations: violations.collect() })
        }
        ErrorDetail::Help(links) => {
            let links = links
                .iter()
                .map(|(description, url)| help::Link { description: description.clone(), url: url.clone() });
            Any::from_message(&rpc::Help { links: links.collect() })
        }
    }
}

/// The longest beginning of `text` with at most `bytes_max` bytes that does not cut a character.
fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text of an HTTP status as Go's standard library has it, which clients of the original compare with; empty for
/// an unassigned number.
pub fn http_status_text(status: u16) -> &'static str {
    match status {
        203 => "Non-Authoritative Information",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        416 => "Requested Range Not Satisfiable",
        _ => StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use pillion_core::error::table;

    use super::*;

    fn only<M: prost::Message + prost::Name + Default>(status: &Status) -> M {
        let found: Vec<M> = details_of(status).iter().filter_map(|any| any.to_message().expect("decodes")).collect();
        assert_eq!(found.len(), 1, "exactly one {}", M::full_name());
        found.into_iter().next().expect("there is one")
    }

    #[test]
    fn a_legacy_error_has_no_details() {
        let status = from_api_error(&ApiError::new(&table::SECRET_GET, "no such secret"));
        assert_eq!((status.code(), status.message()), (Code::Internal, "no such secret"));
        assert!(status.details().is_empty());
    }

    #[test]
    fn a_rich_error_keeps_its_details_in_order() {
        let error = ApiError::new(&table::STATE_ILLEGAL_KEY, "input key/keyPrefix 'a||b' can't contain '||'")
            .with_detail(ErrorDetail::BadRequest(vec![("a||b".into(), "bad".into())]))
            .resource("state", "store")
            .info(&[("appID", "app")]);
        let status = from_api_error(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let names: Vec<String> = details_of(&status).iter().map(|any| any.type_name().to_owned()).collect();
        assert_eq!(names, ["google.rpc.BadRequest", "google.rpc.ResourceInfo", "google.rpc.ErrorInfo"]);

        let info: rpc::ErrorInfo = only(&status);
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("DAPR_STATE_ILLEGAL_KEY", "dapr.io"));
        assert_eq!(info.metadata, HashMap::from([("appID".to_owned(), "app".to_owned())]));
        let resource: rpc::ResourceInfo = only(&status);
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("state", "store"));
        assert_eq!(resource.description, status.message());
        let bad: rpc::BadRequest = only(&status);
        assert_eq!(bad.field_violations[0].field, "a||b");
    }

    #[test]
    fn the_details_repeat_code_and_message() {
        let error = ApiError::new(&table::STATE_SAVE, "failed").with_status(409, GrpcCode::Aborted).info(&[]);
        let status = from_api_error(&error);
        let inner = rpc::Status::decode(status.details()).expect("a google.rpc.Status");
        assert_eq!((inner.code, inner.message.as_str()), (10, "failed"));
        assert_eq!(status.code(), Code::Aborted);
    }

    #[test]
    fn an_http_answer_becomes_a_status_with_its_text() {
        assert!(from_http(204, "").is_none());
        let body = "é".repeat(40);
        let status = from_http(404, &body).expect("an error");
        assert_eq!((status.code(), status.message()), (Code::NotFound, "Not Found"));
        let info: rpc::ErrorInfo = only(&status);
        assert_eq!(info.reason, "Not Found");
        assert_eq!(info.metadata["http.code"], "404");
        assert_eq!(info.metadata["http.error_message"], "é".repeat(31));
        assert_eq!(from_http(400, "").expect("an error").code(), Code::Internal);
        assert_eq!(from_http(413, "").expect("an error").message(), "Request Entity Too Large");
    }

    #[test]
    fn refusals_have_the_specified_texts() {
        let status = unauthorized("authentication error: api token mismatch");
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "Unauthorized"));
        assert_eq!(only::<rpc::ErrorInfo>(&status).metadata["http.code"], "401");
        let status = not_available();
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, "Not Implemented"));
    }
}
