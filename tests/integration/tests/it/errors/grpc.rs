//! Errors over gRPC.

use std::collections::HashMap;

use http::StatusCode;
use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::common::v1::{Etag, HttpExtension, InvokeRequest, StateItem};
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_testkit::{Answer, FakeApp, Sidecar, SidecarOptions};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{Differences, Loaded, shown_status};
use crate::fixture::unique;

pub(super) async fn client(sidecar: &Sidecar) -> DaprClient<Channel> {
    DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap()
}

/// Compares what calls answered with the expected code, message and details.
struct Check<'a> {
    sidecar: &'a Sidecar,
    differences: Differences,
}

impl<'a> Check<'a> {
    fn of(sidecar: &'a Sidecar) -> Self {
        Self { sidecar, differences: Differences::default() }
    }

    fn that<T>(&mut self, what: &str, answer: Result<Response<T>, Status>, expected: &(&str, &str, Value)) {
        let shown = answer.map_or_else(|status| shown_status(&status), |_| json!("OK"));
        let (code, message, details) = expected;
        self.differences.compare(self.sidecar.app_id(), what, &json!([code, message, details]), &shown);
    }
}

fn reason(reason: &str, metadata: Value) -> Value {
    json!({"ErrorInfo": reason, "domain": "dapr.io", "metadata": metadata})
}

fn only(code: &str) -> Value {
    json!([reason(code, json!({}))])
}

fn resource(kind: &str, name: &str, description: &str) -> Value {
    json!({"ResourceInfo": name, "type": kind, "owner": "", "description": description})
}

fn item(key: &str, etag: Option<&str>) -> StateItem {
    StateItem {
        key: key.to_owned(),
        value: "1".into(),
        etag: etag.map(|value| Etag { value: value.to_owned() }),
        ..StateItem::default()
    }
}

fn get(store: &str, key: &str) -> pb::GetStateRequest {
    pb::GetStateRequest { store_name: store.to_owned(), key: key.to_owned(), ..Default::default() }
}

fn get_bulk(store: &str, key: &str) -> pb::GetBulkStateRequest {
    pb::GetBulkStateRequest { store_name: store.to_owned(), keys: vec![key.to_owned()], ..Default::default() }
}

fn save(store: &str, item: StateItem) -> pb::SaveStateRequest {
    pb::SaveStateRequest { store_name: store.to_owned(), states: vec![item] }
}

fn delete(store: &str, key: &str, etag: Option<&str>) -> pb::DeleteStateRequest {
    let etag = etag.map(|value| Etag { value: value.to_owned() });
    pb::DeleteStateRequest { store_name: store.to_owned(), key: key.to_owned(), etag, ..Default::default() }
}

fn delete_bulk(store: &str, item: StateItem) -> pb::DeleteBulkStateRequest {
    pb::DeleteBulkStateRequest { store_name: store.to_owned(), states: vec![item] }
}

fn transact(store: &str, operation: &str, item: StateItem) -> pb::ExecuteStateTransactionRequest {
    let operation = pb::TransactionalStateOperation { operation_type: operation.to_owned(), request: Some(item) };
    pb::ExecuteStateTransactionRequest {
        store_name: store.to_owned(),
        operations: vec![operation],
        ..Default::default()
    }
}

fn query(store: &str) -> pb::QueryStateRequest {
    pb::QueryStateRequest { store_name: store.to_owned(), query: "{".to_owned(), ..Default::default() }
}

fn secret(store: &str, key: &str) -> pb::GetSecretRequest {
    pb::GetSecretRequest { store_name: store.to_owned(), key: key.to_owned(), ..Default::default() }
}

fn secrets(store: &str) -> pb::GetBulkSecretRequest {
    pb::GetBulkSecretRequest { store_name: store.to_owned(), ..Default::default() }
}

fn raw() -> HashMap<String, String> {
    HashMap::from([("rawPayload".to_owned(), "x".to_owned())])
}

fn event(pubsub: &str, topic: &str) -> pb::PublishEventRequest {
    pb::PublishEventRequest { pubsub_name: pubsub.to_owned(), topic: topic.to_owned(), ..Default::default() }
}

fn events(pubsub: &str, topic: &str, ids: &[&str]) -> pb::BulkPublishRequest {
    let entries = ids.iter().map(|id| pb::BulkPublishRequestEntry {
        entry_id: (*id).to_owned(),
        event: "a".into(),
        content_type: "text/plain".to_owned(),
        ..Default::default()
    });
    pb::BulkPublishRequest {
        pubsub_name: pubsub.to_owned(),
        topic: topic.to_owned(),
        entries: entries.collect(),
        ..Default::default()
    }
}

#[tokio::test]
#[allow(deprecated, reason = "clients still call the alpha method")]
async fn without_components() {
    let sidecar = SidecarOptions::new(&unique("errors")).start().await.unwrap();
    let mut client = client(&sidecar).await;
    let mut check = Check::of(&sidecar);
    let state = ("FailedPrecondition", "state store any is not configured", only("DAPR_STATE_NOT_CONFIGURED"));
    check.that("get", client.get_state(get("any", "k")).await, &state);
    check.that("bulk get", client.get_bulk_state(get_bulk("any", "k")).await, &state);
    check.that("save", client.save_state(save("any", item("k", None))).await, &state);
    check.that("delete", client.delete_state(delete("any", "k", None)).await, &state);
    check.that("bulk delete", client.delete_bulk_state(delete_bulk("any", item("k", None))).await, &state);
    check.that("transact", client.execute_state_transaction(transact("any", "upsert", item("k", None))).await, &state);
    check.that("query", client.query_state_alpha1(query("any")).await, &state);
    let none = ("FailedPrecondition", "secret store is not configured", json!([]));
    check.that("secret", client.get_secret(secret("any", "k")).await, &none);
    check.that("secrets", client.get_bulk_secret(secrets("any")).await, &none);
    let pubsub = ("InvalidArgument", "pubsub any is not found", only("DAPR_PUBSUB_NOT_FOUND"));
    check.that("publish", client.publish_event(event("any", "t")).await, &pubsub);
    let with_metadata = pb::PublishEventRequest { metadata: raw(), ..event("any", "t") };
    check.that("publish with metadata", client.publish_event(with_metadata).await, &pubsub);
    check.that("bulk publish", client.bulk_publish_event(events("any", "t", &["1"])).await, &pubsub);
    check.that("bulk publish alpha", client.bulk_publish_event_alpha1(events("any", "t", &["1"])).await, &pubsub);
    check.differences.none();
}

#[tokio::test]
async fn state() {
    let loaded = Loaded::start(&[]).await;
    let mut client = client(&loaded.sidecar).await;
    let mut check = Check::of(&loaded.sidecar);
    let unknown = ("InvalidArgument", "state store other is not found", only("DAPR_STATE_NOT_FOUND"));
    check.that("get", client.get_state(get("other", "k")).await, &unknown);
    check.that("bulk get", client.get_bulk_state(get_bulk("other", "k")).await, &unknown);
    check.that("save", client.save_state(save("other", item("k", None))).await, &unknown);
    check.that("delete", client.delete_state(delete("other", "k", None)).await, &unknown);
    check.that("bulk delete", client.delete_bulk_state(delete_bulk("other", item("k", None))).await, &unknown);
    check.that(
        "transact",
        client.execute_state_transaction(transact("other", "upsert", item("k", None))).await,
        &unknown,
    );
    check.that("query", client.query_state_alpha1(query("other")).await, &unknown);

    let message = "input key/keyPrefix 'a||b' can't contain '||'";
    let illegal = (
        "InvalidArgument",
        message,
        json!([
            {"BadRequest": [["a||b", message]]},
            resource("state", "mystore", ""),
            reason("DAPR_STATE_ILLEGAL_KEY", json!({})),
        ]),
    );
    check.that("illegal get", client.get_state(get("mystore", "a||b")).await, &illegal);
    check.that("illegal bulk get", client.get_bulk_state(get_bulk("mystore", "a||b")).await, &illegal);
    check.that("illegal save", client.save_state(save("mystore", item("a||b", None))).await, &illegal);
    check.that("illegal delete", client.delete_state(delete("mystore", "a||b", None)).await, &illegal);
    check.that(
        "illegal bulk delete",
        client.delete_bulk_state(delete_bulk("mystore", item("a||b", None))).await,
        &illegal,
    );
    let step = |operation: &str| transact("mystore", operation, item("a||b", None));
    check.that("illegal upsert", client.execute_state_transaction(step("upsert")).await, &illegal);
    check.that("illegal delete step", client.execute_state_transaction(step("delete")).await, &illegal);
    check.that("illegal swap", client.execute_state_transaction(step("swap")).await, &illegal);

    let empty = ("InvalidArgument", "state key cannot be empty", only("ERR_STATE_SAVE"));
    check.that("save without key", client.save_state(save("mystore", item("", None))).await, &empty);
    let swap = ("Unimplemented", "operation type swap not supported", only("ERR_NOT_SUPPORTED_STATE_OPERATION"));
    check.that("swap", client.execute_state_transaction(transact("mystore", "swap", item("a", None))).await, &swap);
    let details = json!([resource("state", "mystore", ""), reason("DAPR_STATE_QUERYING_NOT_SUPPORTED", json!({}))]);
    let no_query = ("Internal", "state store does not support querying", details);
    check.that("query", client.query_state_alpha1(query("mystore")).await, &no_query);
    check.differences.none();
}

#[tokio::test]
async fn etags() {
    let loaded = Loaded::start(&[]).await;
    let mut client = client(&loaded.sidecar).await;
    let mut check = Check::of(&loaded.sidecar);
    client.save_state(save("mystore", item("a", None))).await.unwrap();
    let stale = "possible etag mismatch. error from state store: …";
    let saved = &*format!("failed saving state in state store mystore: {stale}");
    check.that(
        "save",
        client.save_state(save("mystore", item("a", Some("7")))).await,
        &("Aborted", saved, only("ERR_STATE_SAVE")),
    );
    let deleted = &*format!("failed deleting state with key a: {stale}");
    check.that(
        "delete",
        client.delete_state(delete("mystore", "a", Some("7"))).await,
        &("Aborted", deleted, only("ERR_STATE_DELETE")),
    );
    let all = &*format!("failed deleting state in state store mystore: {stale}");
    check.that(
        "bulk delete",
        client.delete_bulk_state(delete_bulk("mystore", item("a", Some("7")))).await,
        &("Aborted", all, only("ERR_STATE_BULK_DELETE")),
    );
    let transacted = &*format!("error while executing state transaction: {stale}");
    check.that(
        "transact",
        client.execute_state_transaction(transact("mystore", "upsert", item("a", Some("7")))).await,
        &("Internal", transacted, only("ERR_STATE_TRANSACTION")),
    );
    check.differences.none();
}

#[tokio::test]
async fn secret_stores() {
    let loaded = Loaded::start(&[]).await;
    let mut client = client(&loaded.sidecar).await;
    let mut check = Check::of(&loaded.sidecar);
    let unknown = ("InvalidArgument", "failed finding secret store with key other", json!([]));
    check.that("one", client.get_secret(secret("other", "one")).await, &unknown);
    check.that("all", client.get_bulk_secret(secrets("other")).await, &unknown);
    let denied = ("PermissionDenied", r#"access denied by policy to get "two" from "mysecrets""#, json!([]));
    check.that("denied", client.get_secret(secret("mysecrets", "two")).await, &denied);
    let message = "failed getting secret with key none from secret store mysecrets: secret none not found";
    check.that("missing", client.get_secret(secret("mysecrets", "none")).await, &("Internal", message, json!([])));
    check.differences.none();
}

#[tokio::test]
async fn publishing() {
    let loaded = Loaded::start(&[]).await;
    let mut client = client(&loaded.sidecar).await;
    let mut check = Check::of(&loaded.sidecar);
    let unknown = ("InvalidArgument", "pubsub other is not found", only("DAPR_PUBSUB_NOT_FOUND"));
    check.that("unknown", client.publish_event(event("other", "t")).await, &unknown);
    check.that("unknown, bulk", client.bulk_publish_event(events("other", "t", &["1"])).await, &unknown);
    let of = |name: &str, message: &str, code: &str, metadata: Value| {
        json!([resource("pubsub", name, message), reason(code, metadata)])
    };
    let message = "pubsub name is empty";
    let nameless = ("InvalidArgument", message, of("", message, "DAPR_PUBSUB_NAME_EMPTY", json!({})));
    check.that("no name", client.publish_event(event("", "t")).await, &nameless);
    check.that("no name, bulk", client.bulk_publish_event(events("", "t", &["1"])).await, &nameless);
    let message = "topic is empty in pubsub mypub";
    let nowhere = ("InvalidArgument", message, of("mypub", message, "DAPR_PUBSUB_TOPIC_NAME_EMPTY", json!({})));
    check.that("no topic", client.publish_event(event("mypub", "")).await, &nowhere);
    check.that("no topic, bulk", client.bulk_publish_event(events("mypub", "", &["1"])).await, &nowhere);
    let message = "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'x'";
    let metadata = json!({"rawPayload": "x"});
    let not_raw = ("InvalidArgument", message, of("mypub", message, "DAPR_PUBSUB_METADATA_DESERIALIZATION", metadata));
    let single = pb::PublishEventRequest { metadata: raw(), ..event("mypub", "t") };
    check.that("raw", client.publish_event(single).await, &not_raw);
    let bulk = pb::BulkPublishRequest { metadata: raw(), ..events("mypub", "t", &["1"]) };
    check.that("raw, bulk", client.bulk_publish_event(bulk).await, &not_raw);
    let message = "topic secret is not allowed for app id <app>";
    let details = of("mypub", message, "DAPR_PUBSUB_FORBIDDEN", json!({"topic": "secret", "error": message}));
    let forbidden = ("PermissionDenied", message, details);
    check.that("forbidden", client.publish_event(event("mypub", "secret")).await, &forbidden);
    check.that("forbidden, bulk", client.bulk_publish_event(events("mypub", "secret", &["1"])).await, &forbidden);
    let error = "entryId is duplicated or not present for entry";
    let message = &*format!("error marshaling events to bytes for topic t pubsub mypub. error: {error}");
    let details = of("mypub", message, "DAPR_PUBSUB_MARSHAL_EVENTS", json!({"appID": "<app>", "error": error}));
    let ids = ("InvalidArgument", message, details);
    check.that("twice", client.bulk_publish_event(events("mypub", "t", &["1", "1"])).await, &ids);
    check.that("without id", client.bulk_publish_event(events("mypub", "t", &[""])).await, &ids);
    let message = "cannot create cloudevent";
    let metadata = json!({"appID": "<app>", "error": "…"});
    let no_event = ("InvalidArgument", message, of("mypub", message, "DAPR_PUBSUB_CLOUD_EVENT_CREATION", metadata));
    let cloud_event = "application/cloudevents+json".to_owned();
    let single =
        pb::PublishEventRequest { data: "{".into(), data_content_type: cloud_event.clone(), ..event("mypub", "t") };
    check.that("no event", client.publish_event(single).await, &no_event);
    let mut bulk = events("mypub", "t", &["1"]);
    bulk.entries[0].content_type = cloud_event;
    check.that("no event, bulk", client.bulk_publish_event(bulk).await, &no_event);
    check.differences.none();
}

#[tokio::test]
async fn streams_of_events() {
    let loaded = Loaded::start(&[]).await;
    let mut client = client(&loaded.sidecar).await;
    let mut check = Check::of(&loaded.sidecar);
    let initial = |pubsub: &str, topic: &str| {
        let initial = pb::SubscribeTopicEventsRequestInitialAlpha1 {
            pubsub_name: pubsub.to_owned(),
            topic: topic.to_owned(),
            ..Default::default()
        };
        let kind = pb::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType::InitialRequest(initial);
        vec![pb::SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(kind) }]
    };
    for (what, messages, expected) in [
        (
            "no store",
            initial("other", "t"),
            ("InvalidArgument", "pubsub other is not found", only("DAPR_PUBSUB_NOT_FOUND")),
        ),
        ("no name", initial("", "t"), ("Unknown", "pubsubName is required", json!([]))),
        ("no topic", initial("mypub", ""), ("Unknown", "topic is required", json!([]))),
        ("empty", vec![Default::default()], ("Unknown", "initial request is required", json!([]))),
    ] {
        let opened = client.subscribe_topic_events_alpha1(Messages(messages.into())).await;
        let answer = match opened {
            Ok(stream) => stream.into_inner().message().await.map(Response::new),
            Err(status) => Err(status),
        };
        check.that(what, answer, &expected);
    }
    check.differences.none();
}

/// Messages that go out at once.
struct Messages(std::collections::VecDeque<pb::SubscribeTopicEventsRequestAlpha1>);

impl tonic::codegen::tokio_stream::Stream for Messages {
    type Item = pb::SubscribeTopicEventsRequestAlpha1;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

#[tokio::test]
async fn invocation() {
    let sidecar = SidecarOptions::new(&unique("errors")).start().await.unwrap();
    let mut client = client(&sidecar).await;
    let mut check = Check::of(&sidecar);
    let call = |id: &str| pb::InvokeServiceRequest {
        id: id.to_owned(),
        message: Some(InvokeRequest { method: "x".to_owned(), ..Default::default() }),
    };
    let message = "failed to invoke, id: nobody-has-this-id, err: couldn't find service: nobody-has-this-id…";
    check.that("nobody", client.invoke_service(call("nobody-has-this-id")).await, &("Internal", message, json!([])));
    let own = sidecar.app_id().to_owned();
    let message = &*format!("failed to invoke, id: {own}, err: …");
    check.that("no app", client.invoke_service(call(&own)).await, &("Internal", message, json!([])));
    check.that(
        "no id",
        client.invoke_service(call("")).await,
        &("Internal", "failed to invoke, id: , err: …", json!([])),
    );
    check.differences.none();
}

#[tokio::test]
async fn answers_of_an_http_application() {
    let answer = |code: &str| {
        let status = code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or_default();
        Answer::text(format!("{code} {}", "x".repeat(70))).with_status(status)
    };
    let app = FakeApp::start(move |request, _| answer(request.path.trim_start_matches('/'))).await.unwrap();
    let sidecar = SidecarOptions::new(&unique("errors")).app_port(app.port()).start().await.unwrap();
    let mut client = client(&sidecar).await;
    let mut check = Check::of(&sidecar);
    for (number, code, text) in [
        ("400", "Internal", "Bad Request"),
        ("401", "Unauthenticated", "Unauthorized"),
        ("403", "PermissionDenied", "Forbidden"),
        ("404", "NotFound", "Not Found"),
        ("408", "Cancelled", "Request Timeout"),
        ("409", "AlreadyExists", "Conflict"),
        ("413", "Unknown", "Request Entity Too Large"),
        ("418", "Unknown", "I'm a teapot"),
        ("429", "ResourceExhausted", "Too Many Requests"),
        ("500", "Unknown", "Internal Server Error"),
        ("501", "Unimplemented", "Not Implemented"),
        ("503", "Unavailable", "Service Unavailable"),
        ("504", "DeadlineExceeded", "Gateway Timeout"),
    ] {
        let http_extension = Some(HttpExtension { verb: Verb::Post.into(), ..Default::default() });
        let message = Some(InvokeRequest { method: number.to_owned(), http_extension, ..Default::default() });
        let call = pb::InvokeServiceRequest { id: sidecar.app_id().to_owned(), message };
        let answer = client.invoke_service(call).await;
        let head = answer.as_ref().err().and_then(|status| status.metadata().get("dapr-http-status").cloned());
        let head = head.as_ref().and_then(|value| value.to_str().ok());
        assert_eq!(head, Some(number), "{:?}", answer.as_ref().err());
        let metadata = json!({"http.code": number, "http.error_message": format!("{number} {}", "x".repeat(59))});
        check.that(number, answer, &(code, text, json!([reason(text, metadata)])));
    }
    check.differences.none();
}
