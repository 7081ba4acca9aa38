//! The front over a real socket, called with the generated client.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pillion_building_blocks::bindings::OutputBindings;
use pillion_contract::{
    BindingRequest, BindingResponse, ComponentError, ErrorKind, Metadata, NameResolver, OutputBinding, Registration,
    ResolveRequest, SecretBundle, SecretStore,
};
use pillion_core::log::Logger;
use pillion_core::secret::Secret;
use pillion_invocation::InvokerOptions;
use pillion_invocation::endpoint::Endpoints;
use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::common::v1::{HttpExtension, InvokeRequest, StateItem};
use pillion_proto::durabletask::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc;
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_resources::ApiRule;
use pillion_runtime::app_channel::{AppChannel, AppHealth, GrpcChannel, HttpChannel, HttpChannelOptions};
use pillion_runtime::resiliency::Policies;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::*;
use crate::runtime_info::{RuntimeMetadata, SubscriptionInfo};

mod bindings;
mod calls;
mod state;
mod streams;
mod wire;

/// Remembers what it was told.
#[derive(Default)]
struct Sidecar {
    attributes: Mutex<BTreeMap<String, String>>,
    shutdowns: Mutex<Vec<bool>>,
}

impl RuntimeInfo for Sidecar {
    fn app_id(&self) -> &str {
        "app"
    }

    fn namespace(&self) -> &str {
        "default"
    }

    fn control_plane_given(&self) -> &[&'static str] {
        &[]
    }

    fn unready(&self) -> Vec<String> {
        Vec::new()
    }

    fn outbound_ready(&self) -> bool {
        true
    }

    fn metadata(&self) -> RuntimeMetadata {
        let subscription =
            SubscriptionInfo { pubsub_name: "ps".into(), topic: "t".into(), kind: "STREAMING", ..Default::default() };
        RuntimeMetadata {
            id: "app".into(),
            extended: self.attributes.lock().clone(),
            subscriptions: vec![subscription],
            ..Default::default()
        }
    }

    fn set_attribute(&self, key: String, value: String) {
        self.attributes.lock().insert(key, value);
    }

    fn shutdown(&self, force: bool) {
        self.shutdowns.lock().push(force);
    }
}

struct Nowhere;

#[tonic::async_trait]
impl NameResolver for Nowhere {
    async fn register(&self, _: Registration) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        Err(ComponentError::new(ErrorKind::NotFound, format!("no app {}", request.app_id)))
    }
}

/// A binding whose system refuses everything, and says so.
struct Refusing(Vec<String>);

#[tonic::async_trait]
impl OutputBinding for Refusing {
    fn operations(&self) -> &[String] {
        &self.0
    }

    async fn invoke(&self, request: &BindingRequest) -> Result<Option<BindingResponse>, ComponentError> {
        let mut told = request.metadata.clone();
        told.insert("statusCode".to_owned(), "404".to_owned());
        Err(ComponentError::new(ErrorKind::Internal, "received status code 404").with_metadata(told))
    }
}

struct OneSecret;

#[tonic::async_trait]
impl SecretStore for OneSecret {
    async fn get(&self, name: &str, _: &BTreeMap<String, String>) -> Result<SecretBundle, ComponentError> {
        Ok(BTreeMap::from([(name.to_owned(), "value".to_owned())]))
    }

    async fn bulk_get(
        &self,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, SecretBundle>, ComponentError> {
        Ok(BTreeMap::from([("one".to_owned(), self.get("one", metadata).await?)]))
    }
}

/// An app that answers `/fail` with 404 and `no`, everything else with verb and path.
async fn app() -> AppChannel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = async |request: http::Request<Incoming>| {
        let fails = request.uri().path() == "/fail";
        let body = if fails { "no".to_owned() } else { format!("{} {}", request.method(), request.uri()) };
        let response = http::Response::builder()
            .status(if fails { 404 } else { 200 })
            .header("x-app", "yes")
            .header("content-type", "text/plain");
        Ok::<_, Infallible>(response.body(body).unwrap())
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(answer);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let options = HttpChannelOptions::on_port(port);
    AppChannel::Http(Arc::new(HttpChannel::new(&options, AppHealth::new(true)).unwrap()))
}

struct Fixture {
    channel: Channel,
    address: SocketAddr,
    front: GrpcFront,
    sidecar: Arc<Sidecar>,
    subscriptions: Arc<Subscriptions>,
    cancel: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Fixture {
    fn client(&self) -> DaprClient<Channel> {
        DaprClient::new(self.channel.clone())
    }
}

async fn fixture(api_token: Option<&str>, rules: ApiRules) -> Fixture {
    let sidecar = Arc::new(Sidecar::default());
    let policies = Arc::new(Policies::none(&Logger::silent()));
    let options = InvokerOptions {
        app_id: "app".into(),
        namespace: "default".into(),
        host_address: String::new(),
        host_name: String::new(),
        max_body_bytes: 1 << 20,
    };
    let invoker = Invoker::new(options, Arc::new(Nowhere), Endpoints::default(), policies.clone(), Logger::silent());
    invoker.set_app_channel(Some(app().await));
    let state = StateStores::new("app", None, policies.clone());
    let context = |component_type: &str| pillion_contract::InitContext {
        name: "store".into(),
        component_type: component_type.into(),
        version: "v1".into(),
        metadata: Metadata::default(),
        app_id: "app".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    };
    state
        .add(
            "store",
            pillion_builtin::state_in_memory::create(context("state.in-memory")).await.unwrap(),
            &Metadata::default(),
            &[],
        )
        .unwrap();
    let pubsub = Arc::new(PubSubs::new("app", "default", policies.clone()));
    let broker = pillion_builtin::pubsub_in_memory::create(context("pubsub.in-memory")).await.unwrap();
    let scoped = Metadata::new([("subscriptionScopes".to_owned(), "app=t,u".to_owned())]);
    pubsub.add("ps", broker, &scoped, false);
    let subscriptions = Arc::new(Subscriptions::new(pubsub.clone(), &Logger::silent()));
    let secrets = SecretStores::new([], policies);
    secrets.add("vault", Arc::new(OneSecret));
    let bindings = OutputBindings::new(Arc::new(Policies::none(&Logger::silent())));
    bindings.add("web", Arc::new(Refusing(vec!["get".to_owned()])));
    let api = GrpcApi {
        info: sidecar.clone(),
        invoker: Arc::new(invoker),
        state: Arc::new(state),
        secrets: Arc::new(secrets),
        pubsub,
        bindings: Arc::new(bindings),
        subscriptions: subscriptions.clone(),
        max_body_bytes: 1 << 20,
    };
    let options = FrontOptions {
        loops: pillion_runtime::loops::Loops::default(),
        api_token: api_token.map(|token| Secret::new(token.to_owned())),
        rules,
        max_body_bytes: 1 << 20,
        read_buffer_bytes: 4096,
        metrics: pillion_telemetry::metrics::Metrics::off(),
        tracer: pillion_telemetry::trace::Tracer::default(),
        log: Logger::silent(),
    };
    let front = GrpcFront::new(api, options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let server = tokio::spawn(front.clone().serve(listener, cancel.clone()));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Fixture { channel, address, front, sidecar, subscriptions, cancel, server }
}

fn item(key: &str, value: &'static [u8]) -> StateItem {
    StateItem { key: key.into(), value: Bytes::from_static(value), ..Default::default() }
}

fn info(status: &Status) -> rpc::ErrorInfo {
    let found = status::details_of(status).iter().find_map(|any| any.to_message::<rpc::ErrorInfo>().unwrap());
    found.expect("an ErrorInfo")
}

fn invoke(id: &str, method: &str) -> pb::InvokeServiceRequest {
    let message = InvokeRequest {
        method: method.into(),
        data: Some(Any { type_url: String::new(), value: Bytes::from_static(b"x") }),
        content_type: "text/plain".into(),
        http_extension: Some(HttpExtension { verb: Verb::Put.into(), querystring: "q=1".into() }),
    };
    pb::InvokeServiceRequest { id: id.into(), message: Some(message) }
}
