//! Errors of locks. *Source:* spec errors.md, Lock. Requests that are wrong are counted as common errors.

use crate::error::{Category, ErrorSpec, GrpcCode};

const MALFORMED: (&str, Category) = ("ERR_MALFORMED_REQUEST", Category::Common);

rows! { Lock:
    /// No store at all.
    LOCK_STORE_NOT_CONFIGURED =
        legacy("ERR_LOCK_STORE_NOT_CONFIGURED", 500, GrpcCode::FailedPrecondition, "lock store is not configured");
    /// No store of this name.
    LOCK_STORE_NOT_FOUND =
        legacy("ERR_LOCK_STORE_NOT_FOUND", 400, GrpcCode::InvalidArgument, "lock store {} not found");
    /// No resource named.
    LOCK_RESOURCE_ID_EMPTY =
        counted_as(MALFORMED, MALFORMED.0, 400, GrpcCode::InvalidArgument, "ResourceId is empty in lock store {}");
    /// No owner named.
    LOCK_OWNER_EMPTY =
        counted_as(MALFORMED, MALFORMED.0, 400, GrpcCode::InvalidArgument, "LockOwner is empty in lock store {}");
    /// A time that is zero or negative.
    LOCK_EXPIRY_NOT_POSITIVE = counted_as(
        MALFORMED,
        MALFORMED.0,
        400,
        GrpcCode::InvalidArgument,
        "ExpiryInSeconds is not positive in lock store {}",
    );
    /// The store failed to lock.
    LOCK_TRY = legacy("ERR_TRY_LOCK", 500, GrpcCode::Internal, "failed to try acquiring lock: {}");
    /// The store failed to unlock.
    LOCK_UNLOCK = legacy("ERR_UNLOCK", 500, GrpcCode::Internal, "failed to release lock: {}");
}
