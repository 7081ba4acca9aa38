//! Any gRPC service of an application, called through its sidecars.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pillion_proto::components::v1::input_binding_client::InputBindingClient;
use pillion_proto::components::v1::input_binding_server::{InputBinding, InputBindingServer};
use pillion_proto::components::v1::{
    InputBindingInitRequest, InputBindingInitResponse, PingRequest, PingResponse, ReadRequest, ReadResponse,
};
use pillion_testkit::{Binary, ResourceDir, Sidecar, SidecarOptions, eventually};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::StreamExt as _;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};

use crate::fixture::unique;

/// A service that has nothing to do with the sidecar's own: here that of a component.
#[derive(Default)]
pub(crate) struct App {
    pings: AtomicU32,
}

#[tonic::async_trait]
impl InputBinding for App {
    async fn init(&self, _: Request<InputBindingInitRequest>) -> Result<Response<InputBindingInitResponse>, Status> {
        let details = b"\x08\x09 any bytes".to_vec().into();
        Err(Status::with_details(Code::FailedPrecondition, "not today", details))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        if self.pings.fetch_add(1, Ordering::Relaxed) < 2 && request.metadata().contains_key("x-fail-twice") {
            return Err(Status::unavailable("once more"));
        }
        let mut response = Response::new(PingResponse::default());
        for name in ["x-mine", "dapr-app-id", "dapr-caller-app-id", "dapr-callee-app-id"] {
            if let Some(value) = request.metadata().get(name) {
                let seen: AsciiMetadataKey = format!("seen-{name}").parse().unwrap();
                response.metadata_mut().insert(seen, value.clone());
            }
        }
        Ok(response)
    }

    async fn read(
        &self,
        request: Request<tonic::Streaming<ReadRequest>>,
    ) -> Result<Response<BoxStream<ReadResponse>>, Status> {
        let echo = request.into_inner().map(|message| {
            let data = message?.response_data;
            Ok(ReadResponse { data, ..ReadResponse::default() })
        });
        Ok(Response::new(Box::pin(echo)))
    }
}

pub(crate) async fn app() -> (u16, Arc<App>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = Arc::new(App::default());
    let service = InputBindingServer::from_arc(Arc::clone(&app));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (port, app)
}

pub(crate) async fn client(sidecar: &Sidecar) -> InputBindingClient<Channel> {
    InputBindingClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap()
}

pub(crate) fn to<T>(app_id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("dapr-app-id", app_id.parse().unwrap());
    request
}

fn text<'a>(metadata: &'a MetadataMap, name: &str) -> Option<&'a str> {
    metadata.get(name).and_then(|value| value.to_str().ok())
}

async fn callee(id: &str, port: u16) -> Sidecar {
    let options = SidecarOptions::new(id).app_port(port).app_protocol("grpc");
    options.start().await.unwrap()
}

#[tokio::test]
async fn a_call_goes_through_two_sidecars_and_back() {
    let (port, _app) = app().await;
    let (calling, called) = (unique("caller"), unique("callee"));
    let callee = callee(&called, port).await;
    let caller = SidecarOptions::new(&calling).start().await.unwrap();

    let mut request = to(&called, PingRequest::default());
    request.metadata_mut().insert("x-mine", "yes".parse().unwrap());
    let response = client(&caller).await.ping(request).await.unwrap();
    let seen = response.metadata();
    assert_eq!(text(seen, "seen-x-mine"), Some("yes"));
    assert_eq!(text(seen, "seen-dapr-app-id"), None);
    assert_eq!(text(seen, "seen-dapr-caller-app-id"), Some(calling.as_str()));
    assert_eq!(text(seen, "seen-dapr-callee-app-id"), Some(called.as_str()));

    let mut own = client(&callee).await;
    own.ping(to(&called, PingRequest::default())).await.unwrap();
    let status = client(&caller).await.init(to(&called, InputBindingInitRequest::default())).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message(), status.details()),
        (Code::FailedPrecondition, "not today", &b"\x08\x09 any bytes"[..])
    );
}

#[tokio::test]
async fn a_call_that_goes_nowhere_says_why() {
    let caller = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let mut client = client(&caller).await;
    let status = client.ping(Request::new(PingRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    // The beginning of the text depends on whether calls are traced.
    let (callee, app) = ("dapr-callee-app-id", "dapr-app-id");
    assert!(status.message().contains(&format!("{callee} or {app}")), "{status}");
    let nobody = unique("nobody");
    let status = client.ping(to(&nobody, PingRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status}");
    assert!(status.message().contains(&nobody), "{status}");
    let own = caller.app_id().to_owned();
    let status = client.ping(to(&own, PingRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

/// A stream to the application in which messages and answers take turns.
struct Talk {
    sender: mpsc::Sender<ReadRequest>,
    answers: tonic::Streaming<ReadResponse>,
}

fn message(data: Vec<u8>) -> ReadRequest {
    ReadRequest { response_data: data.into(), ..ReadRequest::default() }
}

impl Talk {
    /// The first message goes out at once: the original holds the head of an answer back until it has the first answer.
    async fn begin(sidecar: &Sidecar, app_id: &str) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(message(b"hello".to_vec())).await.unwrap();
        let request = to(app_id, ReceiverStream::new(receiver));
        let mut answers = client(sidecar).await.read(request).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().data, "hello");
        Self { sender, answers }
    }

    async fn turn(&mut self, data: Vec<u8>) {
        self.sender.send(message(data.clone())).await.unwrap();
        assert_eq!(self.answers.message().await.unwrap().unwrap().data, data);
    }
}

#[tokio::test]
async fn a_stream_lives_until_a_side_is_killed() {
    let (port, _app) = app().await;
    let called = unique("callee");
    let mut first = callee(&called, port).await;
    let caller = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let mut talk = Talk::begin(&caller, &called).await;
    for number in 0..20u8 {
        talk.turn(vec![number; 100_000]).await;
    }
    first.kill();
    let ended = tokio::time::timeout(Duration::from_secs(10), talk.answers.message()).await;
    let status = ended.expect("the stream ends with the sidecar").unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");

    if !Binary::find().unwrap().is_ours() {
        return; // the original looks for the old address up to a minute
    }
    let _second = callee(&called, port).await;
    eventually("the new sidecar is found", Duration::from_secs(20), || async {
        let mut client = client(&caller).await;
        client.ping(to(&called, PingRequest::default())).await.ok().map(drop)
    })
    .await;
    Talk::begin(&caller, &called).await.turn(b"again".to_vec()).await;
}

#[tokio::test]
async fn a_unary_call_is_retried() {
    let (port, app) = app().await;
    let called = unique("callee");
    let _callee = callee(&called, port).await;
    let policy = format!(
        "
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {{name: it}}
spec:
  policies:
    retries:
      some: {{policy: constant, duration: 10ms, maxRetries: 3}}
  targets:
    apps:
      {called}: {{retry: some}}
"
    );
    let dir = ResourceDir::new().unwrap().with("r.yaml", &policy).unwrap();
    let caller = SidecarOptions::new(&unique("caller")).resources(dir.path()).start().await.unwrap();
    let mut request = to(&called, PingRequest::default());
    request.metadata_mut().insert("x-fail-twice", "1".parse().unwrap());
    client(&caller).await.ping(request).await.unwrap();
    assert_eq!(app.pings.load(Ordering::Relaxed), 3);
}
