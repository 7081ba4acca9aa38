//! Calls that another sidecar passes on: they are for the app of this one.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use http_body::Body as _;
use pillion_runtime::app_channel::AppChannel;
use pillion_runtime::message::{DAPR_API_TOKEN, DAPR_APP_ID};
use tonic::Status;
use tonic::body::Body;

use super::deadline::Deadline;
use super::relay::{Refusal, RequestBody};
use super::transport::{StreamBody, send_frames};
use super::{Call, Gate, app, target};
use crate::access::correct_caller;

/// Passes a call of another sidecar to the app and its answer back, until either side gives up.
pub(crate) async fn serve(
    channel: Option<AppChannel>,
    limit: usize,
    gate: Gate<'_>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = tokio::select! {
        response = answer(channel, limit, gate, request) => response,
        _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let (parts, body) = response.into_parts();
    let ended = body.is_end_stream();
    // Where sending fails the calling sidecar is gone, and there is nobody to tell.
    let Ok(mut stream) = respond.send_response(Response::from_parts(parts, ()), ended) else { return };
    if !ended && send_frames(&mut stream, body).await.is_err() {
        stream.send_reset(Reason::CANCEL);
    }
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
        let body = RequestBody::wrap(StreamBody::wrap(receive, None), limit, call.refusal.clone());
        app::call(channel.as_ref(), call, body).await
    };
    deadline.limit(work).await.unwrap_or_else(Status::into_http)
}
