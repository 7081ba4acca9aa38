//! The user's middleware around the HTTP API (`spec.httpPipeline`).

use std::convert::Infallible;
use std::net::SocketAddr;

use http::Request;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pillion_contract::RemoteAddress;
use pillion_runtime::body::{Body, BodyError, CollectError};

use super::front::{Incall, Shared};
use super::respond::HttpResponse;

impl Shared {
    /// Sends a call through the middleware. A path it changes is routed anew; the original routes it as a service invocation only.
    pub(super) async fn through_pipeline(&self, call: Incall) -> HttpResponse {
        let peer: Option<SocketAddr> = call.peer;
        let mut request = Request::new(limited(call.body, self.options.max_body_bytes));
        *request.method_mut() = call.verb;
        *request.uri_mut() = call.uri;
        *request.headers_mut() = call.headers;
        if let Some(peer) = peer {
            request.extensions_mut().insert(RemoteAddress(peer));
        }
        let end = |request: Request<_>| async move {
            let (parts, body) = request.into_parts();
            let call = Incall { verb: parts.method, uri: parts.uri, headers: parts.headers, body, peer };
            Ok::<_, Infallible>(self.inside(call).await)
        };
        match pillion_runtime::pipeline::through(&self.options.pipeline, request, end).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// A body that fails beyond `limit`, so that middleware may read it without a limit of its own.
fn limited(body: Body, limit: usize) -> Body {
    if limit == 0 || body.is_end_stream() {
        return body;
    }
    let told = |error: BodyError| if error.is::<LengthLimitError>() { CollectError::TooLarge.into() } else { error };
    Body::boxed(Limited::new(body, limit).map_err(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_beyond_the_limit_fails() {
        assert_eq!(limited(Body::full("abc"), 3).collect(0).await.unwrap(), "abc");
        let error = limited(Body::full("abcd"), 3).collect(0).await.unwrap_err();
        assert_eq!(error.to_string(), "stream too large");
    }
}
