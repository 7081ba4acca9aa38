//! `middleware.http.uppercase`: turns bodies into upper case while they stream; for trying pipelines out.
//!
//! *Source:* dapr `cmd/daprd/components/middleware_http_uppercase.go`: one character becomes one character, and bytes that are no
//! UTF-8 become U+FFFD.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use pillion_contract::{
    ComponentError, HttpBody, HttpBodyError, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next,
};

struct Uppercase {
    request: bool,
    response: bool,
}

/// Makes the middleware; `direction` is `request`, `response` or `both`, anything else means `request`.
///
/// # Errors
/// None.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let direction = context.metadata.get("direction").unwrap_or_default().to_lowercase();
    let (request, response) = match direction.as_str() {
        "response" => (false, true),
        "both" => (true, true),
        _ => (true, false),
    };
    Ok(Arc::new(Uppercase { request, response }))
}

#[async_trait]
impl HttpMiddleware for Uppercase {
    async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse {
        let request = if self.request {
            let (mut parts, body) = request.into_parts();
            let body = upper(&mut parts.headers, body);
            HttpRequest::from_parts(parts, body)
        } else {
            request
        };
        let response = next.run(request).await;
        if !self.response {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let body = upper(&mut parts.headers, body);
        HttpResponse::from_parts(parts, body)
    }
}

/// The body in upper case. A few characters are longer in upper case, so that the length is no longer known.
fn upper(headers: &mut HeaderMap, body: HttpBody) -> HttpBody {
    if body.is_end_stream() {
        return body;
    }
    headers.remove(CONTENT_LENGTH);
    Upper { inner: Some(body), rest: Vec::new() }.boxed()
}

struct Upper {
    /// `None` after the end.
    inner: Option<HttpBody>,
    /// The beginning of a character whose end comes with the next chunk.
    rest: Vec<u8>,
}

impl Body for Upper {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        let this = &mut *self;
        loop {
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            let frame = match Pin::new(inner).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            };
            let Some(frame) = frame else {
                this.inner = None;
                let rest = std::mem::take(&mut this.rest);
                let frame = (!rest.is_empty()).then(|| Ok(Frame::data(Bytes::from_static("\u{fffd}".as_bytes()))));
                return Poll::Ready(frame);
            };
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    let data = convert(&mut this.rest, &data);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data.into()))));
                    }
                }
                Ok(Err(other)) => return Poll::Ready(Some(Ok(other))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Converts what is complete of `rest` and `data`; the beginning of a last character is left in `rest`.
fn convert(rest: &mut Vec<u8>, data: &[u8]) -> String {
    rest.extend_from_slice(data);
    let bytes = std::mem::take(rest);
    let mut out = String::with_capacity(bytes.len());
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        out.extend(chunk.valid().chars().map(upper_char));
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        if chunks.peek().is_none() && is_beginning(invalid) {
            rest.extend_from_slice(invalid);
        } else {
            out.push('\u{fffd}');
        }
    }
    out
}

/// Whether more bytes can make it a character.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

fn upper_char(character: char) -> char {
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        _ => character, // `ß` and its like have no single upper case character
    }
}
