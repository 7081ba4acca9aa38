//! Component and HTTPEndpoint.

use super::{
    API_VERSION, AUTH, Case, Field, KIND, METADATA, NAME_VALUES, SCOPES, SECRET_KEY_REF, Shape, optional, required,
};

pub(crate) const COMPONENT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    required(
        "spec",
        Shape::Object(&[
            required("type", Shape::Text),
            optional("version", Shape::Text),
            optional("ignoreErrors", Shape::Bool),
            optional("initTimeout", Shape::Duration),
            optional("metadata", NAME_VALUES),
        ]),
    ),
    optional("auth", AUTH),
    SCOPES,
];

const TLS_DOCUMENT: Shape = Shape::Object(&[optional("value", Shape::Any), optional("secretKeyRef", SECRET_KEY_REF)]);

pub(crate) const HTTP_ENDPOINT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    required(
        "spec",
        Shape::Object(&[
            required("baseUrl", Shape::Text),
            optional("headers", NAME_VALUES),
            optional(
                "clientTLS",
                Shape::Object(&[
                    optional("rootCA", TLS_DOCUMENT),
                    optional("certificate", TLS_DOCUMENT),
                    optional("privateKey", TLS_DOCUMENT),
                    optional("renegotiation", Shape::Word(&["Never", "OnceAsClient", "FreelyAsClient"], Case::Exact)),
                ]),
            ),
        ]),
    ),
    optional("auth", AUTH),
    SCOPES,
];
