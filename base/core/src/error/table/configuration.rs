//! Errors of configuration stores. *Source:* spec errors.md, Configuration.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Configuration:
    /// No store at all.
    CONFIGURATION_STORE_NOT_CONFIGURED = basic(
        "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
        500,
        GrpcCode::FailedPrecondition,
        "configuration stores not configured",
    );
    /// No store of this name.
    CONFIGURATION_STORE_NOT_FOUND = basic(
        "ERR_CONFIGURATION_STORE_NOT_FOUND",
        400,
        GrpcCode::InvalidArgument,
        "configuration store {} not found",
    );
    /// A read that failed.
    CONFIGURATION_GET =
        basic("ERR_CONFIGURATION_GET", 500, GrpcCode::Internal, "failed to get {} from Configuration store {}: {}");
    /// A subscription that failed.
    CONFIGURATION_SUBSCRIBE = basic(
        "ERR_CONFIGURATION_SUBSCRIBE",
        500,
        GrpcCode::InvalidArgument,
        "failed to subscribe {} from Configuration store {}: {}",
    );
    /// The end of a subscription that failed: the answer is not an error but has `ok: false` and this text; gRPC counts it.
    CONFIGURATION_UNSUBSCRIBE = legacy(
        "ERR_CONFIGURATION_UNSUBSCRIBE",
        500,
        GrpcCode::Ok,
        "failed to unsubscribe to configuration request {}: {}",
    );
}
