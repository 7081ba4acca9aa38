//! Errors over HTTP.

use http::Method;
use pillion_testkit::{Sidecar, SidecarOptions};
use serde_json::{Value, json};

use super::{Differences, Loaded, info, resource, shown_reply};
use crate::fixture::unique;

const JSON: (&str, &str) = ("content-type", "application/json");
const EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");

/// Verb and path, headers, body, expected status, expected body.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u16, Value);

async fn check(sidecar: &Sidecar, cases: &[Case<'_>]) {
    let mut differences = Differences::default();
    for (call, headers, body, status, expected) in cases {
        let call = call.replace("<app>", sidecar.app_id());
        let (verb, path) = call.split_once(' ').unwrap();
        let reply = sidecar.send(Method::try_from(verb).unwrap(), path, headers, body.to_string()).await.unwrap();
        let expected = json!([status, "application/json", expected]);
        differences.compare(sidecar.app_id(), &format!("{call} {body}"), &expected, &shown_reply(&reply));
    }
    differences.none();
}

fn legacy(code: &str, message: &str) -> Value {
    json!({"errorCode": code, "message": message})
}

fn rich(code: &str, message: &str, details: Value) -> Value {
    json!({"errorCode": code, "message": message, "details": details})
}

#[tokio::test]
async fn without_components() {
    let sidecar = SidecarOptions::new(&unique("errors")).start().await.unwrap();
    let state = |metadata: Value| {
        rich(
            "ERR_STATE_STORE_NOT_CONFIGURED",
            "state store any is not configured",
            json!([info("DAPR_STATE_NOT_CONFIGURED", metadata)]),
        )
    };
    let of_app = || state(json!({"appID": "<app>"}));
    let secrets = || legacy("ERR_SECRET_STORES_NOT_CONFIGURED", "secret store is not configured");
    let pubsub = |metadata: Value| {
        rich("ERR_PUBSUB_NOT_FOUND", "pubsub any is not found", json!([info("DAPR_PUBSUB_NOT_FOUND", metadata)]))
    };
    check(
        &sidecar,
        &[
            ("GET /v1.0/state/any/k", &[], "", 500, of_app()),
            ("DELETE /v1.0/state/any/k", &[], "", 500, of_app()),
            ("POST /v1.0/state/any", &[], "{", 500, of_app()),
            ("POST /v1.0/state/any/bulk", &[], "{", 500, of_app()),
            ("POST /v1.0/state/any/transaction", &[], "{", 500, of_app()),
            ("POST /v1.0-alpha1/state/any/query", &[], "{", 500, state(Value::Null)),
            ("GET /v1.0/secrets/any/k", &[], "", 500, secrets()),
            ("GET /v1.0/secrets/any/bulk", &[], "", 500, secrets()),
            ("POST /v1.0/publish/any/t", &[], "", 404, pubsub(json!({}))),
            ("POST /v1.0/publish/any/t?metadata.a=b", &[], "", 404, pubsub(json!({"a": "b"}))),
            ("POST /v1.0/publish/bulk/any/t", &[], "", 404, pubsub(json!({}))),
            ("POST /v1.0-alpha1/publish/bulk/any/t", &[], "", 404, pubsub(json!({}))),
        ],
    )
    .await;
}

#[tokio::test]
async fn health() {
    let sidecar = SidecarOptions::new(&unique("errors")).start().await.unwrap();
    let other = legacy("ERR_HEALTH_APPID_NOT_MATCH", "dapr app-id does not match");
    check(&sidecar, &[("GET /v1.0/healthz?appid=other", &[], "", 500, other)]).await;
}

#[tokio::test]
async fn invocation() {
    let sidecar = SidecarOptions::new(&unique("errors")).start().await.unwrap();
    let nobody =
        || legacy("ERR_DIRECT_INVOKE", "failed getting app id either from the URL path or the header dapr-app-id");
    let failed = |message: &str| legacy("ERR_DIRECT_INVOKE", message);
    check(
        &sidecar,
        &[
            ("GET /orders", &[], "", 404, nobody()),
            ("GET /", &[], "", 404, nobody()),
            ("GET /v1.0/invoke/app", &[], "", 404, nobody()),
            ("GET /v1.0/invoke//method/x", &[], "", 404, nobody()),
            ("PATCH /v1.0/state/mystore", &[], "", 404, nobody()),
            ("GET /v1.0/state/mystore/k/more", &[], "", 404, nobody()),
            ("POST /v1.0/publish/mypub", &[], "", 404, nobody()),
            (
                "GET /v1.0/invoke/nobody-has-this-id/method/x",
                &[],
                "",
                500,
                failed("failed to invoke, id: nobody-has-this-id, err: couldn't find service: nobody-has-this-id…"),
            ),
            ("GET /v1.0/invoke/<app>/method/x", &[], "", 500, failed("failed to invoke, id: <app>, err: …")),
            ("GET /v1.0/invoke/a.b.c.d/method/x", &[], "", 500, failed("failed to invoke, id: a.b.c.d, err: …")),
            (
                "GET /v1.0/invoke/http:%2F%2F127.0.0.1:1/method/x",
                &[],
                "",
                500,
                failed("failed to invoke, id: http://127.0.0.1:1, err: …"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn state() {
    let loaded = Loaded::start(&[]).await;
    let unknown = |metadata: Value| {
        rich(
            "ERR_STATE_STORE_NOT_FOUND",
            "state store other is not found",
            json!([info("DAPR_STATE_NOT_FOUND", metadata)]),
        )
    };
    let of_app = || unknown(json!({"appID": "<app>"}));
    let illegal = |field: Value| {
        let message = "api error: code = InvalidArgument desc = input key/keyPrefix 'a||b' can't contain '||'";
        let mut violation = json!({"description": message});
        if !field.is_null() {
            violation["field"] = field;
        }
        let bad = json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": [violation]});
        rich(
            "ERR_MALFORMED_REQUEST",
            message,
            json!([bad, resource("state", "mystore", ""), info("DAPR_STATE_ILLEGAL_KEY", Value::Null)]),
        )
    };
    let key = || illegal(json!("a||b"));
    let malformed = |message: &str| legacy("ERR_MALFORMED_REQUEST", message);
    let body = || malformed("failed deserializing HTTP body: unexpected EOF");
    let query = rich(
        "ERR_STATE_STORE_NOT_SUPPORTED",
        "state store does not support querying",
        json!([resource("state", "mystore", ""), info("DAPR_STATE_QUERYING_NOT_SUPPORTED", Value::Null)]),
    );
    let upsert = r#"{"operations":[{"operation":"upsert","request":{"key":"a||b","value":1}}]}"#;
    let delete = r#"{"operations":[{"operation":"delete","request":{"key":"a||b"}}]}"#;
    let swap = r#"{"operations":[{"operation":"swap","request":{"key":"a"}}]}"#;
    check(
        &loaded.sidecar,
        &[
            ("GET /v1.0/state/other/k", &[], "", 400, of_app()),
            ("DELETE /v1.0/state/other/k", &[], "", 400, of_app()),
            ("POST /v1.0/state/other", &[], "{", 400, of_app()),
            ("POST /v1.0/state/other/bulk", &[], "{", 400, of_app()),
            ("POST /v1.0/state/other/transaction", &[], "{", 400, of_app()),
            ("POST /v1.0-alpha1/state/other/query", &[], "{", 400, unknown(Value::Null)),
            ("GET /v1.0/state/mystore/a%7C%7Cb", &[], "", 400, key()),
            ("DELETE /v1.0/state/mystore/a%7C%7Cb", &[], "", 400, key()),
            ("POST /v1.0/state/mystore", &[], r#"[{"key":"a||b","value":1}]"#, 400, key()),
            ("POST /v1.0/state/mystore/bulk", &[], r#"{"keys":["a","a||b"]}"#, 400, key()),
            ("POST /v1.0/state/mystore/transaction", &[], upsert, 400, illegal(Value::Null)),
            ("POST /v1.0/state/mystore/transaction", &[], delete, 400, illegal(Value::Null)),
            ("POST /v1.0/state/mystore", &[], "", 400, malformed("EOF")),
            ("POST /v1.0/state/mystore", &[], "[{", 400, malformed("unexpected EOF")),
            ("POST /v1.0/state/mystore", &[], r#"{"key":"a"}"#, 400, malformed("…")),
            ("POST /v1.0/state/mystore", &[], r#"[{"value":1}]"#, 400, malformed("\"key\" is a required field")),
            ("POST /v1.0/state/mystore/bulk", &[], "", 400, malformed("failed deserializing HTTP body: EOF")),
            ("POST /v1.0/state/mystore/bulk", &[], "[", 400, body()),
            ("POST /v1.0/state/mystore/transaction", &[], "", 400, malformed("failed deserializing HTTP body: EOF")),
            ("POST /v1.0/state/mystore/transaction", &[], "{", 400, body()),
            (
                "POST /v1.0/state/mystore/transaction",
                &[],
                swap,
                400,
                legacy("ERR_NOT_SUPPORTED_STATE_OPERATION", "operation type swap not supported"),
            ),
            ("POST /v1.0-alpha1/state/mystore/query", &[], "{", 500, query),
        ],
    )
    .await;
}

#[tokio::test]
async fn etags() {
    let loaded = Loaded::start(&[]).await;
    assert_eq!(loaded.sidecar.post("/v1.0/state/mystore", r#"[{"key":"a","value":1}]"#).await.unwrap().status, 204);
    let stale = "possible etag mismatch. error from state store: …";
    let save = |text: &str| legacy("ERR_STATE_SAVE", &format!("failed saving state in state store mystore: {text}"));
    let delete = |text: &str| legacy("ERR_STATE_DELETE", &format!("failed deleting state with key a: {text}"));
    let step = r#"{"operations":[{"operation":"upsert","request":{"key":"a","value":1,"etag":"7"}}]}"#;
    check(
        &loaded.sidecar,
        &[
            ("POST /v1.0/state/mystore", &[], r#"[{"key":"a","value":1,"etag":"7"}]"#, 409, save(stale)),
            ("DELETE /v1.0/state/mystore/a", &[("if-match", "7")], "", 409, delete(stale)),
            (
                "POST /v1.0/state/mystore/transaction",
                &[],
                step,
                500,
                legacy("ERR_STATE_TRANSACTION", &format!("error while executing state transaction: {stale}")),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn secrets() {
    let loaded = Loaded::start(&[]).await;
    let unknown = || legacy("ERR_SECRET_STORE_NOT_FOUND", "failed finding secret store with key other");
    check(
        &loaded.sidecar,
        &[
            ("GET /v1.0/secrets/other/one", &[], "", 401, unknown()),
            ("GET /v1.0/secrets/other/bulk", &[], "", 401, unknown()),
            (
                "GET /v1.0/secrets/mysecrets/two",
                &[],
                "",
                403,
                legacy("ERR_PERMISSION_DENIED", r#"access denied by policy to get "two" from "mysecrets""#),
            ),
            (
                "GET /v1.0/secrets/mysecrets/none",
                &[],
                "",
                500,
                legacy(
                    "ERR_SECRET_GET",
                    "failed getting secret with key none from secret store mysecrets: secret none not found",
                ),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn publishing() {
    let loaded = Loaded::start(&[]).await;
    let of_pubsub = |code: &str, message: &str, reason: &str, metadata: Value| {
        rich(code, message, json!([resource("pubsub", "mypub", message), info(reason, metadata)]))
    };
    let missing =
        rich("ERR_PUBSUB_NOT_FOUND", "pubsub other is not found", json!([info("DAPR_PUBSUB_NOT_FOUND", json!({}))]));
    let forbidden = || {
        let message = "topic secret is not allowed for app id <app>";
        of_pubsub(
            "ERR_PUBSUB_FORBIDDEN",
            message,
            "DAPR_PUBSUB_FORBIDDEN",
            json!({"topic": "secret", "error": message}),
        )
    };
    let raw = || {
        of_pubsub(
            "ERR_PUBSUB_REQUEST_METADATA",
            "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'x'",
            "DAPR_PUBSUB_METADATA_DESERIALIZATION",
            json!({"rawPayload": "x"}),
        )
    };
    let cloud_event = || {
        of_pubsub(
            "ERR_PUBSUB_CLOUD_EVENTS_SER",
            "cannot create cloudevent",
            "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
            json!({"appID": "<app>", "error": "…"}),
        )
    };
    let ids = || {
        let error = "entryId is duplicated or not present for entry";
        of_pubsub(
            "ERR_PUBSUB_EVENTS_SER",
            &format!("error marshaling events to bytes for topic t pubsub mypub. error: {error}"),
            "DAPR_PUBSUB_MARSHAL_EVENTS",
            json!({"appID": "<app>", "error": error}),
        )
    };
    let unreadable = |error: &str| {
        of_pubsub(
            "ERR_PUBSUB_EVENTS_SER",
            &format!("error when unmarshaling the request for topic t pubsub mypub: {error}"),
            "DAPR_PUBSUB_UNMARSHAL_EVENTS",
            json!({"appID": "<app>"}),
        )
    };
    let mismatch = |error: &str| {
        of_pubsub(
            "ERR_PUBSUB_EVENTS_SER",
            &format!("error when marshalling cloud event envelope for topic t pubsub mypub: {error}"),
            "DAPR_PUBSUB_MARSHAL_ENVELOPE",
            json!({"appID": "<app>", "error": error}),
        )
    };
    let entry = r#"[{"entryId":"1","event":"a","contentType":"text/plain"}]"#;
    let twice = r#"[{"entryId":"1","event":"a","contentType":"text/plain"},{"entryId":"1","event":"a","contentType":"text/plain"}]"#;
    let nameless = r#"[{"event":"a","contentType":"text/plain"}]"#;
    let no_text = r#"[{"entryId":"1","event":1,"contentType":"text/plain"}]"#;
    let no_bytes = r#"[{"entryId":"1","event":1,"contentType":"application/octet-stream"}]"#;
    let no_base64 = r#"[{"entryId":"1","event":"%","contentType":"application/octet-stream"}]"#;
    let no_type = r#"[{"entryId":"1","event":"a"}]"#;
    let no_event = r#"[{"entryId":"1","event":"{","contentType":"application/cloudevents+json"}]"#;
    check(
        &loaded.sidecar,
        &[
            ("POST /v1.0/publish/other/t", &[], "", 404, missing.clone()),
            ("POST /v1.0/publish/bulk/other/t", &[], "{", 404, missing),
            ("POST /v1.0/publish/mypub/secret", &[JSON], "{}", 403, forbidden()),
            ("POST /v1.0/publish/bulk/mypub/secret", &[], entry, 403, forbidden()),
            ("POST /v1.0/publish/mypub/t?metadata.rawPayload=x", &[], "", 400, raw()),
            ("POST /v1.0/publish/bulk/mypub/t?metadata.rawPayload=x", &[], "{", 400, raw()),
            ("POST /v1.0/publish/mypub/t", &[EVENT], "{", 500, cloud_event()),
            ("POST /v1.0/publish/bulk/mypub/t", &[], no_event, 500, cloud_event()),
            ("POST /v1.0/publish/bulk/mypub/t", &[], twice, 400, ids()),
            ("POST /v1.0/publish/bulk/mypub/t", &[], nameless, 400, ids()),
            ("POST /v1.0/publish/bulk/mypub/t", &[], "", 400, unreadable("EOF")),
            ("POST /v1.0/publish/bulk/mypub/t", &[], no_text, 400, mismatch("error: mismatch between contentType and event")),
            ("POST /v1.0/publish/bulk/mypub/t", &[], no_bytes, 400, mismatch("error: mismatch between contentType and event")),
            ("POST /v1.0/publish/bulk/mypub/t", &[], no_base64, 400, mismatch(
                "error: unable to decode base64 application/octect-stream data: illegal base64 data at input byte 0",
            )),
            ("POST /v1.0/publish/bulk/mypub/t", &[], no_type, 400, mismatch("error: mismatch between contentType and event")),
        ],
    )
    .await;
}
