//! From the sidecar to its own app, on the connection of the app channel.

use http::Response;
use pillion_runtime::app_channel::AppChannel;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::metadata::MetadataMap;

use super::{Call, status};

/// Passes a call to the app. Without a gRPC app there is nothing to connect to, which is `Unavailable`.
pub(super) async fn call(channel: Option<&AppChannel>, mut call: Call, body: Body) -> Result<Response<Body>, Status> {
    let missing = |what: &str| {
        Status::unavailable(format!("cannot proxy request: {what}; expected --app-port and --app-protocol grpc"))
    };
    let grpc = match channel {
        Some(AppChannel::Grpc(grpc)) => grpc,
        Some(AppChannel::Http(_)) => return Err(missing("the app of this sidecar is called over HTTP")),
        None => return Err(missing("this sidecar has no app")),
    };
    let mut request = call.only_request(body);
    let mut metadata = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
    grpc.add_token(&mut metadata);
    *request.headers_mut() = metadata.into_headers();
    let mut connection = grpc.connection();
    let answer = async {
        std::future::poll_fn(|cx| GrpcService::<Body>::poll_ready(&mut connection, cx)).await?;
        GrpcService::call(&mut connection, request).await
    };
    match answer.await {
        Ok(response) => Ok(call.relay(status::checked(response), call.deadline)),
        Err(error) => Err(call.refusal.get().unwrap_or_else(|| status::from_error(&error))),
    }
}
