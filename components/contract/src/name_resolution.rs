//! Name resolution: from an app id to the internal gRPC address of its sidecars.

use async_trait::async_trait;

use crate::ComponentError;

/// What a sidecar announces about itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// App id.
    pub app_id: String,
    /// Namespace.
    pub namespace: String,
    /// Address peers can reach, without port.
    pub host: String,
    /// Address peers on this machine can reach, without port: the loopback address where the sidecar listens there too.
    pub local_host: String,
    /// Internal gRPC port.
    pub internal_port: u16,
    /// HTTP API port, which some resolvers publish.
    pub http_port: u16,
    /// Port of the application, when there is one.
    pub app_port: Option<u16>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResolveRequest {
    /// App id.
    pub app_id: String,
    /// Namespace.
    pub namespace: String,
}

/// Finds the sidecars of an app.
#[async_trait]
pub trait NameResolver: Send + Sync {
    /// Announces this sidecar until [`Self::close`]; the entry must vanish or go stale when the process dies.
    async fn register(&self, registration: Registration) -> Result<(), ComponentError>;

    /// All addresses (`host:port`) of an app.
    ///
    /// # Errors
    /// `NotFound` with a text that says what was looked up and where.
    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError>;

    /// Told when an address did not answer, so that a cached answer can be dropped.
    fn report_failure(&self, _request: &ResolveRequest, _address: &str) {}

    /// Withdraws the announcement.
    async fn close(&self) -> Result<(), ComponentError> {
        Ok(())
    }
}
