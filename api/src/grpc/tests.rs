//! The front over a real socket, called with the generated client.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pillion_contract::{
    ComponentError, ErrorKind, Metadata, NameResolver, Registration, ResolveRequest, SecretBundle, SecretStore,
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
use pillion_runtime::app_channel::{AppChannel, AppHealth, GrpcChannel, HttpChannel, HttpChannelOptions, Protocol};
use pillion_runtime::resiliency::Policies;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::*;
use crate::runtime_info::{RuntimeMetadata, SubscriptionInfo};

mod streams;

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
    let options = HttpChannelOptions {
        host: "127.0.0.1".into(),
        port,
        protocol: Protocol::Http1,
        max_concurrency: 0,
        api_token: None,
        header_limit: 4096,
    };
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
        )
        .unwrap();
    let pubsub = Arc::new(PubSubs::new("app", "default", policies.clone()));
    let broker = pillion_builtin::pubsub_in_memory::create(context("pubsub.in-memory")).await.unwrap();
    let scoped = Metadata::new([("subscriptionScopes".to_owned(), "app=t,u".to_owned())]);
    pubsub.add("ps", broker, &scoped, false);
    let subscriptions = Arc::new(Subscriptions::new(pubsub.clone(), &Logger::silent()));
    let secrets = SecretStores::new([], policies);
    secrets.add("vault", Arc::new(OneSecret));
    let api = GrpcApi {
        info: sidecar.clone(),
        invoker: Arc::new(invoker),
        state: Arc::new(state),
        secrets: Arc::new(secrets),
        pubsub,
        subscriptions: subscriptions.clone(),
        max_body_bytes: 1 << 20,
    };
    let options = FrontOptions {
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

#[tokio::test]
async fn state_goes_in_and_out() {
    let mut client = fixture(None, ApiRules::default()).await.client();
    let states = vec![item("a", b"1"), item("b", b"2")];
    client.save_state(pb::SaveStateRequest { store_name: "store".into(), states }).await.unwrap();
    let get = |key: &str| pb::GetStateRequest { store_name: "store".into(), key: key.into(), ..Default::default() };
    let found = client.get_state(get("a")).await.unwrap().into_inner();
    assert_eq!(found.data, "1");
    assert!(!found.etag.is_empty());
    assert_eq!(client.get_state(get("none")).await.unwrap().into_inner(), pb::GetStateResponse::default());

    let bulk = pb::GetBulkStateRequest {
        store_name: "store".into(),
        keys: vec!["b".into(), "none".into()],
        ..Default::default()
    };
    let items = client.get_bulk_state(bulk).await.unwrap().into_inner().items;
    assert_eq!(
        (items[0].key.as_str(), &items[0].data[..], items[1].key.as_str(), &items[1].data[..]),
        ("b", &b"2"[..], "none", &b""[..])
    );

    let step = |kind: &str, item| pb::TransactionalStateOperation { operation_type: kind.into(), request: Some(item) };
    let operations = vec![step("upsert", item("c", b"3")), step("delete", item("a", b""))];
    client
        .execute_state_transaction(pb::ExecuteStateTransactionRequest {
            store_name: "store".into(),
            operations,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(client.get_state(get("c")).await.unwrap().into_inner().data, "3");
    assert!(client.get_state(get("a")).await.unwrap().into_inner().data.is_empty());

    client
        .delete_bulk_state(pb::DeleteBulkStateRequest {
            store_name: "store".into(),
            states: vec![item("b", b""), item("c", b"")],
        })
        .await
        .unwrap();
    assert!(client.get_state(get("c")).await.unwrap().into_inner().data.is_empty());
}

#[tokio::test]
async fn state_errors_have_their_grpc_form() {
    let mut client = fixture(None, ApiRules::default()).await.client();
    let get = |store: &str, key: &str| pb::GetStateRequest {
        store_name: store.into(),
        key: key.into(),
        ..Default::default()
    };
    let status = client.get_state(get("other", "a")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "state store other is not found"));
    assert_eq!((info(&status).reason.as_str(), info(&status).metadata.len()), ("DAPR_STATE_NOT_FOUND", 0));

    let status = client.get_state(get("store", "a||b")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "input key/keyPrefix 'a||b' can't contain '||'")
    );

    let save = |item| pb::SaveStateRequest { store_name: "store".into(), states: vec![item] };
    let status = client.save_state(save(item("", b"1"))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "state key cannot be empty"));

    let etag = Some(pillion_proto::common::v1::Etag { value: "stale".into() });
    let status = client.save_state(save(StateItem { etag, ..item("a", b"1") })).await.unwrap_err();
    assert_eq!((status.code(), info(&status).reason.as_str()), (Code::Aborted, "ERR_STATE_SAVE"));

    let operations = vec![pb::TransactionalStateOperation { operation_type: "replace".into(), request: None }];
    let transaction =
        pb::ExecuteStateTransactionRequest { store_name: "store".into(), operations, ..Default::default() };
    let status = client.execute_state_transaction(transaction).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "operation type replace not supported"));
}

#[tokio::test]
async fn an_http_app_is_called_and_its_status_comes_back() {
    let mut client = fixture(None, ApiRules::default()).await.client();
    let response = client.invoke_service(invoke("app", "a/b")).await.unwrap();
    assert_eq!(response.metadata().get("dapr-http-status").unwrap(), "200");
    assert_eq!(response.metadata().get("x-app").unwrap(), "yes");
    assert_eq!(response.metadata().get("dapr-content-type").unwrap(), "text/plain");
    let message = response.into_inner();
    assert_eq!((&message.data.unwrap().value[..], message.content_type.as_str()), (&b"PUT /a/b?q=1"[..], "text/plain"));

    let status = client.invoke_service(invoke("app", "fail")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Not Found"));
    assert_eq!(info(&status).metadata["http.error_message"], "no");
    assert_eq!(status.metadata().get("dapr-http-status").unwrap(), "404");

    let status = client.invoke_service(invoke("other", "a")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().starts_with("failed to invoke, id: other, err: "), "{status}");
}

#[tokio::test]
async fn secrets_metadata_and_shutdown() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut client = fixture.client();
    let secret = client
        .get_secret(pb::GetSecretRequest { store_name: "vault".into(), key: "k".into(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(secret.into_inner().data["k"], "value");
    let all = client
        .get_bulk_secret(pb::GetBulkSecretRequest { store_name: "vault".into(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(all.into_inner().data["one"].secrets["one"], "value");
    let status =
        client.get_secret(pb::GetSecretRequest { store_name: "none".into(), ..Default::default() }).await.unwrap_err();
    assert_eq!((status.code(), status.details().len()), (Code::InvalidArgument, 0));

    client.set_metadata(pb::SetMetadataRequest { key: "k".into(), value: "v".into() }).await.unwrap();
    let metadata = client.get_metadata(pb::GetMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((metadata.id.as_str(), metadata.extended_metadata["k"].as_str()), ("app", "v"));
    assert_eq!(metadata.subscriptions[0].r#type(), pb::PubsubSubscriptionType::Streaming);

    client.shutdown(pb::ShutdownRequest {}).await.unwrap();
    let mut forced = tonic::Request::new(pb::ShutdownRequest {});
    forced.metadata_mut().insert("dapr-force-shutdown", "True".parse().unwrap());
    client.shutdown(forced).await.unwrap();
    assert_eq!(*fixture.sidecar.shutdowns.lock(), [false, true]);
}

type FromApp = pb::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType;
type ToApp = pb::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType;

/// The app's end of a streaming subscription.
struct Subscriber {
    sender: mpsc::Sender<pb::SubscribeTopicEventsRequestAlpha1>,
    receiver: tonic::Streaming<pb::SubscribeTopicEventsResponseAlpha1>,
}

impl Subscriber {
    /// Opens the stream with its first message.
    async fn open(fixture: &Fixture, first: FromApp) -> Result<Self, Status> {
        let (sender, messages) = mpsc::channel(4);
        let subscriber = |receiver| Self { sender: sender.clone(), receiver };
        sender
            .send(pb::SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(first) })
            .await
            .unwrap();
        let answer = fixture
            .client()
            .subscribe_topic_events_alpha1(tokio_stream::wrappers::ReceiverStream::new(messages))
            .await?;
        Ok(subscriber(answer.into_inner()))
    }

    async fn send(&self, message: FromApp) {
        self.sender
            .send(pb::SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(message) })
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Result<Option<ToApp>, Status> {
        Ok(self.receiver.message().await?.and_then(|message| message.subscribe_topic_events_response_type))
    }

    async fn event(&mut self) -> pb::TopicEventRequest {
        match self.next().await {
            Ok(Some(ToApp::EventMessage(event))) => event,
            other => panic!("expected an event, got {other:?}"),
        }
    }
}

fn initial(pubsub_name: &str, topic: &str) -> FromApp {
    FromApp::InitialRequest(pb::SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: pubsub_name.into(),
        topic: topic.into(),
        ..Default::default()
    })
}

fn processed(event: &pb::TopicEventRequest) -> FromApp {
    let status = Some(pb::TopicEventResponse { status: 0 });
    FromApp::EventProcessed(pb::SubscribeTopicEventsRequestProcessedAlpha1 { id: event.id.clone(), status })
}

#[tokio::test]
async fn published_events_reach_a_stream_with_their_trace() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut subscriber = Subscriber::open(&fixture, initial("ps", "t")).await.unwrap();
    assert!(matches!(subscriber.next().await, Ok(Some(ToApp::InitialResponse(_)))));
    let mut client = fixture.client();
    let event = pb::PublishEventRequest {
        pubsub_name: "ps".into(),
        topic: "t".into(),
        data: Bytes::from_static(b"e"),
        ..Default::default()
    };
    let mut request = tonic::Request::new(event);
    request
        .metadata_mut()
        .insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
    client.publish_event(request).await.unwrap();
    let event = subscriber.event().await;
    assert_eq!((&event.data[..], event.path.as_str(), event.pubsub_name.as_str()), (&b"e"[..], "/", "ps"));
    assert!(event.extensions.as_ref().unwrap().fields["traceparent"].kind.as_ref().is_some());
    subscriber.send(processed(&event)).await;

    let entries = vec![pb::BulkPublishRequestEntry {
        entry_id: "1".into(),
        event: Bytes::from_static(b"f"),
        ..Default::default()
    }];
    let bulk = pb::BulkPublishRequest { pubsub_name: "ps".into(), topic: "t".into(), entries, ..Default::default() };
    client.bulk_publish_event(bulk.clone()).await.unwrap();
    #[expect(deprecated, reason = "older SDKs call it by this name")]
    client.bulk_publish_event_alpha1(bulk).await.unwrap();
    for _ in 0..2 {
        let event = subscriber.event().await;
        assert_eq!(event.data, "f");
        subscriber.send(processed(&event)).await;
    }
    let status = client
        .publish_event(pb::PublishEventRequest { pubsub_name: "none".into(), topic: "t".into(), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!((status.code(), info(&status).reason.as_str()), (Code::InvalidArgument, "DAPR_PUBSUB_NOT_FOUND"));
}

#[tokio::test]
async fn a_second_initial_request_ends_stream_and_subscription() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut first = Subscriber::open(&fixture, initial("ps", "t")).await.unwrap();
    first.next().await.unwrap();
    let event = pb::PublishEventRequest {
        pubsub_name: "ps".into(),
        topic: "t".into(),
        data: Bytes::from_static(b"e"),
        ..Default::default()
    };
    fixture.client().publish_event(event).await.unwrap();
    assert_eq!(first.event().await.data, "e");
    let status = {
        first.send(initial("ps", "t")).await;
        first.next().await.unwrap_err()
    };
    assert_eq!((status.code(), status.message()), (Code::Unknown, "duplicate initial request received"));
    tokio::time::timeout(std::time::Duration::from_secs(5), async {
        while !fixture.subscriptions.list().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the subscription ends with its stream");
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_says_why() {
    let fixture = fixture(None, ApiRules::default()).await;
    let event = FromApp::EventProcessed(pb::SubscribeTopicEventsRequestProcessedAlpha1::default());
    let cases = [
        (event, Code::Unknown, "initial request is required"),
        (initial("", "t"), Code::Unknown, "pubsubName is required"),
        (initial("ps", ""), Code::Unknown, "topic is required"),
        (initial("none", "t"), Code::InvalidArgument, "pubsub none is not found"),
        (
            initial("ps", "x"),
            Code::Unknown,
            "failed to create subscription for ps: subscription to topic 'x' on pubsub 'ps' is not allowed",
        ),
    ];
    for (first, code, message) in cases {
        let status = Subscriber::open(&fixture, first).await.err().expect("refused");
        assert_eq!((status.code(), status.message()), (code, message));
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_sidecar() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut subscriber = Subscriber::open(&fixture, initial("ps", "u")).await.unwrap();
    subscriber.next().await.unwrap();
    fixture.subscriptions.shutdown(std::time::Duration::from_secs(1)).await;
    let status = subscriber.next().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "stream closed"));
    fixture.cancel.cancel();
    fixture.server.await.unwrap();
}

#[tokio::test]
async fn the_token_is_required_when_there_is_one() {
    let fixture = fixture(Some("secret"), ApiRules::default()).await;
    let mut client = fixture.client();
    let status = client.get_metadata(pb::GetMetadataRequest {}).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "Unauthorized"));
    assert_eq!(info(&status).metadata["http.error_message"], "missing api token in request metadata");
    for (token, answers) in [("wrong", false), ("secret", true)] {
        let mut request = tonic::Request::new(pb::GetMetadataRequest {});
        request.metadata_mut().insert("dapr-api-token", token.parse().unwrap());
        assert_eq!(client.get_metadata(request).await.is_ok(), answers, "{token}");
    }
}

#[tokio::test]
async fn what_is_denied_or_not_built_is_unimplemented() {
    let denied = ApiRule { name: "metadata".into(), version: "v1".into(), protocol: "grpc".into() };
    let fixture = fixture(None, ApiRules::new(&[], &[denied])).await;
    let mut client = fixture.client();
    let status = client.get_metadata(pb::GetMetadataRequest {}).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "Not Implemented"));
    assert_eq!(info(&status).metadata["http.error_message"], "requested endpoint is not available");

    let status = client.invoke_binding(pb::InvokeBindingRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "dapr.proto.runtime.v1.Dapr/InvokeBinding is not implemented")
    );
    let status = TaskHubSidecarServiceClient::new(fixture.channel.clone()).hello(()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "TaskHubSidecarService/Hello is not implemented")
    );
}

#[tokio::test]
async fn a_foreign_service_needs_an_app_id() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut foreign = AppCallbackClient::new(fixture.channel.clone());
    let status = foreign.list_topic_subscriptions(()).await.unwrap_err();
    let text = "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found";
    assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    for (app, code, text) in
        [("other", Code::Unknown, "no app other"), ("app", Code::Unavailable, "--app-protocol grpc")]
    {
        let mut request = tonic::Request::new(());
        request.metadata_mut().insert("dapr-app-id", app.parse().unwrap());
        let status = foreign.list_topic_subscriptions(request).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(status.message().contains(text), "{status}");
    }
}

/// An app that tells the metadata it is called with.
struct Callbacks;

#[tonic::async_trait]
impl AppCallback for Callbacks {
    async fn on_invoke(
        &self,
        request: tonic::Request<InvokeRequest>,
    ) -> Result<tonic::Response<pillion_proto::common::v1::InvokeResponse>, Status> {
        let names: Vec<_> = request.metadata().as_ref().keys().map(|name| name.as_str()).collect();
        let data = Some(Any { type_url: String::new(), value: names.join(" ").into() });
        Ok(tonic::Response::new(pillion_proto::common::v1::InvokeResponse { data, ..Default::default() }))
    }
}

#[tokio::test]
async fn a_foreign_service_is_the_apps_and_the_token_stays_here() {
    let fixture = fixture(Some("secret"), ApiRules::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(AppCallbackServer::new(Callbacks));
    tokio::spawn(server.serve_with_incoming(incoming));
    let app = GrpcChannel::new("127.0.0.1", port, 0, None, 1 << 20, AppHealth::new(true)).unwrap();
    fixture.front.invoker.set_app_channel(Some(AppChannel::Grpc(Arc::new(app))));
    let mut foreign = AppCallbackClient::new(fixture.channel.clone());
    let call = |token: &'static str| {
        let mut request = tonic::Request::new(InvokeRequest::default());
        request.metadata_mut().insert("dapr-app-id", "app".parse().unwrap());
        request.metadata_mut().insert("dapr-api-token", token.parse().unwrap());
        request.metadata_mut().insert("x-mine", "1".parse().unwrap());
        request
    };
    assert_eq!(foreign.on_invoke(call("wrong")).await.unwrap_err().code(), Code::Unauthenticated);
    let seen = foreign.on_invoke(call("secret")).await.unwrap().into_inner().data.unwrap().value;
    let seen = String::from_utf8(seen.to_vec()).unwrap();
    assert!(seen.contains("x-mine") && !seen.contains("dapr-"), "{seen}");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let mut client = fixture(None, ApiRules::default()).await.client();
    let big = StateItem { key: "k".into(), value: Bytes::from(vec![0; (1 << 20) + 1]), ..Default::default() };
    let status =
        client.save_state(pb::SaveStateRequest { store_name: "store".into(), states: vec![big] }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("grpc: received message larger than max ("), "{status}");
}

#[tokio::test]
async fn a_compressed_message_is_read() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut client = fixture.client().send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let item = StateItem { key: "k".into(), value: Bytes::from(vec![b'7'; 1000]), ..Default::default() };
    client.save_state(pb::SaveStateRequest { store_name: "store".into(), states: vec![item] }).await.unwrap();
    // What is small on the wire only is over the limit all the same.
    let bomb = StateItem { key: "k".into(), value: Bytes::from(vec![b'7'; 3 << 20]), ..Default::default() };
    let status =
        client.save_state(pb::SaveStateRequest { store_name: "store".into(), states: vec![bomb] }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn methods_that_do_not_exist_are_named() {
    let fixture = fixture(None, ApiRules::default()).await;
    for (path, text) in [
        ("/dapr.proto.runtime.v1.Dapr/Nothing", "unknown method Nothing for service dapr.proto.runtime.v1.Dapr"),
        ("/TaskHubSidecarService/Nothing", "unknown method Nothing for service TaskHubSidecarService"),
        ("/abc", "malformed method name: \"/abc\""),
    ] {
        let mut client = tonic::client::Grpc::new(fixture.channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::GetMetadataRequest, pb::GetMetadataResponse>::default();
        let request = tonic::Request::new(pb::GetMetadataRequest {});
        let status = client.unary(request, http::uri::PathAndQuery::from_static(path), codec).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
        assert!(!status.metadata().contains_key("date"), "{status:?}");
    }
}

#[tokio::test]
async fn heads_up_to_the_read_buffer_in_kib_are_taken() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut request = tonic::Request::new(pb::GetMetadataRequest {});
    request.metadata_mut().insert("x-long", "a".repeat(1 << 20).parse().unwrap());
    fixture.client().get_metadata(request).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_served_too() {
    let fixture = fixture(None, ApiRules::default()).await;
    let path = std::env::temp_dir().join(format!("pillion-api-{}-grpc.socket", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(fixture.front.clone().serve_unix(listener, fixture.cancel.clone()));
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut stream = Some(TokioIo::new(stream));
    let connector = move |_: http::Uri| {
        std::future::ready(stream.take().ok_or_else(|| std::io::Error::other("one connection only")))
    };
    let channel = Endpoint::from_static("http://socket").connect_with_connector(ServiceFn(connector)).await.unwrap();
    assert_eq!(DaprClient::new(channel).get_metadata(pb::GetMetadataRequest {}).await.unwrap().into_inner().id, "app");
    fixture.cancel.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn stopping_closes_the_listener_and_ends_connections() {
    let fixture = fixture(None, ApiRules::default()).await;
    fixture.client().get_metadata(pb::GetMetadataRequest {}).await.unwrap();
    fixture.cancel.cancel();
    fixture.server.await.unwrap();
    assert!(tokio::net::TcpStream::connect(fixture.address).await.is_err());
}

/// A connector made of a function.
struct ServiceFn<F>(F);

impl<F, O> tower_service::Service<http::Uri> for ServiceFn<F>
where
    F: FnMut(http::Uri) -> O,
    O: Future<Output = std::io::Result<TokioIo<tokio::net::UnixStream>>>,
{
    type Response = TokioIo<tokio::net::UnixStream>;
    type Error = std::io::Error;
    type Future = O;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> O {
        (self.0)(uri)
    }
}
