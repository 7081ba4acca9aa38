//! Applications that speak gRPC: more calls than one connection carries, health checks, and where the gRPC API is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pillion_proto::common::v1::{InvokeRequest, InvokeResponse};
use pillion_proto::runtime::v1::app_callback_health_check_server::{
    AppCallbackHealthCheck, AppCallbackHealthCheckServer,
};
use pillion_proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_proto::runtime::v1::{GetMetadataRequest, HealthCheckResponse, InvokeServiceRequest};
use pillion_testkit::{Sidecar, SidecarOptions, eventually};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};

use crate::fixture::unique;

const STREAMS: u32 = 100;

/// An app that answers calls of `wait` when `WAITING` of them are there, and all others at once.
struct App {
    waiting: AtomicUsize,
    all_there: watch::Sender<bool>,
    healthy: AtomicBool,
}

const WAITING: usize = 150;

#[tonic::async_trait]
impl AppCallback for App {
    async fn on_invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        if request.into_inner().method == "wait" {
            let mut all_there = self.all_there.subscribe();
            if self.waiting.fetch_add(1, Ordering::SeqCst) + 1 >= WAITING {
                self.all_there.send_replace(true);
            }
            let _ = all_there.wait_for(|there| *there).await; // cannot fail: the sender is ours
        }
        Ok(Response::new(InvokeResponse::default()))
    }
}

#[tonic::async_trait]
impl AppCallbackHealthCheck for App {
    async fn health_check(&self, _: Request<()>) -> Result<Response<HealthCheckResponse>, Status> {
        if self.healthy.load(Ordering::SeqCst) {
            Ok(Response::new(HealthCheckResponse {}))
        } else {
            Err(Status::unavailable("resting"))
        }
    }
}

async fn app() -> (u16, Arc<App>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = Arc::new(App {
        waiting: AtomicUsize::new(0),
        all_there: watch::channel(false).0,
        healthy: AtomicBool::new(true),
    });
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .add_service(AppCallbackServer::from_arc(app.clone()))
        .add_service(AppCallbackHealthCheckServer::from_arc(app.clone()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (port, app)
}

async fn client(sidecar: &Sidecar) -> DaprClient<Channel> {
    DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap()
}

fn call(id: &str, method: &str) -> InvokeServiceRequest {
    let message = InvokeRequest { method: method.to_owned(), ..InvokeRequest::default() };
    InvokeServiceRequest { id: id.to_owned(), message: Some(message) }
}

#[tokio::test]
async fn more_calls_at_a_time_than_a_connection_carries() {
    let (port, _app) = app().await;
    let id = unique("grpc-pool");
    let sidecar = SidecarOptions::new(&id).app_port(port).app_protocol("grpc").start().await.unwrap();
    let client = client(&sidecar).await;
    let calls: Vec<_> = (0..WAITING)
        .map(|_| {
            let (mut client, call) = (client.clone(), call(&id, "wait"));
            tokio::spawn(async move { client.invoke_service(call).await })
        })
        .collect();
    for call in calls {
        tokio::time::timeout(Duration::from_secs(20), call).await.expect("all at a time").unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_unhealthy_application_gets_no_calls_until_it_is_well() {
    let (port, app) = app().await;
    let id = unique("grpc-health");
    let options = SidecarOptions::new(&id).app_port(port).app_protocol("grpc").flag("--enable-app-health-check=true");
    let options = options.flag("--app-health-probe-interval=1").flag("--app-health-threshold=1");
    let sidecar = options.start().await.unwrap();
    let client = client(&sidecar).await;
    for healthy in [true, false, true] {
        app.healthy.store(healthy, Ordering::SeqCst);
        let what = format!("calls with a healthy={healthy} application");
        eventually(&what, Duration::from_secs(15), || async {
            match client.clone().invoke_service(call(&id, "x")).await {
                Ok(_) => healthy.then_some(()),
                Err(status) => {
                    let gate = status.code() == Code::Internal && status.message().contains("not in a healthy state");
                    (!healthy && gate).then_some(())
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_call_of_something_unknown_is_refused_at_once() {
    let sidecar = SidecarOptions::new(&unique("grpc-unknown")).start().await.unwrap();
    let channel = Channel::from_shared(format!("http://127.0.0.1:{}", sidecar.grpc)).unwrap().connect().await.unwrap();
    for (path, code) in [
        ("/grpc.health.v1.Health/Check", Code::Unknown),
        ("/no.Such/Thing", Code::Unknown),
        ("/abc", Code::Unimplemented),
    ] {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<GetMetadataRequest, GetMetadataRequest>::default();
        let path_of_call = http::uri::PathAndQuery::from_static(path);
        let answer = client.unary(Request::new(GetMetadataRequest {}), path_of_call, codec);
        let status = tokio::time::timeout(Duration::from_secs(2), answer).await.expect("at once").unwrap_err();
        assert_eq!(status.code(), code, "{path}: {status}");
    }
}
