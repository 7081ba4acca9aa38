//! Streaming subscriptions: a sink fed by a gRPC stream that the app opened.
//!
//! *Source:* spec app_channel.md §4.4. The front owns the stream; it forwards [`TopicStream::next`] to the app and the
//! app's answers to [`StreamAnswers::processed`]. *Invariant:* an event whose stream ends unanswered is delivered again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pillion_proto::runtime::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::delivery::{DeliveryFailure, DeliveryResult, DeliverySink, Event};
use super::sink::{from_status, topic_event};

/// Events that wait for a slow stream.
const QUEUE_LIMIT: usize = 64;

/// Answers waited for, by event id; equal ids are answered in order of delivery.
type Waiting = Arc<Mutex<HashMap<String, VecDeque<oneshot::Sender<i32>>>>>;

/// The events of one streaming subscription; dropping it ends the subscription.
pub struct TopicStream {
    events: mpsc::Receiver<pb::TopicEventRequest>,
    answers: StreamAnswers,
    _guard: DropGuard,
}

impl TopicStream {
    /// The next event for the app; `None` when the subscription has ended.
    pub async fn next(&mut self) -> Option<pb::TopicEventRequest> {
        self.events.recv().await
    }

    /// Where the app's answers go; cheap to clone.
    pub fn answers(&self) -> StreamAnswers {
        self.answers.clone()
    }
}

/// Takes the app's answers.
#[derive(Clone)]
pub struct StreamAnswers(Waiting);

impl StreamAnswers {
    /// Passes on the status of an event; an answer nobody waits for is ignored and reported by `false`.
    pub fn processed(&self, id: &str, status: i32) -> bool {
        let mut waiting = self.0.lock();
        let Some(queue) = waiting.get_mut(id) else { return false };
        let answered = std::iter::from_fn(|| queue.pop_front()).any(|sender| sender.send(status).is_ok());
        if queue.is_empty() {
            waiting.remove(id);
        }
        answered
    }
}

pub(super) struct StreamSink {
    events: mpsc::Sender<pb::TopicEventRequest>,
    waiting: Waiting,
    closed: CancellationToken,
}

/// Makes both ends of a stream; `closed` is cancelled when the stream is dropped.
pub(super) fn stream(closed: CancellationToken) -> (Arc<StreamSink>, TopicStream) {
    let (sender, events) = mpsc::channel(QUEUE_LIMIT);
    let waiting = Waiting::default();
    let sink = Arc::new(StreamSink { events: sender, waiting: waiting.clone(), closed: closed.clone() });
    (sink, TopicStream { events, answers: StreamAnswers(waiting), _guard: closed.drop_guard() })
}

#[async_trait]
impl DeliverySink for StreamSink {
    async fn deliver(&self, event: &Event) -> DeliveryResult {
        let failed =
            |message: &str| DeliveryResult::Retry(DeliveryFailure { message: message.to_owned(), status: None });
        let mut message = match topic_event(event) {
            Ok(message) => message,
            Err(problem) => return failed(&problem),
        };
        message.path = "/".to_owned();
        let id = message.id.clone();
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().entry(id.clone()).or_default().push_back(sender);
        if self.events.send(message).await.is_err() {
            return failed("the stream of the subscription is closed");
        }
        tokio::select! {
            biased;
            status = answer => match status.map(|status| from_status(&id, status)) {
                Ok(DeliveryResult::Drop) => DeliveryResult::Untaken, // counted so by the original, on streams only
                Ok(result) => result,
                Err(_) => failed("the event was not answered"),
            },
            () = self.closed.cancelled() => failed("the stream of the subscription is closed"),
        }
    }
}
