//! The broker: a message is kept until it is acknowledged; refused, or left when its stream ends, it is given again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use pillion_proto::components::v1 as pb;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Handler, locked};

#[derive(Default)]
pub(super) struct Broker {
    topics: HashMap<String, Topic>,
    next_id: u64,
    /// Every answer, in order.
    pub(super) answers: Vec<(String, Option<String>)>,
}

/// Subscribers of one topic share its messages; without any, messages are dropped, as brokers without a group do.
#[derive(Default)]
struct Topic {
    subscribed: bool,
    waiting: VecDeque<pb::PullMessagesResponse>,
    changed: Arc<Notify>,
}

impl Broker {
    fn publish(&mut self, request: pb::PublishRequest) {
        self.next_id += 1;
        let id = self.next_id.to_string();
        let Some(topic) = self.topics.get_mut(&request.topic).filter(|topic| topic.subscribed) else { return };
        topic.waiting.push_back(pb::PullMessagesResponse {
            data: request.data,
            topic_name: request.topic,
            metadata: request.metadata,
            content_type: request.content_type,
            id,
        });
        topic.changed.notify_one();
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|topic| topic.subscribed)
    }

    fn give_back(&mut self, messages: impl DoubleEndedIterator<Item = pb::PullMessagesResponse>) {
        for message in messages.rev() {
            let topic = self.topics.entry(message.topic_name.clone()).or_default();
            topic.waiting.push_front(message);
            topic.changed.notify_one();
        }
    }
}

#[tonic::async_trait]
impl pb::pub_sub_server::PubSub for Handler {
    async fn init(&self, request: Request<pb::PubSubInitRequest>) -> Result<Response<pb::PubSubInitResponse>, Status> {
        self.initialised("PubSub/Init", &request, request.get_ref().metadata.clone())?;
        Ok(Response::new(Default::default()))
    }

    async fn features(&self, request: Request<pb::FeaturesRequest>) -> Result<Response<pb::FeaturesResponse>, Status> {
        self.called("PubSub/Features", &request)?;
        Ok(Response::new(pb::FeaturesResponse { features: vec!["BULK_PUBSUB".to_owned()] }))
    }

    async fn publish(&self, request: Request<pb::PublishRequest>) -> Result<Response<pb::PublishResponse>, Status> {
        self.called("PubSub/Publish", &request)?;
        locked(&self.shared.broker).publish(request.into_inner());
        Ok(Response::new(Default::default()))
    }

    /// Fails the entries whose data is `bad`.
    async fn bulk_publish(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        self.called("PubSub/BulkPublish", &request)?;
        let request = request.into_inner();
        let mut failed_entries = Vec::new();
        for entry in request.entries {
            if entry.event == "bad" {
                let error = "bad entry".to_owned();
                failed_entries.push(pb::BulkPublishResponseFailedEntry { entry_id: entry.entry_id, error });
                continue;
            }
            locked(&self.shared.broker).publish(pb::PublishRequest {
                data: entry.event,
                pubsub_name: request.pubsub_name.clone(),
                topic: request.topic.clone(),
                metadata: entry.metadata,
                content_type: entry.content_type,
            });
        }
        Ok(Response::new(pb::BulkPublishResponse { failed_entries }))
    }

    async fn pull_messages(
        &self,
        request: Request<Streaming<pb::PullMessagesRequest>>,
    ) -> Result<Response<BoxStream<pb::PullMessagesResponse>>, Status> {
        self.called("PubSub/PullMessages", &request)?;
        let (sender, receiver) = mpsc::channel(16);
        let handler = self.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let Ok(Some(first)) = requests.message().await else { return };
            let topic = first.topic.unwrap_or_default().name;
            let given = Given { handler: handler.clone(), messages: BTreeMap::new() };
            handler.pump(topic, requests, &sender, given).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn pause(&self, request: Request<pb::PauseRequest>) -> Result<Response<pb::PauseResponse>, Status> {
        self.called("PubSub/Pause", &request)?;
        Ok(Response::new(Default::default()))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        self.called("PubSub/Ping", &request)?;
        Ok(Response::new(Default::default()))
    }
}

/// The messages of one stream that have no answer; they go back when it ends, however it ends.
struct Given {
    handler: Handler,
    messages: BTreeMap<u64, pb::PullMessagesResponse>,
}

impl Drop for Given {
    fn drop(&mut self) {
        locked(&self.handler.shared.broker).give_back(std::mem::take(&mut self.messages).into_values());
    }
}

impl Handler {
    /// Gives the messages of a topic and takes answers until the other side ends.
    async fn pump(
        self,
        topic: String,
        mut requests: Streaming<pb::PullMessagesRequest>,
        sender: &mpsc::Sender<Result<pb::PullMessagesResponse, Status>>,
        mut given: Given,
    ) {
        let changed = {
            let mut broker = locked(&self.shared.broker);
            let topic = broker.topics.entry(topic.clone()).or_default();
            topic.subscribed = true;
            topic.changed.clone()
        };
        loop {
            let next = locked(&self.shared.broker).topics.get_mut(&topic).and_then(|topic| topic.waiting.pop_front());
            if let Some(message) = next {
                given.messages.insert(message.id.parse().unwrap_or_default(), message.clone());
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
                continue;
            }
            let answer = tokio::select! {
                () = changed.notified() => continue,
                answer = requests.message() => answer,
            };
            let Ok(Some(answer)) = answer else { return };
            let message = given.messages.remove(&answer.ack_message_id.parse().unwrap_or_default());
            let error = answer.ack_error.map(|error| error.message);
            let mut broker = locked(&self.shared.broker);
            if error.is_some() {
                broker.give_back(message.into_iter());
            }
            broker.answers.push((answer.ack_message_id, error));
        }
    }
}
