//! Publishing: checks, envelope, broker call under the component's outbound policy.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use pillion_contract::{ComponentError, PublishRequest};
use pillion_core::error::ApiError;
use pillion_core::json;
use pillion_runtime::resiliency::{self, ComponentKind, Failure, FailureClass};
use pillion_telemetry::trace::{Span, SpanKind, Started};
use serde::Deserialize;
use serde_json::Value;

use super::content_type::{is_binary, is_cloud_event, is_json, is_text};
use super::envelope::{EnvelopeRequest, envelope};
use super::trace::TraceContext;
use super::{Entry, PubSubs, errors, is_raw};

/// Single publishes at a time of a bulk publish the broker cannot do itself. *Source:* spec internals.md §9.2.
const BULK_CONCURRENCY: usize = 100;

/// Where to publish, and what the caller said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishCall {
    /// Pub/sub component.
    pub pubsub_name: String,
    /// Topic.
    pub topic: String,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
    /// `traceparent` of the call; one that is not valid counts as none.
    pub trace_parent: Option<String>,
    /// `tracestate` of the call.
    pub trace_state: Option<String>,
    /// Name of the span each entry of a bulk publish gets.
    pub span_name: String,
    /// The caller speaks HTTP: what a broker refuses is a status of HTTP to the `matching` of a retry policy, else one of gRPC.
    pub http: bool,
}

/// One event of a bulk publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkEntry {
    /// Id, unique in the call.
    pub entry_id: String,
    /// Payload.
    pub data: Bytes,
    /// Content type of the payload.
    pub content_type: String,
    /// Metadata of the entry; when it is not empty the request's is added to it.
    pub metadata: BTreeMap<String, String>,
}

/// An entry that was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedEntry {
    /// Its id.
    pub entry_id: String,
    /// Why.
    pub error: String,
}

/// Why a bulk publish failed.
#[derive(Debug)]
pub struct BulkPublishError {
    /// The error of the whole call.
    pub error: ApiError,
    /// The entries that were not published; empty when the call was refused before any was tried.
    pub failed: Vec<FailedEntry>,
}

impl From<ApiError> for BulkPublishError {
    fn from(error: ApiError) -> Self {
        Self { error, failed: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct HttpEntry {
    entry_id: String,
    event: Value,
    content_type: String,
    metadata: Option<BTreeMap<String, String>>,
}

/// An entry whose attempt failed, with its place in the call.
struct Unpublished {
    request: PublishRequest,
    entry_id: String,
}

/// What a bulk attempt left over.
struct Leftover(Vec<FailedEntry>, String, FailureClass);

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl Failure for Leftover {
    fn class(&self) -> FailureClass {
        self.2
    }
}

impl PubSubs {
    /// Publishes one event.
    ///
    /// # Errors
    /// The `ERR_PUBSUB_*` rows: unknown component, empty names, topic not allowed, unreadable metadata or event, broker.
    pub async fn publish(&self, call: PublishCall, data: Bytes, content_type: &str) -> Result<(), ApiError> {
        let entry = self.checked(&call.pubsub_name, &call.topic, &call.metadata)?;
        let raw = self.check_metadata(&call)?;
        let data = if raw {
            data
        } else {
            self.wrap(&entry, &call, &data, content_type, &call.metadata, call.trace_parent.as_deref())?
        };
        let started = Instant::now();
        let topic = self.broker_topic(&entry, &call.topic);
        let request = PublishRequest { topic, data, content_type: None, metadata: call.metadata };
        let result = self.send(&entry, &call.topic, request, call.http).await;
        if let Some(metrics) = self.metrics.component() {
            metrics.published(&entry.name, &call.topic, result.is_ok(), started.elapsed());
        }
        result
    }

    /// Publishes several events; all are tried.
    ///
    /// # Errors
    /// As [`Self::publish`], with the entries that failed.
    pub async fn bulk_publish(&self, call: PublishCall, entries: Vec<BulkEntry>) -> Result<(), BulkPublishError> {
        let entry = self.checked(&call.pubsub_name, &call.topic, &call.metadata)?;
        let raw = self.check_metadata(&call)?;
        let mut ids = HashSet::new();
        if !entries.iter().all(|entry| !entry.entry_id.is_empty() && ids.insert(entry.entry_id.as_str())) {
            let problem = "entryId is duplicated or not present for entry";
            return Err(errors::entries_wrong(&call.pubsub_name, &call.topic, &self.app_id, problem).into());
        }
        if !entry.scopes.may_publish(&call.topic) {
            return Err(errors::forbidden(&call.pubsub_name, &call.topic, &self.app_id).into());
        }
        let topic = self.broker_topic(&entry, &call.topic);
        let mut pending = Vec::with_capacity(entries.len());
        let mut spans = Vec::new();
        for item in entries {
            let mut metadata = item.metadata;
            if !metadata.is_empty() {
                for (key, value) in &call.metadata {
                    metadata.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            let data = if raw {
                item.data
            } else {
                let (trace_parent, span) = self.trace_entry(&call);
                spans.extend(span);
                let trace_parent = trace_parent.as_deref().or(call.trace_parent.as_deref());
                self.wrap(&entry, &call, &item.data, &item.content_type, &metadata, trace_parent)?
            };
            let content_type = Some(item.content_type).filter(|text| raw && !text.is_empty());
            pending.push(Unpublished {
                request: PublishRequest { topic: topic.clone(), data, content_type, metadata },
                entry_id: item.entry_id,
            });
        }
        let policy = self.policies.component_outbound(&call.pubsub_name, ComponentKind::Pubsub);
        let pending = parking_lot::Mutex::new(pending);
        let started = Instant::now();
        let result = resiliency::run(policy.as_deref(), |_| {
            let attempt = std::mem::take(&mut *pending.lock());
            let (entry, pending) = (&entry, &pending);
            async move {
                let kept = Kept { pending, attempt };
                kept.publish(entry, call.http).await
            }
        })
        .await;
        if let Some(metrics) = self.metrics.component() {
            metrics.bulk_published(&entry.name, &call.topic, result.is_ok(), started.elapsed());
        }
        let Err(error) = result else { return Ok(()) };
        let text = error.to_string();
        for span in &mut spans {
            span.fail(text.as_str());
        }
        let failed = match error {
            resiliency::PolicyError::Operation(Leftover(failed, ..)) => failed,
            _ => pending
                .into_inner()
                .into_iter()
                .map(|item| FailedEntry { entry_id: item.entry_id, error: text.clone() })
                .collect(),
        };
        Err(BulkPublishError { error: errors::publish_failed(&call.pubsub_name, &call.topic, &text), failed })
    }

    /// Whether the component exists and a topic is named, for a front that has the body still to read.
    ///
    /// # Errors
    /// As [`Self::publish`] before it looks at the event.
    pub fn check(&self, call: &PublishCall) -> Result<(), ApiError> {
        self.checked(&call.pubsub_name, &call.topic, &call.metadata).map(|_| ())
    }

    /// Whether events go out without an envelope.
    ///
    /// # Errors
    /// `ERR_PUBSUB_REQUEST_METADATA` when the metadata says neither yes nor no.
    pub fn check_metadata(&self, call: &PublishCall) -> Result<bool, ApiError> {
        is_raw(&call.metadata).map_err(|error| errors::metadata_not_readable(&call.pubsub_name, &call.metadata, &error))
    }

    /// The error of a publish whose body could not be read.
    pub fn body_not_read(&self, call: &PublishCall, error: &str) -> ApiError {
        errors::publish_failed(&call.pubsub_name, &call.topic, error)
    }

    /// The error of a bulk publish whose body could not be read.
    pub fn entries_not_read(&self, call: &PublishCall, error: &str) -> ApiError {
        errors::entries_not_readable(&call.pubsub_name, &call.topic, &self.app_id, error)
    }

    /// Reads the body of a bulk publish over HTTP.
    ///
    /// # Errors
    /// `ERR_PUBSUB_EVENTS_SER`: not the JSON that was expected, or an event that does not fit its content type.
    pub fn read_bulk_entries(&self, call: &PublishCall, body: &[u8]) -> Result<Vec<BulkEntry>, ApiError> {
        let entries: Option<Vec<HttpEntry>> = match json::first_of(body) {
            None => return Err(self.entries_not_read(call, "EOF")),
            Some(read) => read.map_err(|error| self.entries_not_read(call, &entries_problem(body, &error)))?,
        };
        let read = |entry: HttpEntry| {
            let data = event_bytes(&entry.event, &entry.content_type)
                .map_err(|error| errors::envelope_not_written(&call.pubsub_name, &call.topic, &self.app_id, &error))?;
            Ok(BulkEntry {
                entry_id: entry.entry_id,
                data,
                content_type: entry.content_type,
                metadata: entry.metadata.unwrap_or_default(),
            })
        };
        entries.unwrap_or_default().into_iter().map(read).collect()
    }

    /// Publishes bytes as they are, for dead letters; scopes and the outbound policy apply.
    pub(super) async fn publish_bytes(
        &self,
        pubsub_name: &str,
        topic: &str,
        data: Bytes,
        content_type: Option<String>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let entry = self.entry(pubsub_name).ok_or_else(|| errors::gone(pubsub_name, topic))?;
        let request = PublishRequest { topic: self.broker_topic(&entry, topic), data, content_type, metadata };
        self.send(&entry, topic, request, false).await
    }

    /// As [`Self::publish_bytes`], for events of the sidecar itself; the error is what happened alone.
    ///
    /// # Errors
    /// A text: the component is not there, its scopes do not allow the topic, the broker refused.
    pub(crate) async fn publish_internal(
        &self,
        pubsub_name: &str,
        topic: &str,
        data: Bytes,
        content_type: Option<String>,
    ) -> Result<(), String> {
        let entry = self.entry(pubsub_name).ok_or_else(|| errors::gone(pubsub_name, topic).message)?;
        if !entry.scopes.may_publish(topic) {
            return Err(errors::forbidden(pubsub_name, topic, &self.app_id).message);
        }
        let (topic, metadata) = (self.broker_topic(&entry, topic), BTreeMap::new());
        self.hand_over(&entry, PublishRequest { topic, data, content_type, metadata }, false).await
    }

    fn checked(
        &self,
        pubsub_name: &str,
        topic: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Arc<Entry>, ApiError> {
        if pubsub_name.is_empty() {
            return Err(errors::name_empty(metadata));
        }
        let entry = self.entry(pubsub_name).ok_or_else(|| errors::not_found(pubsub_name, metadata))?;
        if topic.is_empty() {
            return Err(errors::topic_empty(pubsub_name, metadata));
        }
        Ok(entry)
    }

    /// The trace of one entry of a bulk publish: a span of its own below the call's, when spans are recorded.
    fn trace_entry(&self, call: &PublishCall) -> (Option<String>, Option<Span>) {
        if !self.tracer.is_on() {
            return (None, None);
        }
        let parent = call.trace_parent.as_deref().and_then(TraceContext::parse);
        let Started { context, span } = self.tracer.start(SpanKind::Producer, parent, || call.span_name.clone());
        (context.map(|context| context.to_string()), span)
    }

    fn wrap(
        &self,
        entry: &Entry,
        call: &PublishCall,
        data: &[u8],
        content_type: &str,
        metadata: &BTreeMap<String, String>,
        trace_parent: Option<&str>,
    ) -> Result<Bytes, ApiError> {
        // A caller without a trace publishes events with an empty one, as in the original.
        let trace_parent =
            trace_parent.and_then(TraceContext::parse).map(|context| context.to_string()).unwrap_or_default();
        let request = EnvelopeRequest {
            app_id: &self.app_id,
            pubsub_name: &call.pubsub_name,
            topic: &call.topic,
            content_type,
            data,
            trace_parent: &trace_parent,
            trace_state: call.trace_state.as_deref().filter(|_| !trace_parent.is_empty()).unwrap_or_default(),
            metadata,
        };
        let expires = !entry.component.capability().message_ttl;
        envelope(&request, expires)
            .map(Bytes::from)
            .map_err(|error| errors::event_not_made(&call.pubsub_name, &self.app_id, &error))
    }

    async fn send(&self, entry: &Entry, topic: &str, request: PublishRequest, http: bool) -> Result<(), ApiError> {
        if !entry.scopes.may_publish(topic) {
            return Err(errors::forbidden(&entry.name, topic, &self.app_id));
        }
        let result = self.hand_over(entry, request, http).await;
        result.map_err(|error| errors::publish_failed(&entry.name, topic, &error))
    }

    /// Gives a broker one event, under the outbound policy of the component.
    async fn hand_over(&self, entry: &Entry, request: PublishRequest, http: bool) -> Result<(), String> {
        match self.policies.component_outbound(&entry.name, ComponentKind::Pubsub) {
            None => entry.component.publish(request).await.map_err(|error| error.to_string()),
            Some(policy) => {
                let attempt = |_| {
                    let sent = entry.component.publish(request.clone());
                    async move { sent.await.map_err(|error| Refusal { error, http }) }
                };
                policy.run(attempt).await.map_err(|error| error.to_string())
            }
        }
    }
}

/// How a broker refused one event.
struct Refusal {
    error: ComponentError,
    http: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Failure for Refusal {
    fn class(&self) -> FailureClass {
        refused_with(&self.error, self.http)
    }
}

/// Only components that say a code are subject to `matching`. *Source:* the original's `pkg/runtime/pubsub`.
fn refused_with(error: &ComponentError, http: bool) -> FailureClass {
    match error.code {
        None => FailureClass::Retriable,
        Some(code) if http => FailureClass::Status(i32::from(code.http_status())),
        Some(code) => FailureClass::Status(code as i32),
    }
}

/// The entries of one attempt; what is not published goes back to `pending`, also when the attempt is dropped.
struct Kept<'a> {
    pending: &'a parking_lot::Mutex<Vec<Unpublished>>,
    attempt: Vec<Unpublished>,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.pending.lock().append(&mut self.attempt);
    }
}

impl Kept<'_> {
    async fn publish(mut self, entry: &Entry, http: bool) -> Result<(), Leftover> {
        let component = &entry.component;
        let requests = self.attempt.iter().map(|item| item.request.clone());
        let mut failures: BTreeMap<usize, String> = BTreeMap::new();
        let mut class = FailureClass::Retriable;
        if component.capability().bulk_publish {
            match component.bulk_publish(requests.collect()).await {
                Ok(failed) => failures.extend(failed.into_iter().map(|failed| (failed.index, failed.error))),
                Err(error) => {
                    class = refused_with(&error, http);
                    failures.extend((0..self.attempt.len()).map(|index| (index, error.to_string())));
                }
            }
        } else {
            let calls = stream::iter(requests.enumerate().collect::<Vec<_>>());
            let results: Vec<(usize, Result<(), ComponentError>)> = calls
                .map(|(index, request)| async move { (index, component.publish(request).await) })
                .buffer_unordered(BULK_CONCURRENCY)
                .collect()
                .await;
            for (index, error) in results.into_iter().filter_map(|(index, result)| Some((index, result.err()?))) {
                if class == FailureClass::Retriable {
                    class = refused_with(&error, http);
                }
                failures.insert(index, error.to_string());
            }
        }
        let mut index = 0;
        self.attempt.retain(|_| {
            index += 1;
            failures.contains_key(&(index - 1))
        });
        let Some(first) = failures.values().next().cloned() else { return Ok(()) };
        let failed = self
            .attempt
            .iter()
            .zip(failures.into_values())
            .map(|(item, error)| FailedEntry { entry_id: item.entry_id.clone(), error });
        Err(Leftover(failed.collect(), first, class))
    }
}

/// Why a body holds no entries, in the words of the original, which reads a whole value before it looks at what that is.
fn entries_problem(body: &[u8], error: &serde_json::Error) -> String {
    if let Some(Err(broken)) = json::first_of::<serde::de::IgnoredAny>(body) {
        return json::error_text(&broken);
    }
    let found = match body.trim_ascii_start().first() {
        Some(b'{') => "object",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'-' | b'0'..=b'9') => "number",
        _ => return json::error_text(error),
    };
    format!("json: cannot unmarshal {found} into Go value of type []http.bulkPublishMessageEntry")
}

/// What is wrong with a base64 text, in the words of the original.
fn base64_problem(error: &base64::DecodeError) -> String {
    let place = match error {
        base64::DecodeError::InvalidByte(place, _) | base64::DecodeError::InvalidLastSymbol(place, _) => *place,
        base64::DecodeError::InvalidLength(length) => length - length % 4,
        base64::DecodeError::InvalidPadding => return "illegal base64 data: wrong padding".to_owned(),
    };
    format!("illegal base64 data at input byte {place}")
}

/// The bytes of an event in a bulk publish over HTTP. *Source:* spec http_api.md §6.
fn event_bytes(event: &Value, content_type: &str) -> Result<Bytes, String> {
    let mismatch = || "error: mismatch between contentType and event".to_owned();
    if is_binary(content_type) {
        let text = event.as_str().ok_or_else(mismatch)?;
        return STANDARD.decode(text).map(Bytes::from).map_err(|error| {
            format!("error: unable to decode base64 application/octect-stream data: {}", base64_problem(&error))
        });
    }
    if is_text(content_type) {
        return event.as_str().map(|text| Bytes::copy_from_slice(text.as_bytes())).ok_or_else(mismatch);
    }
    if is_json(content_type) || is_cloud_event(content_type) {
        return serde_json::to_vec(event).map(Bytes::from).map_err(|error| error.to_string());
    }
    Err(mismatch())
}
