//! Callers without the token, calls the Configuration does not allow, and calls nobody knows.

use http::Method;
use http::uri::PathAndQuery;
use pillion_proto::runtime::v1 as pb;
use pillion_testkit::{Binary, ResourceDir, Sidecar, SidecarOptions};
use serde_json::json;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::grpc::client;
use super::{Differences, shown_reply, shown_status};
use crate::fixture::unique;

#[tokio::test]
async fn without_the_token() {
    let options = SidecarOptions::new(&unique("errors")).environment("DAPR_API_TOKEN", "right");
    let sidecar = options.start().await.unwrap();
    let mut differences = Differences::default();
    for headers in [&[][..], &[("dapr-api-token", "wrong")][..]] {
        let reply = sidecar.send(Method::GET, "/v1.0/metadata", headers, "").await.unwrap();
        let expected = json!([401, "text/plain; charset=utf-8", "invalid api token\n"]);
        differences.compare("", "http", &expected, &shown_reply(&reply));
    }
    let mut client = client(&sidecar).await;
    let refused = |why: &str| {
        let metadata = json!({"http.code": "401", "http.error_message": why});
        json!(["Unauthenticated", "Unauthorized", [{"ErrorInfo": "Unauthorized", "domain": "dapr.io", "metadata": metadata}]])
    };
    let status = client.get_metadata(pb::GetMetadataRequest {}).await.unwrap_err();
    differences.compare("", "grpc", &refused("missing api token in request metadata"), &shown_status(&status));
    let mut request = Request::new(pb::GetMetadataRequest {});
    request.metadata_mut().insert("dapr-api-token", "wrong".parse().unwrap());
    let status = client.get_metadata(request).await.unwrap_err();
    let expected = refused("authentication error: api token mismatch");
    differences.compare("", "grpc, wrong", &expected, &shown_status(&status));
    differences.none();
}

#[tokio::test]
async fn what_the_configuration_does_not_allow() {
    let configuration = "
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: rules}
spec:
  api:
    denied:
    - {name: metadata, version: v1, protocol: http}
    - {name: metadata, version: v1, protocol: grpc}
";
    let dir = ResourceDir::new().unwrap().with("config.yaml", configuration).unwrap();
    let options = SidecarOptions::new(&unique("errors")).configuration(&dir.path().join("config.yaml"));
    let sidecar = options.start().await.unwrap();
    let mut differences = Differences::default();
    let reply = sidecar.get("/v1.0/metadata").await.unwrap();
    let message = "failed getting app id either from the URL path or the header dapr-app-id";
    let expected = json!([404, "application/json", {"errorCode": "ERR_DIRECT_INVOKE", "message": message}]);
    differences.compare("", "http", &expected, &shown_reply(&reply));
    let status = client(&sidecar).await.get_metadata(pb::GetMetadataRequest {}).await.unwrap_err();
    let metadata = json!({"http.code": "501", "http.error_message": "requested endpoint is not available"});
    let details = json!([{"ErrorInfo": "Not Implemented", "domain": "dapr.io", "metadata": metadata}]);
    differences.compare("", "grpc", &json!(["Unimplemented", "Not Implemented", details]), &shown_status(&status));
    differences.none();
}

/// Calls a method that no generated client has.
async fn call(sidecar: &Sidecar, path: &'static str) -> Status {
    let channel = Endpoint::try_from(format!("http://127.0.0.1:{}", sidecar.grpc)).unwrap().connect().await.unwrap();
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let answer: Result<tonic::Response<()>, Status> =
        grpc.unary(Request::new(()), PathAndQuery::from_static(path), ProstCodec::default()).await;
    answer.unwrap_err()
}

#[tokio::test]
async fn methods_that_nobody_has() {
    let sidecar = SidecarOptions::new(&unique("errors")).start().await.unwrap();
    let mut differences = Differences::default();
    // With tracing on, the original words the same refusal in another way ("cannot proxy request: …").
    let status = call(&sidecar, "/some.Service/Method").await;
    differences.compare("", "foreign", &json!(["Unknown", "…", []]), &shown_status(&status));
    if Binary::find().unwrap().is_ours() {
        // The original takes these for calls of an app and misses its id.
        for path in ["/dapr.proto.runtime.v1.Dapr/NoSuchMethod", "/TaskHubSidecarService/NoSuchMethod"] {
            let status = call(&sidecar, path).await;
            differences.compare("", path, &json!(["Unimplemented", "…", []]), &shown_status(&status));
        }
    }
    differences.none();
}
