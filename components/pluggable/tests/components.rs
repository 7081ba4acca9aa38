//! The components against a server of the tests: found by their sockets, run through the conformance suites, broken on purpose.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests panic with the place that failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_conformance::eventually;
use pillion_conformance::pubsub::Promises;
use pillion_contract::{
    BindingRequest, DiscoveryContext, ErrorKind, GetRequest, InitContext, Metadata, Outcome, PubSub, PublishRequest,
    QueryRequest, QuerySort, Registry, SetRequest, StateStore, SubscribeRequest,
};
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_pluggable::{PluggableInput, PluggableOutput, PluggablePubSub, PluggableSecrets, PluggableState};
use pillion_testkit::{PluggableKind, PluggableServer};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::Status;

const LIMIT: Duration = Duration::from_secs(20);

fn context(component_type: &str) -> InitContext {
    InitContext {
        name: "mine".into(),
        component_type: component_type.into(),
        version: "v1".into(),
        metadata: Metadata::new([("Some-Key", "value")]),
        app_id: "app".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    }
}

fn serve(kinds: &[PluggableKind]) -> (TempDir, PluggableServer) {
    let dir = tempfile::tempdir().unwrap();
    let server = PluggableServer::start(dir.path(), "test", kinds).unwrap();
    (dir, server)
}

async fn discover(dir: &Path) -> Registry {
    let mut registry = Registry::default();
    pillion_pluggable::register(&mut registry);
    registry
        .discover(&DiscoveryContext { sockets_dir: dir.to_owned(), log: Logger::silent(), board: Board::default() })
        .await;
    registry
}

#[tokio::test]
async fn sockets_are_found_and_become_types() {
    let dir = tempfile::tempdir().unwrap();
    use PluggableKind::{InputBinding, OutputBinding, PubSub, Secrets, State};
    let _first = PluggableServer::start(dir.path(), "My.Store", &[State, PubSub, Secrets]).unwrap();
    let _second = PluggableServer::start(dir.path(), "bound", &[InputBinding, OutputBinding]).unwrap();
    std::fs::write(dir.path().join("plain.sock"), "").unwrap();
    std::fs::create_dir(dir.path().join("folder.sock")).unwrap();
    let registry = discover(dir.path()).await;
    assert_eq!(registry.types(), ["bindings.bound", "pubsub.my.store", "secretstores.my.store", "state.my.store"]);
    assert!(registry.input_binding("bindings.bound").is_some() && registry.output_binding("bindings.bound").is_some());
    let store = registry.state("state.My.Store").unwrap()(context("state.My.Store")).await.unwrap();
    assert!(store.capability().etag);
}

#[tokio::test]
async fn a_missing_directory_is_an_empty_one() {
    assert!(discover(Path::new("/does/not/exist")).await.types().is_empty());
}

#[tokio::test]
async fn a_socket_that_is_served_late_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    // left over by a process that ended
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("late.sock")).unwrap());
    let path = dir.path().to_owned();
    let finding = tokio::spawn(async move { discover(&path).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _server = PluggableServer::start(dir.path(), "late", &[PluggableKind::State]).unwrap();
    let registry = tokio::time::timeout(LIMIT, finding).await.unwrap().unwrap();
    assert_eq!(registry.types(), ["state.late"]);
}

#[tokio::test]
async fn a_state_store_conforms_and_every_call_names_its_component() {
    let (_dir, server) = serve(&[PluggableKind::State]);
    let store = PluggableState::open(server.socket(), &context("state.test")).await.unwrap();
    store.ping().await.unwrap();
    let capability = store.capability();
    assert!(capability.transactional && capability.actor && !capability.query && !capability.ttl);
    assert_eq!(server.count("TransactionalStoreMultiMaxSize/MultiMaxSize"), 0, "asked only when it is needed");
    assert_eq!(store.transactional().unwrap().max_operations().await, Some(50));
    assert_eq!(store.transactional().unwrap().max_operations().await, Some(50));
    pillion_conformance::state::run(Arc::new(store)).await;
    let calls = server.calls();
    assert_eq!(
        calls[0].properties.get("Some-Key").map(String::as_str),
        Some("value"),
        "metadata names keep their case"
    );
    assert!(calls.iter().all(|call| call.instance == "mine"), "{calls:?}");
    assert_eq!(server.count("StateStore/Init"), 1);
}

#[tokio::test]
async fn a_broker_conforms() {
    let (_dir, server) = serve(&[PluggableKind::PubSub]);
    let broker = PluggablePubSub::open(server.socket(), context("pubsub.test")).await.unwrap();
    broker.ping().await.unwrap();
    let broker = Arc::new(Conforming { broker, server });
    pillion_conformance::pubsub::run(broker, Promises { redelivers: true }).await;
}

/// Subscribing returns before the component knows of it, as in the original; the suite publishes at once.
struct Conforming {
    broker: PluggablePubSub,
    server: PluggableServer,
}

#[async_trait::async_trait]
impl PubSub for Conforming {
    fn capability(&self) -> pillion_contract::PubSubCapability {
        self.broker.capability()
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), pillion_contract::ComponentError> {
        self.broker.publish(request).await
    }

    async fn bulk_publish(
        &self,
        requests: Vec<PublishRequest>,
    ) -> Result<Vec<pillion_contract::BulkEntryError>, pillion_contract::ComponentError> {
        self.broker.bulk_publish(requests).await
    }

    async fn subscribe(
        &self,
        request: SubscribeRequest,
    ) -> Result<tokio::sync::mpsc::Receiver<pillion_contract::Delivery>, pillion_contract::ComponentError> {
        let topic = request.topic.clone();
        let receiver = self.broker.subscribe(request).await?;
        assert!(eventually(LIMIT, || async { self.server.subscribed(&topic) }).await);
        Ok(receiver)
    }

    async fn close(&self) -> Result<(), pillion_contract::ComponentError> {
        self.broker.close().await
    }
}

async fn subscribed(
    broker: &PluggablePubSub,
    server: &PluggableServer,
) -> tokio::sync::mpsc::Receiver<pillion_contract::Delivery> {
    let request = SubscribeRequest { topic: "t".into(), ..SubscribeRequest::default() };
    let receiver = broker.subscribe(request).await.unwrap();
    assert!(eventually(LIMIT, || async { server.subscribed("t") }).await);
    receiver
}

fn message(data: &'static str) -> PublishRequest {
    PublishRequest { topic: "t".into(), data: data.into(), ..PublishRequest::default() }
}

#[tokio::test]
async fn answers_reach_the_component_and_what_is_given_back_gets_none() {
    let (_dir, server) = serve(&[PluggableKind::PubSub]);
    let broker = PluggablePubSub::open(server.socket(), context("pubsub.test")).await.unwrap();
    let mut receiver = subscribed(&broker, &server).await;
    for data in ["1", "2", "3"] {
        broker.publish(message(data)).await.unwrap();
    }
    receiver.recv().await.unwrap().ack.answer(Outcome::Ack);
    let second = receiver.recv().await.unwrap();
    assert!(receiver.try_recv().is_err(), "one message at a time");
    // The end: the second is worked on and acknowledged, the third never taken.
    drop(receiver);
    second.ack.answer(Outcome::Ack);
    broker.close().await.unwrap();
    assert_eq!(server.acknowledged(), [("1".to_owned(), None), ("2".to_owned(), None)]);

    let broker = PluggablePubSub::open(server.socket(), context("pubsub.test")).await.unwrap();
    let mut receiver = subscribed(&broker, &server).await;
    let third = receiver.recv().await.unwrap();
    assert_eq!(third.message.data, "3");
    third.ack.answer(Outcome::Nack);
    let again = receiver.recv().await.unwrap();
    assert_eq!(again.message.data, "3", "a refused message comes again");
    drop(again.ack);
    drop(receiver);
    broker.close().await.unwrap();
    let refused = Some("the message was not processed".to_owned());
    assert_eq!(server.acknowledged()[2..], [("3".to_owned(), refused)], "given back is not refused");
}

#[tokio::test]
async fn bulk_publishing_names_what_failed() {
    let (_dir, server) = serve(&[PluggableKind::PubSub]);
    let broker = PluggablePubSub::open(server.socket(), context("pubsub.test")).await.unwrap();
    let failed = broker.bulk_publish(vec![message("a"), message("bad"), message("c")]).await.unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].index, failed[0].error.as_str()), (1, "bad entry"));
    server.fail_next("PubSub/BulkPublish", Status::unavailable("later"));
    let failed = broker.bulk_publish(vec![message("a"), message("b")]).await.unwrap();
    let wanted = "rpc error: code = Unavailable desc = later";
    assert_eq!(
        failed.iter().map(|entry| (entry.index, entry.error.as_str())).collect::<Vec<_>>(),
        [(0, wanted), (1, wanted)]
    );
    assert!(!broker.capability().message_ttl && broker.capability().bulk_publish);
}

#[tokio::test]
async fn a_broker_is_paused_when_it_can_be() {
    let (_dir, server) = serve(&[PluggableKind::PubSub]);
    let broker = PluggablePubSub::open(server.socket(), context("pubsub.test")).await.unwrap();
    assert!(broker.pause().await.unwrap());
    server.fail_next("PubSub/Pause", Status::unimplemented("an older component"));
    assert!(!broker.pause().await.unwrap());
    server.fail_next("PubSub/Pause", Status::internal("broken"));
    assert_eq!(broker.pause().await.unwrap_err().to_string(), "rpc error: code = Internal desc = broken");
    assert_eq!(server.count("PubSub/Pause"), 3);
}

#[tokio::test]
async fn a_query_is_passed_on() {
    let (_dir, server) = serve(&[PluggableKind::State]);
    let store = PluggableState::open(server.socket(), &context("state.test")).await.unwrap();
    for key in ["app||a", "app||b", "app||c"] {
        store.set(&SetRequest { key: key.into(), value: "1".into(), ..SetRequest::default() }).await.unwrap();
    }
    let filter = serde_json::Map::from_iter([("EQ".to_owned(), serde_json::json!({"n": 1}))]);
    let sort = vec![QuerySort { key: "key".into(), descending: true }];
    let mut request = QueryRequest { filter, sort, limit: 2, ..QueryRequest::default() };
    let found = store.querier().unwrap().query(&request).await.unwrap();
    let keys: Vec<&str> = found.items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!((keys.as_slice(), found.token.as_str()), (["app||c", "app||b"].as_slice(), "2"));
    assert!(found.items.iter().all(|item| item.data == "1" && item.etag.is_some()));
    assert_eq!(found.metadata.get("filter").map(String::as_str), Some(r#"EQ={"n":1}"#));
    request.token = found.token;
    assert_eq!(store.querier().unwrap().query(&request).await.unwrap().items[0].key, "app||a");
    server.fail_next("QueriableStateStore/Query", Status::unimplemented("no queries"));
    let error = store.querier().unwrap().query(&request).await.unwrap_err();
    assert_eq!(error.to_string(), "rpc error: code = Unimplemented desc = no queries");
}

#[tokio::test]
async fn a_component_that_was_restarted_is_initialised_and_subscribed_to_again() {
    let (_dir, server) = serve(&[PluggableKind::PubSub, PluggableKind::State]);
    let broker = PluggablePubSub::open(server.socket(), context("pubsub.test")).await.unwrap();
    let store = PluggableState::open(server.socket(), &context("state.test")).await.unwrap();
    store.set(&SetRequest { key: "k".into(), value: "v".into(), ..SetRequest::default() }).await.unwrap();
    let mut receiver = subscribed(&broker, &server).await;
    let server = server.restart(&[PluggableKind::PubSub, PluggableKind::State]).unwrap();
    assert!(eventually(LIMIT, || async { server.count("PubSub/Init") == 2 }).await);
    broker.publish(message("after")).await.unwrap();
    let delivery = tokio::time::timeout(LIMIT, receiver.recv()).await.unwrap().unwrap();
    assert_eq!(delivery.message.data, "after");
    let get = GetRequest { key: "k".into(), ..GetRequest::default() };
    let found = eventually(LIMIT, || async { matches!(store.get(&get).await, Ok(Some(_))) }).await;
    assert!(found, "a call makes the connection anew");
}

#[tokio::test]
async fn a_secret_store_conforms() {
    let (_dir, server) = serve(&[PluggableKind::Secrets]);
    let store = PluggableSecrets::open(server.socket(), &context("secretstores.test")).await.unwrap();
    store.ping().await.unwrap();
    pillion_conformance::secrets::run(Arc::new(store), false).await;
}

#[tokio::test]
async fn an_output_binding_lists_and_runs_operations() {
    let (_dir, server) = serve(&[PluggableKind::OutputBinding]);
    let binding = PluggableOutput::open(server.socket(), &context("bindings.test")).await.unwrap();
    binding.ping().await.unwrap();
    use pillion_contract::OutputBinding as _;
    assert_eq!(binding.operations(), ["create", "fail"]);
    let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let mut request = BindingRequest { operation: "create".into(), data: "x".into(), metadata: metadata.clone() };
    let answer = binding.invoke(&request).await.unwrap().unwrap();
    assert_eq!((answer.data.as_ref(), answer.metadata), (b"x".as_slice(), metadata));
    assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
    request.operation = "fail".into();
    let error = binding.invoke(&request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(error.to_string(), "rpc error: code = InvalidArgument desc = operation fail is not known");
    pillion_conformance::bindings::output(Arc::new(binding)).await;
}

#[tokio::test]
async fn an_input_binding_works_on_events_side_by_side() {
    use pillion_contract::InputBinding as _;
    let (_dir, server) = serve(&[PluggableKind::InputBinding]);
    let binding = PluggableInput::open(server.socket(), context("bindings.test")).await.unwrap();
    binding.ping().await.unwrap();
    let mut receiver = binding.read().await.unwrap();
    assert!(eventually(LIMIT, || async { server.sources() == 1 }).await);
    for id in ["1", "2", "3"] {
        server.event(id, "data").await;
    }
    let first = receiver.recv().await.unwrap();
    let second = receiver.recv().await.unwrap();
    let third = receiver.recv().await.unwrap();
    assert_eq!(first.event.content_type.as_deref(), Some("text/plain"));
    assert_eq!(first.event.metadata.get("kind").map(String::as_str), Some("test"));
    second.reply.answer(Err("no".into()));
    assert!(eventually(LIMIT, || async { server.replies().len() == 1 }).await);
    drop(receiver);
    drop(third); // given back
    first.reply.answer(Ok("yes".into()));
    binding.close().await.unwrap();
    let replies = server.replies();
    assert_eq!(replies.len(), 2, "{replies:?}");
    let refused = replies.iter().find(|reply| reply.response_error.is_some()).unwrap();
    assert_eq!(refused.response_error.as_ref().unwrap().message, "no");
    let answered = replies.iter().find(|reply| reply.response_error.is_none()).unwrap();
    assert_eq!(answered.response_data, "yes");
    assert!(!answered.message_id.is_empty() && answered.message_id != refused.message_id);
    let binding = PluggableInput::open(server.socket(), context("bindings.test")).await.unwrap();
    let reads = std::sync::atomic::AtomicUsize::new(1);
    let fire = || async {
        // The stream before may end after the next one was opened.
        let reads = reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let is_open = || async { server.count("InputBinding/Read") == reads && server.sources() == 1 };
        assert!(eventually(LIMIT, is_open).await);
        server.event("x", "data").await;
    };
    pillion_conformance::bindings::input(Arc::new(binding), fire).await;
}

#[tokio::test]
async fn what_does_not_start_says_why() {
    let (_dir, server) = serve(&[PluggableKind::State]);
    server.fail_next("StateStore/Init", Status::permission_denied("no licence"));
    let error = PluggableState::open(server.socket(), &context("state.test")).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert_eq!(error.to_string(), "rpc error: code = PermissionDenied desc = no licence");
    let error = PluggableState::open(Path::new("/none.sock"), &context("state.test")).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains("'/none.sock'") && error.to_string().contains("No such file"), "{error}");
    let named = InitContext { name: "ü".into(), ..context("state.test") };
    let error = PluggableState::open(server.socket(), &named).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
}
