//! The bindings: events come from the test; the output binding knows `create`, which echoes, and `fail`.

use pillion_proto::components::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Handler, locked};

#[tonic::async_trait]
impl pb::input_binding_server::InputBinding for Handler {
    async fn init(
        &self,
        request: Request<pb::InputBindingInitRequest>,
    ) -> Result<Response<pb::InputBindingInitResponse>, Status> {
        self.initialised("InputBinding/Init", &request, request.get_ref().metadata.clone())?;
        Ok(Response::new(Default::default()))
    }

    async fn read(
        &self,
        request: Request<Streaming<pb::ReadRequest>>,
    ) -> Result<Response<BoxStream<pb::ReadResponse>>, Status> {
        self.called("InputBinding/Read", &request)?;
        let (sender, receiver) = mpsc::channel(16);
        locked(&self.shared.events).push(sender.clone());
        let handler = self.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(reply)) = requests.message().await {
                locked(&handler.shared.replies).push(reply);
            }
            // Ends this stream; another one may have been opened meanwhile.
            locked(&handler.shared.events).retain(|other| !other.same_channel(&sender));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        self.called("InputBinding/Ping", &request)?;
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl pb::output_binding_server::OutputBinding for Handler {
    async fn init(
        &self,
        request: Request<pb::OutputBindingInitRequest>,
    ) -> Result<Response<pb::OutputBindingInitResponse>, Status> {
        self.initialised("OutputBinding/Init", &request, request.get_ref().metadata.clone())?;
        Ok(Response::new(Default::default()))
    }

    async fn invoke(&self, request: Request<pb::InvokeRequest>) -> Result<Response<pb::InvokeResponse>, Status> {
        self.called("OutputBinding/Invoke", &request)?;
        let request = request.into_inner();
        match request.operation.as_str() {
            "create" => Ok(Response::new(pb::InvokeResponse {
                data: request.data,
                metadata: request.metadata,
                content_type: "text/plain".to_owned(),
            })),
            other => Err(Status::invalid_argument(format!("operation {other} is not known"))),
        }
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        self.called("OutputBinding/ListOperations", &request)?;
        Ok(Response::new(pb::ListOperationsResponse { operations: vec!["create".to_owned(), "fail".to_owned()] }))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        self.called("OutputBinding/Ping", &request)?;
        Ok(Response::new(Default::default()))
    }
}
