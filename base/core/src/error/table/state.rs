//! Errors of state stores. *Source:* spec errors.md, State.

use crate::error::{Category, DetailKind, ErrorSpec, GrpcCode};

const INFO: &[DetailKind] = &[DetailKind::ErrorInfo];
const RESOURCE: &[DetailKind] = &[DetailKind::ResourceInfo, DetailKind::ErrorInfo];

rows! { State:
    /// No store at all.
    STATE_STORE_NOT_CONFIGURED = rich(
        "ERR_STATE_STORE_NOT_CONFIGURED",
        "DAPR_STATE_NOT_CONFIGURED",
        500,
        GrpcCode::FailedPrecondition,
        "state store {} is not configured",
        INFO,
    );
    /// No store of this name.
    STATE_STORE_NOT_FOUND = rich(
        "ERR_STATE_STORE_NOT_FOUND",
        "DAPR_STATE_NOT_FOUND",
        400,
        GrpcCode::InvalidArgument,
        "state store {} is not found",
        INFO,
    );
    /// A key with the separator in it.
    STATE_ILLEGAL_KEY = rich(
        "ERR_MALFORMED_REQUEST",
        "DAPR_STATE_ILLEGAL_KEY",
        400,
        GrpcCode::InvalidArgument,
        "input key/keyPrefix '{}' can't contain '||'",
        &[DetailKind::BadRequest, DetailKind::ResourceInfo, DetailKind::ErrorInfo],
    );
    /// A transaction with a store that has none.
    STATE_TRANSACTIONS_NOT_SUPPORTED = rich(
        "ERR_STATE_STORE_NOT_SUPPORTED",
        "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
        500,
        GrpcCode::Unimplemented,
        "state store {} doesn't support transactions",
        &[DetailKind::Help, DetailKind::ResourceInfo, DetailKind::ErrorInfo],
    );
    /// A query of a store that has none.
    STATE_QUERYING_NOT_SUPPORTED = rich(
        "ERR_STATE_STORE_NOT_SUPPORTED",
        "DAPR_STATE_QUERYING_NOT_SUPPORTED",
        500,
        GrpcCode::Internal,
        "state store does not support querying",
        RESOURCE,
    );
    /// A transaction larger than the store takes.
    STATE_TOO_MANY_TRANSACTIONS = rich(
        "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
        "DAPR_STATE_TOO_MANY_TRANSACTIONS",
        400,
        GrpcCode::InvalidArgument,
        "the transaction contains {} operations, which is more than what the state store supports: {}",
        RESOURCE,
    );
    /// A query that failed, or cannot be read.
    STATE_QUERY = rich(
        "ERR_STATE_QUERY",
        "DAPR_STATE_QUERY_FAILED",
        500,
        GrpcCode::Internal,
        "state store {} query failed: {}",
        RESOURCE,
    );
    /// A read that failed.
    STATE_GET = basic("ERR_STATE_GET", 500, GrpcCode::Internal, "fail to get {} from state store {}: {}");
    /// A bulk read that failed as a whole. gRPC passes the component's error on as it is.
    STATE_BULK_GET = legacy("ERR_STATE_BULK_GET", 500, GrpcCode::Unknown, "{}");
    /// A write that failed: 409 and `ABORTED` for a stale ETag, 400 and `INVALID_ARGUMENT` for a malformed one.
    STATE_SAVE = basic("ERR_STATE_SAVE", 500, GrpcCode::Internal, "failed saving state in state store {}: {}");
    /// An item to write without a key; gRPC alone.
    STATE_KEY_EMPTY = basic("ERR_STATE_SAVE", 400, GrpcCode::InvalidArgument, "state key cannot be empty");
    /// A delete that failed; ETags as for [`STATE_SAVE`].
    STATE_DELETE = basic("ERR_STATE_DELETE", 500, GrpcCode::Internal, "failed deleting state with key {}: {}");
    /// A bulk delete that failed; gRPC alone.
    STATE_BULK_DELETE =
        basic("ERR_STATE_BULK_DELETE", 500, GrpcCode::Internal, "failed deleting state in state store {}: {}");
    /// A transaction that failed, also for its ETags.
    STATE_TRANSACTION =
        basic("ERR_STATE_TRANSACTION", 500, GrpcCode::Internal, "error while executing state transaction: {}");
    /// A step that is neither `upsert` nor `delete`.
    STATE_OPERATION_NOT_SUPPORTED = basic(
        "ERR_NOT_SUPPORTED_STATE_OPERATION",
        400,
        GrpcCode::Unimplemented,
        "operation type {} not supported",
    );
}
