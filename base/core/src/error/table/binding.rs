//! Errors of output bindings. *Source:* spec errors.md, Bindings.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Binding:
    /// No such binding, or it failed.
    INVOKE_OUTPUT_BINDING =
        basic("ERR_INVOKE_OUTPUT_BINDING", 500, GrpcCode::Internal, "error invoking output binding {}: {}");
}
