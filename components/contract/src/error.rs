//! The one error type of components.

use std::collections::BTreeMap;
use std::fmt;

use pillion_core::error::GrpcCode;

/// Why a component refused or failed; blocks map it to API errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thing asked for does not exist.
    NotFound,
    /// The ETag is well formed but is not the current one.
    ETagMismatch,
    /// The ETag has a form this component cannot have made.
    ETagInvalid,
    /// The request or the metadata is wrong.
    InvalidRequest,
    /// The component cannot do this at all.
    Unsupported,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Too many requests for now.
    RateLimited,
    /// The service behind it cannot be reached now.
    Unavailable,
    /// It took too long.
    Timeout,
    /// Anything else.
    Internal,
}

/// The status a component wants the caller of the API to see instead of the one its building block would choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenStatus {
    /// HTTP status.
    pub http: u16,
    /// gRPC code.
    pub grpc: GrpcCode,
    /// Message of the gRPC status.
    pub message: String,
    /// `errorCode`, where the API passes it on.
    pub tag: String,
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// `ErrorInfo.domain`.
    pub domain: String,
}

/// An error of a component: a kind, what was being done, and the cause.
#[derive(Debug)]
pub struct ComponentError {
    /// The class that decides status and retry.
    pub kind: ErrorKind,
    /// What was being done to what, lower case, no full stop.
    pub message: String,
    /// The status the component chose itself; most choose none.
    pub chosen: Option<Box<ChosenStatus>>,
    /// The gRPC code a component behind a socket failed with.
    pub code: Option<GrpcCode>,
    /// What the system behind an output binding told with its refusal, for example a status; its caller sees it.
    pub metadata: Option<Box<BTreeMap<String, String>>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ComponentError {
    /// Makes an error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), chosen: None, code: None, metadata: None, source: None }
    }

    /// Makes an error with its cause.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { kind, message: message.into(), chosen: None, code: None, metadata: None, source: Some(Box::new(source)) }
    }

    /// An error with the status the component wants callers to see.
    pub fn chosen(kind: ErrorKind, status: ChosenStatus) -> Self {
        let message = format!("api error: code = {} desc = {}", status.grpc.go_name(), status.message);
        let code = Some(status.grpc);
        Self { kind, message, chosen: Some(Box::new(status)), code, metadata: None, source: None }
    }

    /// The same error with the gRPC code it came with.
    #[must_use]
    pub fn with_code(self, code: GrpcCode) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same error with what the system behind it told.
    #[must_use]
    pub fn with_metadata(self, metadata: BTreeMap<String, String>) -> Self {
        Self { metadata: Some(Box::new(metadata)), ..self }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Internal)
    }
}

impl fmt::Display for ComponentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ComponentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}
