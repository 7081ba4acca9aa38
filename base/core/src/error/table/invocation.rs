//! Errors of service invocation. *Source:* spec errors.md, Service invocation.

use crate::error::{Category, ErrorSpec, GrpcCode};

const CODE: &str = "ERR_DIRECT_INVOKE";

rows! { ServiceInvocation:
    /// The app was not reached, or the call broke off.
    DIRECT_INVOKE = legacy(CODE, 500, GrpcCode::Internal, "failed to invoke, id: {}, err: {}");
    /// The request names no app.
    DIRECT_INVOKE_NO_APP_ID = legacy(
        CODE,
        404,
        GrpcCode::NotFound,
        "failed getting app id either from the URL path or the header dapr-app-id",
    );
    /// The called side denied the call. gRPC callers are not told apart from [`DIRECT_INVOKE`].
    DIRECT_INVOKE_DENIED = legacy(CODE, 403, GrpcCode::Internal, "failed to invoke, id: {}, err: {}");
    /// The sidecar still starts.
    DIRECT_INVOKE_NOT_READY = legacy(CODE, 500, GrpcCode::Internal, "invoke API is not ready");
}
