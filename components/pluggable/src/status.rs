//! From gRPC statuses to component errors.
//!
//! *Source:* spec components.md §5.2: which codes and details mean a stale or malformed ETag, a bulk delete that deleted too
//! little, and a status the component chose for the caller of the API.

use pillion_contract::{ChosenStatus, ComponentError, ErrorKind};
use pillion_core::error::GrpcCode;
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc::{self, BadRequest, ErrorInfo};
use prost::Message as _;
use tonic::{Code, Status};

/// The field that is violated when an ETag is wrong.
const ETAG_FIELD: &str = "etag";
/// Metadata of an `ErrorInfo` whose status is meant for the caller of the API.
const CHOSEN: &str = "kit_error";
const CHOSEN_HTTP: &str = "http_code";
const CHOSEN_TAG: &str = "tag";
/// Metadata of the `ErrorInfo` of a bulk delete that deleted fewer keys than it was given.
const EXPECTED: &str = "expected";
const AFFECTED: &str = "affected";

/// The error of a call that knows nothing of ETags.
pub(crate) fn error(status: &Status) -> ComponentError {
    only_detail(status).and_then(|detail| chosen(status, &detail)).unwrap_or_else(|| plain(status))
}

/// The error of a write of one or more keys.
pub(crate) fn write_error(status: &Status) -> ComponentError {
    let Some(detail) = only_detail(status) else { return plain(status) };
    chosen(status, &detail).or_else(|| etag(status, &detail)).unwrap_or_else(|| plain(status))
}

/// The error of a bulk delete.
pub(crate) fn bulk_delete_error(status: &Status) -> ComponentError {
    let Some(detail) = only_detail(status) else { return plain(status) };
    let known = chosen(status, &detail).or_else(|| etag(status, &detail)).or_else(|| too_few(status, &detail));
    known.unwrap_or_else(|| plain(status))
}

/// A status as Go programs print it.
pub(crate) fn text(status: &Status) -> String {
    format!("rpc error: code = {} desc = {}", code(status).go_name(), status.message())
}

fn plain(status: &Status) -> ComponentError {
    ComponentError::new(kind(status.code()), text(status)).with_code(code(status))
}

fn code(status: &Status) -> GrpcCode {
    GrpcCode::from_number(status.code() as i32)
}

fn kind(code: Code) -> ErrorKind {
    match code {
        Code::NotFound => ErrorKind::NotFound,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::AlreadyExists => {
            ErrorKind::InvalidRequest
        }
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Unauthorized,
        Code::ResourceExhausted => ErrorKind::RateLimited,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    }
}

/// The detail of a status that has exactly one.
fn only_detail(status: &Status) -> Option<Any> {
    let mut details = rpc::Status::decode(status.details()).ok()?.details;
    if details.len() == 1 { details.pop() } else { None }
}

fn chosen(status: &Status, detail: &Any) -> Option<ComponentError> {
    let info: ErrorInfo = detail.to_message().ok()??;
    if info.metadata.get(CHOSEN).map(String::as_str) != Some("true") {
        return None;
    }
    let http = info.metadata.get(CHOSEN_HTTP)?.parse().ok()?;
    let chosen = ChosenStatus {
        http,
        grpc: code(status),
        message: status.message().to_owned(),
        tag: info.metadata.get(CHOSEN_TAG).cloned().unwrap_or_default(),
        reason: info.reason,
        domain: info.domain,
    };
    Some(ComponentError::chosen(kind(status.code()), chosen))
}

fn etag(status: &Status, detail: &Any) -> Option<ComponentError> {
    let (kind, prefix) = match status.code() {
        Code::FailedPrecondition => (ErrorKind::ETagMismatch, "possible etag mismatch. error from state store"),
        Code::InvalidArgument => (ErrorKind::ETagInvalid, "invalid etag value"),
        _ => return None,
    };
    let violations = detail.to_message::<BadRequest>().ok()??.field_violations;
    let [violation] = violations.as_slice() else { return None };
    let is_etag = violation.field == ETAG_FIELD;
    is_etag.then(|| ComponentError::new(kind, format!("{prefix}: {}", violation.description)))
}

fn too_few(status: &Status, detail: &Any) -> Option<ComponentError> {
    if status.code() != Code::Internal {
        return None;
    }
    let info: ErrorInfo = detail.to_message().ok()??;
    let number = |name: &str| info.metadata.get(name)?.parse::<u64>().ok();
    let (expected, affected) = (number(EXPECTED)?, number(AFFECTED)?);
    let message = format!("delete affected only {affected} rows, expected {expected}");
    Some(ComponentError::new(ErrorKind::Internal, message))
}

#[cfg(test)]
mod tests {
    use pillion_proto::google::rpc::bad_request::FieldViolation;

    use super::*;

    fn with(code: Code, message: &str, details: Vec<Any>) -> Status {
        let status = rpc::Status { code: code as i32, message: message.to_owned(), details };
        Status::with_details(code, message, status.encode_to_vec().into())
    }

    fn violation(field: &str) -> Any {
        let violation = FieldViolation { field: field.into(), description: "was 1".into(), ..Default::default() };
        Any::from_message(&BadRequest { field_violations: vec![violation] })
    }

    fn info(metadata: &[(&str, &str)]) -> Any {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Any::from_message(&ErrorInfo { reason: "R".into(), domain: "D".into(), metadata })
    }

    #[test]
    fn etag_errors_need_code_and_exactly_one_violation_of_the_field() {
        let mismatch = write_error(&with(Code::FailedPrecondition, "m", vec![violation("etag")]));
        assert_eq!(mismatch.kind, ErrorKind::ETagMismatch);
        assert_eq!(mismatch.to_string(), "possible etag mismatch. error from state store: was 1");
        let invalid = write_error(&with(Code::InvalidArgument, "m", vec![violation("etag")]));
        assert_eq!(invalid.kind, ErrorKind::ETagInvalid);
        assert_eq!(invalid.to_string(), "invalid etag value: was 1");
        for other in [
            with(Code::FailedPrecondition, "m", vec![violation("key")]),
            with(Code::FailedPrecondition, "m", vec![violation("etag"), violation("etag")]),
            with(Code::FailedPrecondition, "m", vec![]),
            with(Code::Internal, "m", vec![violation("etag")]),
            with(Code::FailedPrecondition, "m", vec![info(&[])]),
        ] {
            let error = write_error(&other);
            assert!(!matches!(error.kind, ErrorKind::ETagMismatch | ErrorKind::ETagInvalid), "{other:?}");
            assert_eq!(error.to_string(), text(&other));
        }
        let read = error(&with(Code::FailedPrecondition, "m", vec![violation("etag")]));
        assert_eq!(read.kind, ErrorKind::InvalidRequest, "reads have no ETag to be wrong");
    }

    #[test]
    fn a_bulk_delete_tells_how_much_it_deleted() {
        let status = with(Code::Internal, "m", vec![info(&[("expected", "3"), ("affected", "1")])]);
        assert_eq!(bulk_delete_error(&status).to_string(), "delete affected only 1 rows, expected 3");
        assert_eq!(write_error(&status).to_string(), "rpc error: code = Internal desc = m");
        let broken = with(Code::Internal, "m", vec![info(&[("expected", "x"), ("affected", "1")])]);
        assert_eq!(bulk_delete_error(&broken).to_string(), "rpc error: code = Internal desc = m");
    }

    #[test]
    fn a_chosen_status_is_kept_whole() {
        let detail = info(&[("kit_error", "true"), ("http_code", "506"), ("tag", "T")]);
        let found = error(&with(Code::DataLoss, "get-error", vec![detail]));
        assert_eq!(found.to_string(), "api error: code = DataLoss desc = get-error");
        let chosen = found.chosen.unwrap();
        assert_eq!((chosen.http, chosen.grpc, chosen.tag.as_str()), (506, GrpcCode::DataLoss, "T"));
        assert_eq!((chosen.reason.as_str(), chosen.domain.as_str()), ("R", "D"));
        let without_code = info(&[("kit_error", "true")]);
        assert!(error(&with(Code::DataLoss, "m", vec![without_code])).chosen.is_none());
    }

    #[test]
    fn details_that_cannot_be_read_are_ignored() {
        let status = Status::with_details(Code::Unavailable, "gone", vec![0xff, 0xff].into());
        assert_eq!(write_error(&status).kind, ErrorKind::Unavailable);
    }
}
