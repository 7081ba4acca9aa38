//! What holds for every call: token, rules, limits, compression, names of methods, sockets, the end.

use super::*;

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
async fn what_is_denied_is_unimplemented_and_what_is_not_built_not_configured() {
    let denied = ApiRule { name: "metadata".into(), version: "v1".into(), protocol: "grpc".into() };
    let fixture = fixture(None, ApiRules::new(&[], &[denied])).await;
    let mut client = fixture.client();
    let status = client.get_metadata(pb::GetMetadataRequest {}).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "Not Implemented"));
    assert_eq!(info(&status).metadata["http.error_message"], "requested endpoint is not available");

    let status = client.get_configuration(pb::GetConfigurationRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "configuration stores not configured"));
    TaskHubSidecarServiceClient::new(fixture.channel.clone()).hello(()).await.unwrap();
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
