//! Bindings: outside systems that start work in the app (input) or do something for it (output).

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::ComponentError;

/// What an output binding is asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingRequest {
    /// One of [`OutputBinding::operations`].
    pub operation: String,
    /// Payload.
    pub data: Bytes,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What an output binding answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingResponse {
    /// Payload; empty when the operation gives none.
    pub data: Bytes,
    /// Content type of `data`, when the system behind it tells.
    pub content_type: Option<String>,
    /// Response metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Something that happened outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingEvent {
    /// Payload.
    pub data: Bytes,
    /// Content type of `data`, when the system behind it tells.
    pub content_type: Option<String>,
    /// Event metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What the app made of an event: its answer, or why it failed.
pub type BindingReply = Result<Bytes, String>;

/// Answers one event; dropping it unanswered means that nobody worked on it, and the system behind may give it again.
#[derive(Debug)]
pub struct ReplyHandle(oneshot::Sender<BindingReply>);

impl ReplyHandle {
    /// Makes a handle and the receiver the component waits on.
    pub fn new() -> (Self, oneshot::Receiver<BindingReply>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers.
    pub fn answer(self, reply: BindingReply) {
        let _ = self.0.send(reply); // the component stopped waiting: nobody reads the answer
    }
}

/// An event with the handle that answers it.
#[derive(Debug)]
pub struct BindingDelivery {
    /// The event.
    pub event: BindingEvent,
    /// Its answer.
    pub reply: ReplyHandle,
}

/// A source of events.
///
/// The caller owns the loop: it takes a [`BindingDelivery`], works, and answers. A component bounds what is in flight.
#[async_trait]
pub trait InputBinding: Send + Sync {
    /// Opens the source; dropping the receiver ends it.
    async fn read(&self) -> Result<mpsc::Receiver<BindingDelivery>, ComponentError>;

    /// Stops background work and flushes.
    async fn close(&self) -> Result<(), ComponentError> {
        Ok(())
    }
}

/// A system the app can ask for something.
#[async_trait]
pub trait OutputBinding: Send + Sync {
    /// The operations it knows.
    fn operations(&self) -> &[String];

    /// Runs one operation; `None` when there is nothing to tell, which callers see as an answer without content.
    ///
    /// # Errors
    /// The component's own, with what the system behind it told as [`ComponentError::metadata`]; `InvalidRequest` for an operation it
    /// does not know.
    async fn invoke(&self, request: &BindingRequest) -> Result<Option<BindingResponse>, ComponentError>;

    /// Stops background work and flushes.
    async fn close(&self) -> Result<(), ComponentError> {
        Ok(())
    }
}
