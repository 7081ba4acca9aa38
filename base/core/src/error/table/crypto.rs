//! Errors of cryptography. *Source:* spec errors.md, Crypto.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Crypto:
    /// No provider at all.
    CRYPTO_PROVIDERS_NOT_CONFIGURED = legacy(
        "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED",
        500,
        GrpcCode::Internal,
        "crypto providers not configured",
    );
    /// No provider of this name.
    CRYPTO_PROVIDER_NOT_FOUND =
        legacy("ERR_CRYPTO_PROVIDER_NOT_FOUND", 400, GrpcCode::InvalidArgument, "crypto provider {} not found");
    /// The key cannot be had.
    CRYPTO_KEY = legacy("ERR_CRYPTO_KEY", 500, GrpcCode::Internal, "failed to retrieve key {}: {}");
    /// The operation failed.
    CRYPTO_OPERATION = legacy("ERR_CRYPTO", 500, GrpcCode::Internal, "failed to perform operation: {}");
}
