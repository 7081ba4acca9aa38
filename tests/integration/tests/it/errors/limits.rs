//! Bodies and messages that are larger than `--max-body-size`, and paths that are none.

use bytes::Bytes;
use http::Method;
use pillion_proto::common::v1::StateItem;
use pillion_proto::runtime::v1 as pb;
use serde_json::{Value, json};

use super::grpc::client;
use super::{Differences, Loaded, info, resource, shown_reply, shown_status};

#[tokio::test]
async fn bodies_over_http() {
    let loaded = Loaded::start(&["--max-body-size=1Ki"]).await;
    let malformed = |text: &str| json!({"errorCode": "ERR_MALFORMED_REQUEST", "message": text});
    let of_pubsub = |code: &str, message: &str, reason: &str, metadata: Value| {
        let details = json!([resource("pubsub", "mypub", message), info(reason, metadata)]);
        json!({"errorCode": code, "message": message, "details": details})
    };
    let publish = of_pubsub(
        "ERR_PUBSUB_PUBLISH_MESSAGE",
        "error when publishing to topic t in pubsub mypub: stream too large",
        "DAPR_PUBSUB_PUBLISH_MESSAGE",
        json!({"topic": "t", "error": "stream too large"}),
    );
    let bulk = of_pubsub(
        "ERR_PUBSUB_EVENTS_SER",
        "error when unmarshaling the request for topic t pubsub mypub: stream too large",
        "DAPR_PUBSUB_UNMARSHAL_EVENTS",
        json!({"appID": "<app>"}),
    );
    let body_read =
        || json!({"errorCode": "ERR_BODY_READ", "message": "failed to read request body: stream too large"});
    let invoke =
        json!({"errorCode": "ERR_DIRECT_INVOKE", "message": "failed to invoke, id: nobody-has-this-id, err: …"});
    let large = "x".repeat(2000);
    let save = format!(r#"[{{"key":"a","value":"{large}"}}]"#);
    let keys = format!(r#"{{"keys":["{large}"]}}"#);
    let steps = format!(r#"{{"operations":[{{"operation":"delete","request":{{"key":"{large}"}}}}]}}"#);
    let events = format!(r#"[{{"entryId":"1","contentType":"text/plain","event":"{large}"}}]"#);
    let cases = [
        (Method::POST, "/v1.0/state/mystore", &save, 400, malformed("stream too large")),
        (
            Method::POST,
            "/v1.0/state/mystore/bulk",
            &keys,
            400,
            malformed("failed deserializing HTTP body: stream too large"),
        ),
        (
            Method::POST,
            "/v1.0/state/mystore/transaction",
            &steps,
            400,
            malformed("failed deserializing HTTP body: stream too large"),
        ),
        (Method::POST, "/v1.0-alpha1/state/mystore/query", &large, 400, body_read()),
        (Method::POST, "/v1.0/publish/mypub/t", &large, 500, publish),
        (Method::POST, "/v1.0/publish/bulk/mypub/t", &events, 400, bulk),
        (Method::PUT, "/v1.0/metadata/a", &large, 400, body_read()),
        (Method::POST, "/v1.0/invoke/nobody-has-this-id/method/x", &large, 500, invoke),
    ];
    let mut differences = Differences::default();
    for (verb, path, body, status, expected) in cases {
        let reply = loaded.sidecar.send(verb.clone(), path, &[], body.clone()).await.unwrap();
        let expected = json!([status, "application/json", expected]);
        differences.compare(loaded.sidecar.app_id(), path, &expected, &shown_reply(&reply));
        let chunks = vec![Bytes::from(body.clone())];
        let reply = pillion_testkit::chunked(loaded.sidecar.http, verb, path, &[], chunks).await.unwrap();
        differences.compare(loaded.sidecar.app_id(), &format!("{path}, chunked"), &expected, &shown_reply(&reply));
    }
    differences.none();
}

#[tokio::test]
async fn messages_over_grpc() {
    let loaded = Loaded::start(&["--max-body-size=1Ki"]).await;
    let mut client = client(&loaded.sidecar).await;
    let item = StateItem { key: "a".to_owned(), value: vec![b'x'; 2000].into(), ..StateItem::default() };
    let request = pb::SaveStateRequest { store_name: "mystore".to_owned(), states: vec![item] };
    let status = client.save_state(request).await.unwrap_err();
    let expected = json!(["ResourceExhausted", "grpc: received message larger than max (2018 vs. 1024)", []]);
    let mut differences = Differences::default();
    differences.compare("", "save", &expected, &shown_status(&status));
    let event = pb::PublishEventRequest {
        pubsub_name: "mypub".to_owned(),
        topic: "t".to_owned(),
        data: vec![b'x'; 2000].into(),
        ..Default::default()
    };
    let status = client.publish_event(event).await.unwrap_err();
    let expected = json!(["ResourceExhausted", "grpc: received message larger than max (2013 vs. 1024)", []]);
    differences.compare("", "publish", &expected, &shown_status(&status));
    differences.none();
}

#[tokio::test]
async fn escapes_that_are_none() {
    let loaded = Loaded::start(&[]).await;
    let mut differences = Differences::default();
    for path in ["/v1.0/state/mystore/%zz", "/v1.0/state/mystore/a%", "/v1.0/invoke/a/method/%2", "/%"] {
        let reply = loaded.sidecar.get(path).await.unwrap();
        let expected = json!([400, "text/plain; charset=utf-8", "400 Bad Request"]);
        differences.compare("", path, &expected, &shown_reply(&reply));
    }
    differences.none();
}

#[tokio::test]
async fn parameters_are_unescaped_as_values_of_a_query() {
    let loaded = Loaded::start(&[]).await;
    let body = r#"[{"key":"a b/c+d%","value":1}]"#;
    assert_eq!(loaded.sidecar.post("/v1.0/state/mystore", body).await.unwrap().status, 204);
    for path in ["/v1.0/state/mystore/a+b%2Fc%2Bd%25", "//v1.0/./state//mystore/a%20b%2fc%2bd%25/"] {
        assert_eq!(loaded.sidecar.get(path).await.unwrap().text(), "1", "{path}");
    }
    // What is escaped twice is unescaped once.
    assert_eq!(loaded.sidecar.get("/v1.0/state/mystore/a%2520b").await.unwrap().status, 204);
}

#[tokio::test]
async fn bodies_are_read_up_to_the_end_of_their_value() {
    let loaded = Loaded::start(&[]).await;
    for (path, body, status) in [
        ("/v1.0/state/mystore", r#"[{"key":"a","value":1,"unknown":2}] and more"#, 204),
        ("/v1.0/state/mystore/bulk", r#"{"keys":[],"unknown":2} and more"#, 200),
        ("/v1.0/state/mystore/transaction", r#"{"operations":[],"unknown":2} and more"#, 204),
        ("/v1.0/publish/bulk/mypub/t", r#"[] and more"#, 204),
        ("/v1.0/state/mystore", "null", 204),
    ] {
        let reply = loaded.sidecar.post(path, body).await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{path} {body}: {}", reply.text());
    }
}
