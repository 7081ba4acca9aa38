//! A server that implements nothing answers every call of the public API with `UNIMPLEMENTED` and the call's name.

use bytes::Bytes;
use http_body_util::Full;
use pillion_proto::runtime::v1::dapr_server::{Dapr, DaprServer};
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

struct Nothing;

impl Dapr for Nothing {}

/// The paths of the service `Dapr` in both protocol tables.
fn paths() -> Vec<String> {
    let tables = [include_str!("data/proto.tsv"), include_str!("data/proto_1.19.tsv")];
    let lines = tables.iter().flat_map(|table| table.lines());
    let names = lines.filter_map(|line| {
        let (_, rest) = line.split_once("rpc\tdapr/proto/runtime/v1/dapr.proto\tdapr.proto.runtime.v1\tDapr\t")?;
        rest.split('\t').next()
    });
    names.map(|name| format!("dapr.proto.runtime.v1.Dapr/{name}")).collect()
}

#[tokio::test]
async fn every_call_is_named() {
    let mut server = DaprServer::new(Nothing);
    let paths = paths();
    assert_eq!(paths.len(), 72 + 22);
    for path in paths {
        let empty_message = Bytes::from_static(&[0; 5]);
        let request = http::Request::post(format!("/{path}"))
            .header("content-type", "application/grpc")
            .body(Body::new(Full::new(empty_message)))
            .expect("a valid request");
        let response = server.call(request).await.expect("infallible");
        let status = Status::from_header_map(response.headers()).expect("an answer without messages has its status");
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert_eq!(status.message(), format!("{path} is not implemented"));
    }
}
