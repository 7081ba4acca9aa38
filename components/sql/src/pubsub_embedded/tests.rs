//! The component against the conformance suite, and its own promises; processes that are killed are in
//! `tests/pubsub_embedded_kill.rs`.

use std::path::Path;

use pillion_contract::{Metadata, Outcome};
use tokio::time::{Instant, timeout};

use super::*;

/// A context as the sidecar would pass it.
pub(super) fn context(name: &str, data_dir: &Path, metadata: &[(&str, &str)]) -> InitContext {
    InitContext {
        name: name.into(),
        component_type: "pubsub.embedded".into(),
        version: "v1".into(),
        metadata: Metadata::new(metadata.iter().copied()),
        app_id: "test-app".into(),
        namespace: "default".into(),
        data_dir: data_dir.to_owned(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    }
}

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    async fn broker(&self, metadata: &[(&str, &str)]) -> Arc<dyn PubSub> {
        create(context("bus", self.directory.path(), metadata)).await.unwrap()
    }

    /// A second connection, to look and to break things.
    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.directory.path().join("pubsub/bus/broker.db")).unwrap()
    }

    fn count(&self, table: &str) -> i64 {
        self.database().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn request(topic: &str, data: &str) -> PublishRequest {
    PublishRequest { topic: topic.into(), data: data.to_owned().into(), ..PublishRequest::default() }
}

async fn publish(broker: &Arc<dyn PubSub>, topic: &str, data: &str) {
    broker.publish(request(topic, data)).await.unwrap();
}

async fn subscribe(broker: &Arc<dyn PubSub>, topic: &str) -> mpsc::Receiver<Delivery> {
    broker.subscribe(SubscribeRequest { topic: topic.into(), ..SubscribeRequest::default() }).await.unwrap()
}

async fn next(receiver: &mut mpsc::Receiver<Delivery>) -> Delivery {
    timeout(Duration::from_secs(20), receiver.recv()).await.expect("a delivery in time").expect("an open subscription")
}

/// Takes the next message and acks it.
async fn take(receiver: &mut mpsc::Receiver<Delivery>) -> String {
    let delivery = next(receiver).await;
    delivery.ack.answer(Outcome::Ack);
    text(&delivery.message.data)
}

fn text(data: &[u8]) -> String {
    String::from_utf8(data.to_vec()).unwrap()
}

async fn is_quiet(receiver: &mut mpsc::Receiver<Delivery>) -> bool {
    timeout(Duration::from_millis(200), receiver.recv()).await.is_err()
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never came true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn conforms() {
    let kinds = [("synchronous", "normal"), ("synchronous", "full"), ("synchronous", "off"), ("maxInFlight", "1")];
    let suites = kinds.map(|kind| async move {
        let bench = Bench::new();
        let open = async |group| bench.broker(&[kind, ("consumerID", group)]).await;
        pillion_conformance::pubsub::durable::run(open).await;
    });
    futures_util::future::join_all(suites).await;
}

#[tokio::test]
async fn a_new_group_starts_with_the_next_message_or_with_the_oldest() {
    let bench = Bench::new();
    let oldest = bench.broker(&[("consumerID", "oldest"), ("initialOffset", "oldest")]).await;
    publish(&oldest, "t", "before anybody").await;
    let newest = bench.broker(&[]).await;
    let mut receiver = subscribe(&oldest, "t").await;
    assert_eq!(take(&mut receiver).await, "before anybody");
    let mut receiver = subscribe(&newest, "t").await;
    publish(&newest, "t", "1").await;
    assert_eq!(take(&mut receiver).await, "1");
}

#[tokio::test]
async fn pauses_between_deliveries_grow() {
    let bench = Bench::new();
    let broker = bench.broker(&[]).await;
    let mut receiver = subscribe(&broker, "t").await;
    publish(&broker, "t", "poison").await;
    let mut times = Vec::new();
    for _ in 0..4 {
        let delivery = next(&mut receiver).await;
        times.push(Instant::now());
        delivery.ack.answer(Outcome::Nack);
    }
    let pauses: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert!(pauses[0] >= 99 && pauses[1] >= 199 && pauses[2] >= 399, "{pauses:?}");
}

#[tokio::test]
async fn in_flight_is_limited() {
    let bench = Bench::new();
    let broker = bench.broker(&[("maxInFlight", "3")]).await;
    let mut receiver = subscribe(&broker, "t").await;
    for n in 0..5 {
        publish(&broker, "t", &n.to_string()).await;
    }
    let mut held = Vec::new();
    for n in 0..3 {
        held.push(next(&mut receiver).await);
        assert_eq!(text(&held[n].message.data), n.to_string());
    }
    assert!(is_quiet(&mut receiver).await);
    held.remove(1).ack.answer(Outcome::Ack);
    assert_eq!(take(&mut receiver).await, "3");
    assert_eq!(take(&mut receiver).await, "4");
}

#[tokio::test]
async fn what_a_subscription_leaves_unanswered_goes_to_another_at_once() {
    let bench = Bench::new();
    let (one, two) = (bench.broker(&[]).await, bench.broker(&[("pollInterval", "1h")]).await);
    let mut first = subscribe(&one, "t").await;
    for n in 0..40 {
        publish(&one, "t", &n.to_string()).await;
    }
    let held = next(&mut first).await;
    assert_eq!(text(&held.message.data), "0");
    eventually(|| bench.count("in_flight") == 32).await;
    let mut second = subscribe(&two, "t").await;
    assert_eq!(take(&mut second).await, "32");
    drop(first);
    let mut rest = Vec::new();
    while rest.len() < 39 {
        rest.push(take(&mut second).await.parse::<u32>().unwrap());
    }
    held.ack.answer(Outcome::Ack); // too late
    rest.sort_unstable();
    assert_eq!(rest, (0..40).filter(|n| *n != 32).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_component_gives_back_what_it_had() {
    let bench = Bench::new();
    let (one, two) = (bench.broker(&[]).await, bench.broker(&[]).await);
    let mut first = subscribe(&one, "t").await;
    publish(&one, "t", "x").await;
    let _held = next(&mut first).await;
    let mut second = subscribe(&two, "t").await;
    assert!(is_quiet(&mut second).await);
    drop(one);
    assert_eq!(take(&mut second).await, "x");
    eventually(|| bench.count("members") == 1).await;
}

#[tokio::test]
async fn time_to_live_ends_a_message_also_after_a_nack() {
    let bench = Bench::new();
    let broker = bench.broker(&[]).await;
    let with_ttl = |data: &str, key: &str, ttl: &str| PublishRequest {
        metadata: [(key.to_owned(), ttl.to_owned())].into(),
        ..request("t", data)
    };
    let receiver = subscribe(&broker, "t").await;
    drop(receiver);
    broker.publish(with_ttl("gone", "TTLInSeconds", "50ms")).await.unwrap();
    broker.publish(with_ttl("stays", "ttlInSeconds", "60")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let mut receiver = subscribe(&broker, "t").await;
    let delivery = next(&mut receiver).await;
    assert_eq!(text(&delivery.message.data), "stays");
    assert_eq!(delivery.message.metadata["ttlInSeconds"], "60");
    delivery.ack.answer(Outcome::Ack);
    broker.publish(with_ttl("nacked", "ttl", "250ms")).await.unwrap();
    next(&mut receiver).await.ack.answer(Outcome::Nack);
    next(&mut receiver).await.ack.answer(Outcome::Nack); // due again after it has expired
    assert!(timeout(Duration::from_millis(500), receiver.recv()).await.is_err());
    let mut requests = vec![request("t", "good")];
    requests.extend(["0", "-1", "soon"].map(|ttl| with_ttl("bad", "ttlInSeconds", ttl)));
    let failed = broker.bulk_publish(requests.clone()).await.unwrap();
    assert_eq!(failed.iter().map(|failed| failed.index).collect::<Vec<_>>(), [1, 2, 3]);
    let error = broker.publish(requests.pop().unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert!(
        error.to_string().starts_with("message metadata ttlInSeconds: \"soon\" is not a time to live: expected"),
        "{error}"
    );
    assert_eq!(take(&mut receiver).await, "good");
    eventually(|| bench.count("messages") == 0).await;
}

#[tokio::test]
async fn messages_everybody_has_are_removed_and_others_stay_until_retention() {
    let bench = Bench::new();
    let broker = bench.broker(&[("pollInterval", "20ms")]).await;
    let mut receiver = subscribe(&broker, "t").await;
    let absent = bench.broker(&[("consumerID", "absent")]).await;
    drop(subscribe(&absent, "kept").await);
    absent.close().await.unwrap();
    broker.bulk_publish((0..1000).map(|n| request("t", &n.to_string())).collect()).await.unwrap();
    broker.bulk_publish((0..300).map(|n| request("kept", &n.to_string())).collect()).await.unwrap();
    broker.bulk_publish((0..300).map(|n| request("nobody's", &n.to_string())).collect()).await.unwrap();
    let held = next(&mut receiver).await;
    for _ in 1..1000 {
        take(&mut receiver).await;
    }
    eventually(|| bench.count("messages") == 601).await;
    held.ack.answer(Outcome::Ack);
    eventually(|| bench.count("messages") == 600).await;
    let absent = bench.broker(&[("consumerID", "absent"), ("retention", "1ms"), ("pollInterval", "1h")]).await;
    let mut receiver = subscribe(&absent, "kept").await;
    assert!(is_quiet(&mut receiver).await, "what is past its retention does not come, also when it is still there");
    let _short = bench.broker(&[("retention", "1ms"), ("pollInterval", "20ms")]).await;
    eventually(|| bench.count("messages") == 0).await;
}

#[tokio::test]
async fn names_and_directories_tell_brokers_apart() {
    let data = tempfile::tempdir().unwrap();
    let make =
        async |name: &str, metadata: &[(&str, &str)]| create(context(name, data.path(), metadata)).await.unwrap();
    let (first, second) = (make("one", &[]).await, make("two", &[]).await);
    let (mut one, mut two) = (subscribe(&first, "t").await, subscribe(&second, "t").await);
    publish(&make("one", &[]).await, "t", "x").await;
    assert_eq!(take(&mut one).await, "x");
    assert!(is_quiet(&mut two).await);
    let shared = data.path().join("shared");
    let directory = [("directory", shared.to_str().unwrap())];
    let third = make("three", &directory).await;
    let mut three = subscribe(&third, "t").await;
    publish(&make("four", &directory).await, "t", "y").await;
    assert_eq!(take(&mut three).await, "y");
}

#[tokio::test]
async fn wake_ups_do_not_wait_for_a_poll() {
    let bench = Bench::new();
    let hours = [("pollInterval", "1h")];
    let (one, two) = (bench.broker(&hours).await, bench.broker(&hours).await);
    let mut receiver = subscribe(&one, "t").await;
    for n in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        publish(&two, "t", &n.to_string()).await;
        assert_eq!(take(&mut receiver).await, n.to_string());
    }
}

#[tokio::test]
async fn polling_works_without_wake_ups() {
    let bench = Bench::new();
    let fast = [("pollInterval", "20ms")];
    let (one, two) = (bench.broker(&fast).await, bench.broker(&fast).await);
    let mut receiver = subscribe(&one, "t").await;
    bench.database().execute("DELETE FROM subscriptions", []).unwrap();
    publish(&two, "t", "x").await;
    assert_eq!(take(&mut receiver).await, "x");
}

#[tokio::test]
async fn a_member_taken_for_dead_comes_back() {
    let bench = Bench::new();
    let fast = [("pollInterval", "20ms")];
    let (one, two) = (bench.broker(&fast).await, bench.broker(&fast).await);
    let mut receiver = subscribe(&one, "t").await;
    for file in std::fs::read_dir(bench.directory.path().join("pubsub/bus/members")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let database = bench.database();
    let member = || database.query_row("SELECT max(id) FROM members", [], |row| row.get::<_, Option<i64>>(0)).unwrap();
    eventually(|| member() == Some(2)).await;
    eventually(|| bench.count("subscriptions") == 1).await;
    publish(&two, "t", "x").await;
    assert_eq!(take(&mut receiver).await, "x");
}

#[tokio::test]
async fn a_disk_that_is_full_loses_nothing() {
    let bench = Bench::new();
    let broker = bench.broker(&[("pollInterval", "20ms")]).await;
    let mut receiver = subscribe(&broker, "t").await;
    publish(&broker, "t", "before").await;
    let held = next(&mut receiver).await;
    let database = bench.database();
    // A trigger is the nearest to a full disk that needs no file system of its own.
    database
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no room'); END")
        .unwrap();
    database
        .execute_batch("CREATE TRIGGER full2 BEFORE DELETE ON in_flight BEGIN SELECT RAISE(ABORT, 'no room'); END")
        .unwrap();
    let error = broker.publish(request("t", "refused")).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot write to the broker database") && error.contains("no room"), "{error}");
    held.ack.answer(Outcome::Ack);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.count("in_flight"), 1);
    database.execute_batch("DROP TRIGGER full; DROP TRIGGER full2").unwrap();
    publish(&broker, "t", "after").await;
    assert_eq!(take(&mut receiver).await, "after", "the ack was noted, the refused message is not there");
    eventually(|| bench.count("in_flight") == 0).await;
}

/// Wants a small file system of its own: `mount -t tmpfs -o size=8m tmpfs DIR`, then `PILLION_SMALL_DISK=DIR`.
#[tokio::test]
#[ignore = "needs a small file system"]
async fn a_full_disk_goes_on_when_there_is_room_again() {
    let directory = std::path::PathBuf::from(std::env::var("PILLION_SMALL_DISK").unwrap());
    let ballast = directory.join("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let broker = create(context("bus", &directory, &[("pollInterval", "50ms")])).await.unwrap();
    let mut receiver = subscribe(&broker, "t").await;
    let mut stored = 0;
    let error = loop {
        match broker.publish(request("t", &stored.to_string().repeat(3000))).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    println!("{stored} stored, then {error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    std::fs::remove_file(&ballast).unwrap();
    publish(&broker, "t", "after").await;
    for n in 0..stored {
        assert_eq!(take(&mut receiver).await, n.to_string().repeat(3000));
    }
    assert_eq!(take(&mut receiver).await, "after");
    broker.close().await.unwrap();
}

#[tokio::test]
async fn one_bad_message_of_a_batch_fails_alone() {
    let bench = Bench::new();
    let broker = bench.broker(&[]).await;
    let trigger =
        "CREATE TRIGGER picky BEFORE INSERT ON messages WHEN NEW.data = x'62' BEGIN SELECT RAISE(ABORT, 'no b'); END";
    bench.database().execute_batch(trigger).unwrap();
    let mut receiver = subscribe(&broker, "t").await;
    let (a, b, c) = tokio::join!(
        broker.publish(request("t", "a")),
        broker.publish(request("t", "b")),
        broker.publish(request("t", "c"))
    );
    assert!(a.is_ok() && b.is_err() && c.is_ok());
    assert_eq!((take(&mut receiver).await, take(&mut receiver).await), ("a".to_owned(), "c".to_owned()));
}

#[tokio::test]
async fn a_database_removed_while_in_use_is_an_error_not_a_loss() {
    let bench = Bench::new();
    let broker = bench.broker(&[("pollInterval", "20ms")]).await;
    let mut receiver = subscribe(&broker, "t").await;
    std::fs::remove_dir_all(bench.directory.path().join("pubsub")).unwrap();
    assert!(timeout(Duration::from_secs(20), receiver.recv()).await.unwrap().is_none(), "the subscription ends");
    let error = broker.publish(request("t", "x")).await.unwrap_err().to_string();
    assert!(error.contains("was removed or replaced while in use; restart this sidecar"), "{error}");
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_closed_component_refuses_clearly_and_leaves_no_files() {
    let bench = Bench::new();
    let broker = bench.broker(&[]).await;
    let mut receiver = subscribe(&broker, "t").await;
    broker.close().await.unwrap();
    broker.close().await.unwrap();
    assert!(receiver.recv().await.is_none());
    assert_eq!(broker.publish(request("t", "x")).await.unwrap_err().to_string(), "component is closed");
    assert_eq!(broker.subscribe(SubscribeRequest::default()).await.unwrap_err().to_string(), "component is closed");
    let folder = bench.directory.path().join("pubsub/bus");
    assert_eq!(std::fs::read_dir(folder.join("members")).unwrap().count(), 0);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["broker.db", "members"]);
}
