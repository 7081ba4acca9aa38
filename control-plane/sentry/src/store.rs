//! Where the material of the authority is kept: in files, or in a Secret of Kubernetes.

mod file;
mod secret;

use async_trait::async_trait;

pub(crate) use file::FileStore;
pub(crate) use secret::SecretStore;

/// The material as it is stored; `None` = not there.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Material {
    /// PEM of the trust anchors.
    pub(crate) root: Option<Vec<u8>>,
    /// PEM of the issuer's chain.
    pub(crate) issuer_chain: Option<Vec<u8>>,
    /// PEM of the issuer's key.
    pub(crate) issuer_key: Option<Vec<u8>>,
    /// PEM of the key of tokens.
    pub(crate) token_key: Option<Vec<u8>>,
    /// JSON of the public keys of tokens.
    pub(crate) key_set: Option<Vec<u8>>,
}

/// How writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// The material is stored.
    Done,
    /// Somebody else stored other material since this was loaded; theirs stays.
    Overtaken,
}

/// A place for the material.
#[async_trait]
pub(crate) trait CredentialStore: Send + Sync {
    /// Reads what is there.
    ///
    /// # Errors
    /// Names the place that cannot be read; a missing part is no error.
    async fn load(&self) -> Result<Material, String>;

    /// Writes what is given and leaves the rest.
    ///
    /// # Errors
    /// Names the place that cannot be written.
    async fn save(&self, material: &Material) -> Result<Saved, String>;

    /// Brings the public half of verified material to where everybody can read it; nothing is done where it is there.
    ///
    /// # Errors
    /// Names the place that cannot be written.
    async fn publish(&self, material: &Material) -> Result<(), String>;
}
