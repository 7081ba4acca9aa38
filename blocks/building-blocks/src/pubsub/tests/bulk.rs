//! Bulk subscriptions against a broker and an app that do as the test says.

use std::collections::HashMap;

use pillion_resources::types::BulkSubscribe;
use tokio::task::JoinHandle;

use super::*;

/// An app that answers each event by its id, once; then with success.
#[derive(Default)]
struct BulkApp {
    answers: Mutex<HashMap<&'static str, DeliveryResult>>,
    calls: Mutex<Vec<BulkEvent>>,
}

#[async_trait]
impl DeliverySink for BulkApp {
    async fn deliver(&self, _: &Event) -> DeliveryResult {
        panic!("a bulk subscription delivers in bulk");
    }

    async fn deliver_bulk(&self, bulk: &BulkEvent) -> Vec<DeliveryResult> {
        self.calls.lock().push(bulk.clone());
        let mut answers = self.answers.lock();
        bulk.items.iter().map(|item| answers.remove(id(item)).unwrap_or(DeliveryResult::Success)).collect()
    }
}

fn id(item: &BulkItem) -> &str {
    item.cloud_event.get("id").and_then(Value::as_str).unwrap_or_default()
}

impl BulkApp {
    /// The calls so far: path and ids.
    fn calls(&self) -> Vec<(String, Vec<String>)> {
        let calls = self.calls.lock();
        calls
            .iter()
            .map(|call| (call.path.clone(), call.items.iter().map(|item| id(item).to_owned()).collect()))
            .collect()
    }
}

struct Bulk {
    setup: Arc<Setup>,
    app: Arc<BulkApp>,
}

async fn bulk_with(
    count: i32,
    wait_ms: i32,
    resiliency: &[Resiliency],
    change: impl FnOnce(&mut Subscription),
) -> Bulk {
    let setup = Arc::new(setup_with(&[], resiliency));
    let mut manifest = subscription(&[("event.type == 'refund'", "/refunds"), ("has(event.id)", "/rest")], "");
    manifest.bulk_subscribe =
        BulkSubscribe { enabled: true, max_messages_count: count, max_await_duration_ms: wait_ms };
    change(&mut manifest);
    setup.subscriptions.set_declarative(&[manifest]);
    let app = Arc::new(BulkApp::default());
    setup.subscriptions.start(app.clone()).await;
    Bulk { setup, app }
}

impl Bulk {
    /// Hands a message to the subscription; the outcome comes later.
    async fn send(&self, data: &str) -> JoinHandle<Outcome> {
        let (ack, answer) = AckHandle::new();
        let message = Message { topic: "orders".into(), data: data.to_owned().into(), ..Message::default() };
        let sender = self.setup.broker.subscribers.lock()["orders"].clone();
        sender.send(Delivery { message, ack }).await.unwrap();
        tokio::spawn(async move { answer.await.unwrap_or(Outcome::Nack) })
    }
}

fn event(id: &str) -> String {
    json!({"id": id, "type": "order", "data": id}).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_it_is_full_or_its_first_message_has_waited() {
    let bulk = bulk_with(2, 500, &[], |_| {}).await;
    tokio::time::sleep(Duration::from_millis(400)).await; // idle time does not count
    let begin = tokio::time::Instant::now();
    let (first, second, third) =
        (bulk.send(&event("1")).await, bulk.send(&event("2")).await, bulk.send(&event("3")).await);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Outcome::Ack, Outcome::Ack));
    assert!(begin.elapsed() < Duration::from_millis(10), "a full batch does not wait");
    assert_eq!(third.await.unwrap(), Outcome::Ack);
    let waited = begin.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_millis(550)).contains(&waited), "{waited:?}");
    let expected =
        [("/rest".to_owned(), vec!["1".to_owned(), "2".to_owned()]), ("/rest".to_owned(), vec!["3".to_owned()])];
    assert_eq!(bulk.app.calls(), expected);
    let calls = bulk.app.calls.lock();
    assert_eq!(
        (calls[0].topic.as_str(), calls[0].pubsub_name.as_str(), calls[0].metadata["pubsubName"].as_str()),
        ("orders", "bus", "bus")
    );
    assert_ne!(calls[0].items[0].entry_id, calls[0].items[1].entry_id);
}

#[tokio::test(start_paused = true)]
async fn routes_get_calls_of_their_own() {
    let bulk = bulk_with(4, 100, &[], |_| {}).await;
    let refund = json!({"id": "2", "type": "refund"}).to_string();
    let sent = [
        bulk.send(&event("1")).await,
        bulk.send(&refund).await,
        bulk.send(&event("3")).await,
        bulk.send(r#"{"type":"none"}"#).await,
    ];
    for outcome in sent {
        assert_eq!(outcome.await.unwrap(), Outcome::Ack, "one without a route is nobody's");
    }
    assert_eq!(
        bulk.app.calls(),
        [("/rest".to_owned(), vec!["1".to_owned(), "3".to_owned()]), ("/refunds".to_owned(), vec!["2".to_owned()])]
    );
}

#[tokio::test(start_paused = true)]
async fn each_event_is_answered_to_the_broker_by_itself() {
    for dead_letter_topic in ["", "poison"] {
        let bulk = bulk_with(6, 100, &[], |manifest| manifest.dead_letter_topic = dead_letter_topic.to_owned()).await;
        bulk.app.answers.lock().extend([("retry", retry()), ("drop", DeliveryResult::Drop)]);
        let expired = json!({"id": "old", "expiration": "2020-01-01T00:00:00Z"}).to_string();
        let failed = if dead_letter_topic.is_empty() { Outcome::Nack } else { Outcome::Ack };
        let cases = [
            (event("fine"), Outcome::Ack, false),
            (event("retry"), failed, true),
            (event("drop"), Outcome::Ack, true),
            ("not json".to_owned(), failed, true),
            (expired, Outcome::Ack, true),
            (event("last"), Outcome::Ack, false),
        ];
        let mut sent = Vec::new();
        for (message, expected, dead) in cases {
            sent.push((bulk.send(&message).await, message, expected, dead));
        }
        for (outcome, message, expected, dead) in sent {
            assert_eq!(outcome.await.unwrap(), expected, "{message} {dead_letter_topic}");
            let published = bulk.setup.broker.published.lock();
            let reached = published.iter().any(|request| request.topic == "poison" && request.data == message);
            assert_eq!(reached, dead && !dead_letter_topic.is_empty(), "{message} {dead_letter_topic}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_tries_only_what_failed_again() {
    let bulk = bulk_with(3, 100, &[inbound_retries(1)], |_| {}).await;
    bulk.app.answers.lock().insert("2", retry());
    let sent = [bulk.send(&event("1")).await, bulk.send(&event("2")).await, bulk.send(&event("3")).await];
    for outcome in sent {
        assert_eq!(outcome.await.unwrap(), Outcome::Ack);
    }
    let ids: Vec<_> = bulk.app.calls().into_iter().map(|(_, ids)| ids.join(" ")).collect();
    assert_eq!(ids, ["1 2 3", "2"]);
}

#[tokio::test(start_paused = true)]
async fn raw_payloads_keep_their_bytes() {
    let bulk = bulk_with(1, 100, &[], |manifest| {
        manifest.metadata.insert("rawPayload".into(), "true".into());
    })
    .await;
    assert_eq!(bulk.send("not json").await.await.unwrap(), Outcome::Ack);
    assert_eq!(bulk.app.calls.lock()[0].items[0].raw.as_deref(), Some(&b"not json"[..]));
}

#[tokio::test(start_paused = true)]
async fn stopping_delivers_what_was_collected_and_takes_no_more() {
    let bulk = bulk_with(100, 60_000, &[], |_| {}).await;
    let collected = bulk.send(&event("1")).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begin = tokio::time::Instant::now();
    bulk.setup.subscriptions.stop(Duration::from_secs(5)).await;
    assert!(begin.elapsed() < Duration::from_millis(100));
    assert_eq!(collected.await.unwrap(), Outcome::Ack);
    assert_eq!(bulk.app.calls().len(), 1);
}
