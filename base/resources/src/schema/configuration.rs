//! Configuration.

use super::{API_VERSION, COUNT, Case, Field, KIND, OBJECT_META, Shape, TEXTS, optional, required};

const ACTION: Shape = Shape::Word(&["allow", "deny"], Case::Ignored);

const PIPELINE: Shape = Shape::Object(&[optional(
    "handlers",
    Shape::List(&Shape::Object(&[
        required("name", Shape::Text),
        required("type", Shape::Text),
        optional("version", Shape::Text),
        optional(
            "selector",
            Shape::Object(&[optional(
                "fields",
                Shape::List(&Shape::Object(&[required("field", Shape::Text), optional("value", Shape::Text)])),
            )]),
        ),
    ])),
)]);

const TRACING: Shape = Shape::Object(&[
    optional("samplingRate", Shape::Text),
    optional("stdout", Shape::Bool),
    optional("zipkin", Shape::Object(&[optional("endpointAddress", Shape::Text)])),
    optional(
        "otel",
        Shape::Object(&[
            optional("endpointAddress", Shape::Text),
            optional("protocol", Shape::Word(&["http", "grpc"], Case::Exact)),
            optional("isSecure", Shape::Bool),
            optional("headers", Shape::List(&Shape::HeaderItem)),
            optional("timeout", Shape::Duration),
        ]),
    ),
]);

const METRIC: Shape = Shape::Object(&[
    optional("enabled", Shape::Bool),
    optional("recordErrorCodes", Shape::Bool),
    optional(
        "http",
        Shape::Object(&[
            optional("increasedCardinality", Shape::Bool),
            optional("pathMatching", TEXTS),
            optional("excludeVerbs", Shape::Bool),
        ]),
    ),
    optional(
        "rules",
        Shape::List(&Shape::Object(&[
            required("name", Shape::Text),
            optional(
                "labels",
                Shape::List(&Shape::Object(&[
                    required("name", Shape::Text),
                    optional("regex", Shape::Map(&Shape::Text)),
                ])),
            ),
        ])),
    ),
    optional("latencyDistributionBuckets", Shape::List(&COUNT)),
    optional(
        "workflow",
        Shape::Object(&[
            optional("latencyDistributionBuckets", Shape::List(&COUNT)),
            optional("latencyDistributionUnits", Shape::Text),
        ]),
    ),
]);

const MTLS: Shape = Shape::Object(&[
    optional("enabled", Shape::Bool),
    optional("workloadCertTTL", Shape::Duration),
    optional("allowedClockSkew", Shape::Duration),
    optional("sentryAddress", Shape::Text),
    optional("controlPlaneTrustDomain", Shape::Text),
    optional(
        "tokenValidators",
        Shape::List(&Shape::Object(&[required("name", Shape::Text), optional("options", Shape::Any)])),
    ),
]);

const SECRETS: Shape = Shape::Object(&[optional(
    "scopes",
    Shape::List(&Shape::Object(&[
        required("storeName", Shape::Text),
        optional("defaultAccess", ACTION),
        optional("allowedSecrets", TEXTS),
        optional("deniedSecrets", TEXTS),
    ])),
)]);

const ACCESS_CONTROL: Shape = Shape::Object(&[
    optional("defaultAction", ACTION),
    optional("trustDomain", Shape::Text),
    optional(
        "policies",
        Shape::List(&Shape::Object(&[
            required("appId", Shape::Text),
            optional("defaultAction", ACTION),
            required("trustDomain", Shape::Text),
            required("namespace", Shape::Text),
            optional(
                "operations",
                Shape::List(&Shape::Object(&[
                    required("name", Shape::Text),
                    optional("httpVerb", TEXTS),
                    required("action", ACTION),
                ])),
            ),
        ])),
    ),
]);

const API_RULES: Shape = Shape::List(&Shape::Object(&[
    required("name", Shape::Text),
    required("version", Shape::Text),
    optional("protocol", Shape::Word(&["http", "grpc"], Case::Ignored)),
]));

const LIMITS: Shape = Shape::List(&Shape::Object(&[required("name", Shape::Text), required("maxConcurrent", COUNT)]));

const WORKFLOW: Shape = Shape::Object(&[
    optional("maxConcurrentWorkflowInvocations", COUNT),
    optional("maxConcurrentActivityInvocations", COUNT),
    optional("globalMaxConcurrentWorkflowInvocations", COUNT),
    optional("globalMaxConcurrentActivityInvocations", COUNT),
    optional("workflowConcurrencyLimits", LIMITS),
    optional("activityConcurrencyLimits", LIMITS),
    optional(
        "stateRetentionPolicy",
        Shape::Object(&[
            optional("anyTerminal", Shape::Duration),
            optional("completed", Shape::Duration),
            optional("failed", Shape::Duration),
            optional("terminated", Shape::Duration),
        ]),
    ),
]);

pub(crate) const CONFIGURATION: &[Field] = &[
    API_VERSION,
    KIND,
    optional("metadata", OBJECT_META),
    required(
        "spec",
        Shape::Object(&[
            optional("appHttpPipeline", PIPELINE),
            optional("httpPipeline", PIPELINE),
            optional("tracing", TRACING),
            optional("metric", METRIC),
            optional("metrics", METRIC),
            optional("mtls", MTLS),
            optional("secrets", SECRETS),
            optional("accessControl", ACCESS_CONTROL),
            optional(
                "nameResolution",
                Shape::Object(&[
                    optional("component", Shape::Text),
                    optional("version", Shape::Text),
                    optional("configuration", Shape::Any),
                ]),
            ),
            optional(
                "features",
                Shape::List(&Shape::Object(&[required("name", Shape::Text), optional("enabled", Shape::Bool)])),
            ),
            optional("api", Shape::Object(&[optional("allowed", API_RULES), optional("denied", API_RULES)])),
            optional("components", Shape::Object(&[optional("deny", TEXTS)])),
            optional(
                "logging",
                Shape::Object(&[optional(
                    "apiLogging",
                    Shape::Object(&[
                        optional("enabled", Shape::Bool),
                        optional("obfuscateURLs", Shape::Bool),
                        optional("omitHealthChecks", Shape::Bool),
                    ]),
                )]),
            ),
            optional("wasm", Shape::Object(&[optional("strictSandbox", Shape::Bool)])),
            optional("workflow", WORKFLOW),
        ]),
    ),
];
