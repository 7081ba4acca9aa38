//! The gRPC API, and applications that speak gRPC.

use std::time::Duration;

use http::Method;
use pillion_proto::common::v1::{InvokeRequest, StateItem};
use pillion_proto::google::protobuf::Any;
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_proto::runtime::v1::{GetStateRequest, InvokeServiceRequest, SaveStateRequest, TopicSubscription};
use pillion_testkit::{GrpcApp, ResourceDir, Sidecar, SidecarOptions, eventually};
use tonic::Code;
use tonic::transport::Channel;

use crate::fixture::{PUBSUB, STATE, unique};

async fn client(sidecar: &Sidecar) -> DaprClient<Channel> {
    DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap()
}

#[tokio::test]
async fn state_is_saved_and_read() {
    let dir = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap();
    let sidecar = SidecarOptions::new(&unique("grpc")).resources(dir.path()).start().await.unwrap();
    let mut client = client(&sidecar).await;
    let item = StateItem { key: "a".to_owned(), value: "value".into(), ..StateItem::default() };
    client.save_state(SaveStateRequest { store_name: "mystore".to_owned(), states: vec![item] }).await.unwrap();
    let get = |store: &str| GetStateRequest {
        store_name: store.to_owned(),
        key: "a".to_owned(),
        ..GetStateRequest::default()
    };
    let read = client.get_state(get("mystore")).await.unwrap().into_inner();
    assert_eq!((&read.data[..], read.etag.is_empty()), (&b"value"[..], false));
    let error = client.get_state(get("other")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "state store other is not found"));
}

#[tokio::test]
async fn an_application_of_grpc_is_called_from_both_sides() {
    let app = GrpcApp::start(Vec::new()).await.unwrap();
    let id = unique("grpc");
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).app_protocol("grpc").start().await.unwrap();
    let path = format!("/v1.0/invoke/{id}/method/echo");
    let reply = sidecar.send(Method::POST, &path, &[("content-type", "text/plain")], "over http").await.unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.text(), reply.header("content-type")),
        (200, "over http".to_owned(), "text/plain")
    );

    let mut client = client(&sidecar).await;
    let call = |method: &str| InvokeServiceRequest {
        id: id.clone(),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            data: Some(Any::from_bytes("over grpc")),
            content_type: "text/plain".to_owned(),
            ..InvokeRequest::default()
        }),
    };
    let reply = client.invoke_service(call("echo")).await.unwrap().into_inner();
    assert_eq!(&reply.data.unwrap().value[..], b"over grpc");
    let error = client.invoke_service(call("fail")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::AlreadyExists, "told to fail"));
    assert_eq!(app.methods(), ["echo", "echo", "fail"]);

    let failed = sidecar.send(Method::POST, &format!("/v1.0/invoke/{id}/method/fail"), &[], "").await.unwrap();
    assert_eq!(failed.status, 409, "{}", failed.text());
}

#[tokio::test]
async fn events_are_delivered_to_an_application_of_grpc() {
    let subscription =
        TopicSubscription { pubsub_name: "mypub".to_owned(), topic: "a".to_owned(), ..TopicSubscription::default() };
    let app = GrpcApp::start(vec![subscription]).await.unwrap();
    let dir = ResourceDir::new().unwrap().with("pubsub.yaml", PUBSUB).unwrap();
    let options = SidecarOptions::new(&unique("grpc")).app_port(app.port()).app_protocol("grpc");
    let sidecar = options.resources(dir.path()).start().await.unwrap();
    let reply = sidecar.post("/v1.0/publish/mypub/a", r#"{"n":1}"#).await.unwrap();
    assert_eq!(reply.status, 204, "{}", reply.text());
    let events = eventually("the event", Duration::from_secs(10), || async {
        Some(app.events()).filter(|events| !events.is_empty())
    })
    .await;
    let event = &events[0];
    assert_eq!((&event.data[..], event.data_content_type.as_str()), (&br#"{"n":1}"#[..], "application/json"));
    assert_eq!((event.topic.as_str(), event.pubsub_name.as_str()), ("a", "mypub"));
    assert_eq!((event.source.as_str(), event.spec_version.as_str()), (sidecar.app_id(), "1.0"));
}
