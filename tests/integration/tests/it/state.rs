//! The state API over the in-memory store.

use std::time::Duration;

use http::Method;
use pillion_testkit::{ResourceDir, Sidecar, SidecarOptions, eventually};
use serde_json::json;

use crate::fixture::{STATE, unique};

async fn sidecar() -> (ResourceDir, Sidecar) {
    let dir = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap();
    let sidecar = SidecarOptions::new(&unique("state")).resources(dir.path()).start().await.unwrap();
    (dir, sidecar)
}

async fn save(sidecar: &Sidecar, body: serde_json::Value) -> (u16, String) {
    let reply = sidecar.post("/v1.0/state/mystore", &body.to_string()).await.unwrap();
    (reply.status.as_u16(), reply.error_code())
}

#[tokio::test]
async fn what_is_saved_is_read_until_deleted() {
    let (_dir, sidecar) = sidecar().await;
    assert_eq!(save(&sidecar, json!([{"key": "a", "value": {"n": 1}}, {"key": "b", "value": "text"}])).await.0, 204);
    let a = sidecar.get("/v1.0/state/mystore/a").await.unwrap();
    assert_eq!(
        (a.status.as_u16(), a.text().as_str(), a.header("content-type")),
        (200, r#"{"n":1}"#, "application/json")
    );
    assert!(!a.header("etag").is_empty());
    assert_eq!(sidecar.get("/v1.0/state/mystore/b").await.unwrap().text(), r#""text""#);
    assert_eq!(sidecar.send(Method::DELETE, "/v1.0/state/mystore/a", &[], "").await.unwrap().status, 204);
    assert_eq!(sidecar.get("/v1.0/state/mystore/a").await.unwrap().status, 204);
}

#[tokio::test]
async fn put_saves_too_and_nothing_is_nothing() {
    let (_dir, sidecar) = sidecar().await;
    let put = sidecar.send(Method::PUT, "/v1.0/state/mystore", &[], r#"[{"key":"a","value":1}]"#).await.unwrap();
    assert_eq!(put.status, 204);
    assert_eq!(sidecar.get("/v1.0/state/mystore/a").await.unwrap().text(), "1");
    assert_eq!(save(&sidecar, json!([])).await.0, 204);
}

#[tokio::test]
async fn a_stale_etag_is_a_conflict() {
    let (_dir, sidecar) = sidecar().await;
    save(&sidecar, json!([{"key": "a", "value": 1}])).await;
    let old = sidecar.get("/v1.0/state/mystore/a").await.unwrap().header("etag").to_owned();
    assert_eq!(save(&sidecar, json!([{"key": "a", "value": 2, "etag": old}])).await.0, 204);
    assert_eq!(
        save(&sidecar, json!([{"key": "a", "value": 3, "etag": old}])).await,
        (409, "ERR_STATE_SAVE".to_owned())
    );
    let stale = sidecar.send(Method::DELETE, "/v1.0/state/mystore/a", &[("if-match", &old)], "").await.unwrap();
    assert_eq!((stale.status.as_u16(), stale.error_code()), (409, "ERR_STATE_DELETE".to_owned()));
    let fresh = sidecar.get("/v1.0/state/mystore/a").await.unwrap();
    assert_eq!(fresh.text(), "2");
    let deleted =
        sidecar.send(Method::DELETE, "/v1.0/state/mystore/a", &[("if-match", fresh.header("etag"))], "").await.unwrap();
    assert_eq!(deleted.status, 204);
}

#[tokio::test]
async fn many_are_read_at_once() {
    let (_dir, sidecar) = sidecar().await;
    save(&sidecar, json!([{"key": "a", "value": {"n": 1}}])).await;
    let reply = sidecar.post("/v1.0/state/mystore/bulk", r#"{"keys":["a","none"]}"#).await.unwrap();
    let mut items = reply.json().as_array().unwrap().clone();
    items.sort_by_key(|item| item["key"].to_string());
    assert_eq!((&items[0]["key"], &items[0]["data"]), (&json!("a"), &json!({"n": 1})));
    assert!(items[0]["etag"].is_string());
    assert_eq!(items[1], json!({"key": "none"}));
}

#[tokio::test]
async fn a_transaction_writes_and_deletes() {
    let (_dir, sidecar) = sidecar().await;
    save(&sidecar, json!([{"key": "old", "value": 1}])).await;
    let body = json!({"operations": [
        {"operation": "upsert", "request": {"key": "new", "value": {"n": 2}}},
        {"operation": "delete", "request": {"key": "old"}},
    ]});
    assert_eq!(sidecar.post("/v1.0/state/mystore/transaction", &body.to_string()).await.unwrap().status, 204);
    assert_eq!(sidecar.get("/v1.0/state/mystore/new").await.unwrap().text(), r#"{"n":2}"#);
    assert_eq!(sidecar.get("/v1.0/state/mystore/old").await.unwrap().status, 204);
    let unknown = json!({"operations": [{"operation": "swap", "request": {"key": "new"}}]});
    let reply = sidecar.post("/v1.0/state/mystore/transaction", &unknown.to_string()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (400, "ERR_NOT_SUPPORTED_STATE_OPERATION".to_owned()));
}

#[tokio::test]
async fn a_value_expires() {
    let (_dir, sidecar) = sidecar().await;
    save(&sidecar, json!([{"key": "a", "value": 1, "metadata": {"ttlInSeconds": "1"}}])).await;
    let reply = sidecar.get("/v1.0/state/mystore/a").await.unwrap();
    assert_eq!(reply.text(), "1");
    assert!(!reply.header("metadata.ttlExpireTime").is_empty(), "{:?}", reply.headers);
    eventually("the value to expire", Duration::from_secs(10), || async {
        (sidecar.get("/v1.0/state/mystore/a").await.unwrap().status == 204).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_done_is_named() {
    let (_dir, sidecar) = sidecar().await;
    let cases = [
        ("/v1.0/state/other", "[]", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("/v1.0/state/mystore", "{", 400, "ERR_MALFORMED_REQUEST"),
        ("/v1.0/state/mystore", r#"[{"value":1}]"#, 400, "ERR_MALFORMED_REQUEST"),
        ("/v1.0/state/mystore", r#"[{"key":"a||b","value":1}]"#, 400, "ERR_MALFORMED_REQUEST"),
        ("/v1.0/state/mystore/bulk", "[", 400, "ERR_MALFORMED_REQUEST"),
        ("/v1.0/state/mystore/transaction", "{", 400, "ERR_MALFORMED_REQUEST"),
        ("/v1.0-alpha1/state/mystore/query", "{}", 500, "ERR_STATE_STORE_NOT_SUPPORTED"),
    ];
    for (path, body, status, code) in cases {
        let reply = sidecar.post(path, body).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.error_code()), (status, code.to_owned()), "{path} {body}");
    }
}

#[tokio::test]
async fn details_of_an_unknown_store_follow_the_error_model() {
    let (_dir, sidecar) = sidecar().await;
    let error = sidecar.get("/v1.0/state/other/a").await.unwrap().json();
    assert_eq!(error["errorCode"], "ERR_STATE_STORE_NOT_FOUND");
    assert_eq!(error["message"], "state store other is not found");
    let info = error["details"]
        .as_array()
        .unwrap()
        .iter()
        .find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo");
    let info = info.unwrap();
    assert_eq!((&info["domain"], &info["reason"]), (&json!("dapr.io"), &json!("DAPR_STATE_NOT_FOUND")));
}

#[tokio::test]
async fn without_a_store_nothing_is_configured() {
    let sidecar = SidecarOptions::new(&unique("state")).start().await.unwrap();
    let reply = sidecar.get("/v1.0/state/any/a").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_STATE_STORE_NOT_CONFIGURED".to_owned()));
}
