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

/// The `category` label of an error in `dapr_error_code_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Category {
    Actor,
    Binding,
    Common,
    Configuration,
    Conversation,
    Crypto,
    Health,
    Job,
    Lock,
    Pubsub,
    Secret,
    ServiceInvocation,
    State,
    Workflow,
}

impl Category {
    /// The value of the label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Actor => "actor",
            Self::Binding => "binding",
            Self::Common => "common",
            Self::Configuration => "configuration",
            Self::Conversation => "conversation",
            Self::Crypto => "crypto",
            Self::Health => "health",
            Self::Job => "job",
            Self::Lock => "lock",
            Self::Pubsub => "pubsub",
            Self::Secret => "secret",
            Self::ServiceInvocation => "service-invocation",
            Self::State => "state",
            Self::Workflow => "workflow",
        }
    }
}

/// A kind of [`ErrorDetail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DetailKind {
    BadRequest,
    ErrorInfo,
    Help,
    ResourceInfo,
}

impl DetailKind {
    /// The name of the message in `google.rpc`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::ErrorInfo => "ErrorInfo",
            Self::Help => "Help",
            Self::ResourceInfo => "ResourceInfo",
        }
    }
}

/// What an error carries besides code, status and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing; gRPC does not even have the code.
    Legacy,
    /// Over gRPC an `ErrorInfo` whose reason is the code; over HTTP nothing.
    Basic,
    /// These details, in this order, over both.
    Rich(&'static [DetailKind]),
}

/// One row of the error table: what is fixed about an error.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorSpec {
    /// `errorCode` of the HTTP body.
    pub code: &'static str,
    /// `ErrorInfo.reason` of rich errors; empty for the others.
    pub reason: &'static str,
    /// HTTP status.
    pub http: u16,
    /// gRPC status code.
    pub grpc: GrpcCode,
    /// The message; each `{}` is a value of the call.
    pub text: &'static str,
    /// Its details.
    pub shape: Shape,
    /// Labels `error_code` and `category` of `dapr_error_code_total`; `None` = not counted.
    pub metric: Option<(&'static str, Category)>,
}

impl ErrorSpec {
    /// Labels `error_code` and `category` of `dapr_error_code_total`; `None` for what is not counted.
    pub fn metric_labels(&self) -> Option<(&'static str, &'static str)> {
        self.metric.map(|(code, category)| (code, category.label()))
    }

    const fn legacy(category: Category, code: &'static str, http: u16, grpc: GrpcCode, text: &'static str) -> Self {
        Self { code, reason: "", http, grpc, text, shape: Shape::Legacy, metric: Some((code, category)) }
    }

    const fn basic(category: Category, code: &'static str, http: u16, grpc: GrpcCode, text: &'static str) -> Self {
        Self { code, reason: "", http, grpc, text, shape: Shape::Basic, metric: Some((code, category)) }
    }

    const fn rich(
        category: Category,
        code: &'static str,
        reason: &'static str,
        http: u16,
        grpc: GrpcCode,
        text: &'static str,
        details: &'static [DetailKind],
    ) -> Self {
        Self { code, reason, http, grpc, text, shape: Shape::Rich(details), metric: Some((code, category)) }
    }

    /// A legacy error that the metric knows under other labels than those of its row.
    const fn counted_as(
        _: Category,
        metric: (&'static str, Category),
        code: &'static str,
        http: u16,
        grpc: GrpcCode,
        text: &'static str,
    ) -> Self {
        Self { code, reason: "", http, grpc, text, shape: Shape::Legacy, metric: Some(metric) }
    }

    /// A legacy error that the metric does not count.
    const fn uncounted(_: Category, code: &'static str, http: u16, grpc: GrpcCode, text: &'static str) -> Self {
        Self { code, reason: "", http, grpc, text, shape: Shape::Legacy, metric: None }
    }

    /// The text with `values` in place of each `{}`, in order. A value that is missing is left empty, one too many is left out.
    pub fn text_with(&self, values: &[&dyn fmt::Display]) -> String {
        let mut values = values.iter();
        let mut parts = self.text.split("{}");
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            if let Some(value) = values.next() {
                text.push_str(&value.to_string());
            }
            text.push_str(part);
        }
        text
    }
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

/// What a component wants gRPC callers to see instead of the message and the details; HTTP callers see its status only,
/// unless there is a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentStatus {
    /// Message of the status.
    pub message: String,
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// `ErrorInfo.domain`.
    pub domain: String,
    /// For a call whose HTTP callers see the component's words too: their `errorCode`.
    pub tag: Option<String>,
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
    /// What the component wants gRPC callers to see, when it says so itself.
    pub component: Option<Box<ComponentStatus>>,
}

impl ErrorDetail {
    /// Its kind.
    pub const fn kind(&self) -> DetailKind {
        match self {
            Self::ErrorInfo { .. } => DetailKind::ErrorInfo,
            Self::ResourceInfo { .. } => DetailKind::ResourceInfo,
            Self::BadRequest(_) => DetailKind::BadRequest,
            Self::Help(_) => DetailKind::Help,
        }
    }
}

impl ApiError {
    /// Makes an error of a row with its own text, `values` in place of each `{}`. Rich rows get their `ErrorInfo` when
    /// [`Self::info`] is called.
    pub fn of(spec: &'static ErrorSpec, values: &[&dyn fmt::Display]) -> Self {
        Self::new(spec, spec.text_with(values))
    }

    /// Labels `error_code` and `category` of `dapr_error_code_total`; `None` for what is not counted.
    pub fn metric_labels(&self) -> Option<(&'static str, &'static str)> {
        self.spec.metric_labels()
    }

    /// Makes an error of a row with another text. Rich rows get their `ErrorInfo` when [`Self::info`] is called.
    pub fn new(spec: &'static ErrorSpec, message: impl Into<String>) -> Self {
        Self { spec, http: spec.http, grpc: spec.grpc, message: message.into(), details: Vec::new(), component: None }
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
    fn values_take_their_places_in_the_text() {
        let error = ApiError::of(&table::STATE_GET, &[&"k", &"s", &7]);
        assert_eq!(error.message, "fail to get k from state store s: 7");
        assert_eq!(table::STATE_GET.text_with(&[&"{}"]), "fail to get {} from state store : ");
        assert_eq!(table::JOB_EMPTY.text_with(&[&"unused"]), "Job is empty");
    }

    #[test]
    fn metrics_know_code_and_category() {
        let labels = |spec| ApiError::of(spec, &[]).metric_labels();
        assert_eq!(labels(&table::STATE_ILLEGAL_KEY), Some(("ERR_MALFORMED_REQUEST", "state")));
        assert_eq!(labels(&table::MALFORMED_RESPONSE), Some(("ERR_DIRECT_INVOKE", "service-invocation")));
        assert_eq!(labels(&table::GENERIC), None);
    }

    #[test]
    fn info_falls_back_to_the_code() {
        let error = ApiError::new(&table::STATE_SAVE, "failed").info(&[]);
        assert_eq!(error.details, [ErrorDetail::ErrorInfo { reason: "ERR_STATE_SAVE".into(), metadata: None }]);
    }
}
