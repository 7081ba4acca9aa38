//! The errors of this block, with the texts and details clients read. *Source:* spec errors.md §4 "Pub/sub".

use std::collections::BTreeMap;

use pillion_core::error::{ApiError, ErrorSpec, table};

fn with_metadata(error: ApiError, metadata: &BTreeMap<String, String>) -> ApiError {
    let pairs: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    error.info(&pairs)
}

fn rich(spec: &'static ErrorSpec, pubsub_name: &str, message: String) -> ApiError {
    ApiError::new(spec, message).resource("pubsub", pubsub_name)
}

pub(super) fn not_found(pubsub_name: &str, metadata: &BTreeMap<String, String>) -> ApiError {
    with_metadata(ApiError::new(&table::PUBSUB_NOT_FOUND, format!("pubsub {pubsub_name} is not found")), metadata)
}

pub(super) fn name_empty(metadata: &BTreeMap<String, String>) -> ApiError {
    with_metadata(rich(&table::PUBSUB_NAME_EMPTY, "", "pubsub name is empty".to_owned()), metadata)
}

pub(super) fn topic_empty(pubsub_name: &str, metadata: &BTreeMap<String, String>) -> ApiError {
    with_metadata(
        rich(&table::PUBSUB_TOPIC_NAME_EMPTY, pubsub_name, format!("topic is empty in pubsub {pubsub_name}")),
        metadata,
    )
}

pub(super) fn metadata_not_readable(pubsub_name: &str, metadata: &BTreeMap<String, String>, error: &str) -> ApiError {
    let message = format!("failed deserializing metadata. Error: {error}");
    with_metadata(rich(&table::PUBSUB_REQUEST_METADATA, pubsub_name, message), metadata)
}

pub(super) fn forbidden(pubsub_name: &str, topic: &str, app_id: &str) -> ApiError {
    let message = format!("topic {topic} is not allowed for app id {app_id}");
    rich(&table::PUBSUB_FORBIDDEN, pubsub_name, message.clone()).info(&[("topic", topic), ("error", &message)])
}

pub(super) fn gone(pubsub_name: &str, topic: &str) -> ApiError {
    let message = format!("pubsub '{pubsub_name}' not found");
    rich(&table::PUBSUB_GONE, pubsub_name, message.clone()).info(&[("topic", topic), ("error", &message)])
}

pub(super) fn publish_failed(pubsub_name: &str, topic: &str, error: &str) -> ApiError {
    let message = format!("error when publishing to topic {topic} in pubsub {pubsub_name}: {error}");
    rich(&table::PUBSUB_PUBLISH_MESSAGE, pubsub_name, message).info(&[("topic", topic), ("error", error)])
}

pub(super) fn event_not_made(pubsub_name: &str, app_id: &str, error: &str) -> ApiError {
    rich(&table::PUBSUB_CLOUD_EVENT_CREATION, pubsub_name, "cannot create cloudevent".to_owned())
        .info(&[("appID", app_id), ("error", error)])
}

pub(super) fn envelope_not_written(pubsub_name: &str, topic: &str, app_id: &str, error: &str) -> ApiError {
    let message =
        format!("error when marshalling cloud event envelope for topic {topic} pubsub {pubsub_name}: {error}");
    rich(&table::PUBSUB_MARSHAL_ENVELOPE, pubsub_name, message).info(&[("appID", app_id), ("error", error)])
}

pub(super) fn entries_wrong(pubsub_name: &str, topic: &str, app_id: &str, error: &str) -> ApiError {
    let message = format!("error marshaling events to bytes for topic {topic} pubsub {pubsub_name}. error: {error}");
    rich(&table::PUBSUB_MARSHAL_EVENTS, pubsub_name, message).info(&[("appID", app_id), ("error", error)])
}

pub(super) fn entries_not_readable(pubsub_name: &str, topic: &str, app_id: &str, error: &str) -> ApiError {
    let message = format!("error when unmarshaling the request for topic {topic} pubsub {pubsub_name}: {error}");
    rich(&table::PUBSUB_UNMARSHAL_EVENTS, pubsub_name, message).info(&[("appID", app_id)])
}
