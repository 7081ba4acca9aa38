//! WorkflowAccessPolicy.

use super::{API_VERSION, Case, Field, KIND, METADATA, SCOPES, Shape, optional, required};

const OPERATION: Shape =
    Shape::Word(&["schedule", "terminate", "raise", "pause", "resume", "purge", "get", "rerun"], Case::Exact);

const EVENT_TYPE: Shape = Shape::Word(
    &["activity.started", "activity.completed", "workflow.started", "workflow.completed", "event.raised"],
    Case::Exact,
);

const REQUIRES: Field = optional(
    "requires",
    Shape::List(&Shape::Object(&[
        required("eventType", EVENT_TYPE),
        required("name", Shape::Text),
        optional("appID", Shape::Text),
    ])),
);

pub(crate) const WORKFLOW_ACCESS_POLICY: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    required(
        "spec",
        Shape::Object(&[optional(
            "rules",
            Shape::List(&Shape::Object(&[
                required("callers", Shape::List(&Shape::Object(&[required("appID", Shape::Text)]))),
                optional(
                    "workflows",
                    Shape::List(&Shape::Object(&[
                        required("name", Shape::Text),
                        required("operations", Shape::List(&OPERATION)),
                        REQUIRES,
                    ])),
                ),
                optional("activities", Shape::List(&Shape::Object(&[required("name", Shape::Text), REQUIRES]))),
            ])),
        )]),
    ),
    SCOPES,
];
