//! Errors of publishing. *Source:* spec errors.md, Pub/sub.

use crate::error::{Category, DetailKind, ErrorSpec, GrpcCode};

const INFO: &[DetailKind] = &[DetailKind::ErrorInfo];
const RESOURCE: &[DetailKind] = &[DetailKind::ResourceInfo, DetailKind::ErrorInfo];

rows! { Pubsub:
    /// No component of this name.
    PUBSUB_NOT_FOUND = rich(
        "ERR_PUBSUB_NOT_FOUND",
        "DAPR_PUBSUB_NOT_FOUND",
        404,
        GrpcCode::InvalidArgument,
        "pubsub {} is not found",
        INFO,
    );
    /// The component was unloaded between the check and the publish.
    PUBSUB_GONE = rich(
        "ERR_PUBSUB_NOT_FOUND",
        "DAPR_PUBSUB_TEST_NOT_FOUND",
        400,
        GrpcCode::NotFound,
        "pubsub '{}' not found",
        RESOURCE,
    );
    /// The sidecar has no publishing at all.
    PUBSUB_NOT_CONFIGURED = rich(
        "ERR_PUBSUB_NOT_CONFIGURED",
        "DAPR_PUBSUB_NOT_CONFIGURED",
        400,
        GrpcCode::FailedPrecondition,
        "pubsub {} is not configured",
        INFO,
    );
    /// No component named.
    PUBSUB_NAME_EMPTY = rich(
        "ERR_PUBSUB_EMPTY",
        "DAPR_PUBSUB_NAME_EMPTY",
        404,
        GrpcCode::InvalidArgument,
        "pubsub name is empty",
        RESOURCE,
    );
    /// No topic named.
    PUBSUB_TOPIC_NAME_EMPTY = rich(
        "ERR_TOPIC_NAME_EMPTY",
        "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
        404,
        GrpcCode::InvalidArgument,
        "topic is empty in pubsub {}",
        RESOURCE,
    );
    /// `rawPayload` is not a boolean.
    PUBSUB_REQUEST_METADATA = rich(
        "ERR_PUBSUB_REQUEST_METADATA",
        "DAPR_PUBSUB_METADATA_DESERIALIZATION",
        400,
        GrpcCode::InvalidArgument,
        "failed deserializing metadata. Error: {}",
        RESOURCE,
    );
    /// The scopes of the component keep this app from the topic.
    PUBSUB_FORBIDDEN = rich(
        "ERR_PUBSUB_FORBIDDEN",
        "DAPR_PUBSUB_FORBIDDEN",
        403,
        GrpcCode::PermissionDenied,
        "topic {} is not allowed for app id {}",
        RESOURCE,
    );
    /// The broker did not take the event.
    PUBSUB_PUBLISH_MESSAGE = rich(
        "ERR_PUBSUB_PUBLISH_MESSAGE",
        "DAPR_PUBSUB_PUBLISH_MESSAGE",
        500,
        GrpcCode::Internal,
        "error when publishing to topic {} in pubsub {}: {}",
        RESOURCE,
    );
    /// The event makes no CloudEvent.
    PUBSUB_CLOUD_EVENT_CREATION = rich(
        "ERR_PUBSUB_CLOUD_EVENTS_SER",
        "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
        500,
        GrpcCode::InvalidArgument,
        "cannot create cloudevent",
        RESOURCE,
    );
    /// The event cannot be written.
    PUBSUB_MARSHAL_ENVELOPE = rich(
        "ERR_PUBSUB_EVENTS_SER",
        "DAPR_PUBSUB_MARSHAL_ENVELOPE",
        400,
        GrpcCode::InvalidArgument,
        "error when marshalling cloud event envelope for topic {} pubsub {}: {}",
        RESOURCE,
    );
    /// The entries of a bulk publish have no proper ids.
    PUBSUB_MARSHAL_EVENTS = rich(
        "ERR_PUBSUB_EVENTS_SER",
        "DAPR_PUBSUB_MARSHAL_EVENTS",
        400,
        GrpcCode::InvalidArgument,
        "error marshaling events to bytes for topic {} pubsub {}. error: {}",
        RESOURCE,
    );
    /// The body of a bulk publish cannot be read.
    PUBSUB_UNMARSHAL_EVENTS = rich(
        "ERR_PUBSUB_EVENTS_SER",
        "DAPR_PUBSUB_UNMARSHAL_EVENTS",
        400,
        GrpcCode::InvalidArgument,
        "error when unmarshaling the request for topic {} pubsub {}: {}",
        RESOURCE,
    );
    /// The outbox of a transaction did not take its event.
    PUBSUB_OUTBOX = rich(
        "ERR_PUBLISH_OUTBOX",
        "DAPR_PUBSUB_OUTBOX",
        500,
        GrpcCode::Internal,
        "error while publishing outbox message: {}",
        INFO,
    );
}
