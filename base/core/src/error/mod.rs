//! The error every API call can end with, before it is put on a wire.
//!
//! A block makes an [`ApiError`] from a row of [`table`]; only the `api` crate turns it into HTTP or gRPC bytes.

pub mod table;

use std::collections::BTreeMap;
use std::fmt;

/// A gRPC status code.
///
/// *Source:* the gRPC specification; numbers are the wire values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum GrpcCode {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl GrpcCode {
    /// The code of a wire number; unknown numbers are `Unknown`.
    pub fn from_number(number: i32) -> Self {
        const ALL: [GrpcCode; 17] = [
            GrpcCode::Ok,
            GrpcCode::Cancelled,
            GrpcCode::Unknown,
            GrpcCode::InvalidArgument,
            GrpcCode::DeadlineExceeded,
            GrpcCode::NotFound,
            GrpcCode::AlreadyExists,
            GrpcCode::PermissionDenied,
            GrpcCode::ResourceExhausted,
            GrpcCode::FailedPrecondition,
            GrpcCode::Aborted,
            GrpcCode::OutOfRange,
            GrpcCode::Unimplemented,
            GrpcCode::Internal,
            GrpcCode::Unavailable,
            GrpcCode::DataLoss,
            GrpcCode::Unauthenticated,
        ];
        usize::try_from(number).ok().and_then(|index| ALL.get(index).copied()).unwrap_or(Self::Unknown)
    }

    /// The HTTP status this code becomes. *Source:* spec errors.md §3.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Cancelled => 408,
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::DeadlineExceeded => 504,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::PermissionDenied => 403,
            Self::ResourceExhausted => 429,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::Unauthenticated => 401,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
        }
    }

    /// The code an HTTP status becomes; not the inverse of [`Self::http_status`]. *Source:* spec errors.md §3.
    pub fn from_http_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            408 => Self::Cancelled,
            409 => Self::AlreadyExists,
            429 => Self::ResourceExhausted,
            500 => Self::Unknown,
            501 => Self::Unimplemented,
            503 => Self::Unavailable,
            504 => Self::DeadlineExceeded,
            _ => Self::Unknown,
        }
    }

    /// The name as Go prints it (`InvalidArgument`), used in nested error texts.
    pub fn go_name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }
}

/// One row of the error table: what is fixed about an error.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorSpec {
    /// `errorCode` of the HTTP body.
    pub code: &'static str,
    /// `ErrorInfo.reason` of rich errors; empty for legacy errors, which carry no details.
    pub reason: &'static str,
    /// HTTP status.
    pub http: u16,
    /// gRPC status code.
    pub grpc: GrpcCode,
}

/// A machine-readable detail, one of the `google.rpc` error detail messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorDetail {
    /// `google.rpc.ErrorInfo` with domain `dapr.io`.
    ErrorInfo {
        /// Stable reason.
        reason: String,
        /// Extra values; `None` is written as JSON null.
        metadata: Option<BTreeMap<String, String>>,
    },
    /// `google.rpc.ResourceInfo`.
    ResourceInfo {
        /// For example `state` or `pubsub`.
        resource_type: String,
        /// Component name.
        resource_name: String,
        /// Usually empty.
        owner: String,
        /// Usually the message.
        description: String,
    },
    /// `google.rpc.BadRequest`: (field, description) pairs.
    BadRequest(Vec<(String, String)>),
    /// `google.rpc.Help`: (description, URL) pairs.
    Help(Vec<(String, String)>),
}

/// An error of an API call: a table row, a message and details.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The row.
    pub spec: &'static ErrorSpec,
    /// HTTP status, normally the row's.
    pub http: u16,
    /// gRPC code, normally the row's.
    pub grpc: GrpcCode,
    /// What happened, lower case, no full stop.
    pub message: String,
    /// Details in wire order.
    pub details: Vec<ErrorDetail>,
}

impl ApiError {
    /// Makes an error of a row. Rich rows get their `ErrorInfo` when [`Self::info`] is called.
    pub fn new(spec: &'static ErrorSpec, message: impl Into<String>) -> Self {
        Self { spec, http: spec.http, grpc: spec.grpc, message: message.into(), details: Vec::new() }
    }

    /// Replaces both statuses, for errors whose component chose them.
    pub fn with_status(mut self, http: u16, grpc: GrpcCode) -> Self {
        self.http = http;
        self.grpc = grpc;
        self
    }

    /// Appends a detail.
    pub fn with_detail(mut self, detail: ErrorDetail) -> Self {
        self.details.push(detail);
        self
    }

    /// Appends a `ResourceInfo` whose description is the message.
    pub fn resource(self, resource_type: &str, resource_name: &str) -> Self {
        let description = self.message.clone();
        self.with_detail(ErrorDetail::ResourceInfo {
            resource_type: resource_type.to_owned(),
            resource_name: resource_name.to_owned(),
            owner: String::new(),
            description,
        })
    }

    /// Appends the row's `ErrorInfo` with these metadata; call it last, the wire order ends with it.
    pub fn info(self, metadata: &[(&str, &str)]) -> Self {
        let reason = if self.spec.reason.is_empty() { self.spec.code } else { self.spec.reason };
        let metadata = (!metadata.is_empty())
            .then(|| metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        self.with_detail(ErrorDetail::ErrorInfo { reason: reason.to_owned(), metadata })
    }

    /// The error as the original nests it in other messages: `api error: code = X desc = Y`.
    pub fn nested(&self) -> String {
        format!("api error: code = {} desc = {}", self.grpc.go_name(), self.message)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_maps_are_the_specified_ones() {
        let cases = [
            (3, 400),
            (4, 504),
            (5, 404),
            (6, 409),
            (7, 403),
            (8, 429),
            (9, 400),
            (10, 409),
            (12, 501),
            (14, 503),
            (16, 401),
            (2, 500),
        ];
        for (grpc, http) in cases {
            assert_eq!(GrpcCode::from_number(grpc).http_status(), http, "{grpc}");
        }
        assert_eq!(GrpcCode::from_http_status(400), GrpcCode::Internal);
        assert_eq!(GrpcCode::from_http_status(418), GrpcCode::Unknown);
        assert_eq!(GrpcCode::from_number(99), GrpcCode::Unknown);
    }

    #[test]
    fn info_falls_back_to_the_code() {
        let error = ApiError::new(&table::STATE_SAVE, "failed").info(&[]);
        assert_eq!(error.details, [ErrorDetail::ErrorInfo { reason: "ERR_STATE_SAVE".into(), metadata: None }]);
    }
}
