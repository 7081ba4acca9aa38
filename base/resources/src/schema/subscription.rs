//! Subscription in both versions.

use super::{API_VERSION, Field, I32, KIND, METADATA, SCOPES, Shape, optional, required};

const BULK_SUBSCRIBE: Shape = Shape::Object(&[
    optional("enabled", Shape::Bool),
    optional("maxMessagesCount", I32),
    optional("maxAwaitDurationMs", I32),
]);

const RULE: Shape = Shape::Object(&[optional("match", Shape::Text), required("path", Shape::Text)]);

pub(crate) const V2: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    required(
        "spec",
        Shape::Object(&[
            required("pubsubname", Shape::Text),
            required("topic", Shape::Text),
            optional("metadata", Shape::Map(&Shape::Text)),
            optional(
                "routes",
                Shape::Object(&[optional("rules", Shape::List(&RULE)), optional("default", Shape::Text)]),
            ),
            optional("deadLetterTopic", Shape::Text),
            optional("bulkSubscribe", BULK_SUBSCRIBE),
        ]),
    ),
    SCOPES,
];

pub(crate) const V1: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    required(
        "spec",
        Shape::Object(&[
            required("pubsubname", Shape::Text),
            required("topic", Shape::Text),
            optional("metadata", Shape::Map(&Shape::Text)),
            required("route", Shape::Text),
            optional("deadLetterTopic", Shape::Text),
            optional("bulkSubscribe", BULK_SUBSCRIBE),
        ]),
    ),
    SCOPES,
];
