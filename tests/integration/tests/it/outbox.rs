//! The transactional outbox: what a transaction writes is published, if it is committed.

use std::fs;
use std::time::{Duration, Instant};

use pillion_proto::common::v1::StateItem;
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_proto::runtime::v1::{ExecuteStateTransactionRequest, TransactionalStateOperation};
use pillion_testkit::{Answer, Binary, FakeApp, ResourceDir, Sidecar, SidecarOptions, eventually};
use serde_json::{Value, json};

use crate::fixture::{PUBSUB, unique};

const OUTBOX: &str = "{name: outboxPublishPubsub, value: mypub}, {name: outboxPublishTopic, value: orders}";

fn memory(metadata: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: mystore}}\nspec: {{type: state.in-memory, version: v1, \
         metadata: [{metadata}]}}\n"
    )
}

async fn app() -> FakeApp {
    let subscriptions = json!([{"pubsubname": "mypub", "topic": "orders", "route": "/orders"}]);
    let app = FakeApp::start(move |request, _| match request.path.as_str() {
        "/dapr/subscribe" => Answer::json(&subscriptions),
        _ => Answer::default(),
    });
    app.await.unwrap()
}

async fn start(store: &str) -> (ResourceDir, FakeApp, Sidecar) {
    let dir = ResourceDir::new().unwrap().with("store.yaml", store).unwrap().with("pubsub.yaml", PUBSUB).unwrap();
    let app = app().await;
    let options = SidecarOptions::new(&unique("outbox")).app_port(app.port()).resources(dir.path());
    let sidecar = options.start().await.unwrap();
    (dir, app, sidecar)
}

fn upsert(key: &str, value: &Value, metadata: &Value) -> Value {
    json!({"operation": "upsert", "request": {"key": key, "value": value, "metadata": metadata}})
}

async fn transact(sidecar: &Sidecar, operations: &[Value]) -> u16 {
    let body = json!({"operations": operations}).to_string();
    let headers = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let path = "/v1.0/state/mystore/transaction";
    sidecar.send(http::Method::POST, path, &headers, body).await.unwrap().status.as_u16()
}

fn over_grpc(value: &'static str) -> ExecuteStateTransactionRequest {
    let item = StateItem { key: "1".to_owned(), value: value.into(), ..StateItem::default() };
    let operation = TransactionalStateOperation { operation_type: "upsert".to_owned(), request: Some(item) };
    ExecuteStateTransactionRequest {
        store_name: "mystore".to_owned(),
        operations: vec![operation],
        ..ExecuteStateTransactionRequest::default()
    }
}

#[tokio::test]
async fn a_committed_change_is_published_once() {
    let (_dir, app, sidecar) = start(&memory(OUTBOX)).await;
    let started = Instant::now();
    let metadata = json!({"outbox.cloudevent.myapp": "m", "data": "a", "id": "b"});
    assert_eq!(transact(&sidecar, &[upsert("1", &json!("2"), &metadata)]).await, 204);
    let event = app.wait_for("/orders", 1).await[0].json();
    println!("the event came after {} ms", started.elapsed().as_millis());
    for (name, value) in [
        ("data", "2"),
        ("datacontenttype", "text/plain"),
        ("outbox.cloudevent.myapp", "m"),
        ("pubsubname", "mypub"),
        ("topic", "orders"),
        ("source", sidecar.app_id()),
        ("specversion", "1.0"),
        ("type", "com.dapr.event.sent"),
    ] {
        assert_eq!(event[name], value, "{name}: {event}");
    }
    let id = event["id"].as_str().unwrap();
    assert!(id.starts_with("outbox-") && id.len() == 43, "{id}");
    assert!(event["traceid"].as_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{event}");
    // Neither a delete nor a save says anything.
    let delete = json!({"operation": "delete", "request": {"key": "1"}});
    assert_eq!(transact(&sidecar, &[delete]).await, 204);
    sidecar.post("/v1.0/state/mystore", r#"[{"key":"1","value":1}]"#).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(app.requests("/orders").len(), 1);
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert_eq!(metadata["subscriptions"].as_array().unwrap().len(), 1, "{metadata}");
}

#[tokio::test]
async fn a_projection_is_published_in_the_place_of_the_value() {
    let (_dir, app, sidecar) = start(&memory(OUTBOX)).await;
    let projection = json!({"outbox.projection": "true", "contentType": "application/json"});
    let operations = [upsert("1", &json!("2"), &json!({})), upsert("1", &json!({"n": 1.10}), &projection)];
    assert_eq!(transact(&sidecar, &operations).await, 204);
    let event = app.wait_for("/orders", 1).await[0].json();
    assert_eq!((&event["data"], &event["datacontenttype"]), (&json!({"n": 1.10}), &json!("application/json")));
    assert_eq!(sidecar.get("/v1.0/state/mystore/1").await.unwrap().text(), "\"2\"");
}

#[tokio::test]
async fn bytes_of_grpc_are_published_too() {
    let (_dir, app, sidecar) = start(&memory(OUTBOX)).await;
    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap();
    client.execute_state_transaction(over_grpc("\"2\"")).await.unwrap();
    assert_eq!(app.wait_for("/orders", 1).await[0].json()["data"], "\"2\"");
}

#[tokio::test]
async fn a_transaction_that_fails_is_not_published() {
    if !Binary::find().unwrap().is_ours() {
        return; // its store in memory does not come back from a transaction with a stale ETag
    }
    let (_dir, app, sidecar) =
        start(&memory(&format!("{OUTBOX}, {{name: outboxDiscardWhenMissingState, value: true}}"))).await;
    let mut stale = upsert("1", &json!("no"), &json!({}));
    stale["request"]["etag"] = json!("999");
    assert_eq!(transact(&sidecar, &[stale]).await, 500);
    assert_eq!(transact(&sidecar, &[upsert("2", &json!("yes"), &json!({}))]).await, 204);
    // The broker gives one event at a time.
    eventually("the other event comes", Duration::from_secs(30), || async {
        (!app.requests("/orders").is_empty()).then_some(())
    })
    .await;
    assert!(sidecar.log().contains("outbox state not found, discarding message"), "{}", sidecar.log());
    let events: Vec<Value> = app.requests("/orders").iter().map(|request| request.json()["data"].clone()).collect();
    assert_eq!(events, ["yes"]);
}

#[tokio::test]
async fn a_transaction_without_its_broker_fails_before_anything_is_written() {
    let (_dir, _app, sidecar) = start(&memory(&format!("{OUTBOX}, {{name: outboxPubsub, value: none}}"))).await;
    let body = json!({"operations": [upsert("1", &json!("2"), &json!({}))]}).to_string();
    let reply = sidecar.post("/v1.0/state/mystore/transaction", &body).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_PUBLISH_OUTBOX".to_owned()));
    let error = reply.json();
    assert_eq!(error["message"], "error while publishing outbox message: pubsub 'none' not found");
    let metadata = json!({"appID": sidecar.app_id(), "error": "pubsub 'none' not found"});
    let wanted = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "dapr.io",
        "reason": "DAPR_PUBSUB_OUTBOX", "metadata": metadata}]);
    assert_eq!(error["details"], wanted);
    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap();
    let status = client.execute_state_transaction(over_grpc("\"2\"")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Internal, error["message"].as_str().unwrap()));
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(["DAPR_PUBSUB_OUTBOX", "appID", sidecar.app_id()].iter().all(|word| details.contains(word)), "{details}");
    assert_eq!(sidecar.get("/v1.0/state/mystore/1").await.unwrap().status, 204);
}

#[tokio::test]
async fn an_outbox_comes_and_goes_with_the_component() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original subscribes once, when the app is found
    }
    let (dir, app, sidecar) = start(&memory("")).await;
    assert_eq!(transact(&sidecar, &[upsert("1", &json!("silent"), &json!({}))]).await, 204);
    fs::write(dir.path().join("store.yaml"), memory(OUTBOX)).unwrap();
    eventually("the outbox publishes", Duration::from_secs(20), || async {
        transact(&sidecar, &[upsert("1", &json!("heard"), &json!({}))]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        (!app.requests("/orders").is_empty()).then_some(())
    })
    .await;
    assert!(app.requests("/orders").iter().all(|request| request.json()["data"] == "heard"));
    fs::write(dir.path().join("store.yaml"), memory("")).unwrap();
    eventually("the outbox is silent", Duration::from_secs(20), || async {
        let before = app.requests("/orders").len();
        transact(&sidecar, &[upsert("1", &json!("heard"), &json!({}))]).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        (app.requests("/orders").len() == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_committed_before_a_crash_is_published_after_it() {
    if !Binary::find().unwrap().is_ours() {
        return; // the broker is ours
    }
    let data = ResourceDir::new().unwrap();
    let root = data.path().display();
    let store = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: mystore}}\nspec: {{type: state.sqlite, version: v1, \
         metadata: [{OUTBOX}, {{name: connectionString, value: '{root}/state.db'}}]}}\n"
    );
    let broker = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: mypub}}\nspec: {{type: pubsub.embedded, version: v1, \
         metadata: [{{name: directory, value: '{root}'}}]}}\n"
    );
    let dir = ResourceDir::new().unwrap().with("store.yaml", &store).unwrap().with("pubsub.yaml", &broker).unwrap();
    let id = unique("outbox");
    // An app that never comes: the events stay on the internal topic.
    let absent = pillion_testkit::reserve().unwrap();
    let mut first = SidecarOptions::new(&id).app_port(absent.port()).resources(dir.path()).spawn().unwrap();
    eventually("the API answers", Duration::from_secs(20), || async {
        first.get("/v1.0/healthz/outbound").await.is_ok_and(|reply| reply.status == 204).then_some(())
    })
    .await;
    for number in 0..20 {
        assert_eq!(transact(&first, &[upsert(&number.to_string(), &json!(number), &json!({}))]).await, 204);
    }
    first.kill();
    drop(first);
    let app = app().await;
    let second = SidecarOptions::new(&id).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    app.wait_for("/orders", 20).await;
    let mut numbers: Vec<u32> = app
        .requests("/orders")
        .iter()
        .map(|request| request.json()["data"].as_str().unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    drop(second);
}
