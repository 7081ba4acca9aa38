//! A pluggable component as a test serves it: a Unix socket with gRPC reflection and one of everything behind it.
//!
//! What it was told and by whom is recorded; a call can be made to fail once with any status.

mod bindings;
mod broker;
mod secrets;
mod state;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillion_proto::FILE_DESCRIPTOR_SET;
use pillion_proto::components::v1 as pb;
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc;
use prost::Message as _;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Status};

use broker::Broker;
use state::Items;

/// What a [`PluggableServer`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PluggableKind {
    State,
    PubSub,
    Secrets,
    InputBinding,
    OutputBinding,
}

/// A running component; it stops, and its socket goes away, when dropped.
#[derive(Debug)]
pub struct PluggableServer {
    socket: PathBuf,
    shared: Arc<Shared>,
    /// Of its own, so that connections break with it as they do when a process ends.
    runtime: Option<Runtime>,
}

/// A call as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluggableCall {
    /// For example `StateStore/Get`.
    pub method: String,
    /// The component that called: `x-component-instance`.
    pub instance: String,
    /// The metadata of an `Init`.
    pub properties: HashMap<String, String>,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<PluggableCall>>,
    failures: Mutex<HashMap<String, Status>>,
    items: Mutex<Items>,
    broker: Mutex<Broker>,
    events: Mutex<Vec<mpsc::Sender<pb::ReadResponse>>>,
    replies: Mutex<Vec<pb::ReadRequest>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("calls", &locked(&self.calls)).finish_non_exhaustive()
    }
}

impl PluggableServer {
    /// Serves on `<dir>/<name>.sock`, from an empty store.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(dir: &Path, name: &str, kinds: &[PluggableKind]) -> anyhow::Result<Self> {
        Self::serve(dir.join(format!("{name}.sock")), kinds, Arc::default())
    }

    /// Stops and serves again on the same socket with the same data, as a component that was restarted.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn restart(self, kinds: &[PluggableKind]) -> anyhow::Result<Self> {
        let (socket, shared) = (self.socket.clone(), self.shared.clone());
        drop(self);
        Self::serve(socket, kinds, shared)
    }

    fn serve(socket: PathBuf, kinds: &[PluggableKind], shared: Arc<Shared>) -> anyhow::Result<Self> {
        drop(std::fs::remove_file(&socket)); // left over by the one before
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = {
            let _guard = runtime.enter();
            UnixListener::bind(&socket)?
        };
        let mut names = Vec::new();
        let mut router = Server::builder().add_optional_service(None::<pb::pub_sub_server::PubSubServer<Handler>>);
        let handler = || Handler { shared: Arc::clone(&shared) };
        for kind in kinds {
            router = match kind {
                PluggableKind::State => {
                    names.push(pb::state_store_server::SERVICE_NAME);
                    names.push(pb::transactional_state_store_server::SERVICE_NAME);
                    router
                        .add_service(pb::queriable_state_store_server::QueriableStateStoreServer::new(handler()))
                        .add_service(pb::state_store_server::StateStoreServer::new(handler()))
                        .add_service(
                            pb::transactional_state_store_server::TransactionalStateStoreServer::new(handler()),
                        )
                        .add_service(
                            pb::transactional_store_multi_max_size_server::TransactionalStoreMultiMaxSizeServer::new(
                                handler(),
                            ),
                        )
                }
                PluggableKind::PubSub => {
                    names.push(pb::pub_sub_server::SERVICE_NAME);
                    router.add_service(pb::pub_sub_server::PubSubServer::new(handler()))
                }
                PluggableKind::Secrets => {
                    names.push(pb::secret_store_server::SERVICE_NAME);
                    router.add_service(pb::secret_store_server::SecretStoreServer::new(handler()))
                }
                PluggableKind::InputBinding => {
                    names.push(pb::input_binding_server::SERVICE_NAME);
                    router.add_service(pb::input_binding_server::InputBindingServer::new(handler()))
                }
                PluggableKind::OutputBinding => {
                    names.push(pb::output_binding_server::SERVICE_NAME);
                    router.add_service(pb::output_binding_server::OutputBindingServer::new(handler()))
                }
            };
        }
        let mut reflection =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
        for name in names {
            reflection = reflection.with_service_name(name);
        }
        let router = router.add_service(reflection.build_v1alpha()?);
        runtime.spawn(async move {
            // It ends only with its runtime; a failure shows as calls that do not arrive.
            drop(router.serve_with_incoming(UnixListenerStream::new(listener)).await);
        });
        Ok(Self { socket, shared, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<PluggableCall> {
        locked(&self.shared.calls).clone()
    }

    /// How often a method was called.
    #[must_use]
    pub fn count(&self, method: &str) -> usize {
        locked(&self.shared.calls).iter().filter(|call| call.method == method).count()
    }

    /// Makes the next call of a method, for example `StateStore/Get`, fail.
    pub fn fail_next(&self, method: &str, status: Status) {
        locked(&self.shared.failures).insert(method.to_owned(), status);
    }

    /// The message ids that were answered, with the error of those that were refused.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<(String, Option<String>)> {
        locked(&self.shared.broker).answers.clone()
    }

    /// Whether messages of a topic are being pulled.
    #[must_use]
    pub fn subscribed(&self, topic: &str) -> bool {
        locked(&self.shared.broker).is_subscribed(topic)
    }

    /// Lets an event happen; it goes to every open input binding.
    pub async fn event(&self, id: &str, data: &str) {
        let sources = locked(&self.shared.events).clone();
        let event = pb::ReadResponse {
            data: data.as_bytes().to_vec().into(),
            metadata: HashMap::from([("kind".to_owned(), "test".to_owned())]),
            content_type: "text/plain".to_owned(),
            message_id: id.to_owned(),
        };
        for source in sources {
            drop(source.send(event.clone()).await); // one that has gone misses it
        }
    }

    /// How many input bindings are open.
    #[must_use]
    pub fn sources(&self) -> usize {
        let mut sources = locked(&self.shared.events);
        sources.retain(|source| !source.is_closed());
        sources.len()
    }

    /// The answers to events.
    #[must_use]
    pub fn replies(&self) -> Vec<pb::ReadRequest> {
        locked(&self.shared.replies).clone()
    }
}

impl Drop for PluggableServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        drop(std::fs::remove_file(&self.socket)); // the next one may have replaced it already
    }
}

/// What answers the calls of all services.
#[derive(Clone)]
struct Handler {
    shared: Arc<Shared>,
}

impl Handler {
    /// Records a call and fails when it was told to.
    fn called<T>(&self, method: &str, request: &Request<T>) -> Result<(), Status> {
        self.recorded(method, request, HashMap::new())
    }

    /// As [`Self::called`], for an `Init`.
    fn initialised<T>(
        &self,
        method: &str,
        request: &Request<T>,
        metadata: Option<pb::MetadataRequest>,
    ) -> Result<(), Status> {
        self.recorded(method, request, metadata.unwrap_or_default().properties)
    }

    fn recorded<T>(
        &self,
        method: &str,
        request: &Request<T>,
        properties: HashMap<String, String>,
    ) -> Result<(), Status> {
        let instance = request.metadata().get("x-component-instance").and_then(|value| value.to_str().ok());
        let instance = instance.unwrap_or_default().to_owned();
        locked(&self.shared.calls).push(PluggableCall { method: method.to_owned(), instance, properties });
        match locked(&self.shared.failures).remove(method) {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }
}

/// A status with one machine-readable detail.
#[must_use]
pub fn status_with(code: Code, message: &str, detail: Any) -> Status {
    let status = rpc::Status { code: code as i32, message: message.to_owned(), details: vec![detail] };
    Status::with_details(code, message, status.encode_to_vec().into())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
