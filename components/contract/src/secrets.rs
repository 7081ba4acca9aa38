//! Secret stores.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::ComponentError;

/// The key/value pairs of one secret.
pub type SecretBundle = BTreeMap<String, String>;

/// A source of secrets.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// Reads one secret.
    ///
    /// # Errors
    /// `NotFound` that names the secret.
    async fn get(&self, name: &str, metadata: &BTreeMap<String, String>) -> Result<SecretBundle, ComponentError>;

    /// Reads all secrets, by name.
    async fn bulk_get(
        &self,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, SecretBundle>, ComponentError>;

    /// Whether a secret may hold several keys; the metadata API prints it as `MULTIPLE_KEY_VALUES_PER_SECRET`.
    fn multiple_keys(&self) -> bool {
        false
    }
}
