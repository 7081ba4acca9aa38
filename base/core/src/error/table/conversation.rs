//! Errors of conversations. *Source:* spec errors.md, Conversation.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Conversation:
    /// No component of this name.
    CONVERSATION_NOT_FOUND = legacy(
        "ERR_CONVERSATION_NOT_FOUND",
        400,
        GrpcCode::InvalidArgument,
        "failed finding conversation component {}",
    );
    /// Nothing to say.
    CONVERSATION_MISSING_INPUTS = legacy(
        "ERR_CONVERSATION_MISSING_INPUTS",
        400,
        GrpcCode::InvalidArgument,
        "failed conversing with component {}: missing inputs in request",
    );
    /// Parameters that do not fit; the spelling of the code is the original's.
    CONVERSATION_INVALID_PARAMETERS = legacy(
        "ERR_CONVERSATION_INVALID_PARMS",
        400,
        GrpcCode::InvalidArgument,
        "failed conversing with component {}: invalid params",
    );
    /// The component failed.
    CONVERSATION_INVOKE = legacy(
        "ERR_CONVERSATION_INVOKE",
        500,
        GrpcCode::Internal,
        "failed conversing with component {}: {}",
    );
}
