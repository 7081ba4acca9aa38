//! Publishing over HTTP. *Source:* spec http_api.md §6.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use pillion_building_blocks::pubsub::{BulkPublishError, PublishCall};
use pillion_core::error::ApiError;
use serde_json::json;

use super::front::{Incall, Shared};
use super::path;
use super::respond::{self, HttpResponse};

impl Shared {
    pub(super) async fn publish(
        &self,
        pubsub_name: String,
        topic: String,
        call: Incall,
    ) -> Result<HttpResponse, ApiError> {
        let to = publish_call(pubsub_name, topic, &call);
        self.api.pubsub.check(&to)?;
        let data =
            self.whole(call.body).await.map_err(|error| self.api.pubsub.body_not_read(&to, &error.to_string()))?;
        let content_type = header(&call.headers, CONTENT_TYPE.as_str()).unwrap_or_default();
        self.api.pubsub.publish(to, data, &content_type).await?;
        Ok(respond::no_content())
    }

    pub(super) async fn bulk_publish(&self, pubsub_name: String, topic: String, call: Incall) -> HttpResponse {
        match self.try_bulk_publish(pubsub_name, topic, call).await {
            Ok(()) => respond::no_content(),
            Err(refused) if refused.failed.is_empty() => respond::error(&refused.error),
            Err(partial) => partly_failed(&partial),
        }
    }

    async fn try_bulk_publish(&self, pubsub_name: String, topic: String, call: Incall) -> Result<(), BulkPublishError> {
        let mut to = publish_call(pubsub_name, topic, &call);
        to.span_name = path::decode_path(call.uri.path()).into_owned();
        // Component, topic and metadata are complained of before the events.
        self.api.pubsub.check(&to)?;
        self.api.pubsub.check_metadata(&to)?;
        let read = self.whole(call.body).await;
        let body = read.map_err(|error| self.api.pubsub.entries_not_read(&to, &error.to_string()))?;
        let entries = self.api.pubsub.read_bulk_entries(&to, &body)?;
        self.api.pubsub.bulk_publish(to, entries).await
    }
}

fn publish_call(pubsub_name: String, topic: String, call: &Incall) -> PublishCall {
    PublishCall {
        pubsub_name,
        topic,
        metadata: path::query_metadata(call.uri.query().unwrap_or_default()),
        trace_parent: header(&call.headers, "traceparent"),
        trace_state: header(&call.headers, "tracestate"),
        span_name: String::new(),
        http: true,
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn partly_failed(failure: &BulkPublishError) -> HttpResponse {
    let entries = failure.failed.iter().map(|entry| match entry.error.as_str() {
        "" => json!({"entryId": entry.entry_id}),
        error => json!({"entryId": entry.entry_id, "error": error}),
    });
    let body = json!({"failedEntries": entries.collect::<Vec<_>>(), "errorCode": failure.error.spec.code}).to_string();
    let metadata = BTreeMap::from([
        ("responseData".to_owned(), body.clone()),
        ("error".to_owned(), failure.error.message.clone()),
    ]);
    let mut response = respond::json_bytes(failure.error.http, pillion_runtime::body::Body::full(body));
    respond::add_metadata(&mut response, &metadata);
    response
}
