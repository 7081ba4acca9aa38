//! The errors of the state API in their HTTP form; the gRPC front adapts them. *Source:* spec errors.md, State.

use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::error::{ApiError, ErrorDetail, ErrorSpec, GrpcCode, table};

use super::keys::illegal_text;

const FEATURES_PAGE: &str = "https://docs.dapr.io/reference/components-reference/supported-state-stores/";

pub(super) fn not_configured(store: &str, app_id: &str) -> ApiError {
    ApiError::new(&table::STATE_STORE_NOT_CONFIGURED, format!("state store {store} is not configured"))
        .info(&app(app_id))
}

pub(super) fn not_found(store: &str, app_id: &str) -> ApiError {
    ApiError::new(&table::STATE_STORE_NOT_FOUND, format!("state store {store} is not found")).info(&app(app_id))
}

fn app(app_id: &str) -> Vec<(&str, &str)> {
    if app_id.is_empty() { Vec::new() } else { vec![("appID", app_id)] }
}

/// HTTP shows this error nested in another of its kind.
pub(super) fn illegal_key(store: &str, key: &str) -> ApiError {
    let inner = ApiError::new(&table::STATE_ILLEGAL_KEY, illegal_text(key)).nested();
    let error = ApiError::new(&table::STATE_ILLEGAL_KEY, inner.clone());
    rich(error.with_detail(ErrorDetail::BadRequest(vec![(key.to_owned(), inner)])), store, &[])
}

pub(super) fn transactions_not_supported(store: &str) -> ApiError {
    with_features_page(
        &table::STATE_TRANSACTIONS_NOT_SUPPORTED,
        store,
        format!("state store {store} doesn't support transactions"),
    )
}

pub(super) fn queries_not_supported(store: &str) -> ApiError {
    with_features_page(&table::STATE_QUERYING_NOT_SUPPORTED, store, "state store does not support querying".to_owned())
}

fn with_features_page(spec: &'static ErrorSpec, store: &str, message: String) -> ApiError {
    let error = ApiError::new(spec, message);
    let link = ("Check the list of state stores and the features they support".to_owned(), FEATURES_PAGE.to_owned());
    rich(error.with_detail(ErrorDetail::Help(vec![link])), store, &[])
}

pub(super) fn too_many_operations(store: &str, count: usize, max: usize) -> ApiError {
    let message =
        format!("the transaction contains {count} operations, which is more than what the state store supports: {max}");
    let metadata = [("currentOpsTransaction", &*count.to_string()), ("maxOpsPerTransaction", &*max.to_string())];
    rich(ApiError::new(&table::STATE_TOO_MANY_TRANSACTIONS, message), store, &metadata)
}

/// The error of an operation that is neither `upsert` nor `delete`.
pub fn operation_not_supported(operation: &str) -> ApiError {
    ApiError::new(&table::STATE_OPERATION_NOT_SUPPORTED, format!("operation type {operation} not supported"))
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
    ApiError::new(&table::STATE_GET, format!("fail to get {key} from state store {store}: {error}"))
}

pub(super) fn bulk_get_failed(error: &ComponentError) -> ApiError {
    ApiError::new(&table::STATE_BULK_GET, error.to_string())
}

pub(super) fn save_failed(store: &str, error: &ComponentError) -> ApiError {
    write_failed(&table::STATE_SAVE, format!("failed saving state in state store {store}: {error}"), error)
}

pub(super) fn delete_failed(key: &str, error: &ComponentError) -> ApiError {
    write_failed(&table::STATE_DELETE, format!("failed deleting state with key {key}: {error}"), error)
}

pub(super) fn bulk_delete_failed(store: &str, error: &ComponentError) -> ApiError {
    write_failed(&table::STATE_BULK_DELETE, format!("failed deleting state in state store {store}: {error}"), error)
}

/// ETag conflicts inside a transaction have no status of their own.
pub(super) fn transaction_failed(error: &ComponentError) -> ApiError {
    ApiError::new(&table::STATE_TRANSACTION, format!("error while executing state transaction: {error}"))
}

fn write_failed(spec: &'static ErrorSpec, message: String, cause: &ComponentError) -> ApiError {
    let error = ApiError::new(spec, message);
    match cause.kind {
        ErrorKind::ETagMismatch => error.with_status(409, GrpcCode::Aborted),
        ErrorKind::ETagInvalid => error.with_status(400, GrpcCode::InvalidArgument),
        _ => error,
    }
}
