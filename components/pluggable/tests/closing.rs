//! How long a stream of messages lives after nobody takes its messages any more.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests panic with the place that failed")]

use std::time::{Duration, Instant};

use pillion_conformance::eventually;
use pillion_contract::{InitContext, Metadata, Outcome, PubSub as _, PublishRequest, SubscribeRequest};
use pillion_core::log::Logger;
use pillion_pluggable::PluggablePubSub;
use pillion_testkit::{PluggableKind, PluggableServer};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

fn context() -> InitContext {
    InitContext {
        name: "mine".into(),
        component_type: "pubsub.test".into(),
        version: "v1".into(),
        metadata: Metadata::default(),
        app_id: "app".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    }
}

#[tokio::test]
async fn a_stream_that_was_in_use_stays_open_for_a_moment_and_what_comes_then_is_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = PluggableServer::start(dir.path(), "test", &[PluggableKind::PubSub]).unwrap();
    let publish =
        |data: &'static str| PublishRequest { topic: "t".into(), data: data.into(), ..PublishRequest::default() };
    let opened = || async { server.subscribed("t") };
    let open = || async {
        let broker = PluggablePubSub::open(server.socket(), context()).await.unwrap();
        let request = SubscribeRequest { topic: "t".into(), ..SubscribeRequest::default() };
        let receiver = broker.subscribe(request).await.unwrap();
        assert!(eventually(LIMIT, opened).await);
        (broker, receiver)
    };

    let (broker, mut receiver) = open().await;
    broker.publish(publish("1")).await.unwrap();
    receiver.recv().await.unwrap().ack.answer(Outcome::Ack);
    let answered = Instant::now();
    drop(receiver);
    assert!(eventually(LIMIT, || async { server.acknowledged().len() == 1 }).await);
    broker.publish(publish("2")).await.unwrap();
    broker.close().await.unwrap();
    let open_for = answered.elapsed();
    assert!(open_for > Duration::from_millis(350), "{open_for:?}");
    assert_eq!(server.acknowledged(), [("1".to_owned(), None)]);

    // What was not answered comes again to the next one.
    let (broker, mut receiver) = open().await;
    assert_eq!(receiver.recv().await.unwrap().message.data, "2");
    broker.close().await.unwrap();
}
