//! Calls of apps, in both protocols of the app; secrets, metadata and shutdown.

use super::*;

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
