//! The sidecar through the Rust SDK's client: a line for each test and one sum. Neighbour: `sidecar.rs`.
//! A test fails by panicking; each has the one sidecar, and keys and topics of its own.

mod sidecar;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use dapr::client::{Etag, StateItem, StateOptions};
use sidecar::{Client, Resources, Sidecar};

const STORE: &str = "statestore";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let resources = Resources::write();
    let one = Sidecar::start(&resources, "rust-one", None, None);
    let client = one.client(None).await;
    let mut sum = Sum::default();
    sum.test("metadata", metadata(client.clone())).await;
    sum.test("state: save, get, delete", state(client.clone())).await;
    sum.test("state: a stale etag is aborted", etag(client.clone())).await;
    sum.test("state: bulk", bulk(client.clone())).await;
    sum.test("state: expiry", expiry(client.clone())).await;
    sum.test("state: a store that is not there", no_store(client.clone())).await;
    sum.test("secrets", secrets(client.clone())).await;
    sum.test("publish", publish(client.clone())).await;
    sum.test("invoke: an app that is not there", no_app(client.clone())).await;
    let guarded = Sidecar::start(&resources, "rust-token", None, Some("right"));
    sum.test("API token", token(guarded)).await;
    sum.test("blocks without components say so", without_components(client.clone())).await;
    drop((client, one, resources));
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    std::process::exit(i32::from(sum.failed > 0));
}

#[derive(Default)]
struct Sum {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Sum {
    async fn test(&mut self, name: &str, body: impl Future<Output = ()>) {
        let begin = Instant::now();
        let body = std::panic::AssertUnwindSafe(tokio::time::timeout(Duration::from_secs(30), body));
        let passed = matches!(caught(body).await, Some(Ok(())));
        let (word, count) = if passed { ("ok", &mut self.passed) } else { ("FAILED", &mut self.failed) };
        *count += 1;
        println!("{word:7} {name} ({:.1} s)", begin.elapsed().as_secs_f32());
    }
}

/// The outcome of a future, `None` when it panicked; the panic's message is on standard error.
async fn caught<F: Future>(future: std::panic::AssertUnwindSafe<F>) -> Option<F::Output> {
    let mut future = Box::pin(future.0);
    std::future::poll_fn(|context| {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(std::task::Poll::Ready(None), |poll| poll.map(Some))
    })
    .await
}

/// The SDK shows a status only in its debug form, so that is what is searched.
fn fails_with<T: Debug>(result: Result<T, dapr::error::Error>, parts: &[&str]) {
    let text = format!("{:?}", result.expect_err("the call does not fail"));
    for part in parts {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "no {part:?} in {text}");
    }
}

async fn metadata(mut client: Client) {
    client.set_metadata("colour", "green").await.unwrap();
    let metadata = client.get_metadata().await.unwrap();
    assert_eq!(metadata.id, "rust-one");
    assert_eq!(metadata.extended_metadata.get("colour").map(String::as_str), Some("green"));
    let kinds: BTreeMap<_, _> =
        metadata.registered_components.iter().map(|each| (each.name.as_str(), each.r#type.as_str())).collect();
    let expected = [("pubsub", "pubsub.in-memory"), ("secrets", "secretstores.local.file"), (STORE, "state.in-memory")];
    assert_eq!(kinds, BTreeMap::from(expected));
}

async fn read(client: &mut Client, key: &str) -> Vec<u8> {
    client.get_state(STORE, key, None).await.unwrap().data
}

async fn state(mut client: Client) {
    client.save_state(STORE, "key", b"value".to_vec(), None, None, None).await.unwrap();
    assert_eq!(read(&mut client, "key").await, b"value");
    client.delete_state(STORE, "key", None).await.unwrap();
    assert!(read(&mut client, "key").await.is_empty());
}

async fn etag(mut client: Client) {
    let first_write = Some(StateOptions { concurrency: 1, consistency: 2 });
    client.save_state(STORE, "etag", b"one".to_vec(), None, None, None).await.unwrap();
    let etag = Some(Etag { value: client.get_state(STORE, "etag", None).await.unwrap().etag });
    client.save_state(STORE, "etag", b"two".to_vec(), etag.clone(), None, first_write).await.unwrap();
    fails_with(client.save_state(STORE, "etag", b"no".to_vec(), etag, None, first_write).await, &["aborted"]);
    assert_eq!(read(&mut client, "etag").await, b"two");
}

async fn bulk(mut client: Client) {
    let item =
        |key: &str, value: &[u8]| StateItem { key: key.to_owned(), value: value.to_vec(), ..StateItem::default() };
    client.save_bulk_states(STORE, [item("bulk-1", b"one"), item("bulk-2", b"two")]).await.unwrap();
    assert_eq!(read(&mut client, "bulk-1").await, b"one");
    assert_eq!(read(&mut client, "bulk-2").await, b"two");
    client.delete_bulk_state(STORE, [("bulk-1", vec![]), ("bulk-2", vec![])]).await.unwrap();
    assert!(read(&mut client, "bulk-2").await.is_empty());
}

async fn expiry(mut client: Client) {
    let one_second = Some(HashMap::from([("ttlInSeconds".to_owned(), "1".to_owned())]));
    client.save_state(STORE, "short", b"life".to_vec(), None, one_second, None).await.unwrap();
    assert_eq!(read(&mut client, "short").await, b"life");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(read(&mut client, "short").await.is_empty());
}

async fn no_store(mut client: Client) {
    fails_with(client.get_state("no-store", "key", None).await, &["no-store"]);
}

async fn secrets(mut client: Client) {
    let secret = client.get_secret("secrets", "password").await.unwrap().data;
    assert_eq!(secret, HashMap::from([("password".to_owned(), "open sesame".to_owned())]));
    assert_eq!(client.get_bulk_secret("secrets", None).await.unwrap().data.len(), 2);
    fails_with(client.get_secret("secrets", "nothing").await, &["nothing"]);
}

async fn publish(mut client: Client) {
    client.publish_event("pubsub", "topic", "text/plain", b"event".to_vec(), None).await.unwrap();
    fails_with(client.publish_event("no-pubsub", "topic", "text/plain", b"x".to_vec(), None).await, &["no-pubsub"]);
}

async fn no_app(mut client: Client) {
    let data = Some(prost_types::Any { type_url: String::new(), value: b"{}".to_vec() });
    fails_with(client.invoke_service("rust-nobody", "method", data).await, &["rust-nobody"]);
}

async fn token(guarded: Sidecar) {
    let mut right = guarded.client(Some("right")).await;
    right.save_state(STORE, "key", b"value".to_vec(), None, None, None).await.unwrap();
    assert_eq!(read(&mut right, "key").await, b"value");
    for token in [Some("wrong"), None] {
        fails_with(guarded.client(token).await.get_state(STORE, "key", None).await, &["unauthenticated"]);
    }
}

async fn without_components(mut client: Client) {
    let configuration = client.get_configuration("configstore", vec!["key"], None).await;
    fails_with(configuration, &["configuration stores not configured"]);
    let subscription = client.subscribe_configuration("configstore", vec!["key"], None).await;
    fails_with(subscription, &["configuration stores not configured"]);
    assert!(!client.unsubscribe_configuration("configstore", "id").await.unwrap().ok);
    let binding = client.invoke_binding("binding", b"data".to_vec(), "create", None).await;
    fails_with(binding, &["couldn't find output binding binding"]);
    fails_with(client.get_job_alpha1("job").await, &["scheduler clients are disabled"]);
    fails_with(client.delete_job_alpha1("job").await, &["scheduler clients are disabled"]);
}
