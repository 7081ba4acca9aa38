//! Input and output bindings behind a socket.
//!
//! *Invariant:* events are worked on side by side, at most [`IN_FLIGHT_LIMIT`]; an event the caller gives back unanswered gets
//! no answer.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pillion_contract::{
    BindingDelivery, BindingEvent, BindingRequest, BindingResponse, ComponentError, InitContext, InputBinding,
    OutputBinding, ReplyHandle,
};
use pillion_core::board::Board;
use pillion_proto::components::v1 as pb;
use pillion_proto::components::v1::input_binding_client::InputBindingClient;
use pillion_proto::components::v1::output_binding_client::OutputBindingClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::connection::{Connection, Transport, properties, to_map};
use crate::status;
use crate::stream::{Ended, SETTLE, keep_open, settle};

/// Events of one binding that are worked on at a time. The original has no limit; ours is that of subscriptions.
const IN_FLIGHT_LIMIT: usize = 100;

/// An input binding; see the module text.
pub struct PluggableInput {
    connection: Connection,
    context: Arc<InitContext>,
    stop: CancellationToken,
    streams: TaskTracker,
    board: Board,
}

/// Connects and initialises an input binding.
///
/// # Errors
/// No connection, or the component's own status.
pub(crate) async fn create_input(
    socket: Arc<Path>,
    board: Board,
    context: InitContext,
) -> Result<Arc<dyn InputBinding>, ComponentError> {
    Ok(Arc::new(PluggableInput { board, ..PluggableInput::open(&socket, context).await? }))
}

impl PluggableInput {
    /// Connects and initialises.
    ///
    /// # Errors
    /// No connection, or the component's own status.
    pub async fn open(socket: &Path, context: InitContext) -> Result<Self, ComponentError> {
        let connection = Connection::open(socket, &context).await?;
        init_input(&connection, &context).await.map_err(|status| status::error(&status))?;
        let stop = context.cancel.child_token();
        Ok(Self { connection, context: Arc::new(context), stop, streams: TaskTracker::new(), board: Board::default() })
    }

    /// Asks whether the component is alive.
    ///
    /// # Errors
    /// It is not, or it says that something is wrong.
    pub async fn ping(&self) -> Result<(), ComponentError> {
        let answer = InputBindingClient::new(self.connection.transport()).ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(|status| status::error(&status))
    }
}

async fn init_input(connection: &Connection, context: &InitContext) -> Result<(), Status> {
    let request = pb::InputBindingInitRequest { metadata: properties(context) };
    InputBindingClient::new(connection.transport()).init(request).await.map(drop)
}

#[async_trait]
impl InputBinding for PluggableInput {
    /// Does not wait for the component: what is wrong with the stream is logged, and it is opened again.
    async fn read(&self) -> Result<mpsc::Receiver<BindingDelivery>, ComponentError> {
        let (deliveries, receiver) = mpsc::channel(1);
        let source = Source {
            connection: self.connection.clone(),
            context: self.context.clone(),
            deliveries,
            stop: self.stop.clone(),
            board: self.board.clone(),
        };
        self.streams.spawn(async move { source.run().await });
        Ok(receiver)
    }

    /// Ends the streams and waits until the component has seen the last answers.
    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        self.streams.close();
        self.streams.wait().await;
        Ok(())
    }
}

struct Source {
    connection: Connection,
    context: Arc<InitContext>,
    deliveries: mpsc::Sender<BindingDelivery>,
    stop: CancellationToken,
    board: Board,
}

impl Source {
    async fn run(self) {
        let log = &self.context.log;
        let wait = || {
            let InitContext { name, component_type, .. } = &*self.context;
            self.board.wait(
                "pluggableStream",
                name.clone(),
                format!("the pluggable component {component_type}, whose stream of events broke"),
                "look whether its process runs and serves its socket; the stream is opened again by itself",
            )
        };
        keep_open(|| self.pull(), || self.revive(), self.unwanted(), wait, log, "binding message").await;
    }

    async fn unwanted(&self) {
        tokio::select! {
            () = self.deliveries.closed() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn revive(&self) -> Result<(), Status> {
        let mut client = InputBindingClient::new(self.connection.transport());
        let init = || init_input(&self.connection, &self.context);
        self.connection.revive(client.ping(pb::PingRequest {}), init).await
    }

    async fn pull(&self) -> Ended {
        let (requests, waiting) = mpsc::channel(1);
        let mut client = InputBindingClient::new(self.connection.transport());
        let opened = tokio::select! {
            biased;
            () = self.unwanted() => return Ended::ForGood,
            opened = client.read(ReceiverStream::new(waiting)) => opened,
        };
        let mut events = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => return Ended::Broken(status, false),
        };
        let mut tasks = JoinSet::new();
        let mut useful = false;
        let ended = loop {
            let received = tokio::select! {
                biased;
                () = self.unwanted() => break Ended::ForGood,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                received = events.message(), if tasks.len() < IN_FLIGHT_LIMIT => received,
            };
            match received {
                Ok(Some(event)) => {
                    useful = true;
                    tasks.spawn(pass_on(event, self.deliveries.clone(), requests.clone(), self.stop.clone()));
                }
                Ok(None) => {
                    self.context.log.warn("the pluggable component ended the events of this binding");
                    break Ended::ForGood;
                }
                Err(status) => break Ended::Broken(status, useful),
            }
        };
        // What the app works on is answered; when the component must close now, what was answered already still goes out.
        let rest = async { while tasks.join_next().await.is_some() {} };
        let overdue = async {
            self.stop.cancelled().await;
            tokio::time::sleep(SETTLE).await;
        };
        tokio::select! {
            () = rest => {}
            () = overdue => {}
        }
        drop(tasks);
        drop(requests);
        if !matches!(ended, Ended::Broken(..)) {
            settle(&mut events).await;
        }
        ended
    }
}

/// Hands one event over and answers it.
async fn pass_on(
    message: pb::ReadResponse,
    deliveries: mpsc::Sender<BindingDelivery>,
    requests: mpsc::Sender<pb::ReadRequest>,
    stop: CancellationToken,
) {
    let (reply, answer) = ReplyHandle::new();
    let message_id = message.message_id;
    let event = BindingEvent {
        data: message.data,
        content_type: Some(message.content_type).filter(|text| !text.is_empty()),
        metadata: message.metadata.into_iter().collect(),
    };
    if deliveries.send(BindingDelivery { event, reply }).await.is_err() {
        return;
    }
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        () = stop.cancelled() => return,
    };
    let (response_data, response_error) = match answer {
        Ok(Ok(data)) => (data, None),
        Ok(Err(message)) => (bytes::Bytes::new(), Some(pb::AckResponseError { message })),
        Err(_unanswered) => return,
    };
    // A stream that broke meanwhile says so when the next event is asked for.
    let _ = requests.send(pb::ReadRequest { response_data, message_id, response_error }).await;
}

/// An output binding; see the module text.
pub struct PluggableOutput {
    connection: Connection,
    operations: Vec<String>,
}

/// Connects and initialises an output binding.
///
/// # Errors
/// No connection, or the component's own status.
pub(crate) async fn create_output(
    socket: Arc<Path>,
    context: InitContext,
) -> Result<Arc<dyn OutputBinding>, ComponentError> {
    Ok(Arc::new(PluggableOutput::open(&socket, &context).await?))
}

impl PluggableOutput {
    /// Connects, initialises and asks for the operations.
    ///
    /// # Errors
    /// No connection, or the component's own status.
    pub async fn open(socket: &Path, context: &InitContext) -> Result<Self, ComponentError> {
        let connection = Connection::open(socket, context).await?;
        let mut client = OutputBindingClient::new(connection.transport());
        let request = pb::OutputBindingInitRequest { metadata: properties(context) };
        client.init(request).await.map_err(|status| status::error(&status))?;
        let answer =
            client.list_operations(pb::ListOperationsRequest {}).await.map_err(|status| status::error(&status))?;
        Ok(Self { connection, operations: answer.into_inner().operations })
    }

    /// Asks whether the component is alive.
    ///
    /// # Errors
    /// It is not, or it says that something is wrong.
    pub async fn ping(&self) -> Result<(), ComponentError> {
        let answer = self.client().ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(|status| status::error(&status))
    }

    fn client(&self) -> OutputBindingClient<Transport> {
        OutputBindingClient::new(self.connection.transport())
    }
}

#[async_trait]
impl OutputBinding for PluggableOutput {
    fn operations(&self) -> &[String] {
        &self.operations
    }

    async fn invoke(&self, request: &BindingRequest) -> Result<Option<BindingResponse>, ComponentError> {
        let request = pb::InvokeRequest {
            data: request.data.clone(),
            metadata: to_map(&request.metadata),
            operation: request.operation.clone(),
        };
        let answer = self.client().invoke(request).await.map_err(|status| status::error(&status))?.into_inner();
        Ok(Some(BindingResponse {
            data: answer.data,
            content_type: Some(answer.content_type).filter(|text| !text.is_empty()),
            metadata: answer.metadata.into_iter().collect(),
        }))
    }
}
