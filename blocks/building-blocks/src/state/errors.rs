//! The errors of the state API in their HTTP form; the gRPC front adapts them. *Source:* spec errors.md, State.

use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::error::{ApiError, ComponentStatus, ErrorDetail, GrpcCode, table};

use super::keys::SEPARATOR;

const FEATURES_PAGE: &str = "https://docs.dapr.io/reference/components-reference/supported-state-stores/";

pub(super) fn not_configured(store: &str, app_id: &str) -> ApiError {
    ApiError::of(&table::STATE_STORE_NOT_CONFIGURED, &[&store]).info(&app(app_id))
}

pub(super) fn not_found(store: &str, app_id: &str) -> ApiError {
    ApiError::of(&table::STATE_STORE_NOT_FOUND, &[&store]).info(&app(app_id))
}

fn app(app_id: &str) -> Vec<(&str, &str)> {
    if app_id.is_empty() { Vec::new() } else { vec![("appID", app_id)] }
}

/// Whether an app may use this key.
///
/// # Errors
/// `ERR_MALFORMED_REQUEST` for a key with the separator.
pub fn check_key(store: &str, key: &str) -> Result<(), ApiError> {
    if key.contains(SEPARATOR) { Err(illegal_key(store, key)) } else { Ok(()) }
}

/// HTTP shows this error nested in another of its kind.
fn illegal_key(store: &str, key: &str) -> ApiError {
    let nested = ApiError::of(&table::STATE_ILLEGAL_KEY, &[&key]).nested();
    let violation = ErrorDetail::BadRequest(vec![(key.to_owned(), nested.clone())]);
    rich(ApiError::new(&table::STATE_ILLEGAL_KEY, nested).with_detail(violation), store, &[])
}

pub(super) fn transactions_not_supported(store: &str) -> ApiError {
    let link = ("Check the list of state stores and the features they support".to_owned(), FEATURES_PAGE.to_owned());
    let error = ApiError::of(&table::STATE_TRANSACTIONS_NOT_SUPPORTED, &[&store]);
    rich(error.with_detail(ErrorDetail::Help(vec![link])), store, &[])
}

pub(super) fn queries_not_supported(store: &str) -> ApiError {
    rich(ApiError::of(&table::STATE_QUERYING_NOT_SUPPORTED, &[]), store, &[])
}

/// `cause`: the component's error, which may have chosen the status itself; HTTP shows that as it is, here only.
pub(super) fn query_failed(store: &str, problem: &dyn std::fmt::Display, cause: Option<&ComponentError>) -> ApiError {
    let error = rich(ApiError::of(&table::STATE_QUERY, &[&store, problem]), store, &[]);
    match cause.filter(|cause| cause.chosen.is_some()) {
        Some(cause) => {
            let mut error = with_cause(error, cause);
            if let (Some(shown), Some(chosen)) = (&mut error.component, &cause.chosen) {
                shown.tag = Some(chosen.tag.clone());
            }
            error
        }
        None => error,
    }
}

pub(super) fn too_many_operations(store: &str, count: usize, max: usize) -> ApiError {
    let metadata = [("currentOpsTransaction", &*count.to_string()), ("maxOpsPerTransaction", &*max.to_string())];
    rich(ApiError::of(&table::STATE_TOO_MANY_TRANSACTIONS, &[&count, &max]), store, &metadata)
}

/// The error of an operation that is neither `upsert` nor `delete`.
pub fn operation_not_supported(operation: &str) -> ApiError {
    ApiError::of(&table::STATE_OPERATION_NOT_SUPPORTED, &[&operation])
}

fn rich(error: ApiError, store: &str, metadata: &[(&str, &str)]) -> ApiError {
    let resource = ErrorDetail::ResourceInfo {
        resource_type: "state".to_owned(),
        resource_name: store.to_owned(),
        owner: String::new(),
        description: String::new(),
    };
    error.with_detail(resource).info(metadata)
}

pub(super) fn get_failed(store: &str, key: &str, error: &ComponentError) -> ApiError {
    with_cause(ApiError::of(&table::STATE_GET, &[&key, &store, error]), error)
}

pub(super) fn bulk_get_failed(error: &ComponentError) -> ApiError {
    with_cause(ApiError::of(&table::STATE_BULK_GET, &[error]), error)
}

pub(super) fn save_failed(store: &str, error: &ComponentError) -> ApiError {
    with_cause(ApiError::of(&table::STATE_SAVE, &[&store, error]), error)
}

pub(super) fn delete_failed(key: &str, error: &ComponentError) -> ApiError {
    with_cause(ApiError::of(&table::STATE_DELETE, &[&key, error]), error)
}

pub(super) fn bulk_delete_failed(store: &str, error: &ComponentError) -> ApiError {
    with_cause(ApiError::of(&table::STATE_BULK_DELETE, &[&store, error]), error)
}

/// ETag conflicts inside a transaction have no status of their own.
pub(super) fn transaction_failed(error: &ComponentError) -> ApiError {
    ApiError::of(&table::STATE_TRANSACTION, &[error])
}

fn with_cause(mut error: ApiError, cause: &ComponentError) -> ApiError {
    if let Some(chosen) = &cause.chosen {
        error.component = Some(Box::new(ComponentStatus {
            message: chosen.message.clone(),
            reason: chosen.reason.clone(),
            domain: chosen.domain.clone(),
            tag: None,
        }));
        return error.with_status(chosen.http, chosen.grpc);
    }
    match cause.kind {
        ErrorKind::ETagMismatch => error.with_status(409, GrpcCode::Aborted),
        ErrorKind::ETagInvalid => error.with_status(400, GrpcCode::InvalidArgument),
        _ => error,
    }
}
