//! (shapes only: the HTTP front is being written)
pub(crate) mod path;
pub(crate) mod respond;
use std::sync::Arc;
use pillion_building_blocks::pubsub::PubSubs;
use pillion_building_blocks::secrets::SecretStores;
use pillion_building_blocks::state::StateStores;
use pillion_core::{log::Logger, secret::Secret};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use crate::runtime_info::RuntimeInfo;
pub struct HttpApi { pub info: Arc<dyn RuntimeInfo>, pub invoker: Arc<pillion_invocation::Invoker>, pub state: Arc<StateStores>, pub secrets: Arc<SecretStores>, pub pubsub: Arc<PubSubs> }
pub struct HttpRules;
impl HttpRules { pub fn new(_: &[pillion_resources::ApiRule], _: &[pillion_resources::ApiRule]) -> Self { Self } }
pub struct HttpOptions { pub api_token: Option<Secret<String>>, pub rules: HttpRules, pub allowed_origins: String, pub max_body_bytes: usize, pub read_buffer_bytes: usize, pub api_logging: bool, pub obfuscate_urls: bool, pub omit_health_checks: bool, pub log: Logger }
#[derive(Clone)] pub struct HttpFront;
impl HttpFront {
    pub fn new(_: HttpApi, _: HttpOptions) -> Self { Self }
    pub fn public(&self) -> Self { Self }
    pub async fn serve(self, _: TcpListener, _: CancellationToken) {}
    pub async fn serve_unix(self, _: UnixListener, _: CancellationToken) {}
}
