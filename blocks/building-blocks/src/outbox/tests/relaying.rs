//! From the transaction to the topic, over the broker and the store in memory.

use std::time::Duration;

use pillion_contract::{Consistency, InitContext, StateStore};
use pillion_core::error::ApiError;
use pillion_runtime::resiliency::Policies;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::pubsub::TopicStream;

struct Setup {
    states: Arc<StateStores>,
    pubsubs: Arc<PubSubs>,
    subscriptions: Arc<Subscriptions>,
    outbox: Outbox,
    topic: TopicStream,
}

fn context(name: &str, pairs: &[(&str, &str)]) -> InitContext {
    InitContext {
        name: name.to_owned(),
        component_type: String::new(),
        version: "v1".to_owned(),
        metadata: Metadata::new(pairs.iter().copied()),
        app_id: "shop".to_owned(),
        namespace: "prod".to_owned(),
        data_dir: std::env::temp_dir(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    }
}

async fn memory() -> Arc<dyn StateStore> {
    pillion_builtin::state_in_memory::create(context("s", &[])).await.unwrap()
}

const OUTBOX: [(&str, &str); 2] = [("outboxPublishPubsub", "bus"), ("outboxPublishTopic", "orders")];

impl Setup {
    /// A store `s` with an outbox, its topic `orders` on `bus`, and more metadata.
    async fn new(more: &[(&str, &str)]) -> Self {
        let log = Logger::silent();
        let policies = Arc::new(Policies::none(&log));
        let pubsubs = Arc::new(PubSubs::new("shop", "prod", policies.clone()));
        let broker = pillion_builtin::pubsub_in_memory::create(context("bus", &[])).await.unwrap();
        // The app may not subscribe to the internal topic; the sidecar may.
        pubsubs.add("bus", broker, &Metadata::new([("subscriptionScopes", "shop=orders")]), false);
        let states = Arc::new(StateStores::new("shop", None, policies).with_outbox(pubsubs.clone()));
        let subscriptions = Arc::new(Subscriptions::new(pubsubs.clone(), &log));
        let outbox = Outbox::new(states.clone(), pubsubs.clone(), subscriptions.clone(), &log);
        let topic = subscriptions.open_stream("bus", "orders", BTreeMap::new(), "").await.unwrap();
        let setup = Self { states, pubsubs, subscriptions, outbox, topic };
        setup.add("s", more).await;
        setup.outbox.start().await;
        setup.outbox.release();
        setup
    }

    async fn add(&self, name: &str, more: &[(&str, &str)]) {
        let metadata = Metadata::new(OUTBOX.iter().chain(more).copied());
        self.states.add(name, memory().await, &metadata, &[]).unwrap();
    }

    async fn transact(&self, operations: Vec<Operation>) -> Result<(), ApiError> {
        self.states.transact("s", operations, BTreeMap::new(), CallTrace::default).await
    }

    /// An event whose transaction is never committed.
    async fn orphan(&self, id: &str) {
        let event = json!({"id": id, "specversion": "1.0", "datacontenttype": "text/plain", "data": "x"});
        let data = Bytes::from(event.to_string());
        self.pubsubs.publish_internal("bus", "prodshopordersoutbox", data, None).await.unwrap();
    }

    async fn marker(&self, id: &str) -> bool {
        let request = pillion_contract::GetRequest { key: id.to_owned(), ..Default::default() };
        self.states.component("s").unwrap().get(&request).await.unwrap().is_some()
    }

    /// Nothing more comes within `limit`.
    async fn is_quiet(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.topic.next()).await.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn a_committed_transaction_is_published_once_with_its_id_and_leaves_no_marker() {
    let mut setup = Setup::new(&[]).await;
    let started = Instant::now();
    setup.transact(vec![Operation::Upsert(item("1", "\"2\"", &[]))]).await.unwrap();
    let event = setup.topic.next().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!((&event.data[..], event.topic.as_str(), event.pubsub_name.as_str()), (&b"2"[..], "orders", "bus"));
    assert_eq!((event.source.as_str(), event.data_content_type.as_str()), ("shop", "text/plain"));
    assert!(event.id.starts_with("outbox-"));
    setup.topic.answers().processed(&event.id, 0);
    assert!(setup.is_quiet(Duration::from_secs(30)).await);
    assert!(!setup.marker(&event.id).await);
    assert_eq!(
        setup.states.get("s", "1", Consistency::default(), BTreeMap::new()).await.unwrap().unwrap().data,
        "\"2\""
    );
    assert_eq!(setup.subscriptions.list().len(), 1, "the app sees its own subscription only");
}

#[tokio::test(start_paused = true)]
async fn the_projection_is_published_and_the_value_stored() {
    let mut setup = Setup::new(&[]).await;
    let projection = Operation::Upsert(item("1", "\"3\"", &[("outbox.projection", "true")]));
    let delete = Operation::Delete(DeleteItem { key: "9".to_owned(), ..DeleteItem::default() });
    setup.transact(vec![projection.clone(), Operation::Upsert(item("1", "\"2\"", &[])), delete]).await.unwrap();
    assert_eq!(setup.topic.next().await.unwrap().data, &b"3"[..]);
    assert_eq!(
        setup.states.get("s", "1", Consistency::default(), BTreeMap::new()).await.unwrap().unwrap().data,
        "\"2\""
    );
    setup.transact(vec![projection]).await.unwrap();
    assert!(setup.is_quiet(Duration::from_secs(30)).await, "a projection of nothing is nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_committed_is_not_published() {
    let mut setup = Setup::new(&[("outboxDiscardWhenMissingState", "true")]).await;
    let stale = SetItem { etag: Some("999".to_owned()), ..item("1", "\"2\"", &[]) };
    assert_eq!(setup.transact(vec![Operation::Upsert(stale)]).await.unwrap_err().spec.code, "ERR_STATE_TRANSACTION");
    assert!(setup.is_quiet(Duration::from_secs(60)).await);
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_for_a_late_commit() {
    let mut setup = Setup::new(&[]).await;
    setup.orphan("outbox-late").await;
    assert!(setup.is_quiet(Duration::from_secs(5)).await);
    let marker = pillion_contract::SetRequest { key: "outbox-late".to_owned(), ..marker() };
    setup.states.component("s").unwrap().set(&marker).await.unwrap();
    assert_eq!(setup.topic.next().await.unwrap().id, "outbox-late");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_sidecar_does_not_wait_for_what_is_not_committed() {
    let setup = Setup::new(&[]).await;
    setup.orphan("outbox-never").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    drop(setup.topic);
    setup.subscriptions.shutdown(Duration::from_secs(60)).await;
    assert!(started.elapsed() <= Duration::from_millis(1200), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn two_stores_may_share_a_topic() {
    let mut setup = Setup::new(&[]).await;
    setup.add("other", &[]).await;
    setup.outbox.refresh().await;
    for store in ["s", "other"] {
        let operations = vec![Operation::Upsert(item("1", "\"2\"", &[]))];
        setup.states.transact(store, operations, BTreeMap::new(), CallTrace::default).await.unwrap();
        let event = setup.topic.next().await.unwrap();
        setup.topic.answers().processed(&event.id, 0);
    }
    assert!(setup.is_quiet(Duration::from_secs(30)).await);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_follow_the_stores() {
    let mut setup = Setup::new(&[]).await;
    // Without an outbox: transactions say nothing.
    setup.states.add("s", memory().await, &Metadata::default(), &[]).unwrap();
    setup.outbox.refresh().await;
    setup.transact(vec![Operation::Upsert(item("1", "\"2\"", &[]))]).await.unwrap();
    assert!(setup.is_quiet(Duration::from_secs(30)).await);
    // With one again.
    setup.add("s", &[]).await;
    setup.outbox.refresh().await;
    setup.transact(vec![Operation::Upsert(item("1", "\"3\"", &[]))]).await.unwrap();
    assert_eq!(setup.topic.next().await.unwrap().data, &b"3"[..]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_replaced_keeps_the_outbox_going() {
    let mut setup = Setup::new(&[]).await;
    let broker = pillion_builtin::pubsub_in_memory::create(context("bus", &[])).await.unwrap();
    setup.subscriptions.replace_component("bus", broker, &Metadata::default(), false).await;
    setup.outbox.refresh().await;
    setup.transact(vec![Operation::Upsert(item("1", "\"4\"", &[]))]).await.unwrap();
    assert_eq!(setup.topic.next().await.unwrap().data, &b"4"[..]);
    assert!(setup.is_quiet(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn a_broker_that_takes_no_event_fails_the_transaction() {
    let setup = Setup::new(&[]).await;
    let problem = async |more: &[(&str, &str)]| {
        setup.add("s", more).await;
        let error = setup.transact(vec![Operation::Upsert(item("1", "\"2\"", &[]))]).await.unwrap_err();
        assert_eq!((error.spec.code, error.http, error.details.len()), ("ERR_PUBLISH_OUTBOX", 500, 1));
        error.message
    };
    let missing = problem(&[("outboxPubsub", "none")]).await;
    assert_eq!(missing, "error while publishing outbox message: pubsub 'none' not found");
    assert!(setup.states.get("s", "1", Consistency::default(), BTreeMap::new()).await.unwrap().is_none());
    setup.pubsubs.remove("bus");
    let broker = pillion_builtin::pubsub_in_memory::create(context("bus", &[])).await.unwrap();
    setup.pubsubs.add("bus", broker, &Metadata::new([("publishingScopes", "shop=orders")]), false);
    let forbidden = problem(&[]).await;
    let wanted = "error while publishing outbox message: topic prodshopordersoutbox is not allowed for app id shop";
    assert_eq!(forbidden, wanted);
}
