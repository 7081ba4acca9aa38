//! Streaming subscriptions: what reaches them, how they end, and the trace of what they carry.

use std::time::Duration;

use prost_types::value::Kind;

use super::*;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

type FromApp = pb::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType;
type ToApp = pb::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType;

/// The app's end of a streaming subscription.
struct Subscriber {
    sender: mpsc::Sender<pb::SubscribeTopicEventsRequestAlpha1>,
    receiver: tonic::Streaming<pb::SubscribeTopicEventsResponseAlpha1>,
}

impl Subscriber {
    /// Opens the stream with its first message.
    async fn open(fixture: &Fixture, first: FromApp) -> Result<Self, Status> {
        let (sender, messages) = mpsc::channel(4);
        let subscriber = |receiver| Self { sender: sender.clone(), receiver };
        sender
            .send(pb::SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(first) })
            .await
            .unwrap();
        let answer = fixture
            .client()
            .subscribe_topic_events_alpha1(tokio_stream::wrappers::ReceiverStream::new(messages))
            .await?;
        Ok(subscriber(answer.into_inner()))
    }

    async fn send(&self, message: FromApp) {
        self.sender
            .send(pb::SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(message) })
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Result<Option<ToApp>, Status> {
        Ok(self.receiver.message().await?.and_then(|message| message.subscribe_topic_events_response_type))
    }

    async fn event(&mut self) -> pb::TopicEventRequest {
        match self.next().await {
            Ok(Some(ToApp::EventMessage(event))) => event,
            other => panic!("expected an event, got {other:?}"),
        }
    }
}

fn initial(pubsub_name: &str, topic: &str) -> FromApp {
    FromApp::InitialRequest(pb::SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: pubsub_name.into(),
        topic: topic.into(),
        ..Default::default()
    })
}

fn processed(event: &pb::TopicEventRequest) -> FromApp {
    let status = Some(pb::TopicEventResponse { status: 0 });
    FromApp::EventProcessed(pb::SubscribeTopicEventsRequestProcessedAlpha1 { id: event.id.clone(), status })
}

#[tokio::test]
async fn published_events_reach_a_stream_with_their_trace() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut subscriber = Subscriber::open(&fixture, initial("ps", "t")).await.unwrap();
    assert!(matches!(subscriber.next().await, Ok(Some(ToApp::InitialResponse(_)))));
    let mut client = fixture.client();
    let event = pb::PublishEventRequest {
        pubsub_name: "ps".into(),
        topic: "t".into(),
        data: Bytes::from_static(b"e"),
        ..Default::default()
    };
    let mut request = tonic::Request::new(event);
    request
        .metadata_mut()
        .insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
    client.publish_event(request).await.unwrap();
    let event = subscriber.event().await;
    assert_eq!((&event.data[..], event.path.as_str(), event.pubsub_name.as_str()), (&b"e"[..], "/", "ps"));
    assert!(event.extensions.as_ref().unwrap().fields["traceparent"].kind.as_ref().is_some());
    subscriber.send(processed(&event)).await;

    let entries = vec![pb::BulkPublishRequestEntry {
        entry_id: "1".into(),
        event: Bytes::from_static(b"f"),
        ..Default::default()
    }];
    let bulk = pb::BulkPublishRequest { pubsub_name: "ps".into(), topic: "t".into(), entries, ..Default::default() };
    client.bulk_publish_event(bulk.clone()).await.unwrap();
    #[expect(deprecated, reason = "older SDKs call it by this name")]
    client.bulk_publish_event_alpha1(bulk).await.unwrap();
    for _ in 0..2 {
        let event = subscriber.event().await;
        assert_eq!(event.data, "f");
        subscriber.send(processed(&event)).await;
    }
    let status = client
        .publish_event(pb::PublishEventRequest { pubsub_name: "none".into(), topic: "t".into(), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!((status.code(), info(&status).reason.as_str()), (Code::InvalidArgument, "DAPR_PUBSUB_NOT_FOUND"));
}

#[tokio::test]
async fn a_second_initial_request_ends_stream_and_subscription() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut first = Subscriber::open(&fixture, initial("ps", "t")).await.unwrap();
    first.next().await.unwrap();
    let event = pb::PublishEventRequest {
        pubsub_name: "ps".into(),
        topic: "t".into(),
        data: Bytes::from_static(b"e"),
        ..Default::default()
    };
    fixture.client().publish_event(event).await.unwrap();
    assert_eq!(first.event().await.data, "e");
    let status = {
        first.send(initial("ps", "t")).await;
        first.next().await.unwrap_err()
    };
    assert_eq!((status.code(), status.message()), (Code::Unknown, "duplicate initial request received"));
    tokio::time::timeout(std::time::Duration::from_secs(5), async {
        while !fixture.subscriptions.list().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the subscription ends with its stream");
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_says_why() {
    let fixture = fixture(None, ApiRules::default()).await;
    let event = FromApp::EventProcessed(pb::SubscribeTopicEventsRequestProcessedAlpha1::default());
    let cases = [
        (event, Code::Unknown, "initial request is required"),
        (initial("", "t"), Code::Unknown, "pubsubName is required"),
        (initial("ps", ""), Code::Unknown, "topic is required"),
        (initial("none", "t"), Code::InvalidArgument, "pubsub none is not found"),
        (
            initial("ps", "x"),
            Code::Unknown,
            "failed to create subscription for ps: subscription to topic 'x' on pubsub 'ps' is not allowed",
        ),
    ];
    for (first, code, message) in cases {
        let status = Subscriber::open(&fixture, first).await.err().expect("refused");
        assert_eq!((status.code(), status.message()), (code, message));
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_sidecar() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut subscriber = Subscriber::open(&fixture, initial("ps", "u")).await.unwrap();
    subscriber.next().await.unwrap();
    fixture.subscriptions.shutdown(std::time::Duration::from_secs(1)).await;
    let status = subscriber.next().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "stream closed"));
    fixture.cancel.cancel();
    fixture.server.await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_sidecar_ends_streams_also_those_that_have_not_said_what_they_want() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut idle = Subscriber::open(&fixture, initial("ps", "t")).await.unwrap();
    assert!(matches!(idle.next().await, Ok(Some(ToApp::InitialResponse(_)))));
    let mut client = fixture.client();
    let silent =
        tokio::spawn(async move { client.subscribe_topic_events_alpha1(tokio_stream::pending()).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!silent.is_finished());

    let end = async {
        fixture.subscriptions.shutdown(Duration::from_secs(60)).await;
        fixture.cancel.cancel();
        fixture.server.await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(5), end).await.expect("nothing is under way");
    let status = silent.await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "api server closed"));
    let status = idle.next().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "stream closed"));
}

#[tokio::test]
async fn raw_payloads_bring_the_trace_of_their_publisher() {
    let fixture = fixture(None, ApiRules::default()).await;
    let raw = [("rawPayload".to_owned(), "true".to_owned())];
    let request = pb::SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: "ps".into(),
        topic: "t".into(),
        metadata: raw.clone().into(),
        ..Default::default()
    };
    let mut subscriber = Subscriber::open(&fixture, FromApp::InitialRequest(request)).await.unwrap();
    subscriber.next().await.unwrap();
    let binary = pillion_building_blocks::pubsub::TraceContext::parse(TRACE).unwrap().to_binary();
    let text =
        |request: &mut tonic::Request<_>| drop(request.metadata_mut().insert("traceparent", TRACE.parse().unwrap()));
    let bytes = |request: &mut tonic::Request<_>| {
        drop(request.metadata_mut().insert_bin("grpc-trace-bin", tonic::metadata::MetadataValue::from_bytes(&binary)));
    };
    type Change<'a> = &'a dyn Fn(&mut tonic::Request<pb::PublishEventRequest>);
    let cases: [(Change<'_>, &str); 3] = [(&text, TRACE), (&bytes, TRACE), (&|_| (), "")];
    for (change, expected) in cases {
        let event = pb::PublishEventRequest {
            pubsub_name: "ps".into(),
            topic: "t".into(),
            data: Bytes::from_static(b"raw"),
            metadata: raw.clone().into(),
            ..Default::default()
        };
        let mut request = tonic::Request::new(event);
        change(&mut request);
        fixture.client().publish_event(request).await.unwrap();
        let event = subscriber.event().await;
        assert_eq!(event.data, "raw");
        assert_eq!(
            event.extensions.as_ref().unwrap().fields["traceid"].kind,
            Some(Kind::StringValue(expected.to_owned()))
        );
        subscriber.send(processed(&event)).await;
    }
}
