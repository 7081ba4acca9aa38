//! Calls that another sidecar passes on: they are for the app of this one.

use http::{Request, Response};
use pillion_http2::RecvStream;
use pillion_http2::server::SendResponse;
use pillion_runtime::app_channel::AppChannel;
use pillion_runtime::http2::stream::{self, StreamBody};
use pillion_runtime::message::{DAPR_API_TOKEN, DAPR_APP_ID};
use tonic::Status;
use tonic::body::Body;

use super::deadline::Deadline;
use super::relay::{Refusal, RequestBody};
use super::{Call, Gate, app, target};
use crate::access::correct_caller;

/// Passes a call of another sidecar to the app and its answer back, until either side gives up.
pub(crate) async fn serve(
    channel: Option<AppChannel>,
    limit: usize,
    gate: Gate<'_>,
    request: Request<RecvStream>,
    respond: SendResponse,
) {
    stream::answer(answer(channel, limit, gate, request), respond).await;
}

async fn answer(
    channel: Option<AppChannel>,
    limit: usize,
    gate: Gate<'_>,
    request: Request<RecvStream>,
) -> Response<Body> {
    let (parts, receive) = request.into_parts();
    let deadline = Deadline::of(&parts.headers);
    let work = async {
        target(&parts.headers)?;
        gate.pass(&parts.uri)?;
        let refusal = Refusal::default();
        let mut call = Call { uri: parts.uri, headers: parts.headers, deadline, refusal, limit };
        call.headers.remove(DAPR_APP_ID);
        call.headers.remove(DAPR_API_TOKEN);
        correct_caller(&mut call.headers, gate.peer);
        let body = RequestBody::wrap(StreamBody::wrap(receive, ()), limit, call.refusal.clone());
        app::call(channel.as_ref(), call, body).await
    };
    deadline.limit(work).await.unwrap_or_else(Status::into_http)
}
