//! What a component is to the sidecar: one trait per building block, typed metadata, capabilities and the registry.
//!
//! *Job:* the seam between blocks and client libraries. *Neighbours:* implementation crates depend on this crate and on
//! nothing of ours above it; blocks see `Arc<dyn Trait>` only. *Invariant:* a component never learns of routes, apps'
//! ports or resiliency policies; HTTP middleware is the one kind that sees HTTP.

mod bindings;
mod error;
mod metadata;
mod middleware;
mod name_resolution;
mod process;
mod pubsub;
mod registry;
mod secrets;
mod state;

pub use bindings::{
    BindingDelivery, BindingEvent, BindingReply, BindingRequest, BindingResponse, InputBinding, OutputBinding,
    ReplyHandle,
};
pub use error::{ChosenStatus, ComponentError, ErrorKind};
pub use metadata::{InitContext, Metadata};
pub use middleware::{
    HttpBody, HttpBodyError, HttpMiddleware, HttpPipeline, HttpRequest, HttpResponse, Next, ReadBodyError,
    RemoteAddress, empty_body, full_body, read_body,
};
pub use name_resolution::{NameResolver, Registration, ResolveRequest};
pub use process::ProcessMark;
pub use pubsub::{
    AckHandle, BulkEntryError, Delivery, Message, Outcome, PubSub, PubSubCapability, PublishRequest, SubscribeRequest,
};
pub use registry::{Discovery, DiscoveryContext, Factory, Registry};
pub use secrets::{SecretBundle, SecretStore};
pub use state::{
    BulkGetItem, Concurrency, Consistency, DeleteRequest, GetRequest, KeysLikeRequest, KeysLikeResponse, Querier,
    QueryItem, QueryRequest, QueryResponse, QuerySort, SetRequest, StateCapability, StateItem, StateOperation,
    StateStore, TransactionRequest, TransactionalStore,
};
