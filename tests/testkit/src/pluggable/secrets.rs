//! The secret store: two secrets that never change.

use std::collections::HashMap;

use pillion_proto::components::v1 as pb;
use tonic::{Request, Response, Status};

use super::Handler;

const SECRETS: [(&str, &str); 2] = [("conftestsecret", "abcd"), ("secondsecret", "efgh")];

fn bundle(name: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(name.to_owned(), value.to_owned())])
}

#[tonic::async_trait]
impl pb::secret_store_server::SecretStore for Handler {
    async fn init(
        &self,
        request: Request<pb::SecretStoreInitRequest>,
    ) -> Result<Response<pb::SecretStoreInitResponse>, Status> {
        self.initialised("SecretStore/Init", &request, request.get_ref().metadata.clone())?;
        Ok(Response::new(Default::default()))
    }

    async fn features(&self, request: Request<pb::FeaturesRequest>) -> Result<Response<pb::FeaturesResponse>, Status> {
        self.called("SecretStore/Features", &request)?;
        Ok(Response::new(pb::FeaturesResponse { features: vec!["MULTIPLE_KEY_VALUES_PER_SECRET".to_owned()] }))
    }

    async fn get(&self, request: Request<pb::GetSecretRequest>) -> Result<Response<pb::GetSecretResponse>, Status> {
        self.called("SecretStore/Get", &request)?;
        let wanted = &request.get_ref().key;
        let found = SECRETS.into_iter().find(|(name, _)| name == wanted);
        let (name, value) = found.ok_or_else(|| Status::not_found(format!("there is no secret {wanted}")))?;
        Ok(Response::new(pb::GetSecretResponse { data: bundle(name, value) }))
    }

    async fn bulk_get(
        &self,
        request: Request<pb::BulkGetSecretRequest>,
    ) -> Result<Response<pb::BulkGetSecretResponse>, Status> {
        self.called("SecretStore/BulkGet", &request)?;
        let all = SECRETS
            .into_iter()
            .map(|(name, value)| (name.to_owned(), pb::SecretResponse { secrets: bundle(name, value) }));
        Ok(Response::new(pb::BulkGetSecretResponse { data: all.collect() }))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        self.called("SecretStore/Ping", &request)?;
        Ok(Response::new(Default::default()))
    }
}
