//! MCPServer.

use super::{
    API_VERSION, Field, KIND, METADATA, NAME_VALUES, SCOPES, SECRET_KEY_REF, Shape, TEXTS, optional, required,
};

const AUTH: Shape = Shape::Object(&[
    optional("secretStore", Shape::Text),
    optional(
        "oauth2",
        Shape::Object(&[
            required("issuer", Shape::Text),
            optional("audience", Shape::Text),
            optional("scopes", TEXTS),
            optional("clientID", Shape::Text),
            optional("secretKeyRef", SECRET_KEY_REF),
        ]),
    ),
    optional(
        "spiffe",
        Shape::Object(&[optional(
            "jwt",
            Shape::Object(&[
                required("header", Shape::Text),
                optional("headerValuePrefix", Shape::Text),
                required("audience", Shape::Text),
            ]),
        )]),
    ),
]);

const HTTP_TRANSPORT: Shape = Shape::Object(&[
    required("url", Shape::Text),
    optional("protocolVersion", Shape::Text),
    optional("timeout", Shape::Duration),
    optional("headers", NAME_VALUES),
    optional("auth", AUTH),
]);

const WORKFLOW: Shape = Shape::Object(&[required("workflowName", Shape::Text), optional("appID", Shape::Text)]);
const HOOKS: Shape = Shape::List(&Shape::Object(&[required("workflow", WORKFLOW)]));
const MUTATING_HOOKS: Shape =
    Shape::List(&Shape::Object(&[required("workflow", WORKFLOW), optional("mutate", Shape::Bool)]));

pub(crate) const MCP_SERVER: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    required(
        "spec",
        Shape::Object(&[
            required(
                "endpoint",
                Shape::Object(&[
                    optional("streamableHTTP", HTTP_TRANSPORT),
                    optional("sse", HTTP_TRANSPORT),
                    optional(
                        "stdio",
                        Shape::Object(&[
                            required("command", Shape::Text),
                            optional("args", TEXTS),
                            optional("env", NAME_VALUES),
                        ]),
                    ),
                ]),
            ),
            optional(
                "middleware",
                Shape::Object(&[
                    optional("beforeCallTool", MUTATING_HOOKS),
                    optional("afterCallTool", MUTATING_HOOKS),
                    optional("beforeListTools", HOOKS),
                    optional("afterListTools", MUTATING_HOOKS),
                ]),
            ),
            optional(
                "catalog",
                Shape::Object(&[
                    optional("displayName", Shape::Text),
                    optional("description", Shape::Text),
                    optional(
                        "owner",
                        Shape::Object(&[optional("team", Shape::Text), optional("contact", Shape::Text)]),
                    ),
                    optional("tags", TEXTS),
                    optional("links", Shape::Map(&Shape::Text)),
                ]),
            ),
            optional("ignoreErrors", Shape::Bool),
        ]),
    ),
    SCOPES,
];
