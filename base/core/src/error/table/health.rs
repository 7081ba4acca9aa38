//! Errors of the health endpoints. *Source:* spec errors.md, Health.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Health:
    /// Some part of the sidecar is not ready.
    HEALTH_NOT_READY = legacy("ERR_HEALTH_NOT_READY", 500, GrpcCode::Internal, "dapr is not ready: {}");
    /// The caller takes this sidecar for that of another app.
    HEALTH_APPID_NOT_MATCH =
        legacy("ERR_HEALTH_APPID_NOT_MATCH", 500, GrpcCode::Internal, "dapr app-id does not match");
    /// Components are not all loaded.
    OUTBOUND_HEALTH_NOT_READY =
        legacy("ERR_OUTBOUND_HEALTH_NOT_READY", 500, GrpcCode::Internal, "dapr outbound is not ready");
}
