//! Publishing and delivery over the in-memory broker.

use http::StatusCode;
use pillion_testkit::{Answer, FakeApp, Recorded, ResourceDir, Sidecar, SidecarOptions};
use serde_json::{Value, json};

use crate::fixture::{PUBSUB, unique};

struct Subscriber {
    app: FakeApp,
    sidecar: Sidecar,
    _dir: ResourceDir,
}

impl Subscriber {
    /// An application that asks for `subscriptions` and answers events with `handler`.
    async fn start(subscriptions: Value, handler: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(subscriptions, "", handler).await
    }

    async fn with(
        subscriptions: Value,
        resources: &str,
        handler: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let app = FakeApp::start(move |request, before| match request.path.as_str() {
            "/dapr/subscribe" => Answer::json(&subscriptions),
            _ => handler(request, before),
        });
        let app = app.await.unwrap();
        let dir =
            ResourceDir::new().unwrap().with("pubsub.yaml", PUBSUB).unwrap().with("more.yaml", resources).unwrap();
        let sidecar =
            SidecarOptions::new(&unique("pubsub")).app_port(app.port()).resources(dir.path()).start().await.unwrap();
        Self { app, sidecar, _dir: dir }
    }

    async fn publish(&self, topic: &str, headers: &[(&str, &str)], body: &str) {
        let path = format!("/v1.0/publish/mypub/{topic}");
        let reply = self.sidecar.send(http::Method::POST, &path, headers, body.to_owned()).await.unwrap();
        assert_eq!(reply.status, 204, "{}", reply.text());
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn json_is_wrapped_in_a_cloud_event() {
    let subscriber =
        Subscriber::start(json!([{"pubsubname": "mypub", "topic": "a", "route": "/a"}]), |_, _| Answer::default())
            .await;
    subscriber.publish("a", &[JSON], r#"{"n":1}"#).await;
    let request = &subscriber.app.wait_for("/a", 1).await[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), "application/cloudevents+json");
    let event = request.json();
    let expected = [
        ("data", json!({"n": 1})),
        ("datacontenttype", json!("application/json")),
        ("pubsubname", json!("mypub")),
        ("source", json!(subscriber.sidecar.app_id())),
        ("specversion", json!("1.0")),
        ("topic", json!("a")),
        ("type", json!("com.dapr.event.sent")),
    ];
    for (name, value) in expected {
        assert_eq!(event[name], value, "{name}");
    }
    for name in ["id", "time", "traceid", "traceparent"] {
        assert!(event[name].is_string(), "{name}: {event}");
    }
}

#[tokio::test]
async fn text_bytes_and_ready_made_events_keep_their_form() {
    let subscriber =
        Subscriber::start(json!([{"pubsubname": "mypub", "topic": "a", "route": "/a"}]), |_, _| Answer::default())
            .await;
    subscriber.publish("a", &[("content-type", "text/plain")], "words").await;
    assert_eq!(subscriber.app.wait_for("/a", 1).await[0].json()["data"], "words");
    subscriber.publish("a", &[("content-type", "application/octet-stream")], "bytes").await;
    assert_eq!(subscriber.app.wait_for("/a", 2).await[1].json()["data_base64"], "Ynl0ZXM=");
    let own = json!({"specversion": "1.0", "id": "mine", "source": "me", "type": "kind", "data": 7, "datacontenttype": "application/json"});
    subscriber.publish("a", &[("content-type", "application/cloudevents+json")], &own.to_string()).await;
    let event = subscriber.app.wait_for("/a", 3).await[2].json();
    assert_eq!(
        (&event["id"], &event["source"], &event["type"], &event["data"]),
        (&json!("mine"), &json!("me"), &json!("kind"), &json!(7))
    );
}

#[tokio::test]
async fn attributes_can_be_set_by_metadata() {
    let subscriber =
        Subscriber::start(json!([{"pubsubname": "mypub", "topic": "a", "route": "/a"}]), |_, _| Answer::default())
            .await;
    subscriber.publish("a?metadata.cloudevent.id=own-id&metadata.cloudevent.type=own-type", &[JSON], "1").await;
    let event = subscriber.app.wait_for("/a", 1).await[0].json();
    assert_eq!((&event["id"], &event["type"]), (&json!("own-id"), &json!("own-type")));
}

#[tokio::test]
async fn a_raw_payload_is_wrapped_for_the_reader() {
    let subscription =
        json!([{"pubsubname": "mypub", "topic": "raw", "route": "/raw", "metadata": {"rawPayload": "true"}}]);
    let subscriber = Subscriber::start(subscription, |_, _| Answer::default()).await;
    subscriber.publish("raw?metadata.rawPayload=true", &[JSON], r#"{"n":1}"#).await;
    let event = subscriber.app.wait_for("/raw", 1).await[0].json();
    assert_eq!(
        (&event["data_base64"], &event["datacontenttype"]),
        (&json!("eyJuIjoxfQ=="), &json!("application/octet-stream"))
    );
}

#[tokio::test]
async fn rules_choose_the_route() {
    let subscriptions = json!([{"pubsubname": "mypub", "topic": "a", "routes": {
        "rules": [{"match": r#"event.type == "big""#, "path": "/big"}, {"match": r#"event.type == "small""#, "path": "/small"}],
        "default": "/other",
    }}]);
    let subscriber = Subscriber::start(subscriptions, |_, _| Answer::default()).await;
    for (kind, path) in [("big", "/big"), ("small", "/small"), ("odd", "/other")] {
        subscriber.publish(&format!("a?metadata.cloudevent.type={kind}"), &[JSON], "1").await;
        subscriber.app.wait_for(path, 1).await;
    }
    let metadata = subscriber.sidecar.get("/v1.0/metadata").await.unwrap().json();
    let listed = &metadata["subscriptions"][0];
    assert_eq!((&listed["type"], &listed["topic"]), (&json!("PROGRAMMATIC"), &json!("a")));
    assert_eq!(listed["rules"][0], json!({"match": r#"event.type == "big""#, "path": "/big"}));
}

#[tokio::test]
async fn retry_comes_again_and_drop_does_not() {
    let subscriptions = json!([
        {"pubsubname": "mypub", "topic": "retry", "route": "/retry"},
        {"pubsubname": "mypub", "topic": "drop", "route": "/drop"},
        {"pubsubname": "mypub", "topic": "gone", "route": "/gone"},
    ]);
    // The in-memory broker itself gives up at once: that RETRY comes again is up to the policy.
    let policy = "
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: again}
spec:
  policies:
    retries:
      again: {policy: constant, duration: 10ms, maxRetries: 3}
  targets:
    components:
      mypub: {inbound: {retry: again}}
";
    let subscriber = Subscriber::with(subscriptions, policy, |request, before| match request.path.as_str() {
        "/retry" if before == 0 => Answer::json(&json!({"status": "RETRY"})),
        "/drop" => Answer::json(&json!({"status": "DROP"})),
        "/gone" => Answer::status(StatusCode::NOT_FOUND),
        _ => Answer::json(&json!({"status": "SUCCESS"})),
    });
    let subscriber = subscriber.await;
    for topic in ["drop", "gone", "retry"] {
        subscriber.publish(topic, &[JSON], "1").await;
    }
    let tries = subscriber.app.wait_for("/retry", 2).await;
    assert_eq!(tries[0].json()["id"], tries[1].json()["id"]);
    for path in ["/drop", "/gone"] {
        assert_eq!(subscriber.app.wait_for(path, 1).await.len(), 1, "{path}");
    }
}

#[tokio::test]
async fn what_fails_goes_to_the_dead_letter_topic() {
    let subscriptions = json!([
        {"pubsubname": "mypub", "topic": "bad", "route": "/bad", "deadLetterTopic": "dead"},
        {"pubsubname": "mypub", "topic": "dead", "route": "/dead"},
    ]);
    let subscriber = Subscriber::start(subscriptions, |request, _| match request.path.as_str() {
        "/bad" => Answer::status(StatusCode::INTERNAL_SERVER_ERROR),
        _ => Answer::default(),
    });
    let subscriber = subscriber.await;
    subscriber.publish("bad", &[JSON], r#"{"n":1}"#).await;
    let dead = &subscriber.app.wait_for("/dead", 1).await[0];
    assert_eq!(dead.json()["data"], json!({"n": 1}));
}

#[tokio::test]
async fn a_declared_subscription_delivers() {
    let declared = "
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: sub}
spec:
  pubsubname: mypub
  topic: declared
  routes: {default: /declared}
";
    let subscriber = Subscriber::with(json!([]), declared, |_, _| Answer::default()).await;
    subscriber.publish("declared", &[JSON], "1").await;
    subscriber.app.wait_for("/declared", 1).await;
    let metadata = subscriber.sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert_eq!(metadata["subscriptions"][0]["type"], "DECLARATIVE");
}

#[tokio::test]
async fn many_are_published_at_once() {
    let subscriber =
        Subscriber::start(json!([{"pubsubname": "mypub", "topic": "a", "route": "/a"}]), |_, _| Answer::default())
            .await;
    for path in ["/v1.0/publish/bulk/mypub/a", "/v1.0-alpha1/publish/bulk/mypub/a"] {
        let entries = json!([
            {"entryId": "1", "event": {"n": 1}, "contentType": "application/json"},
            {"entryId": "2", "event": "two", "contentType": "text/plain"},
        ]);
        let reply = subscriber.sidecar.post(path, &entries.to_string()).await.unwrap();
        assert_eq!(reply.status, 204, "{path}: {}", reply.text());
    }
    let mut data: Vec<_> =
        subscriber.app.wait_for("/a", 4).await.iter().map(|request| request.json()["data"].to_string()).collect();
    data.sort();
    assert_eq!(data, [r#""two""#, r#""two""#, r#"{"n":1}"#, r#"{"n":1}"#]);
    let twice = json!([
        {"entryId": "1", "event": "a", "contentType": "text/plain"},
        {"entryId": "1", "event": "b", "contentType": "text/plain"},
    ]);
    let reply = subscriber.sidecar.post("/v1.0/publish/bulk/mypub/a", &twice.to_string()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (400, "ERR_PUBSUB_EVENTS_SER".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_published_is_named() {
    let dir = ResourceDir::new().unwrap().with("pubsub.yaml", PUBSUB).unwrap();
    let sidecar = SidecarOptions::new(&unique("pubsub")).resources(dir.path()).start().await.unwrap();
    let cases = [
        ("/v1.0/publish/other/a", 404, "ERR_PUBSUB_NOT_FOUND"),
        // Without a topic the path is no route of publishing at all.
        ("/v1.0/publish/mypub/", 404, "ERR_DIRECT_INVOKE"),
        ("/v1.0/publish/mypub/a?metadata.rawPayload=maybe", 400, "ERR_PUBSUB_REQUEST_METADATA"),
    ];
    for (path, status, code) in cases {
        let reply = sidecar.post(path, "1").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.error_code()), (status, code.to_owned()), "{path}");
    }
}
