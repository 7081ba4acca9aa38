//! A call on the connection to another sidecar.

use http::{Request, Response};
use pillion_runtime::http2::stream;
use tonic::Status;
use tonic::body::Body;

use crate::peer::Lease;

/// Why a call has no answer.
pub(super) struct Broken {
    pub(super) status: Status,
    /// Whether the connection itself is of no use any more.
    pub(super) connection: bool,
}

impl From<pillion_http2::Error> for Broken {
    fn from(error: pillion_http2::Error) -> Self {
        Self { status: stream::status_of(&error), connection: !error.is_reset() }
    }
}

/// Sends a request and waits for the head of the answer. The request's body goes on in the background until it has ended
/// or the answer is dropped.
pub(super) async fn send(lease: Lease, mut request: Request<Body>) -> Result<Response<Body>, Broken> {
    *request.uri_mut() = lease.address_of(request.uri().path_and_query());
    let Lease { mut sender, guard } = lease;
    Ok(stream::send(&mut sender, request, guard).await?)
}
