use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pillion_contract::{
    AckHandle, ComponentError, Delivery, ErrorKind, Message, Metadata, Outcome, PubSub, PubSubCapability,
    PublishRequest, SubscribeRequest,
};
use pillion_core::error::{ApiError, ErrorDetail};
use pillion_core::log::Logger;
use pillion_resources::types::{ComponentPolicyNames, PolicyNames, Resiliency, RetrySpec, RouteRule, Subscription};
use pillion_runtime::resiliency::Policies;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

mod bulk;
mod bulk_grpc;
mod follow;

/// A broker that remembers what was published and delivers what the test says.
#[derive(Default)]
struct FakeBroker {
    published: Mutex<Vec<PublishRequest>>,
    failures: AtomicUsize,
    subscribers: Mutex<BTreeMap<String, mpsc::Sender<Delivery>>>,
}

#[async_trait]
impl PubSub for FakeBroker {
    fn capability(&self) -> PubSubCapability {
        PubSubCapability::default()
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), ComponentError> {
        let left = self.failures.load(Ordering::Relaxed);
        if left > 0 {
            self.failures.store(left - 1, Ordering::Relaxed);
            return Err(ComponentError::new(ErrorKind::Unavailable, "broker is down"));
        }
        self.published.lock().push(request);
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<mpsc::Receiver<Delivery>, ComponentError> {
        let (sender, receiver) = mpsc::channel(8);
        self.subscribers.lock().insert(request.topic, sender);
        Ok(receiver)
    }
}

impl FakeBroker {
    async fn deliver(&self, topic: &str, data: impl Into<Bytes>) -> Outcome {
        self.deliver_message(Message { topic: topic.into(), data: data.into(), ..Message::default() }).await
    }

    async fn deliver_message(&self, message: Message) -> Outcome {
        let (ack, answer) = AckHandle::new();
        let sender = self.subscribers.lock()[&message.topic].clone();
        sender.send(Delivery { message, ack }).await.unwrap();
        answer.await.unwrap_or(Outcome::Nack)
    }

    fn last(&self) -> Value {
        serde_json::from_slice(&self.published.lock().last().unwrap().data).unwrap()
    }
}

/// An app that answers from a list, then with success.
#[derive(Default)]
struct FakeApp {
    answers: Mutex<Vec<DeliveryResult>>,
    events: Mutex<Vec<Event>>,
}

#[async_trait]
impl DeliverySink for FakeApp {
    async fn deliver(&self, event: &Event) -> DeliveryResult {
        self.events.lock().push(event.clone());
        let mut answers = self.answers.lock();
        if answers.is_empty() { DeliveryResult::Success } else { answers.remove(0) }
    }
}

fn retry() -> DeliveryResult {
    DeliveryResult::Retry(DeliveryFailure { message: "later".into(), status: Some(500) })
}

struct Setup {
    broker: Arc<FakeBroker>,
    pubsubs: Arc<PubSubs>,
    subscriptions: Subscriptions,
    app: Arc<FakeApp>,
}

fn setup_with(metadata: &[(&str, &str)], resiliency: &[Resiliency]) -> Setup {
    let log = Logger::silent();
    let pubsubs = Arc::new(PubSubs::new("shop", "prod", Arc::new(Policies::compile(resiliency, &log))));
    let broker = Arc::new(FakeBroker::default());
    pubsubs.add("bus", broker.clone(), &Metadata::new(metadata.iter().copied()), false);
    let subscriptions = Subscriptions::new(pubsubs.clone(), &log);
    Setup { broker, pubsubs, subscriptions, app: Arc::default() }
}

fn setup() -> Setup {
    setup_with(&[], &[])
}

fn call(topic: &str, metadata: &[(&str, &str)]) -> PublishCall {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    PublishCall { pubsub_name: "bus".into(), topic: topic.into(), metadata, ..PublishCall::default() }
}

async fn published(topic: &str, metadata: &[(&str, &str)], data: &'static [u8], content_type: &str) -> Value {
    let setup = setup();
    setup.pubsubs.publish(call(topic, metadata), data.into(), content_type).await.unwrap();
    setup.broker.last()
}

fn subscription(rules: &[(&str, &str)], dead_letter_topic: &str) -> Subscription {
    let rules =
        rules.iter().map(|(matches, path)| RouteRule { matches: (*matches).into(), path: (*path).into() }).collect();
    Subscription {
        pubsub_name: "bus".into(),
        topic: "orders".into(),
        rules,
        dead_letter_topic: dead_letter_topic.into(),
        ..Subscription::default()
    }
}

async fn started(subscription: Subscription) -> Setup {
    let setup = setup();
    setup.subscriptions.set_declarative(&[subscription]);
    setup.subscriptions.start(setup.app.clone()).await;
    setup
}

const EVENT: &str = r#"{"id":"1","type":"order","specversion":"1.0","data":{"n":12345678901234567890.10,"tier":2}}"#;

#[tokio::test]
async fn payloads_are_wrapped_by_their_content_type() {
    let event = published(
        "orders",
        &[],
        br#"{"n":1.10,"big":123456789012345678901234567890}"#,
        "application/json; charset=utf-8",
    )
    .await;
    assert_eq!(event["data"].to_string(), r#"{"big":123456789012345678901234567890,"n":1.10}"#);
    for (name, value) in [
        ("source", "shop"),
        ("type", "com.dapr.event.sent"),
        ("specversion", "1.0"),
        ("topic", "orders"),
        ("pubsubname", "bus"),
        ("datacontenttype", "application/json; charset=utf-8"),
    ] {
        assert_eq!(event[name], value);
    }
    assert_eq!((&event["traceid"], &event["traceparent"]), (&json!(""), &json!("")), "the publisher has no trace");
    let cases: [(&'static [u8], &str, &str, Value); 6] = [
        (b"hello", "", "data", json!("hello")),
        (b"not json", "application/json", "data", json!("not json")),
        (b"", "application/json", "data", json!("")),
        (b"\x00\x01", "application/octet-stream", "data_base64", json!("AAE=")),
        (b"x", "application/cloudevents+protobuf", "data_base64", json!("eA==")),
        (b"x", "application/x-protobuf", "data", json!("x")),
    ];
    for (data, content_type, field, expected) in cases {
        assert_eq!(published("orders", &[], data, content_type).await[field], expected, "{content_type}");
    }
    assert_eq!(published("orders", &[], b"x", "").await["datacontenttype"], "text/plain");
}

#[tokio::test]
async fn a_time_to_live_is_a_go_duration_or_seconds() {
    for (ttl, expires) in [
        ("0", Some(true)),
        ("-5s", Some(true)),
        ("60", Some(false)),
        ("1h30m", Some(false)),
        ("-5", None),
        ("soon", None),
    ] {
        let event = published("orders", &[("ttlInSeconds", ttl)], b"x", "").await;
        let expired = event.get("expiration").map(|_| {
            std::thread::sleep(Duration::from_millis(2)); // whole seconds are behind now
            super::envelope::has_expired(event.as_object().unwrap())
        });
        assert_eq!(expired, expires, "{ttl}: {event}");
    }
}

#[tokio::test]
async fn metadata_overrides_attributes_but_not_where_it_goes() {
    let overrides = [
        ("cloudevent.ID", "7"),
        ("CloudEvent.source", "till"),
        ("cloudevent.type", "t"),
        ("cloudevent.subject", "s"),
        ("cloudevent.traceparent", "tp"),
        ("cloudevent.topic", "elsewhere"),
        ("ttlInSeconds", "60"),
    ];
    let event = published("orders", &overrides, b"x", "").await;
    for (name, value) in [
        ("id", "7"),
        ("source", "till"),
        ("type", "t"),
        ("subject", "s"),
        ("traceid", "tp"),
        ("traceparent", "tp"),
        ("topic", "orders"),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert!(event["expiration"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn cloud_events_are_completed_and_broken_ones_refused() {
    let event = published(
        "orders",
        &[("cloudevent.id", "no")],
        br#"{"id":"9","topic":"x","type":null,"data":1.0}"#,
        "application/cloudevents+json",
    )
    .await;
    assert_eq!(
        (event["id"].as_str(), event["topic"].as_str(), event["source"].as_str()),
        (Some("9"), Some("orders"), Some("Dapr"))
    );
    assert_eq!(event["type"], "com.dapr.event.sent");
    assert_eq!(event["data"].to_string(), "1.0");
    for data in ["[]", "{", "", "null"] {
        let error = setup()
            .pubsubs
            .publish(call("orders", &[]), data.into(), "application/cloudevents+json")
            .await
            .unwrap_err();
        assert_eq!(
            (error.spec.code, error.http, error.message.as_str()),
            ("ERR_PUBSUB_CLOUD_EVENTS_SER", 500, "cannot create cloudevent")
        );
    }
}

#[tokio::test]
async fn the_trace_of_the_caller_is_written_when_it_is_one() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (given, expected) in [(trace, (trace, "a=b")), ("garbage", ("", ""))] {
        let setup = setup();
        let call =
            PublishCall { trace_parent: Some(given.into()), trace_state: Some("a=b".into()), ..call("orders", &[]) };
        setup.pubsubs.publish(call, "x".into(), "").await.unwrap();
        let event = setup.broker.last();
        assert_eq!(
            (event["traceparent"].as_str(), event["tracestate"].as_str()),
            (Some(expected.0), Some(expected.1)),
            "{given}"
        );
        assert_eq!(event["traceid"], event["traceparent"]);
    }
}

#[tokio::test]
async fn events_without_a_trace_are_delivered_with_an_empty_one() {
    const NONE: &str = "00-00000000000000000000000000000000-0000000000000000-00";
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02";
    let cases = [
        (json!({"id": "1"}), None),
        (json!({"id": "1", "traceparent": "", "traceid": ""}), Some(NONE)),
        (json!({"id": "1", "traceparent": 5}), None),
        (json!({"id": "1", "traceid": trace}), Some(trace)),
        (json!({"id": "1", "traceid": "old", "traceparent": trace}), Some(trace)),
    ];
    for (event, expected) in cases {
        let setup = started(subscription(&[("", "/x")], "")).await;
        assert_eq!(setup.broker.deliver("orders", event.to_string()).await, Outcome::Ack);
        let delivered = setup.app.events.lock()[0].trace().map(|context| context.to_string());
        assert_eq!(delivered.as_deref(), expected, "{event}");
    }
}

#[tokio::test]
async fn raw_payloads_pass_untouched() {
    let setup = setup();
    setup.pubsubs.publish(call("orders", &[("rawPayload", "true")]), "\u{1}raw".into(), "text/plain").await.unwrap();
    assert_eq!(setup.broker.published.lock()[0].data, "\u{1}raw");
}

fn reason(error: &ApiError) -> &str {
    match error.details.last() {
        Some(ErrorDetail::ErrorInfo { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn errors_have_their_codes_and_texts() {
    let setup = setup_with(&[("publishingScopes", "shop=orders, audit;other=")], &[]);
    let publish = async |call: PublishCall| setup.pubsubs.publish(call, "x".into(), "").await.unwrap_err();
    let unknown = publish(PublishCall { pubsub_name: "none".into(), ..call("orders", &[]) }).await;
    assert_eq!(
        (unknown.http, reason(&unknown), unknown.message.as_str()),
        (404, "DAPR_PUBSUB_NOT_FOUND", "pubsub none is not found")
    );
    assert_eq!(unknown.details.len(), 1);
    let no_topic = publish(call("", &[])).await;
    assert_eq!(
        (no_topic.http, no_topic.spec.code, no_topic.message.as_str()),
        (404, "ERR_TOPIC_NAME_EMPTY", "topic is empty in pubsub bus")
    );
    let forbidden = publish(call("secret", &[])).await;
    assert_eq!((forbidden.http, forbidden.message.as_str()), (403, "topic secret is not allowed for app id shop"));
    let metadata = publish(call("orders", &[("rawPayload", "maybe")])).await;
    assert_eq!((metadata.http, metadata.spec.code), (400, "ERR_PUBSUB_REQUEST_METADATA"));
    setup.broker.failures.store(1, Ordering::Relaxed);
    let broker = publish(call("orders", &[])).await;
    assert_eq!(
        (broker.http, broker.message.as_str()),
        (500, "error when publishing to topic orders in pubsub bus: broker is down")
    );
}

#[test]
fn scopes_limit_topics() {
    let scopes =
        |metadata: &[(&str, &str)]| super::scopes::Scopes::new(&Metadata::new(metadata.iter().copied()), "shop");
    assert!(scopes(&[]).may_publish("any"));
    assert!(scopes(&[("PublishingScopes", "other=x")]).may_publish("any"));
    assert!(!scopes(&[("publishingScopes", "shop=")]).may_publish("any"));
    assert!(!scopes(&[("allowedTopics", "a, b")]).may_publish("c"));
    assert!(scopes(&[("allowedTopics", "a, b")]).may_publish("b"));
    assert!(!scopes(&[("protectedTopics", "p")]).may_subscribe("p"));
    assert!(scopes(&[("protectedTopics", "p"), ("subscriptionScopes", "shop=p")]).may_subscribe("p"));
    assert!(scopes(&[("protectedTopics", "p")]).may_subscribe("free"));
}

#[tokio::test(start_paused = true)]
async fn a_bulk_publish_retries_only_what_failed() {
    let mut resiliency = Resiliency::default();
    resiliency
        .retries
        .insert("r".into(), RetrySpec { duration: "1s".into(), max_retries: Some(1), ..RetrySpec::default() });
    let outbound = PolicyNames { retry: "r".into(), ..PolicyNames::default() };
    resiliency.components.insert("bus".into(), ComponentPolicyNames { outbound, ..ComponentPolicyNames::default() });
    let setup = setup_with(&[], &[resiliency]);
    let body = br#"[{"entryId":"1","event":{"a":1},"contentType":"application/json"},{"entryId":"2","event":"AAE=","contentType":"application/octet-stream"},{"entryId":"3","event":"x","contentType":"text/plain"}]"#;
    let entries = setup.pubsubs.read_bulk_entries(&call("orders", &[]), body).unwrap();
    assert_eq!(&entries[1].data[..], b"\x00\x01");
    setup.broker.failures.store(2, Ordering::Relaxed);
    setup.pubsubs.bulk_publish(call("orders", &[]), entries.clone()).await.unwrap();
    assert_eq!(setup.broker.published.lock().len(), 3);
    setup.broker.failures.store(4, Ordering::Relaxed);
    let error = setup.pubsubs.bulk_publish(call("orders", &[]), entries.clone()).await.unwrap_err();
    assert_eq!((error.error.http, error.failed.len()), (500, 1));
    let twice = vec![entries[0].clone(), entries[0].clone()];
    let error = setup.pubsubs.bulk_publish(call("orders", &[]), twice).await.unwrap_err();
    assert_eq!((error.error.http, reason(&error.error), error.failed.len()), (400, "DAPR_PUBSUB_MARSHAL_EVENTS", 0));
    for wrong in [
        "{",
        r#"[{"entryId":"1","event":1,"contentType":"text/plain"}]"#,
        r#"[{"entryId":"1","event":"!","contentType":"application/octet-stream"}]"#,
    ] {
        assert_eq!(
            setup.pubsubs.read_bulk_entries(&call("orders", &[]), wrong.as_bytes()).unwrap_err().spec.code,
            "ERR_PUBSUB_EVENTS_SER"
        );
    }
}

#[tokio::test]
async fn rules_choose_the_path_and_bytes_are_not_rewritten() {
    let rules = [
        (r#"event.type == "refund""#, "/refunds"),
        ("event.data.tier > 1 && event.id.startsWith('1')", "/big"),
        ("", "/rest"),
    ];
    let setup = started(subscription(&rules, "")).await;
    assert_eq!(setup.broker.deliver("orders", EVENT).await, Outcome::Ack);
    assert_eq!(setup.broker.deliver("orders", r#"{"id":"2","type":"refund"}"#).await, Outcome::Ack);
    assert_eq!(setup.broker.deliver("orders", r#"{"id":"2","type":"x","data":{"tier":1}}"#).await, Outcome::Ack);
    let events = setup.app.events.lock();
    assert_eq!(events.iter().map(|event| event.path.as_str()).collect::<Vec<_>>(), ["/big", "/refunds", "/rest"]);
    assert_eq!(events[0].data, EVENT);
    assert_eq!(events[0].metadata["pubsubName"], "bus");
}

#[tokio::test]
async fn what_cannot_be_delivered_goes_back_or_to_the_dead_letter_topic() {
    let rule = [(r#"event.data.tier == 2"#, "/two")];
    // (message, app's answer, outcome without dead letter topic, whether it gets there with one)
    let cases: [(&str, Option<DeliveryResult>, Outcome, bool); 9] = [
        (EVENT, None, Outcome::Ack, false),
        (EVENT, Some(retry()), Outcome::Nack, true),
        (EVENT, Some(DeliveryResult::Drop), Outcome::Ack, true),
        (EVENT, Some(DeliveryResult::Untaken), Outcome::Ack, true),
        (EVENT, Some(DeliveryResult::Ignored), Outcome::Ack, false),
        ("not json", None, Outcome::Nack, true),
        (r#"{"id":"1"}"#, None, Outcome::Nack, true), // the rule fails: no data
        (r#"{"id":"1","data":{"tier":3}}"#, None, Outcome::Ack, true),
        (r#"{"id":"1","expiration":"2020-01-01T00:00:00Z"}"#, None, Outcome::Ack, true),
    ];
    for (message, answer, outcome, dead) in cases {
        for dead_letter_topic in ["", "poison"] {
            let setup = started(subscription(&rule, dead_letter_topic)).await;
            setup.app.answers.lock().extend(answer.clone());
            let expected = if dead_letter_topic.is_empty() { outcome } else { Outcome::Ack };
            assert_eq!(
                setup.broker.deliver("orders", message).await,
                expected,
                "{message} {answer:?} {dead_letter_topic}"
            );
            let published = setup.broker.published.lock();
            let reached = published.iter().any(|request| request.topic == "poison" && request.data == message);
            assert_eq!(reached, dead && !dead_letter_topic.is_empty(), "{message} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_dead_letter_topic_that_fails_gives_the_message_back() {
    let setup = started(subscription(&[("", "/x")], "poison")).await;
    setup.app.answers.lock().push(retry());
    setup.broker.failures.store(1, Ordering::Relaxed);
    assert_eq!(setup.broker.deliver("orders", EVENT).await, Outcome::Nack);
}

fn inbound_retries(number: i64) -> Resiliency {
    let mut resiliency = Resiliency::default();
    resiliency
        .retries
        .insert("r".into(), RetrySpec { duration: "1s".into(), max_retries: Some(number), ..RetrySpec::default() });
    let inbound = PolicyNames { retry: "r".into(), ..PolicyNames::default() };
    resiliency.components.insert("bus".into(), ComponentPolicyNames { inbound, ..ComponentPolicyNames::default() });
    resiliency
}

#[tokio::test(start_paused = true)]
async fn inbound_policies_retry_before_the_broker_hears_of_it() {
    let setup = setup_with(&[], &[inbound_retries(3)]);
    setup.subscriptions.set_declarative(&[subscription(&[("", "/x")], "")]);
    setup.subscriptions.start(setup.app.clone()).await;
    setup.app.answers.lock().extend([retry(), retry()]);
    assert_eq!(setup.broker.deliver("orders", EVENT).await, Outcome::Ack);
    assert_eq!(setup.app.events.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn stopping_gives_back_what_waits_for_a_retry_without_waiting_for_it() {
    let setup = Arc::new(setup_with(&[], &[inbound_retries(-1)]));
    setup.subscriptions.set_declarative(&[subscription(&[("", "/x")], "poison")]);
    setup.subscriptions.start(setup.app.clone()).await;
    setup.app.answers.lock().extend((0..1000).map(|_| retry()));
    let other = setup.clone();
    let delivery = tokio::spawn(async move { other.broker.deliver("orders", EVENT).await });
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let before = tokio::time::Instant::now();
    setup.subscriptions.stop(Duration::from_secs(30)).await;
    assert!(before.elapsed() < Duration::from_millis(100));
    assert_eq!(delivery.await.unwrap(), Outcome::Nack);
    assert!(setup.broker.published.lock().is_empty(), "no dead letter for a message that was only interrupted");
    assert!(!setup.subscriptions.is_running().await);
    setup.subscriptions.start(setup.app.clone()).await;
    setup.app.answers.lock().clear();
    assert_eq!(setup.broker.deliver("orders", EVENT).await, Outcome::Ack);
}

#[tokio::test]
async fn raw_and_binary_messages_become_events() {
    let mut raw = subscription(&[("", "/x")], "");
    raw.metadata.insert("rawPayload".into(), "true".into());
    let setup = started(raw).await;
    let metadata = BTreeMap::from([("traceparent".to_owned(), "00-1-2-00".to_owned())]);
    let message = Message { topic: "orders".into(), data: "\u{0}".into(), content_type: None, metadata };
    assert_eq!(setup.broker.deliver_message(message).await, Outcome::Ack);
    let event = setup.app.events.lock()[0].clone();
    assert_eq!(
        (event.attribute("data_base64"), event.attribute("datacontenttype"), event.attribute("traceid")),
        ("AA==", "application/octet-stream", "00-1-2-00")
    );
    assert_eq!(serde_json::from_slice::<Value>(&event.data).unwrap()["topic"], "orders");

    let setup = started(subscription(&[("event.type == 'made'", "/x")], "")).await;
    let metadata = BTreeMap::from([("CE_Type".to_owned(), "made".to_owned()), ("ce_id".to_owned(), "5".to_owned())]);
    let message = Message {
        topic: "orders".into(),
        data: "bytes".into(),
        content_type: Some("application/octet-stream".into()),
        metadata,
    };
    assert_eq!(setup.broker.deliver_message(message).await, Outcome::Ack);
    let event = setup.app.events.lock()[0].clone();
    assert_eq!((event.attribute("id"), &event.data[..]), ("5", &b"bytes"[..]));
}

#[test]
fn the_apps_answer_replaces_manifests_and_empty_routes_are_left_out() {
    let setup = setup();
    let first = subscription(&[("", "/first")], "");
    let second = subscription(&[("", "/second")], "");
    setup.subscriptions.set_declarative(&[first.clone(), second]);
    let path = |setup: &Setup| {
        setup
            .subscriptions
            .list()
            .iter()
            .map(|info| (info.subscription.rules[0].path.clone(), info.kind))
            .collect::<Vec<_>>()
    };
    assert_eq!(path(&setup), [("/first".to_owned(), Kind::Declarative)]);
    let json = br#"[{"pubsubname":"bus","topic":"orders","route":"old"},
        {"pubsubname":"bus","topic":"orders","route":"ignored","routes":{"rules":[{"match":"event.type == 'a'","path":"/a"}],"default":"/d"},"deadLetterTopic":"dead","metadata":{"rawPayload":"true"},"bulkSubscribe":{"enabled":true,"maxMessagesCount":5}},
        {"pubsubname":"bus","topic":"other","routes":{}}]"#;
    let answer = super::table::parse_json(json, &Logger::silent()).unwrap();
    assert_eq!(answer.len(), 2);
    assert_eq!(answer[1].rules.iter().map(|rule| rule.path.as_str()).collect::<Vec<_>>(), ["/a", "/d"]);
    assert_eq!((answer[1].dead_letter_topic.as_str(), answer[1].bulk_subscribe.max_messages_count), ("dead", 5));
    setup.subscriptions.set_programmatic(answer);
    assert_eq!(path(&setup), [("/a".to_owned(), Kind::Programmatic)]);
    assert_eq!(super::table::parse_json(b"", &Logger::silent()), Ok(Vec::new()));
    assert!(super::table::parse_json(b"<html>", &Logger::silent()).is_err());
}

#[tokio::test]
async fn a_stream_gets_events_and_its_answers_count() {
    let setup = Arc::new(setup());
    let mut stream = setup.subscriptions.open_stream("bus", "orders", BTreeMap::new(), "").await.unwrap();
    assert_eq!(setup.subscriptions.list()[0].kind, Kind::Streaming);
    let deliver = || {
        let setup = setup.clone();
        tokio::spawn(async move { setup.broker.deliver("orders", EVENT).await })
    };
    for (status, outcome) in [(0, Outcome::Ack), (1, Outcome::Nack), (2, Outcome::Ack), (9, Outcome::Nack)] {
        let delivery = deliver();
        let event = stream.next().await.unwrap();
        assert_eq!((event.id.as_str(), event.path.as_str(), event.topic.as_str()), ("1", "/", "orders"));
        assert!(stream.answers().processed("1", status));
        assert_eq!(delivery.await.unwrap(), outcome, "{status}");
    }
    assert!(!stream.answers().processed("1", 0), "nobody waits for it");
    let delivery = deliver();
    stream.next().await.unwrap();
    drop(stream);
    assert_eq!(delivery.await.unwrap(), Outcome::Nack);
    assert!(setup.subscriptions.list().is_empty());
    assert!(setup.subscriptions.open_stream("none", "t", BTreeMap::new(), "").await.is_err());
}

#[tokio::test]
async fn closing_ends_streams_and_keeps_what_the_app_works_on() {
    let setup = Arc::new(setup());
    setup.subscriptions.set_declarative(&[subscription(&[("", "/x")], "")]);
    setup.subscriptions.start(setup.app.clone()).await;
    let mut idle = setup.subscriptions.open_stream("bus", "idle", BTreeMap::new(), "").await.unwrap();
    let mut busy = setup.subscriptions.open_stream("bus", "busy", BTreeMap::new(), "").await.unwrap();
    let delivery = tokio::spawn({
        let setup = setup.clone();
        async move { setup.broker.deliver("busy", EVENT).await }
    });
    busy.next().await.unwrap();
    setup.subscriptions.close();
    assert!(idle.next().await.is_none(), "nothing is under way");
    setup.subscriptions.stop(Duration::from_secs(1)).await;
    setup.subscriptions.start(setup.app.clone()).await;
    assert!(!setup.subscriptions.is_running().await, "closed for good");
    assert!(setup.subscriptions.open_stream("bus", "late", BTreeMap::new(), "").await.is_err());
    let ended = tokio::spawn({
        let setup = setup.clone();
        async move { setup.subscriptions.ended().await }
    });
    let answer = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        busy.answers().processed("1", 0);
    };
    tokio::join!(setup.subscriptions.shutdown(Duration::from_secs(5)), answer);
    assert_eq!(delivery.await.unwrap(), Outcome::Ack, "the shutdown waits for the answer");
    assert!(busy.next().await.is_none());
    ended.await.unwrap();
}

#[tokio::test]
async fn namespaced_components_prefix_topics_and_strip_them_again() {
    let log = Logger::silent();
    let pubsubs = Arc::new(PubSubs::new("shop", "prod", Arc::new(Policies::none(&log))));
    let broker = Arc::new(FakeBroker::default());
    pubsubs.add("bus", broker.clone(), &Metadata::default(), true);
    pubsubs.publish(call("orders", &[]), "x".into(), "").await.unwrap();
    assert_eq!(broker.published.lock()[0].topic, "prodorders");
    assert_eq!(broker.last()["topic"], "orders");
    let subscriptions = Subscriptions::new(pubsubs, &log);
    subscriptions.set_declarative(&[subscription(&[("", "/x")], "")]);
    let app = Arc::new(FakeApp::default());
    subscriptions.start(app.clone()).await;
    assert_eq!(broker.deliver("prodorders", EVENT).await, Outcome::Ack);
    assert_eq!(app.events.lock()[0].topic, "orders");
    subscriptions.shutdown(Duration::from_secs(1)).await;
}
