//! Delivery: routes, retries, dead letters, raw messages.

use super::*;

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
