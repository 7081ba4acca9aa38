//! State over HTTP. *Source:* spec http_api.md §5.
//!
//! Values are kept as the text they came as: nothing is parsed into a tree, so large numbers stay what they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue};
use pillion_building_blocks::state::{
    CallTrace, DeleteItem, Operation, SetItem, check_key, merge_metadata, operation_not_supported, parse_concurrency,
    parse_consistency,
};
use pillion_contract::{BulkGetItem, Consistency, QueryItem, StateItem};
use pillion_core::error::{ApiError, ErrorDetail, table};
use pillion_core::json;
use pillion_runtime::body::Body;
use pillion_telemetry::trace::TraceContext;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::front::{Incall, Shared};
use super::path;
use super::respond::{self, HttpResponse};

type Answer = Result<HttpResponse, ApiError>;
type Metadata = BTreeMap<String, String>;

/// One item of a save, or the request of a transaction's step. Unknown fields are ignored, as in the original.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item<'a> {
    key: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    etag: Option<String>,
    metadata: Option<Metadata>,
    options: Option<ItemOptions>,
    #[serde(rename = "contentType")]
    content_type: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ItemOptions {
    concurrency: String,
    consistency: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct BulkGetBody {
    keys: Option<Vec<String>>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TransactionBody<'a> {
    #[serde(borrow)]
    operations: Option<Vec<Step<'a>>>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Step<'a> {
    operation: String,
    #[serde(borrow)]
    request: Item<'a>,
}

#[derive(Serialize)]
struct Found<'a> {
    results: Vec<FoundItem<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    token: &'a str,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
}

#[derive(Serialize)]
struct FoundItem<'a> {
    key: &'a str,
    /// `null` when there is none, which differs from [`BulkItem`].
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "str::is_empty")]
    etag: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: Cow<'a, str>,
}

#[derive(Serialize)]
struct BulkItem<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Shared {
    pub(super) async fn get_state(&self, store: &str, key: &str, call: &Incall) -> Answer {
        let query = call.uri.query().unwrap_or_default();
        let consistency = word(query, "consistency").map_or(Consistency::Unspecified, |word| parse_consistency(&word));
        let found = self.api.state.get(store, key, consistency, path::query_metadata(query)).await?;
        let Some(item) = found else { return Ok(respond::no_content()) };
        let mut response = respond::json_bytes(200, Body::full(item.data));
        if let Some(etag) = item.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
            response.headers_mut().insert(ETAG, etag);
        }
        respond::add_metadata(&mut response, &item.metadata);
        Ok(response)
    }

    pub(super) async fn delete_state(&self, store: &str, key: String, call: &Incall) -> Answer {
        let query = call.uri.query().unwrap_or_default();
        let [concurrency, consistency] =
            ["concurrency", "consistency"].map(|name| word(query, name).unwrap_or_default());
        if let Some(problem) = unrecognized(&concurrency, &consistency) {
            self.api.state.check(store)?;
            return Err(ApiError::of(&table::STATE_DELETE, &[&key, &problem]));
        }
        let item = DeleteItem {
            key,
            etag: call.headers.get(IF_MATCH).map(|etag| String::from_utf8_lossy(etag.as_bytes()).into_owned()),
            metadata: path::query_metadata(query),
            concurrency: parse_concurrency(&concurrency),
            consistency: parse_consistency(&consistency),
        };
        self.api.state.delete(store, item).await?;
        Ok(respond::no_content())
    }

    pub(super) async fn save_state(&self, store: &str, call: Incall) -> Answer {
        self.api.state.check(store)?;
        let metadata = path::query_metadata(call.uri.query().unwrap_or_default());
        let body = self.whole(call.body).await.map_err(|error| ApiError::of(&table::MALFORMED_ITEM, &[&error]))?;
        let items: Option<Vec<Item<'_>>> =
            read_json(&body).map_err(|error| ApiError::of(&table::MALFORMED_ITEM, &[&error]))?;
        let mut sets = Vec::new();
        for item in items.unwrap_or_default() {
            if item.key.is_empty() {
                return Err(ApiError::of(&table::MALFORMED_ITEM, &[&"\"key\" is a required field"]));
            }
            let options = item.options.as_ref();
            if let Some(problem) = options.and_then(|options| unrecognized(&options.concurrency, &options.consistency))
            {
                return Err(ApiError::of(&table::STATE_SAVE, &[&store, &problem]));
            }
            sets.push(set_item(item, &body, &metadata));
        }
        self.api.state.save(store, sets).await?;
        Ok(respond::no_content())
    }

    pub(super) async fn get_bulk_state(&self, store: &str, call: Incall) -> Answer {
        self.api.state.check(store)?;
        let query = path::query_metadata(call.uri.query().unwrap_or_default());
        let body = self.whole(call.body).await.map_err(|error| malformed(&error.to_string()))?;
        let asked: BulkGetBody = read_json(&body).map_err(|error| malformed(&error))?;
        let metadata = merge_metadata(asked.metadata.unwrap_or_default(), &query);
        let mut found = self.api.state.bulk_get(store, &asked.keys.unwrap_or_default(), &metadata).await?;
        if self.api.state.is_encrypted(store) {
            found.iter_mut().filter_map(|found| found.item.as_mut()).for_each(quote_text);
        }
        Ok(respond::json(&found.iter().map(bulk_item).collect::<Vec<_>>()))
    }

    pub(super) async fn transact_state(&self, store: &str, call: Incall) -> Answer {
        self.api.state.check_transactional(store)?;
        let query = path::query_metadata(call.uri.query().unwrap_or_default());
        let body = self.whole(call.body).await.map_err(|error| malformed(&error.to_string()))?;
        let asked: TransactionBody<'_> = read_json(&body).map_err(|error| malformed(&error))?;
        let mut operations = Vec::new();
        for step in asked.operations.unwrap_or_default() {
            let item = set_item(step.request, &body, &query);
            let operation = match step.operation.as_str() {
                "upsert" => Operation::Upsert(item),
                "delete" => Operation::Delete(delete_item(item)),
                other => return Err(operation_not_supported(other)),
            };
            check_key(store, operation.key()).map_err(without_field)?;
            operations.push(operation);
        }
        let metadata = merge_metadata(asked.metadata.unwrap_or_default(), &query);
        self.api.state.transact(store, operations, metadata, || call_trace(&call.headers)).await?;
        Ok(respond::no_content())
    }

    /// The body is read first, as its limit is complained of first.
    pub(super) async fn query_state(&self, store: &str, call: Incall) -> Answer {
        let metadata = path::query_metadata(call.uri.query().unwrap_or_default());
        let body = self.whole(call.body).await.map_err(|error| ApiError::of(&table::BODY_READ, &[&error]))?;
        let found = self.api.state.query(store, &String::from_utf8_lossy(&body), metadata).await?;
        if found.items.is_empty() {
            return Ok(respond::no_content());
        }
        Ok(respond::json(&Found {
            results: found.items.iter().map(query_item).collect(),
            token: &found.token,
            metadata: &found.metadata,
        }))
    }
}

/// The first JSON value of a body; what follows it is ignored, as in the original.
fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    match json::first_of(body) {
        None => Err("EOF".to_owned()),
        Some(read) => read.map_err(|error| json::error_text(&error)),
    }
}

fn query_item(found: &QueryItem) -> FoundItem<'_> {
    let etag = found.etag.as_deref().unwrap_or_default();
    let item = FoundItem { key: &found.key, data: None, etag, error: Cow::Borrowed(&found.error) };
    if found.data.is_empty() {
        return item;
    }
    match serde_json::from_slice::<&RawValue>(&found.data) {
        Ok(data) => FoundItem { data: Some(data), ..item },
        Err(_) if !found.error.is_empty() => item,
        Err(error) => {
            let error = format!("the stored value is not JSON; read it by itself: {error}");
            FoundItem { error: Cow::Owned(error), ..item }
        }
    }
}

fn malformed(problem: &str) -> ApiError {
    ApiError::of(&table::MALFORMED_REQUEST, &[&problem])
}

/// The original does not name the key of a transaction's step.
fn without_field(mut error: ApiError) -> ApiError {
    for detail in &mut error.details {
        if let ErrorDetail::BadRequest(violations) = detail {
            violations.iter_mut().for_each(|(field, _)| field.clear());
        }
    }
    error
}

/// What the stores of the original say of a word that is none of theirs. *Source:* components-contrib
/// `state/request_options.go`.
fn unrecognized(concurrency: &str, consistency: &str) -> Option<String> {
    if !matches!(concurrency, "" | "first-write" | "last-write") {
        return Some(format!("unrecognized concurrency model '{concurrency}'"));
    }
    let is_known = matches!(consistency, "" | "strong" | "eventual");
    (!is_known).then(|| format!("unrecognized consistency model '{consistency}'"))
}

/// The first value of a query key.
fn word(query: &str, name: &str) -> Option<String> {
    path::query_pairs(query).find(|(key, _)| key == name).map(|(_, value)| value)
}

fn set_item(item: Item<'_>, body: &Bytes, query: &Metadata) -> SetItem {
    let options = item.options.unwrap_or_default();
    SetItem {
        key: item.key,
        value: item.value.map_or(Bytes::from_static(b"null"), |value| body.slice_ref(value.get().as_bytes())),
        value_is_json: true,
        is_document: true,
        content_type: item.content_type,
        etag: item.etag,
        metadata: merge_metadata(item.metadata.unwrap_or_default(), query),
        concurrency: parse_concurrency(&options.concurrency),
        consistency: parse_consistency(&options.consistency),
    }
}

fn delete_item(item: SetItem) -> DeleteItem {
    DeleteItem {
        key: item.key,
        etag: item.etag,
        metadata: item.metadata,
        concurrency: item.concurrency,
        consistency: item.consistency,
    }
}

/// The trace of a call; one that is not valid counts as none.
fn call_trace(headers: &HeaderMap) -> CallTrace {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let parent = text("traceparent").and_then(TraceContext::parse);
    let state = parent.and_then(|_| text("tracestate")).unwrap_or_default().to_owned();
    CallTrace { parent: parent.map(|parent| parent.to_string()).unwrap_or_default(), state }
}

/// A text that was saved as a JSON string comes back from an encrypted store without its quotes; as part of a JSON document it
/// needs them.
fn quote_text(item: &mut StateItem) {
    if item.data.is_empty() || serde_json::from_slice::<IgnoredAny>(&item.data).is_ok() {
        return;
    }
    if let Ok(text) = std::str::from_utf8(&item.data) {
        item.data = Value::from(text).to_string().into();
    }
}

/// Values are JSON of their own; one that is not (written over gRPC) would break the whole answer and is reported alone.
fn bulk_item(found: &BulkGetItem) -> BulkItem<'_> {
    let absent = BulkItem { key: &found.key, data: None, etag: None, metadata: None, error: found.error.clone() };
    let Some(item) = found.item.as_ref().filter(|_| found.error.is_none()) else { return absent };
    if item.data.is_empty() {
        return BulkItem { etag: item.etag.as_deref(), ..absent };
    }
    match serde_json::from_slice::<&RawValue>(&item.data) {
        Ok(data) => BulkItem {
            data: Some(data),
            etag: item.etag.as_deref(),
            metadata: Some(&item.metadata).filter(|metadata| !metadata.is_empty()),
            ..absent
        },
        Err(error) => {
            BulkItem { error: Some(format!("the stored value is not JSON; read it by itself: {error}")), ..absent }
        }
    }
}
