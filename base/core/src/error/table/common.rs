//! Errors that several blocks share. *Source:* spec errors.md, Common.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Common:
    /// A request that misses something, such as a header, or has a wrong name in it.
    BAD_REQUEST = legacy("ERR_BAD_REQUEST", 400, GrpcCode::InvalidArgument, "invalid request: {}");
    /// A body that breaks off or is larger than allowed.
    BODY_READ = legacy("ERR_BODY_READ", 400, GrpcCode::InvalidArgument, "failed to read request body: {}");
    /// A body that is not the JSON it should be.
    MALFORMED_REQUEST =
        legacy("ERR_MALFORMED_REQUEST", 400, GrpcCode::InvalidArgument, "failed deserializing HTTP body: {}");
    /// A body with an item that lacks what it must have; the text is the reader's own.
    MALFORMED_ITEM = legacy("ERR_MALFORMED_REQUEST", 400, GrpcCode::InvalidArgument, "{}");
    /// Data of a binding that cannot be written as JSON.
    MALFORMED_REQUEST_DATA =
        legacy("ERR_MALFORMED_REQUEST_DATA", 500, GrpcCode::Internal, "can't serialize request data field: {}");
    /// The status of a gRPC app that cannot be written as JSON. Counted as a failed invocation, as the original does.
    MALFORMED_RESPONSE = counted_as(
        ("ERR_DIRECT_INVOKE", Category::ServiceInvocation),
        "ERR_MALFORMED_RESPONSE",
        500,
        GrpcCode::Internal,
        "{}",
    );
    /// An answer that cannot be written as JSON.
    INTERNAL = legacy("ERR_INTERNAL", 500, GrpcCode::Internal, "failed to encode response as JSON: {}");
    /// A call that this program was built without.
    API_UNIMPLEMENTED =
        legacy("ERR_API_UNIMPLEMENTED", 501, GrpcCode::Unimplemented, "this API is currently not implemented");
    /// A subscription to configuration without an app to tell.
    APP_CHANNEL_NIL = uncounted(
        "ERR_APP_CHANNEL_NIL",
        500,
        GrpcCode::Internal,
        "app channel is not initialized. cannot subscribe to configuration updates",
    );
    /// Anything without a code of its own.
    GENERIC = uncounted("ERROR", 500, GrpcCode::Unknown, "{}");
}
