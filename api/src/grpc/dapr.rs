//! The service `Dapr`: one line per call, the work is in the module of its block.

use pillion_proto::common::v1::InvokeResponse;
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::dapr_server::Dapr;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::GrpcApi;
use super::spans::describe;

#[tonic::async_trait]
impl Dapr for GrpcApi {
    async fn invoke_service(
        &self,
        request: Request<pb::InvokeServiceRequest>,
    ) -> Result<Response<InvokeResponse>, Status> {
        describe(&request, "InvokeService");
        self.call_app(request).await
    }

    async fn get_state(&self, request: Request<pb::GetStateRequest>) -> Result<Response<pb::GetStateResponse>, Status> {
        describe(&request, "GetState");
        self.read_state(request.into_inner()).await.map(Response::new)
    }

    async fn get_bulk_state(
        &self,
        request: Request<pb::GetBulkStateRequest>,
    ) -> Result<Response<pb::GetBulkStateResponse>, Status> {
        self.read_states(request.into_inner()).await.map(Response::new)
    }

    async fn save_state(&self, request: Request<pb::SaveStateRequest>) -> Result<Response<()>, Status> {
        describe(&request, "SaveState");
        self.write_states(request.into_inner()).await.map(Response::new)
    }

    async fn delete_state(&self, request: Request<pb::DeleteStateRequest>) -> Result<Response<()>, Status> {
        describe(&request, "DeleteState");
        self.remove_state(request.into_inner()).await.map(Response::new)
    }

    async fn delete_bulk_state(&self, request: Request<pb::DeleteBulkStateRequest>) -> Result<Response<()>, Status> {
        self.remove_states(request.into_inner()).await.map(Response::new)
    }

    async fn execute_state_transaction(
        &self,
        request: Request<pb::ExecuteStateTransactionRequest>,
    ) -> Result<Response<()>, Status> {
        self.transact(request).await.map(Response::new)
    }

    async fn query_state_alpha1(
        &self,
        request: Request<pb::QueryStateRequest>,
    ) -> Result<Response<pb::QueryStateResponse>, Status> {
        self.query_states(request.into_inner()).await.map(Response::new)
    }

    async fn publish_event(&self, request: Request<pb::PublishEventRequest>) -> Result<Response<()>, Status> {
        describe(&request, "PublishEvent");
        self.publish(request).await.map(Response::new)
    }

    async fn bulk_publish_event(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        describe(&request, "BulkPublishEvent");
        self.bulk_publish(request).await.map(Response::new)
    }

    async fn bulk_publish_event_alpha1(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        describe(&request, "BulkPublishEventAlpha1");
        self.bulk_publish(request).await.map(Response::new)
    }

    async fn subscribe_topic_events_alpha1(
        &self,
        request: Request<Streaming<pb::SubscribeTopicEventsRequestAlpha1>>,
    ) -> Result<Response<BoxStream<pb::SubscribeTopicEventsResponseAlpha1>>, Status> {
        self.subscribe(request.into_inner()).await.map(Response::new)
    }

    async fn get_secret(
        &self,
        request: Request<pb::GetSecretRequest>,
    ) -> Result<Response<pb::GetSecretResponse>, Status> {
        describe(&request, "GetSecret");
        self.read_secret(request.into_inner()).await.map(Response::new)
    }

    async fn get_bulk_secret(
        &self,
        request: Request<pb::GetBulkSecretRequest>,
    ) -> Result<Response<pb::GetBulkSecretResponse>, Status> {
        self.read_secrets(request.into_inner()).await.map(Response::new)
    }

    async fn invoke_binding(
        &self,
        request: Request<pb::InvokeBindingRequest>,
    ) -> Result<Response<pb::InvokeBindingResponse>, Status> {
        describe(&request, "InvokeBinding");
        self.ask_binding(request).await
    }

    async fn unsubscribe_configuration_alpha1(
        &self,
        request: Request<pb::UnsubscribeConfigurationRequest>,
    ) -> Result<Response<pb::UnsubscribeConfigurationResponse>, Status> {
        Ok(Response::new(super::absent::no_subscription(&request.into_inner())))
    }

    async fn unsubscribe_configuration(
        &self,
        request: Request<pb::UnsubscribeConfigurationRequest>,
    ) -> Result<Response<pb::UnsubscribeConfigurationResponse>, Status> {
        Ok(Response::new(super::absent::no_subscription(&request.into_inner())))
    }

    async fn get_metadata(
        &self,
        _: Request<pb::GetMetadataRequest>,
    ) -> Result<Response<pb::GetMetadataResponse>, Status> {
        Ok(Response::new(super::metadata::to_message(self.info.metadata())))
    }

    async fn set_metadata(&self, request: Request<pb::SetMetadataRequest>) -> Result<Response<()>, Status> {
        let attribute = request.into_inner();
        if !attribute.key.is_empty() {
            self.info.set_attribute(attribute.key, attribute.value);
        }
        Ok(Response::new(()))
    }

    async fn shutdown(&self, request: Request<pb::ShutdownRequest>) -> Result<Response<()>, Status> {
        let values = request.metadata().get_all("dapr-force-shutdown");
        let force = values.iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        self.info.shutdown(force);
        Ok(Response::new(()))
    }
}
