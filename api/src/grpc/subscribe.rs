//! Streaming subscriptions: events go out on the stream the app opened, its answers come in on the same.
//!
//! *Source:* spec app_channel.md §4.4. *Invariant:* the subscription ends with the call, however the call ends; events
//! without an answer are then delivered again.

use pillion_building_blocks::pubsub::{StreamAnswers, TopicStream};
use pillion_core::error::{ApiError, table};
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as FromApp;
use pillion_proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as ToApp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Status, Streaming};

use super::{GrpcApi, status};

type Incoming = Streaming<pb::SubscribeTopicEventsRequestAlpha1>;
type Outgoing = mpsc::Sender<Result<pb::SubscribeTopicEventsResponseAlpha1, Status>>;

/// Messages on their way to the app that HTTP/2 has not taken yet; the block keeps a queue of its own.
const QUEUE_LIMIT: usize = 8;

impl GrpcApi {
    pub(super) async fn subscribe(
        &self,
        mut incoming: Incoming,
    ) -> Result<BoxStream<pb::SubscribeTopicEventsResponseAlpha1>, Status> {
        let first = tokio::select! {
            biased;
            () = self.subscriptions.ended() => return Err(Status::unknown("api server closed")),
            first = incoming.message() => first?,
        };
        let initial = initial_request(first)?;
        if !self.pubsub.contains(&initial.pubsub_name) {
            let error = ApiError::of(&table::PUBSUB_NOT_FOUND, &[&initial.pubsub_name]);
            return Err(status::from_api_error(&error.info(&[])));
        }
        let metadata = initial.metadata.into_iter().collect();
        let dead_letter_topic = initial.dead_letter_topic.unwrap_or_default();
        let opened =
            self.subscriptions.open_stream(&initial.pubsub_name, &initial.topic, metadata, &dead_letter_topic).await;
        let stream = opened.map_err(|problem| {
            Status::unknown(format!("failed to create subscription for {}: {problem}", initial.pubsub_name))
        })?;
        let (outgoing, messages) = mpsc::channel(QUEUE_LIMIT);
        tokio::spawn(carry(stream, incoming, outgoing));
        Ok(Box::pin(ReceiverStream::new(messages)))
    }
}

fn initial_request(
    first: Option<pb::SubscribeTopicEventsRequestAlpha1>,
) -> Result<pb::SubscribeTopicEventsRequestInitialAlpha1, Status> {
    let Some(FromApp::InitialRequest(initial)) = first.and_then(|message| message.subscribe_topic_events_request_type)
    else {
        return Err(Status::unknown("initial request is required"));
    };
    if initial.pubsub_name.is_empty() {
        return Err(Status::unknown("pubsubName is required"));
    }
    if initial.topic.is_empty() {
        return Err(Status::unknown("topic is required"));
    }
    Ok(initial)
}

/// Runs the stream until either side ends it; the status goes to the app while it still listens.
async fn carry(stream: TopicStream, incoming: Incoming, outgoing: Outgoing) {
    let answers = stream.answers();
    let ended = tokio::select! {
        ended = send_events(stream, &outgoing) => ended,
        ended = take_answers(incoming, answers) => ended,
        () = outgoing.closed() => return,
    };
    if let Err(status) = ended {
        let _ = outgoing.send(Err(status)).await; // the app has gone
    }
}

async fn send_events(mut stream: TopicStream, outgoing: &Outgoing) -> Result<(), Status> {
    let message =
        |content| Ok(pb::SubscribeTopicEventsResponseAlpha1 { subscribe_topic_events_response_type: Some(content) });
    let gone = |_| Status::cancelled("the app has gone");
    outgoing
        .send(message(ToApp::InitialResponse(pb::SubscribeTopicEventsResponseInitialAlpha1 {})))
        .await
        .map_err(gone)?;
    while let Some(event) = stream.next().await {
        outgoing.send(message(ToApp::EventMessage(event))).await.map_err(gone)?;
    }
    Err(Status::unknown("stream closed"))
}

/// An app that ends its side unsubscribes.
async fn take_answers(mut incoming: Incoming, answers: StreamAnswers) -> Result<(), Status> {
    while let Some(message) = incoming.message().await? {
        let Some(FromApp::EventProcessed(processed)) = message.subscribe_topic_events_request_type else {
            return Err(Status::unknown("duplicate initial request received"));
        };
        answers.processed(&processed.id, processed.status.unwrap_or_default().status);
    }
    Ok(())
}
