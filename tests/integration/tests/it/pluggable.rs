//! Components of another process, over a Unix socket.

use std::time::Duration;

use http::Method;
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc::ErrorInfo;
use pillion_testkit::{
    Answer, FakeApp, PluggableKind, PluggableServer, ResourceDir, Sidecar, SidecarOptions, eventually, status_with,
};
use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

use crate::fixture::unique;

const LIMIT: Duration = Duration::from_secs(20);

/// A component of each of `blocks` (`state`, `pubsub`, `secretstores`), named after it.
fn resources(blocks: &[&str]) -> ResourceDir {
    let mut dir = ResourceDir::new().unwrap();
    for block in blocks {
        let text = format!(
            "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: my{block}}}
spec:
  type: {block}.mine
  version: v1
  metadata:
  - {{name: someKey, value: 'for {block}'}}
"
        );
        dir = dir.with(&format!("{block}.yaml"), &text).unwrap();
    }
    dir
}

struct Plugged {
    component: PluggableServer,
    sidecar: Sidecar,
    _sockets: TempDir,
    _resources: ResourceDir,
}

async fn plugged(kinds: &[PluggableKind], blocks: &[&str], app_port: Option<u16>) -> Plugged {
    let sockets = tempfile::tempdir().unwrap();
    let component = PluggableServer::start(sockets.path(), "mine", kinds).unwrap();
    let resources = resources(blocks);
    let mut options = SidecarOptions::new(&unique("pluggable"))
        .resources(resources.path())
        .environment("DAPR_COMPONENTS_SOCKETS_FOLDER", &sockets.path().display().to_string());
    if let Some(port) = app_port {
        options = options.app_port(port);
    }
    let sidecar = options.start().await.unwrap();
    Plugged { component, sidecar, _sockets: sockets, _resources: resources }
}

#[tokio::test]
async fn state_is_kept_by_the_component() {
    let plugged = plugged(&[PluggableKind::State], &["state"], None).await;
    let sidecar = &plugged.sidecar;
    sidecar
        .wait_for_log(
            "pluggable component 'mine' was successfully registered for 'dapr.proto.components.v1.StateStore'",
        )
        .await;
    let saved =
        sidecar.post("/v1.0/state/mystate", r#"[{"key":"a","value":1},{"key":"b","value":"x"}]"#).await.unwrap();
    assert_eq!(saved.status, 204, "{}", saved.text());
    assert_eq!(sidecar.get("/v1.0/state/mystate/a").await.unwrap().json(), json!(1));
    assert_eq!(sidecar.get("/v1.0/state/mystate/none").await.unwrap().status, 204);
    let bulk = sidecar.post("/v1.0/state/mystate/bulk", r#"{"keys":["b","none","a"]}"#).await.unwrap().json();
    let keys: Vec<&str> = bulk.as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["b", "none", "a"], "in the order asked");
    let steps = r#"{"operations":[{"operation":"delete","request":{"key":"a"}},{"operation":"upsert","request":{"key":"c","value":3}}]}"#;
    assert_eq!(sidecar.post("/v1.0/state/mystate/transaction", steps).await.unwrap().status, 204);
    assert_eq!(sidecar.get("/v1.0/state/mystate/a").await.unwrap().status, 204);
    let calls = plugged.component.calls();
    let first = calls.iter().find(|call| call.method == "StateStore/Init").unwrap();
    assert_eq!(first.properties.get("someKey").map(String::as_str), Some("for state"));
    assert!(calls.iter().filter(|call| call.method.starts_with("State")).all(|call| call.instance == "mystate"));
}

#[tokio::test]
async fn errors_of_the_component_have_their_status() {
    let plugged = plugged(&[PluggableKind::State], &["state"], None).await;
    let (sidecar, component) = (&plugged.sidecar, &plugged.component);
    assert_eq!(sidecar.post("/v1.0/state/mystate", r#"[{"key":"a","value":1}]"#).await.unwrap().status, 204);
    for (etag, status) in [("99", 409), ("not-a-number", 400)] {
        let path = "/v1.0/state/mystate/a";
        let reply = sidecar.send(Method::DELETE, path, &[("if-match", etag)], "").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.error_code()), (status, "ERR_STATE_DELETE".to_owned()), "{etag}");
    }
    component.fail_next("StateStore/Get", tonic::Status::unavailable("asleep"));
    let reply = sidecar.get("/v1.0/state/mystate/a").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_STATE_GET".to_owned()));
    assert!(reply.text().contains("rpc error: code = Unavailable desc = asleep"), "{}", reply.text());
    let metadata = [("kit_error", "true"), ("http_code", "506"), ("tag", "T")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let chosen = ErrorInfo { reason: "R".into(), domain: "D".into(), metadata };
    component.fail_next("StateStore/Get", status_with(Code::DataLoss, "lost", Any::from_message(&chosen)));
    let reply = sidecar.get("/v1.0/state/mystate/a").await.unwrap();
    assert_eq!(reply.status, 506);
    assert_eq!(
        reply.json(),
        json!({"errorCode": "ERR_STATE_GET",
            "message": "fail to get a from state store mystate: api error: code = DataLoss desc = lost"})
    );
}

#[tokio::test]
async fn messages_are_acknowledged_or_refused_and_the_end_refuses_none() {
    let subscription = json!([{"pubsubname": "mypubsub", "topic": "a", "route": "/a"}]);
    let app = FakeApp::start(move |request, before| match request.path.as_str() {
        "/dapr/subscribe" => Answer::json(&subscription),
        _ if before == 0 => Answer::status(http::StatusCode::INTERNAL_SERVER_ERROR),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let plugged = plugged(&[PluggableKind::PubSub], &["pubsub"], Some(app.port())).await;
    let (sidecar, component) = (&plugged.sidecar, &plugged.component);
    eventually("the subscription", LIMIT, || async { component.subscribed("a").then_some(()) }).await;
    assert_eq!(sidecar.post("/v1.0/publish/mypubsub/a", r#"{"n":1}"#).await.unwrap().status, 204);
    let requests = app.wait_for("/a", 2).await;
    assert_eq!(requests[1].json()["data"], json!({"n": 1}));
    let answers = eventually("two answers", LIMIT, || async {
        let answers = component.acknowledged();
        (answers.len() >= 2).then_some(answers)
    })
    .await;
    assert!(answers[0].1.is_some(), "the first try was refused: {answers:?}");
    assert_eq!(answers[1], ("1".to_owned(), None));
    assert!(component.calls().iter().all(|call| call.instance == "mypubsub"));
    plugged.sidecar.stop().await.unwrap();
    assert_eq!(plugged.component.acknowledged().len(), 2);
}

#[tokio::test]
async fn secrets_come_from_the_component() {
    let plugged = plugged(&[PluggableKind::Secrets], &["secretstores"], None).await;
    let one = plugged.sidecar.get("/v1.0/secrets/mysecretstores/conftestsecret").await.unwrap();
    assert_eq!(one.json(), json!({"conftestsecret": "abcd"}));
    let missing = plugged.sidecar.get("/v1.0/secrets/mysecretstores/none").await.unwrap();
    assert_eq!((missing.status.as_u16(), missing.error_code()), (500, "ERR_SECRET_GET".to_owned()));
}
