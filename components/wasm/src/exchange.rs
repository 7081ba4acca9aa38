//! One request and its response, as a guest may see and change them.
//!
//! *Neighbours:* [`crate::host`] calls the methods here for the guest; [`crate::middleware`] moves messages in and out.
//! *Invariant:* a body that the guest does not read and did not ask to have buffered streams past it.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, request};
use http_body_util::BodyExt as _;
use pillion_contract::{HttpBody, HttpRequest, HttpResponse};

use crate::body::JoinedBody;
use crate::draft::{ResponseDraft, set_length, within_buffer};

/// The most bytes of header names and values that a guest may set in one exchange.
const HEADER_LIMIT: usize = 1024 * 1024;

/// Bits of `enable_features`.
pub(crate) mod feature {
    pub(crate) const BUFFER_REQUEST: u32 = 1;
    pub(crate) const BUFFER_RESPONSE: u32 = 2;
    pub(crate) const TRAILERS: u32 = 4;
    /// What this host can do.
    pub(crate) const SUPPORTED: u32 = BUFFER_REQUEST | BUFFER_RESPONSE | TRAILERS;
}

/// Which headers are meant; the numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderKind {
    Request,
    Response,
    RequestTrailers,
    ResponseTrailers,
}

/// A request between its arrival and its response.
pub(crate) struct Exchange {
    /// Features of this exchange.
    pub(crate) features: u32,
    /// Whether the request went on and cannot be changed any more.
    pub(crate) after_next: bool,
    pub(crate) request: request::Parts,
    pub(crate) request_body: RequestBody,
    pub(crate) response: ResponseDraft,
    header_bytes_left: usize,
}

/// The body of the request.
#[derive(Default)]
pub(crate) struct RequestBody {
    incoming: Option<HttpBody>,
    /// Taken from the stream, not yet given to the guest.
    unread: BytesMut,
    /// Given to the guest and kept for what comes next.
    kept: BytesMut,
    /// Whether the guest took bytes that what comes next will not see.
    consumed: bool,
    trailers: HeaderMap,
    trailers_changed: bool,
    written: Option<BytesMut>,
}

impl Exchange {
    pub(crate) fn new(request: HttpRequest, features: u32) -> Self {
        let (parts, body) = request.into_parts();
        let request_body = RequestBody { incoming: Some(body), ..RequestBody::default() };
        Self {
            features,
            after_next: false,
            request: parts,
            request_body,
            response: ResponseDraft::default(),
            header_bytes_left: HEADER_LIMIT,
        }
    }

    pub(crate) fn enabled(&self, feature: u32) -> bool {
        self.features & feature != 0
    }

    /// The headers or trailers of a kind.
    pub(crate) fn headers(&self, kind: HeaderKind) -> &HeaderMap {
        match kind {
            HeaderKind::Request => &self.request.headers,
            HeaderKind::Response => &self.response.headers,
            HeaderKind::RequestTrailers => &self.request_body.trailers,
            HeaderKind::ResponseTrailers => &self.response.trailers,
        }
    }

    /// Sets (`append` false) or adds a header.
    ///
    /// # Errors
    /// It is too late, the text cannot be a header, or there are too many.
    pub(crate) fn put_header(
        &mut self,
        kind: HeaderKind,
        name: &[u8],
        value: &[u8],
        append: bool,
    ) -> Result<(), String> {
        self.changeable(if append { "add" } else { "set" }, kind)?;
        let size = name.len() + value.len();
        self.header_bytes_left = self
            .header_bytes_left
            .checked_sub(size)
            .ok_or_else(|| format!("the guest set more than {HEADER_LIMIT} bytes of headers"))?;
        let name = header_name(name)?;
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| format!("the value for header {name} has characters that a header cannot have"))?;
        let headers = self.headers_mut(kind);
        let done = match append {
            true => headers.try_append(name, value).map(drop),
            false => headers.try_insert(name, value).map(drop),
        };
        done.map_err(|_| "too many headers".to_owned())
    }

    /// Removes all values of a header.
    ///
    /// # Errors
    /// It is too late.
    pub(crate) fn remove_header(&mut self, kind: HeaderKind, name: &[u8]) -> Result<(), String> {
        self.changeable("remove", kind)?;
        if let Ok(name) = HeaderName::from_bytes(name) {
            self.headers_mut(kind).remove(name);
        }
        Ok(())
    }

    fn headers_mut(&mut self, kind: HeaderKind) -> &mut HeaderMap {
        match kind {
            HeaderKind::Request => &mut self.request.headers,
            HeaderKind::Response => &mut self.response.headers,
            HeaderKind::RequestTrailers => {
                self.request_body.trailers_changed = true;
                &mut self.request_body.trailers
            }
            HeaderKind::ResponseTrailers => &mut self.response.trailers,
        }
    }

    fn changeable(&self, verb: &str, kind: HeaderKind) -> Result<(), String> {
        match kind {
            HeaderKind::Request => self.before_next(verb, "request header"),
            HeaderKind::RequestTrailers => self.before_next(verb, "request trailer"),
            HeaderKind::Response => self.response_open(verb, "response header"),
            HeaderKind::ResponseTrailers => self.response_open(verb, "response trailer"),
        }
    }

    /// # Errors
    /// The request went on.
    pub(crate) fn before_next(&self, verb: &str, what: &str) -> Result<(), String> {
        if self.after_next { Err(format!("can't {verb} {what} after next handler")) } else { Ok(()) }
    }

    /// # Errors
    /// The response is that of what came next, and it is not buffered.
    pub(crate) fn response_open(&self, verb: &str, what: &str) -> Result<(), String> {
        if self.after_next && !self.enabled(feature::BUFFER_RESPONSE) {
            return Err(format!("can't {verb} {what} after next handler unless buffer_response is enabled"));
        }
        Ok(())
    }

    /// Whether reading `limit` bytes of the request body has to wait for more of the stream.
    pub(crate) fn request_read_waits(&self, limit: usize) -> bool {
        !self.after_next && self.request_body.incoming.is_some() && self.request_body.unread.len() < limit
    }

    /// Takes from the stream until `limit` bytes are there or it ended. Cancel safe.
    ///
    /// # Errors
    /// The stream broke.
    pub(crate) async fn fill_request(&mut self, limit: usize) -> Result<(), String> {
        while self.request_read_waits(limit) {
            let Some(incoming) = &mut self.request_body.incoming else { break };
            match incoming.frame().await {
                None => self.request_body.incoming = None,
                Some(Err(error)) => return Err(format!("error reading body: {error}")),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.request_body.unread.extend_from_slice(&data),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.request_body.trailers.extend(trailers);
                        }
                    }
                },
            }
        }
        Ok(())
    }

    /// The next bytes of the request body, at most `limit`, and whether they are the last.
    ///
    /// # Errors
    /// The guest asked to buffer more than fits.
    pub(crate) fn read_request(&mut self, limit: usize) -> Result<(Bytes, bool), String> {
        let keep = self.enabled(feature::BUFFER_REQUEST);
        let body = &mut self.request_body;
        if self.after_next {
            return Ok((Bytes::new(), true));
        }
        let taken = body.unread.split_to(limit.min(body.unread.len())).freeze();
        if keep {
            within_buffer(body.kept.len() + taken.len())?;
            body.kept.extend_from_slice(&taken);
        } else {
            body.consumed |= !taken.is_empty();
        }
        let last = body.incoming.is_none() && body.unread.is_empty();
        Ok((taken, last))
    }

    /// Replaces the request body; later calls append.
    ///
    /// # Errors
    /// It is too late, or too much.
    pub(crate) fn write_request(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.before_next("write", "request body")?;
        let written = self.request_body.written.get_or_insert_default();
        within_buffer(written.len() + bytes.len())?;
        written.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the response of what came next. A buffered one is read to its end.
    ///
    /// # Errors
    /// Its body broke or does not fit.
    pub(crate) async fn put_response(&mut self, response: HttpResponse) -> Result<(), String> {
        let buffered = self.enabled(feature::BUFFER_RESPONSE);
        self.response.put(response, buffered).await
    }

    /// The request for what comes next; from here on the guest cannot change it.
    pub(crate) fn take_request(&mut self) -> HttpRequest {
        self.after_next = true;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        std::mem::swap(&mut parts, &mut self.request);
        // The guest may still ask for them in its second phase.
        self.request.method = parts.method.clone();
        self.request.uri = parts.uri.clone();
        self.request.version = parts.version;
        self.request.headers = parts.headers.clone();
        self.request.extensions = parts.extensions.clone();
        let body = &mut self.request_body;
        let trailers =
            if body.trailers_changed || body.incoming.is_none() { body.trailers.clone() } else { HeaderMap::new() };
        let body = if let Some(written) = body.written.take() {
            set_length(&mut parts.headers, written.len());
            JoinedBody { head: written.freeze(), rest: None, trailers }
        } else {
            if body.consumed {
                parts.headers.remove(CONTENT_LENGTH); // what is left of an unknown length
            }
            let mut head = std::mem::take(&mut body.kept);
            head.unsplit(std::mem::take(&mut body.unread));
            JoinedBody { head: head.freeze(), rest: body.incoming.take(), trailers }
        };
        HttpRequest::from_parts(parts, body.boxed())
    }
}

pub(crate) fn header_name(name: &[u8]) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name).map_err(|_| format!("{:?} cannot be a header name", String::from_utf8_lossy(name)))
}
