//! Subscriptions: where they come from, streams, the end, namespaces.

use super::*;

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
    let answer = crate::pubsub::table::parse_json(json, &Logger::silent()).unwrap();
    assert_eq!(answer.len(), 2);
    assert_eq!(answer[1].rules.iter().map(|rule| rule.path.as_str()).collect::<Vec<_>>(), ["/a", "/d"]);
    assert_eq!((answer[1].dead_letter_topic.as_str(), answer[1].bulk_subscribe.max_messages_count), ("dead", 5));
    setup.subscriptions.set_programmatic(answer);
    assert_eq!(path(&setup), [("/a".to_owned(), Kind::Programmatic)]);
    assert_eq!(crate::pubsub::table::parse_json(b"", &Logger::silent()), Ok(Vec::new()));
    assert!(crate::pubsub::table::parse_json(b"<html>", &Logger::silent()).is_err());
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
    let (mut idle, mut busy, delivery) = idle_and_busy(&setup).await;
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
