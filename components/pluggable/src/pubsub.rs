//! A broker behind a socket.
//!
//! *Invariant:* one subscription works on one message at a time, in the component's order, as the original does. A message
//! the caller gives back unanswered is neither acknowledged nor refused: the stream ends, and the component keeps it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pillion_contract::{
    AckHandle, BulkEntryError, ComponentError, Delivery, InitContext, Message, Outcome, PubSub, PubSubCapability,
    PublishRequest, SubscribeRequest,
};
use pillion_core::board::Board;
use pillion_proto::components::v1 as pb;
use pillion_proto::components::v1::pub_sub_client::PubSubClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use crate::connection::{Connection, Transport, properties, to_map};
use crate::status;
use crate::stream::{Ended, keep_open, linger, settle};

/// What a component is told about a message the app did not process; it does not learn more from the block.
const NOT_PROCESSED: &str = "the message was not processed";

/// The component; see the module text.
pub struct PluggablePubSub {
    connection: Connection,
    context: Arc<InitContext>,
    capability: PubSubCapability,
    stop: CancellationToken,
    streams: TaskTracker,
    board: Board,
}

/// Connects, initialises and asks what the broker can do.
///
/// # Errors
/// No connection, or the component's own status.
pub(crate) async fn create(
    socket: Arc<Path>,
    board: Board,
    context: InitContext,
) -> Result<Arc<dyn PubSub>, ComponentError> {
    Ok(Arc::new(PluggablePubSub { board, ..PluggablePubSub::open(&socket, context).await? }))
}

impl PluggablePubSub {
    /// Connects, initialises and asks what the broker can do.
    ///
    /// # Errors
    /// No connection, or the component's own status.
    pub async fn open(socket: &Path, context: InitContext) -> Result<Self, ComponentError> {
        let connection = Connection::open(socket, &context).await?;
        init(&connection, &context).await.map_err(|status| status::error(&status))?;
        let mut client = PubSubClient::new(connection.transport());
        let answer = client.features(pb::FeaturesRequest {}).await.map_err(|status| status::error(&status))?;
        let features = answer.into_inner().features;
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let capability = PubSubCapability {
            message_ttl: has("MESSAGE_TTL"),
            subscribe_wildcards: has("SUBSCRIBE_WILDCARDS"),
            bulk_publish: has("BULK_PUBSUB"),
            bulk_subscribe_immediate: has("BULK_SUBSCRIBE_IMMEDIATE"),
        };
        let stop = context.cancel.child_token();
        let (streams, board) = (TaskTracker::new(), Board::default());
        Ok(Self { connection, context: Arc::new(context), capability, stop, streams, board })
    }

    /// Asks whether the component is alive.
    ///
    /// # Errors
    /// It is not, or it says that something is wrong.
    pub async fn ping(&self) -> Result<(), ComponentError> {
        let answer = self.client().ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(|status| status::error(&status))
    }

    fn client(&self) -> PubSubClient<Transport> {
        PubSubClient::new(self.connection.transport())
    }
}

async fn init(connection: &Connection, context: &InitContext) -> Result<(), Status> {
    let request = pb::PubSubInitRequest { metadata: properties(context) };
    PubSubClient::new(connection.transport()).init(request).await.map(drop)
}

#[async_trait]
impl PubSub for PluggablePubSub {
    fn capability(&self) -> PubSubCapability {
        self.capability
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), ComponentError> {
        let request = pb::PublishRequest {
            data: request.data,
            pubsub_name: self.context.name.clone(),
            topic: request.topic,
            metadata: to_map(&request.metadata),
            content_type: request.content_type.unwrap_or_default(),
        };
        self.client().publish(request).await.map(drop).map_err(|status| status::error(&status))
    }

    /// One call for each topic; entries have their index as id, because callers of this layer have none.
    async fn bulk_publish(&self, requests: Vec<PublishRequest>) -> Result<Vec<BulkEntryError>, ComponentError> {
        let mut topics: Vec<(String, Vec<pb::BulkMessageEntry>)> = Vec::new();
        for (index, request) in requests.into_iter().enumerate() {
            let entry = pb::BulkMessageEntry {
                entry_id: index.to_string(),
                event: request.data,
                content_type: request.content_type.unwrap_or_default(),
                metadata: to_map(&request.metadata),
            };
            match topics.iter_mut().find(|(topic, _)| *topic == request.topic) {
                Some((_, entries)) => entries.push(entry),
                None => topics.push((request.topic, vec![entry])),
            }
        }
        let mut failed = Vec::new();
        for (topic, entries) in topics {
            let indexes: Vec<String> = entries.iter().map(|entry| entry.entry_id.clone()).collect();
            let pubsub_name = self.context.name.clone();
            let request = pb::BulkPublishRequest { entries, pubsub_name, topic, metadata: HashMap::new() };
            match self.client().bulk_publish(request).await {
                Ok(answer) => failed.extend(answer.into_inner().failed_entries.into_iter().filter_map(|entry| {
                    Some(BulkEntryError { index: entry.entry_id.parse().ok()?, error: entry.error })
                })),
                Err(status) => {
                    let error = status::error(&status).to_string();
                    failed.extend(
                        indexes.iter().filter_map(|index| {
                            Some(BulkEntryError { index: index.parse().ok()?, error: error.clone() })
                        }),
                    );
                }
            }
        }
        Ok(failed)
    }

    /// Does not wait for the component: what is wrong with the stream is logged, and it is opened again.
    async fn subscribe(&self, request: SubscribeRequest) -> Result<mpsc::Receiver<Delivery>, ComponentError> {
        let (deliveries, receiver) = mpsc::channel(1);
        let subscription = Subscription {
            connection: self.connection.clone(),
            context: self.context.clone(),
            topic: pb::Topic { name: request.topic, metadata: to_map(&request.metadata) },
            deliveries,
            stop: self.stop.clone(),
            board: self.board.clone(),
        };
        self.streams.spawn(async move { subscription.run().await });
        Ok(receiver)
    }

    async fn pause(&self) -> Result<bool, ComponentError> {
        match self.client().pause(pb::PauseRequest {}).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::Unimplemented => {
                self.context.log.debug("the pluggable pubsub does not implement Pause");
                Ok(false)
            }
            Err(status) => Err(status::error(&status)),
        }
    }

    /// Ends the streams and waits until the component has seen the last answers.
    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        self.streams.close();
        self.streams.wait().await;
        Ok(())
    }
}

struct Subscription {
    connection: Connection,
    context: Arc<InitContext>,
    topic: pb::Topic,
    deliveries: mpsc::Sender<Delivery>,
    stop: CancellationToken,
    board: Board,
}

impl Subscription {
    async fn run(self) {
        let log = &self.context.log;
        let what = format!("pubsub message of topic {}", self.topic.name);
        let wait = || {
            let InitContext { name, component_type, .. } = &*self.context;
            self.board.wait(
                "pluggableStream",
                format!("{name}/{}", self.topic.name),
                format!("the pluggable component {component_type}, whose stream of messages broke"),
                "look whether its process runs and serves its socket; the stream is opened again by itself",
            )
        };
        keep_open(|| self.pull(), || self.revive(), self.unwanted(), wait, log, &what).await;
    }

    async fn unwanted(&self) {
        tokio::select! {
            () = self.deliveries.closed() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn revive(&self) -> Result<(), Status> {
        let mut client = PubSubClient::new(self.connection.transport());
        let init = || init(&self.connection, &self.context);
        self.connection.revive(client.ping(pb::PingRequest {}), init).await
    }

    async fn pull(&self) -> Ended {
        let (requests, waiting) = mpsc::channel(1);
        let first = pb::PullMessagesRequest { topic: Some(self.topic.clone()), ..Default::default() };
        let _ = requests.send(first).await; // the receiver is right here
        let mut client = PubSubClient::new(self.connection.transport());
        // A component may send nothing, not even headers, before its first message.
        let opened = tokio::select! {
            biased;
            () = self.unwanted() => return Ended::ForGood,
            opened = client.pull_messages(ReceiverStream::new(waiting)) => opened,
        };
        let mut messages = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => return Ended::Broken(status, false),
        };
        let (mut useful, mut answered) = (false, None);
        let ended = loop {
            let received = tokio::select! {
                biased;
                () = self.unwanted() => break Ended::ForGood,
                received = messages.message() => received,
            };
            match received {
                Ok(Some(message)) => {
                    useful = true;
                    if let Some(ended) = self.pass_on(message, &requests).await {
                        break ended;
                    }
                    answered = Some(Instant::now());
                }
                Ok(None) => {
                    let topic = &self.topic.name;
                    self.context.log.warn(format_args!("the pluggable component ended the messages of topic {topic}"));
                    return Ended::ForGood;
                }
                Err(status) => return Ended::Broken(status, useful),
            }
        };
        linger(&mut messages, answered).await;
        drop(requests);
        settle(&mut messages).await;
        ended
    }

    /// Hands one message over and answers it; says how the stream ends when it must.
    async fn pass_on(
        &self,
        message: pb::PullMessagesResponse,
        requests: &mpsc::Sender<pb::PullMessagesRequest>,
    ) -> Option<Ended> {
        let (ack, answer) = AckHandle::new();
        let id = message.id;
        let message = Message {
            topic: if message.topic_name.is_empty() { self.topic.name.clone() } else { message.topic_name },
            data: message.data,
            content_type: Some(message.content_type).filter(|text| !text.is_empty()),
            metadata: message.metadata.into_iter().collect(),
        };
        if self.deliveries.send(Delivery { message, ack }).await.is_err() {
            return Some(Ended::ForGood);
        }
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = self.stop.cancelled() => return Some(Ended::ForGood),
        };
        let ack_error = match answer {
            Ok(Outcome::Ack) => None,
            Ok(Outcome::Nack) => Some(pb::AckMessageError { message: NOT_PROCESSED.to_owned() }),
            Err(_unanswered) => return Some(Ended::GivenBack),
        };
        let answer = pb::PullMessagesRequest { topic: None, ack_message_id: id, ack_error };
        // A stream that broke meanwhile says so when the next message is asked for.
        let _ = requests.send(answer).await;
        None
    }
}
