//! Subscriptions that follow their rules, components and policies.

use super::*;

#[tokio::test]
async fn other_rules_apply_at_the_same_broker_subscription() {
    let setup = setup();
    setup.subscriptions.set_declarative(&[subscription(&[("", "/one")], "")]);
    setup.subscriptions.start(setup.app.clone()).await;
    let opened = setup.broker.subscribers.lock()["orders"].clone();
    for (path, rules) in [("/two", vec![("", "/two")]), ("/two", vec![("event.x ==", "/broken")])] {
        setup.subscriptions.set_declarative(&[subscription(&rules, "")]);
        setup.subscriptions.refresh().await;
        assert_eq!(setup.broker.deliver("orders", EVENT).await, Outcome::Ack);
        assert_eq!(setup.app.events.lock().last().unwrap().path, path, "rules that are none change nothing");
    }
    assert!(opened.same_channel(&setup.broker.subscribers.lock()["orders"]));
    setup.subscriptions.set_declarative(&[]);
    setup.subscriptions.refresh().await;
    tokio::time::timeout(Duration::from_secs(5), opened.closed()).await.unwrap();
}

#[tokio::test]
async fn a_replaced_component_hands_over_and_is_worked_off() {
    let setup = Arc::new(setup());
    setup.subscriptions.set_declarative(&[subscription(&[("", "/x")], "")]);
    setup.subscriptions.start(setup.app.clone()).await;
    let mut stream = setup.subscriptions.open_stream("bus", "live", BTreeMap::new(), "").await.unwrap();
    let queued: Vec<_> = (0..5)
        .map(|_| {
            let setup = setup.clone();
            tokio::spawn(async move { setup.broker.deliver("orders", EVENT).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let new = Arc::new(FakeBroker::default());
    let old = setup.subscriptions.replace_component("bus", new.clone(), &Metadata::default(), false).await.unwrap();
    for delivery in queued {
        assert_eq!(delivery.await.unwrap(), Outcome::Ack, "the old one gave it, the app got it");
    }
    assert_eq!(new.deliver("orders", EVENT).await, Outcome::Ack);
    assert_eq!(setup.app.events.lock().len(), 6);
    let delivery = tokio::spawn({
        let new = new.clone();
        async move { new.deliver("live", EVENT).await }
    });
    stream.next().await.unwrap();
    stream.answers().processed("1", 0);
    assert_eq!(delivery.await.unwrap(), Outcome::Ack, "the stream went over");
    setup.pubsubs.publish(call("orders", &[]), "x".into(), "").await.unwrap();
    assert_eq!((new.published.lock().len(), setup.broker.published.lock().len()), (1, 0));
    tokio::time::timeout(Duration::from_secs(5), old.unused()).await.unwrap();
    assert_eq!(setup.subscriptions.list().len(), 2, "each once");
}

#[tokio::test]
async fn a_removed_component_ends_its_streams_and_its_last_message_is_answered() {
    let setup = Arc::new(setup());
    let (mut idle, mut busy, delivery) = idle_and_busy(&setup).await;
    let old = setup.subscriptions.remove_component("bus").await.unwrap();
    assert!(idle.next().await.is_none());
    busy.answers().processed("1", 0);
    assert_eq!(delivery.await.unwrap(), Outcome::Ack);
    assert!(busy.next().await.is_none());
    tokio::time::timeout(Duration::from_secs(5), old.unused()).await.unwrap();
    assert!(setup.subscriptions.remove_component("bus").await.is_none());
}
