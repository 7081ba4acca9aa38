//! The errors of this block, with the texts and details clients read. *Source:* spec errors.md §4 "Pub/sub".

use std::collections::BTreeMap;

use pillion_core::error::{ApiError, ErrorDetail, table};

/// The metadata of the request, also when there are none.
fn with_metadata(error: ApiError, metadata: &BTreeMap<String, String>) -> ApiError {
    let reason = error.spec.reason.to_owned();
    error.with_detail(ErrorDetail::ErrorInfo { reason, metadata: Some(metadata.clone()) })
}

fn rich(error: ApiError, pubsub_name: &str) -> ApiError {
    error.resource("pubsub", pubsub_name)
}

pub(super) fn not_found(pubsub_name: &str, metadata: &BTreeMap<String, String>) -> ApiError {
    with_metadata(ApiError::of(&table::PUBSUB_NOT_FOUND, &[&pubsub_name]), metadata)
}

pub(super) fn name_empty(metadata: &BTreeMap<String, String>) -> ApiError {
    with_metadata(rich(ApiError::of(&table::PUBSUB_NAME_EMPTY, &[]), ""), metadata)
}

pub(super) fn topic_empty(pubsub_name: &str, metadata: &BTreeMap<String, String>) -> ApiError {
    with_metadata(rich(ApiError::of(&table::PUBSUB_TOPIC_NAME_EMPTY, &[&pubsub_name]), pubsub_name), metadata)
}

pub(super) fn metadata_not_readable(pubsub_name: &str, metadata: &BTreeMap<String, String>, error: &str) -> ApiError {
    with_metadata(rich(ApiError::of(&table::PUBSUB_REQUEST_METADATA, &[&error]), pubsub_name), metadata)
}

pub(super) fn forbidden(pubsub_name: &str, topic: &str, app_id: &str) -> ApiError {
    let error = ApiError::of(&table::PUBSUB_FORBIDDEN, &[&topic, &app_id]);
    let cause = error.message.clone();
    rich(error, pubsub_name).info(&[("topic", topic), ("error", &cause)])
}

pub(super) fn gone(pubsub_name: &str, topic: &str) -> ApiError {
    let error = ApiError::of(&table::PUBSUB_GONE, &[&pubsub_name]);
    let cause = error.message.clone();
    rich(error, pubsub_name).info(&[("topic", topic), ("error", &cause)])
}

pub(super) fn publish_failed(pubsub_name: &str, topic: &str, error: &str) -> ApiError {
    rich(ApiError::of(&table::PUBSUB_PUBLISH_MESSAGE, &[&topic, &pubsub_name, &error]), pubsub_name)
        .info(&[("topic", topic), ("error", error)])
}

pub(super) fn event_not_made(pubsub_name: &str, app_id: &str, error: &str) -> ApiError {
    rich(ApiError::of(&table::PUBSUB_CLOUD_EVENT_CREATION, &[]), pubsub_name)
        .info(&[("appID", app_id), ("error", error)])
}

pub(super) fn envelope_not_written(pubsub_name: &str, topic: &str, app_id: &str, error: &str) -> ApiError {
    rich(ApiError::of(&table::PUBSUB_MARSHAL_ENVELOPE, &[&topic, &pubsub_name, &error]), pubsub_name)
        .info(&[("appID", app_id), ("error", error)])
}

pub(super) fn entries_wrong(pubsub_name: &str, topic: &str, app_id: &str, error: &str) -> ApiError {
    rich(ApiError::of(&table::PUBSUB_MARSHAL_EVENTS, &[&topic, &pubsub_name, &error]), pubsub_name)
        .info(&[("appID", app_id), ("error", error)])
}

pub(super) fn entries_not_readable(pubsub_name: &str, topic: &str, app_id: &str, error: &str) -> ApiError {
    rich(ApiError::of(&table::PUBSUB_UNMARSHAL_EVENTS, &[&topic, &pubsub_name, &error]), pubsub_name)
        .info(&[("appID", app_id)])
}
