//! A fake application that speaks gRPC: it records what the sidecar calls and answers as told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillion_proto::common::v1::{InvokeRequest, InvokeResponse};
use pillion_proto::google::protobuf::Any;
use pillion_proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use pillion_proto::runtime::v1::{
    BindingEventRequest, BindingEventResponse, ListInputBindingsResponse, ListTopicSubscriptionsResponse,
    TopicEventRequest, TopicEventResponse, TopicSubscription,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A running gRPC application; it stops when dropped. `OnInvoke` echoes the body of every method but `fail`.
pub struct GrpcApp {
    port: u16,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

/// What came in, and what to subscribe to.
#[derive(Default)]
struct Seen {
    subscriptions: Vec<TopicSubscription>,
    events: Mutex<Vec<TopicEventRequest>>,
    methods: Mutex<Vec<String>>,
    bindings: Vec<String>,
    binding_events: Mutex<Vec<BindingEventRequest>>,
    answer: BindingEventResponse,
    delay: Duration,
}

impl GrpcApp {
    /// Starts an application that asks for `subscriptions`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(subscriptions: Vec<TopicSubscription>) -> std::io::Result<Self> {
        Self::serve(Seen { subscriptions, ..Seen::default() }).await
    }

    /// Starts an application that takes the events of these input bindings, each after `delay`, and gives `answer`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn with_bindings(
        bindings: &[&str],
        answer: BindingEventResponse,
        delay: Duration,
    ) -> std::io::Result<Self> {
        let bindings = bindings.iter().map(|name| (*name).to_owned()).collect();
        Self::serve(Seen { bindings, answer, delay, ..Seen::default() }).await
    }

    async fn serve(seen: Seen) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(seen);
        let service = AppCallbackServer::new(Callbacks(Arc::clone(&seen)));
        let server = tokio::spawn(async move {
            // It ends only when aborted; a failure shows as calls that do not arrive.
            drop(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await);
        });
        Ok(Self { port, seen, server })
    }

    /// The port to give to the sidecar.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// All topic events so far.
    #[must_use]
    pub fn events(&self) -> Vec<TopicEventRequest> {
        self.seen.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All events of input bindings so far, those it still works on included.
    #[must_use]
    pub fn binding_events(&self) -> Vec<BindingEventRequest> {
        self.seen.binding_events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The methods invoked so far.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        self.seen.methods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for GrpcApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Callbacks(Arc<Seen>);

#[tonic::async_trait]
impl AppCallback for Callbacks {
    async fn on_invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let request = request.into_inner();
        let method = request.method;
        self.0.methods.lock().unwrap_or_else(PoisonError::into_inner).push(method.clone());
        if method == "fail" {
            return Err(Status::already_exists("told to fail"));
        }
        Ok(Response::new(InvokeResponse {
            data: Some(Any::from_bytes(request.data.unwrap_or_default().value)),
            content_type: request.content_type,
        }))
    }

    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        let subscriptions = self.0.subscriptions.clone();
        Ok(Response::new(ListTopicSubscriptionsResponse { subscriptions }))
    }

    async fn on_topic_event(
        &self,
        request: Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
        Ok(Response::new(TopicEventResponse::default()))
    }

    async fn list_input_bindings(&self, _: Request<()>) -> Result<Response<ListInputBindingsResponse>, Status> {
        Ok(Response::new(ListInputBindingsResponse { bindings: self.0.bindings.clone() }))
    }

    async fn on_binding_event(
        &self,
        request: Request<BindingEventRequest>,
    ) -> Result<Response<BindingEventResponse>, Status> {
        self.0.binding_events.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
        tokio::time::sleep(self.0.delay).await;
        Ok(Response::new(self.0.answer.clone()))
    }
}
