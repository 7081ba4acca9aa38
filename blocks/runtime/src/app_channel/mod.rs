//! The app channel: every call from the sidecar to its app.

mod callbacks;
mod grpc;
mod grpc_pool;
mod health;
mod http;
pub mod pool;
mod tls;

pub use callbacks::Callbacks;
pub use grpc::{GrpcChannel, add_binary_trace, from_metadata, to_metadata, verb_number};
pub use grpc_pool::{AppConnection, CallError};
pub use health::{AppHealth, HealthOptions};
pub use http::{HttpChannel, HttpChannelOptions};
pub use pool::{HostPool, Protocol, SendError};
pub use tls::TlsClient;

use std::fmt;
use std::sync::Arc;

use pillion_core::error::GrpcCode;

use crate::message::{InvokeRequest, InvokeResponse};

/// Why the app did not answer: a gRPC code for the caller's sidecar and a text.
#[derive(Clone, Debug)]
pub struct ChannelError {
    /// Code on the internal wire.
    pub code: GrpcCode,
    /// What went wrong.
    pub message: String,
}

impl ChannelError {
    /// Makes an error.
    pub fn new(code: GrpcCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Whether callers see it as a gRPC status; what the network reports is shown as it is. *Source:* the original's texts.
    pub fn is_status(&self) -> bool {
        self.code != GrpcCode::Internal || self.message == http::APP_UNHEALTHY
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ChannelError {}

/// The channel of the protocol the app speaks; cheap to clone.
#[derive(Clone)]
pub enum AppChannel {
    /// HTTP/1.1 or h2c.
    Http(Arc<HttpChannel>),
    /// gRPC.
    Grpc(Arc<GrpcChannel>),
}

impl AppChannel {
    /// Calls a method of the app (service invocation).
    ///
    /// # Errors
    /// `InvalidArgument` for a verb that cannot be sent, `Internal` when the app is unhealthy or cannot be reached.
    pub async fn invoke(&self, request: InvokeRequest) -> Result<InvokeResponse, ChannelError> {
        match self {
            Self::Http(channel) => channel.invoke(request).await,
            // Boxed, so that calls over HTTP do not carry its size.
            Self::Grpc(channel) => Box::pin(channel.invoke(request)).await,
        }
    }
}
