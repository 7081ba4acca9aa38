//! Secrets over gRPC.

use pillion_proto::runtime::v1 as pb;
use tonic::Status;

use super::{GrpcApi, status};

impl GrpcApi {
    pub(super) async fn read_secret(&self, request: pb::GetSecretRequest) -> Result<pb::GetSecretResponse, Status> {
        let metadata = request.metadata.into_iter().collect();
        let secret = self.secrets.get(&request.store_name, &request.key, &metadata).await;
        let data = secret.map_err(|error| status::from_api_error(&error))?.into_iter().collect();
        Ok(pb::GetSecretResponse { data })
    }

    pub(super) async fn read_secrets(
        &self,
        request: pb::GetBulkSecretRequest,
    ) -> Result<pb::GetBulkSecretResponse, Status> {
        let metadata = request.metadata.into_iter().collect();
        let secrets = self
            .secrets
            .bulk_get(&request.store_name, &metadata)
            .await
            .map_err(|error| status::from_api_error(&error))?;
        let data = secrets
            .into_iter()
            .map(|(name, bundle)| (name, pb::SecretResponse { secrets: bundle.into_iter().collect() }))
            .collect();
        Ok(pb::GetBulkSecretResponse { data })
    }
}
