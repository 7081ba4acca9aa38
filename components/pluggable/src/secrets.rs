//! A secret store behind a socket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pillion_contract::{ComponentError, InitContext, SecretBundle, SecretStore};
use pillion_proto::components::v1 as pb;
use pillion_proto::components::v1::secret_store_client::SecretStoreClient;

use crate::connection::{Connection, Transport, properties, to_map};
use crate::status;

/// The component; see the module text.
pub struct PluggableSecrets {
    connection: Connection,
    multiple_keys: bool,
}

/// Connects, initialises and asks what the store can do.
///
/// # Errors
/// No connection, or the component's own status.
pub(crate) async fn create(socket: Arc<Path>, context: InitContext) -> Result<Arc<dyn SecretStore>, ComponentError> {
    Ok(Arc::new(PluggableSecrets::open(&socket, &context).await?))
}

impl PluggableSecrets {
    /// Connects, initialises and asks what the store can do.
    ///
    /// # Errors
    /// No connection, or the component's own status.
    pub async fn open(socket: &Path, context: &InitContext) -> Result<Self, ComponentError> {
        let connection = Connection::open(socket, context).await?;
        let mut client = SecretStoreClient::new(connection.transport());
        let request = pb::SecretStoreInitRequest { metadata: properties(context) };
        client.init(request).await.map_err(|status| status::error(&status))?;
        let answer = client.features(pb::FeaturesRequest {}).await.map_err(|status| status::error(&status))?;
        let features = answer.into_inner().features;
        let multiple_keys = features.iter().any(|feature| feature == "MULTIPLE_KEY_VALUES_PER_SECRET");
        Ok(Self { connection, multiple_keys })
    }

    /// Asks whether the component is alive.
    ///
    /// # Errors
    /// It is not, or it says that something is wrong.
    pub async fn ping(&self) -> Result<(), ComponentError> {
        let answer = self.client().ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(|status| status::error(&status))
    }

    fn client(&self) -> SecretStoreClient<Transport> {
        SecretStoreClient::new(self.connection.transport())
    }
}

#[async_trait]
impl SecretStore for PluggableSecrets {
    async fn get(&self, name: &str, metadata: &BTreeMap<String, String>) -> Result<SecretBundle, ComponentError> {
        let request = pb::GetSecretRequest { key: name.to_owned(), metadata: to_map(metadata) };
        let answer = self.client().get(request).await.map_err(|status| status::error(&status))?;
        Ok(answer.into_inner().data.into_iter().collect())
    }

    async fn bulk_get(
        &self,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, SecretBundle>, ComponentError> {
        let request = pb::BulkGetSecretRequest { metadata: to_map(metadata) };
        let answer = self.client().bulk_get(request).await.map_err(|status| status::error(&status))?;
        let secrets = answer.into_inner().data.into_iter();
        Ok(secrets.map(|(name, secret)| (name, secret.secrets.into_iter().collect())).collect())
    }

    fn multiple_keys(&self) -> bool {
        self.multiple_keys
    }
}
