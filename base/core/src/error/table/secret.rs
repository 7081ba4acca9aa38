//! Errors of secret stores. *Source:* spec errors.md, Secrets.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Secret:
    /// No store at all.
    SECRET_STORES_NOT_CONFIGURED = legacy(
        "ERR_SECRET_STORES_NOT_CONFIGURED",
        500,
        GrpcCode::FailedPrecondition,
        "secret store is not configured",
    );
    /// No store of this name; 401 as in the original.
    SECRET_STORE_NOT_FOUND = legacy(
        "ERR_SECRET_STORE_NOT_FOUND",
        401,
        GrpcCode::InvalidArgument,
        "failed finding secret store with key {}",
    );
    /// The scopes of the Configuration keep this app from the secret.
    SECRET_PERMISSION_DENIED = legacy(
        "ERR_PERMISSION_DENIED",
        403,
        GrpcCode::PermissionDenied,
        "access denied by policy to get {} from {}",
    );
    /// The store has no such secret, or failed.
    SECRET_GET = legacy(
        "ERR_SECRET_GET",
        500,
        GrpcCode::Internal,
        "failed getting secret with key {} from secret store {}: {}",
    );
    /// The store failed to list its secrets.
    SECRET_BULK_GET =
        legacy("ERR_SECRET_GET", 500, GrpcCode::Internal, "failed getting secrets from secret store {}: {}");
}
