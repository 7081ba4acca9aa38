//! Streaming subscriptions: how they end with the sidecar, and the trace of what they carry.

use std::time::Duration;

use prost_types::value::Kind;

use super::*;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

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
