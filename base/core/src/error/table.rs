//! Every error the API can answer with: `errorCode`, `ErrorInfo.reason`, HTTP status, gRPC code.
//!
//! *Source:* spec errors.md §4. A row appears here when its block exists.

use super::{ErrorSpec, GrpcCode};

/// `ERR_BAD_REQUEST`.
pub static BAD_REQUEST: ErrorSpec =
    ErrorSpec { code: "ERR_BAD_REQUEST", reason: "", http: 400, grpc: GrpcCode::InvalidArgument };
/// `ERR_BODY_READ`.
pub static BODY_READ: ErrorSpec =
    ErrorSpec { code: "ERR_BODY_READ", reason: "", http: 400, grpc: GrpcCode::InvalidArgument };
/// `ERR_MALFORMED_REQUEST`.
pub static MALFORMED_REQUEST: ErrorSpec =
    ErrorSpec { code: "ERR_MALFORMED_REQUEST", reason: "", http: 400, grpc: GrpcCode::InvalidArgument };
/// `ERR_MALFORMED_REQUEST_DATA`.
pub static MALFORMED_REQUEST_DATA: ErrorSpec =
    ErrorSpec { code: "ERR_MALFORMED_REQUEST_DATA", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_MALFORMED_RESPONSE`.
pub static MALFORMED_RESPONSE: ErrorSpec =
    ErrorSpec { code: "ERR_MALFORMED_RESPONSE", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_INTERNAL`.
pub static INTERNAL: ErrorSpec = ErrorSpec { code: "ERR_INTERNAL", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_API_UNIMPLEMENTED`.
pub static API_UNIMPLEMENTED: ErrorSpec =
    ErrorSpec { code: "ERR_API_UNIMPLEMENTED", reason: "", http: 501, grpc: GrpcCode::Unimplemented };
/// `ERR_APP_CHANNEL_NIL`.
pub static APP_CHANNEL_NIL: ErrorSpec =
    ErrorSpec { code: "ERR_APP_CHANNEL_NIL", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERROR`.
pub static GENERIC: ErrorSpec = ErrorSpec { code: "ERROR", reason: "", http: 500, grpc: GrpcCode::Unknown };
/// `ERR_HEALTH_NOT_READY`.
pub static HEALTH_NOT_READY: ErrorSpec =
    ErrorSpec { code: "ERR_HEALTH_NOT_READY", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_HEALTH_APPID_NOT_MATCH`.
pub static HEALTH_APPID_NOT_MATCH: ErrorSpec =
    ErrorSpec { code: "ERR_HEALTH_APPID_NOT_MATCH", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_OUTBOUND_HEALTH_NOT_READY`.
pub static OUTBOUND_HEALTH_NOT_READY: ErrorSpec =
    ErrorSpec { code: "ERR_OUTBOUND_HEALTH_NOT_READY", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_DIRECT_INVOKE`.
pub static DIRECT_INVOKE: ErrorSpec =
    ErrorSpec { code: "ERR_DIRECT_INVOKE", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_DIRECT_INVOKE`.
pub static DIRECT_INVOKE_NO_APP_ID: ErrorSpec =
    ErrorSpec { code: "ERR_DIRECT_INVOKE", reason: "", http: 404, grpc: GrpcCode::NotFound };
/// `ERR_DIRECT_INVOKE`.
pub static DIRECT_INVOKE_DENIED: ErrorSpec =
    ErrorSpec { code: "ERR_DIRECT_INVOKE", reason: "", http: 403, grpc: GrpcCode::PermissionDenied };
/// `ERR_STATE_STORE_NOT_CONFIGURED`, reason `DAPR_STATE_NOT_CONFIGURED`.
pub static STATE_STORE_NOT_CONFIGURED: ErrorSpec = ErrorSpec {
    code: "ERR_STATE_STORE_NOT_CONFIGURED",
    reason: "DAPR_STATE_NOT_CONFIGURED",
    http: 500,
    grpc: GrpcCode::FailedPrecondition,
};
/// `ERR_STATE_STORE_NOT_FOUND`, reason `DAPR_STATE_NOT_FOUND`.
pub static STATE_STORE_NOT_FOUND: ErrorSpec = ErrorSpec {
    code: "ERR_STATE_STORE_NOT_FOUND",
    reason: "DAPR_STATE_NOT_FOUND",
    http: 400,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_MALFORMED_REQUEST`, reason `DAPR_STATE_ILLEGAL_KEY`.
pub static STATE_ILLEGAL_KEY: ErrorSpec = ErrorSpec {
    code: "ERR_MALFORMED_REQUEST",
    reason: "DAPR_STATE_ILLEGAL_KEY",
    http: 400,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_STATE_STORE_NOT_SUPPORTED`, reason `DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED`.
pub static STATE_TRANSACTIONS_NOT_SUPPORTED: ErrorSpec = ErrorSpec {
    code: "ERR_STATE_STORE_NOT_SUPPORTED",
    reason: "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
    http: 500,
    grpc: GrpcCode::Unimplemented,
};
/// `ERR_STATE_STORE_NOT_SUPPORTED`, reason `DAPR_STATE_QUERYING_NOT_SUPPORTED`.
pub static STATE_QUERYING_NOT_SUPPORTED: ErrorSpec = ErrorSpec {
    code: "ERR_STATE_STORE_NOT_SUPPORTED",
    reason: "DAPR_STATE_QUERYING_NOT_SUPPORTED",
    http: 500,
    grpc: GrpcCode::Internal,
};
/// `ERR_STATE_STORE_TOO_MANY_TRANSACTIONS`, reason `DAPR_STATE_TOO_MANY_TRANSACTIONS`.
pub static STATE_TOO_MANY_TRANSACTIONS: ErrorSpec = ErrorSpec {
    code: "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
    reason: "DAPR_STATE_TOO_MANY_TRANSACTIONS",
    http: 400,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_STATE_QUERY`, reason `DAPR_STATE_QUERY_FAILED`.
pub static STATE_QUERY: ErrorSpec =
    ErrorSpec { code: "ERR_STATE_QUERY", reason: "DAPR_STATE_QUERY_FAILED", http: 500, grpc: GrpcCode::Internal };
/// `ERR_STATE_GET`.
pub static STATE_GET: ErrorSpec = ErrorSpec { code: "ERR_STATE_GET", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_STATE_BULK_GET`.
pub static STATE_BULK_GET: ErrorSpec =
    ErrorSpec { code: "ERR_STATE_BULK_GET", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_STATE_SAVE`.
pub static STATE_SAVE: ErrorSpec =
    ErrorSpec { code: "ERR_STATE_SAVE", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_STATE_DELETE`.
pub static STATE_DELETE: ErrorSpec =
    ErrorSpec { code: "ERR_STATE_DELETE", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_STATE_BULK_DELETE`.
pub static STATE_BULK_DELETE: ErrorSpec =
    ErrorSpec { code: "ERR_STATE_BULK_DELETE", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_STATE_TRANSACTION`.
pub static STATE_TRANSACTION: ErrorSpec =
    ErrorSpec { code: "ERR_STATE_TRANSACTION", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_NOT_SUPPORTED_STATE_OPERATION`.
pub static STATE_OPERATION_NOT_SUPPORTED: ErrorSpec =
    ErrorSpec { code: "ERR_NOT_SUPPORTED_STATE_OPERATION", reason: "", http: 400, grpc: GrpcCode::Unimplemented };
/// `ERR_PUBSUB_NOT_FOUND`, reason `DAPR_PUBSUB_NOT_FOUND`.
pub static PUBSUB_NOT_FOUND: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_NOT_FOUND",
    reason: "DAPR_PUBSUB_NOT_FOUND",
    http: 404,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_PUBSUB_NOT_FOUND`, reason `DAPR_PUBSUB_TEST_NOT_FOUND`.
pub static PUBSUB_GONE: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_NOT_FOUND",
    reason: "DAPR_PUBSUB_TEST_NOT_FOUND",
    http: 400,
    grpc: GrpcCode::NotFound,
};
/// `ERR_PUBSUB_NOT_CONFIGURED`, reason `DAPR_PUBSUB_NOT_CONFIGURED`.
pub static PUBSUB_NOT_CONFIGURED: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_NOT_CONFIGURED",
    reason: "DAPR_PUBSUB_NOT_CONFIGURED",
    http: 400,
    grpc: GrpcCode::FailedPrecondition,
};
/// `ERR_PUBSUB_EMPTY`, reason `DAPR_PUBSUB_NAME_EMPTY`.
pub static PUBSUB_NAME_EMPTY: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_EMPTY",
    reason: "DAPR_PUBSUB_NAME_EMPTY",
    http: 404,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_TOPIC_NAME_EMPTY`, reason `DAPR_PUBSUB_TOPIC_NAME_EMPTY`.
pub static PUBSUB_TOPIC_NAME_EMPTY: ErrorSpec = ErrorSpec {
    code: "ERR_TOPIC_NAME_EMPTY",
    reason: "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
    http: 404,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_PUBSUB_REQUEST_METADATA`, reason `DAPR_PUBSUB_METADATA_DESERIALIZATION`.
pub static PUBSUB_REQUEST_METADATA: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_REQUEST_METADATA",
    reason: "DAPR_PUBSUB_METADATA_DESERIALIZATION",
    http: 400,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_PUBSUB_FORBIDDEN`, reason `DAPR_PUBSUB_FORBIDDEN`.
pub static PUBSUB_FORBIDDEN: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_FORBIDDEN",
    reason: "DAPR_PUBSUB_FORBIDDEN",
    http: 403,
    grpc: GrpcCode::PermissionDenied,
};
/// `ERR_PUBSUB_PUBLISH_MESSAGE`, reason `DAPR_PUBSUB_PUBLISH_MESSAGE`.
pub static PUBSUB_PUBLISH_MESSAGE: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_PUBLISH_MESSAGE",
    reason: "DAPR_PUBSUB_PUBLISH_MESSAGE",
    http: 500,
    grpc: GrpcCode::Internal,
};
/// `ERR_PUBSUB_CLOUD_EVENTS_SER`, reason `DAPR_PUBSUB_CLOUD_EVENT_CREATION`.
pub static PUBSUB_CLOUD_EVENT_CREATION: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_CLOUD_EVENTS_SER",
    reason: "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
    http: 500,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_PUBSUB_EVENTS_SER`, reason `DAPR_PUBSUB_MARSHAL_ENVELOPE`.
pub static PUBSUB_MARSHAL_ENVELOPE: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_EVENTS_SER",
    reason: "DAPR_PUBSUB_MARSHAL_ENVELOPE",
    http: 400,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_PUBSUB_EVENTS_SER`, reason `DAPR_PUBSUB_MARSHAL_EVENTS`.
pub static PUBSUB_MARSHAL_EVENTS: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_EVENTS_SER",
    reason: "DAPR_PUBSUB_MARSHAL_EVENTS",
    http: 400,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_PUBSUB_EVENTS_SER`, reason `DAPR_PUBSUB_UNMARSHAL_EVENTS`.
pub static PUBSUB_UNMARSHAL_EVENTS: ErrorSpec = ErrorSpec {
    code: "ERR_PUBSUB_EVENTS_SER",
    reason: "DAPR_PUBSUB_UNMARSHAL_EVENTS",
    http: 400,
    grpc: GrpcCode::InvalidArgument,
};
/// `ERR_PUBLISH_OUTBOX`, reason `DAPR_PUBSUB_OUTBOX`.
pub static PUBSUB_OUTBOX: ErrorSpec =
    ErrorSpec { code: "ERR_PUBLISH_OUTBOX", reason: "DAPR_PUBSUB_OUTBOX", http: 500, grpc: GrpcCode::Internal };
/// `ERR_INVOKE_OUTPUT_BINDING`.
pub static INVOKE_OUTPUT_BINDING: ErrorSpec =
    ErrorSpec { code: "ERR_INVOKE_OUTPUT_BINDING", reason: "", http: 500, grpc: GrpcCode::Internal };
/// `ERR_SECRET_STORES_NOT_CONFIGURED`.
pub static SECRET_STORES_NOT_CONFIGURED: ErrorSpec =
    ErrorSpec { code: "ERR_SECRET_STORES_NOT_CONFIGURED", reason: "", http: 500, grpc: GrpcCode::FailedPrecondition };
/// `ERR_SECRET_STORE_NOT_FOUND`.
pub static SECRET_STORE_NOT_FOUND: ErrorSpec =
    ErrorSpec { code: "ERR_SECRET_STORE_NOT_FOUND", reason: "", http: 401, grpc: GrpcCode::InvalidArgument };
/// `ERR_PERMISSION_DENIED`.
pub static SECRET_PERMISSION_DENIED: ErrorSpec =
    ErrorSpec { code: "ERR_PERMISSION_DENIED", reason: "", http: 403, grpc: GrpcCode::PermissionDenied };
/// `ERR_SECRET_GET`.
pub static SECRET_GET: ErrorSpec =
    ErrorSpec { code: "ERR_SECRET_GET", reason: "", http: 500, grpc: GrpcCode::Internal };
