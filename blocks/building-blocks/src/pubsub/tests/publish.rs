//! Publishing: envelopes, scopes, errors, bulk.

use super::*;

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
            crate::pubsub::envelope::has_expired(event.as_object().unwrap())
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
    let scopes = |metadata: &[(&str, &str)]| {
        crate::pubsub::scopes::Scopes::new(&Metadata::new(metadata.iter().copied()), "shop")
    };
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
