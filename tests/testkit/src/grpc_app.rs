//! A fake application that speaks gRPC: it records what the sidecar calls and answers as told.

use std::sync::{Arc, Mutex, PoisonError};

use pillion_proto::common::v1::{InvokeRequest, InvokeResponse};
use pillion_proto::google::protobuf::Any;
use pillion_proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use pillion_proto::runtime::v1::{
    ListInputBindingsResponse, ListTopicSubscriptionsResponse, TopicEventRequest, TopicEventResponse, TopicSubscription,
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
}

impl GrpcApp {
    /// Starts an application that asks for `subscriptions`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(subscriptions: Vec<TopicSubscription>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Seen { subscriptions, ..Seen::default() });
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
        Ok(Response::new(ListInputBindingsResponse::default()))
    }
}
