//! A sidecar in Kubernetes mode, with a small operator of ours and identities of our sentry. Ours only: the role sentry of the
//! binary is needed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use pillion_proto::operator::v1 as wire;
use pillion_proto::operator::v1::operator_server::{Operator, OperatorServer};
use pillion_security::tls::{Peer, mutual_server};
use pillion_testkit::{Sidecar, SidecarOptions, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::fixture::unique;
use crate::sentry::Sentry;

const LIMIT: Duration = Duration::from_secs(30);

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// What the fake operator gives.
#[derive(Default)]
struct Given {
    components: Vec<Value>,
    configuration: Option<Value>,
    component_streams: Vec<Sender<wire::ComponentUpdateEvent>>,
    configuration_streams: Vec<Sender<wire::ConfigurationUpdateEvent>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Given>>);

/// Only some calls: the others are not implemented, as in an operator of an older version.
#[tonic::async_trait]
impl Operator for Fake {
    async fn list_components(
        &self,
        request: Request<wire::ListComponentsRequest>,
    ) -> Result<Response<wire::ListComponentResponse>, Status> {
        assert_eq!(request.into_inner().namespace, "default");
        let components = self.0.lock().unwrap().components.iter().map(|object| object.to_string().into()).collect();
        Ok(Response::new(wire::ListComponentResponse { components }))
    }

    async fn component_update(
        &self,
        _: Request<wire::ComponentUpdateRequest>,
    ) -> Result<Response<BoxStream<wire::ComponentUpdateEvent>>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        self.0.lock().unwrap().component_streams.push(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_configuration(
        &self,
        request: Request<wire::GetConfigurationRequest>,
    ) -> Result<Response<wire::GetConfigurationResponse>, Status> {
        let name = request.into_inner().name;
        let given = self.0.lock().unwrap();
        let found = given.configuration.as_ref().filter(|object| object["metadata"]["name"] == name.as_str());
        let configuration = found.map(|object| object.to_string().into()).unwrap_or_default();
        Ok(Response::new(wire::GetConfigurationResponse { configuration }))
    }

    async fn configuration_update(
        &self,
        _: Request<wire::ConfigurationUpdateRequest>,
    ) -> Result<Response<BoxStream<wire::ConfigurationUpdateEvent>>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        self.0.lock().unwrap().configuration_streams.push(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Fake {
    /// Serves on `listener` as `name`; ends with every connection when the task is aborted.
    async fn serve(&self, listener: TcpListener, sentry: &Sentry, name: &str) -> JoinHandle<()> {
        let (identity, anchors) = sentry.service_identity(name).await;
        let mut tls = mutual_server(identity, anchors, Peer::Any).unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (acceptor, fake) = (TlsAcceptor::from(Arc::new(tls)), self.clone());
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let service = TowerToHyperService::new(OperatorServer::new(fake.clone()));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move { drop(server.serve_connection(TokioIo::new(stream), service).await) });
            }
        })
    }

    fn set(&self, components: &[Value]) {
        self.0.lock().unwrap().components = components.to_vec();
    }

    async fn tell(&self, object: &Value, event: wire::ResourceEventType) {
        let streams = self.0.lock().unwrap().component_streams.clone();
        for stream in streams {
            let event = wire::ComponentUpdateEvent { component: object.to_string().into(), r#type: i32::from(event) };
            drop(stream.send(Ok(event)).await); // that of a connection that was left
        }
    }

    async fn tell_configuration(&self, object: &Value) {
        let streams = self.0.lock().unwrap().configuration_streams.clone();
        for stream in streams {
            let event = wire::ConfigurationUpdateEvent { configuration: object.to_string().into(), r#type: 2 };
            drop(stream.send(Ok(event)).await);
        }
    }
}

/// As Go writes it.
fn component(name: &str, component_type: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": null},
        "spec": {"type": component_type, "version": "v1", "ignoreErrors": false, "metadata": [], "initTimeout": ""},
        "auth": {"secretStore": ""},
    })
}

fn configuration(name: &str, deny: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": null},
        "spec": {
            "nameResolution": {"component": "local", "version": "", "configuration": null},
            "components": {"deny": [deny]},
        },
    })
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn in_kubernetes(sentry: &Sentry, operator: u16) -> SidecarOptions {
    SidecarOptions::new(&unique("pod"))
        .flag("--mode=kubernetes")
        .flag(&format!("--control-plane-address=127.0.0.1:{operator}"))
        .flag("--disable-builtin-k8s-secret-store")
        .flag("--enable-mtls")
        .flag(&format!("--sentry-address=127.0.0.1:{}", sentry.port))
        .environment("DAPR_TRUST_ANCHORS_FILE", sentry.roots().to_str().unwrap())
}

async fn components(sidecar: &Sidecar) -> Vec<String> {
    let Ok(reply) = sidecar.get("/v1.0/metadata").await else { return vec!["no answer".to_owned()] };
    let metadata: Value = serde_json::from_str(&reply.text()).unwrap_or_default();
    let listed = metadata["components"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = listed.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

async fn until(sidecar: &Sidecar, expected: &[&str]) {
    eventually(&format!("components {expected:?}"), LIMIT, || async {
        (components(sidecar).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn resources_come_from_the_operator_and_follow_it() {
    let sentry = Sentry::start(tempfile::tempdir().unwrap(), &[]).await;
    let (fake, (listener, port)) = (Fake::default(), listener().await);
    let (one, two) = (component("one", "state.in-memory"), component("two", "pubsub.in-memory"));
    fake.set(std::slice::from_ref(&one));
    fake.0.lock().unwrap().configuration = Some(configuration("mine", "bindings.none"));
    let server = fake.serve(listener, &sentry, "dapr-operator").await;
    let sidecar = in_kubernetes(&sentry, port).flag("--config=mine").start().await.unwrap();
    until(&sidecar, &["one"]).await;
    assert!(sidecar.log().contains("kubernetes mode configured"));
    let saved = sidecar.post("/v1.0/state/one", r#"[{"key": "a", "value": 1}]"#).await.unwrap();
    assert_eq!(saved.status, 204);

    // A stream tells.
    fake.set(&[one.clone(), two.clone()]);
    fake.tell(&two, wire::ResourceEventType::Created).await;
    until(&sidecar, &["one", "two"]).await;
    fake.set(std::slice::from_ref(&two));
    fake.tell(&one, wire::ResourceEventType::Deleted).await;
    until(&sidecar, &["two"]).await;

    // Nobody tells, as the operator was away.
    server.abort();
    drop(server.await);
    fake.set(std::slice::from_ref(&one));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let server = fake.serve(listener, &sentry, "dapr-operator").await;
    until(&sidecar, &["one"]).await;

    // The Configuration of another app is nothing to this one; its own restarts it.
    fake.tell_configuration(&configuration("other", "state.in-memory")).await;
    let changed = configuration("mine", "state.in-memory");
    fake.0.lock().unwrap().configuration = Some(changed.clone());
    fake.tell_configuration(&changed).await;
    until(&sidecar, &[]).await;
    assert_eq!(sidecar.log().matches("Received Configuration UPDATED event: mine").count(), 1);
    server.abort();
}

#[tokio::test]
async fn without_mutual_tls_the_operator_is_still_asked_over_it() {
    let sentry = Sentry::start(tempfile::tempdir().unwrap(), &[]).await;
    let (fake, (listener, port)) = (Fake::default(), listener().await);
    fake.set(&[component("one", "state.in-memory")]);
    let server = fake.serve(listener, &sentry, "dapr-operator").await;
    let sidecar = in_kubernetes(&sentry, port).flag("--enable-mtls=false").start().await.unwrap();
    until(&sidecar, &["one"]).await;
    assert!(sidecar.log().contains("mTLS is disabled"));
    server.abort();
}

#[tokio::test]
async fn somebody_else_is_no_operator() {
    let sentry = Sentry::start(tempfile::tempdir().unwrap(), &[]).await;
    let (fake, (listener, port)) = (Fake::default(), listener().await);
    let server = fake.serve(listener, &sentry, "dapr-placement").await;
    let sidecar = in_kubernetes(&sentry, port).spawn().unwrap();
    eventually("it is told", LIMIT, || async {
        let log = sidecar.log();
        (log.contains("Waiting for the operator") && log.contains("dapr-placement")).then_some(())
    })
    .await;
    server.abort();
}

#[tokio::test]
async fn a_configuration_that_is_not_there_ends_the_start() {
    let sentry = Sentry::start(tempfile::tempdir().unwrap(), &[]).await;
    let (fake, (listener, port)) = (Fake::default(), listener().await);
    let server = fake.serve(listener, &sentry, "dapr-operator").await;
    let sidecar = in_kubernetes(&sentry, port).flag("--config=none").spawn().unwrap();
    eventually("it is told", LIMIT, || async {
        sidecar.log().contains("error loading configuration: configuration none not found").then_some(())
    })
    .await;
    server.abort();
}
