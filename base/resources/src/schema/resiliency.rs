//! Resiliency.

use super::{API_VERSION, COUNT, Case, Field, KIND, METADATA, SCOPES, Shape, optional, required};

/// One entry of `policies.retries`; also what a bare policy file looks like.
pub(crate) const RETRY: &[Field] = &[
    optional("policy", Shape::Word(&["constant", "exponential"], Case::Ignored)),
    optional("duration", Shape::PolicyDuration),
    optional("maxInterval", Shape::PolicyDuration),
    optional("maxRetries", Shape::Integer(-1, i64::MAX as i128)),
    optional(
        "matching",
        Shape::Object(&[optional("httpStatusCodes", Shape::Text), optional("gRPCStatusCodes", Shape::Text)]),
    ),
];

/// One entry of `policies.circuitBreakers`.
pub(crate) const CIRCUIT_BREAKER: &[Field] = &[
    optional("maxRequests", Shape::Integer(0, u32::MAX as i128)),
    optional("interval", Shape::PolicyDuration),
    optional("timeout", Shape::PolicyDuration),
    optional("trip", Shape::Text),
];

/// `spec.policies`.
pub(crate) const POLICIES: &[Field] = &[
    optional("timeouts", Shape::Map(&Shape::PolicyDuration)),
    optional("retries", Shape::Map(&Shape::Object(RETRY))),
    optional("circuitBreakers", Shape::Map(&Shape::Object(CIRCUIT_BREAKER))),
];

const NAMES: Shape = Shape::Object(&[
    optional("timeout", Shape::Text),
    optional("retry", Shape::Text),
    optional("circuitBreaker", Shape::Text),
]);

/// `spec.targets`.
pub(crate) const TARGETS: &[Field] = &[
    optional(
        "apps",
        Shape::Map(&Shape::Object(&[
            optional("timeout", Shape::Text),
            optional("retry", Shape::Text),
            optional("circuitBreaker", Shape::Text),
            optional("circuitBreakerCacheSize", COUNT),
        ])),
    ),
    optional(
        "actors",
        Shape::Map(&Shape::Object(&[
            optional("timeout", Shape::Text),
            optional("retry", Shape::Text),
            optional("circuitBreaker", Shape::Text),
            optional("circuitBreakerScope", Shape::Word(&["type", "id", "both"], Case::Exact)),
            optional("circuitBreakerCacheSize", COUNT),
        ])),
    ),
    optional("components", Shape::Map(&Shape::Object(&[optional("inbound", NAMES), optional("outbound", NAMES)]))),
];

pub(crate) const RESILIENCY: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    required(
        "spec",
        Shape::Object(&[optional("policies", Shape::Object(POLICIES)), optional("targets", Shape::Object(TARGETS))]),
    ),
    SCOPES,
];
