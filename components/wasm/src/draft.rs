//! The response of an exchange while it is being made: by the guest, by what comes next, or by both.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Extensions, HeaderMap, StatusCode, response};
use http_body_util::BodyExt as _;
use pillion_contract::{HttpBody, HttpResponse, empty_body};

use crate::body::JoinedBody;

/// The most bytes of a body that are kept in memory: while buffering, and as written by a guest.
pub(crate) const BUFFER_LIMIT: usize = 64 * 1024 * 1024;

/// The response as far as it is known.
#[derive(Default)]
pub(crate) struct ResponseDraft {
    status: Option<StatusCode>,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    /// What the sidecar attached to the response.
    extensions: Extensions,
    /// Written by the guest, or collected when buffering.
    body: BytesMut,
    /// Streams past the guest, after `body`.
    rest: Option<HttpBody>,
    /// Whether the guest wrote a body in this phase; the first write replaces, later ones append.
    written: bool,
    /// Whether the guest ever wrote a body, so that a length in the headers may be wrong.
    resized: bool,
    /// What the guest reads, from its first read on, and how far it is.
    reading: Option<(Bytes, usize)>,
}

impl ResponseDraft {
    /// The next bytes of the response body, at most `limit`, and whether they are the last.
    pub(crate) fn read(&mut self, limit: usize) -> (Bytes, bool) {
        let (bytes, at) = self.reading.get_or_insert_with(|| (Bytes::copy_from_slice(&self.body), 0));
        let end = bytes.len().min(at.saturating_add(limit));
        let taken = bytes.slice(*at..end);
        *at = end;
        (taken, end == bytes.len())
    }

    /// Replaces the response body; later calls append.
    ///
    /// # Errors
    /// It is too much.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !self.written {
            self.body.clear();
            self.written = true;
            self.resized = true;
        }
        within_buffer(self.body.len() + bytes.len())?;
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status.unwrap_or_default()
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Takes the response of what came next. A buffered one is read to its end.
    ///
    /// # Errors
    /// Its body broke or does not fit; the draft then holds a part of it.
    pub(crate) async fn put(&mut self, response: HttpResponse, buffered: bool) -> Result<(), String> {
        let (mut parts, body) = response.into_parts();
        self.extensions = std::mem::take(&mut parts.extensions);
        self.merge(parts, buffered);
        self.reading = None;
        if !buffered {
            self.rest = Some(body);
            return Ok(());
        }
        self.written = false;
        let mut body = body;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("error reading the response to buffer it: {error}"))?;
            match frame.into_data() {
                Ok(data) => {
                    within_buffer(self.body.len() + data.len())?;
                    self.body.extend_from_slice(&data);
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.trailers.extend(trailers);
                    }
                }
            }
        }
        Ok(())
    }

    /// The response for the caller.
    pub(crate) fn into_response(self) -> HttpResponse {
        let mut response = http::Response::new(empty_body());
        *response.status_mut() = self.status.unwrap_or_default();
        *response.headers_mut() = self.headers;
        *response.extensions_mut() = self.extensions;
        if self.resized {
            match &self.rest {
                None => set_length(response.headers_mut(), self.body.len()),
                Some(_) => drop(response.headers_mut().remove(CONTENT_LENGTH)),
            }
        }
        *response.body_mut() =
            JoinedBody { head: self.body.freeze(), rest: self.rest, trailers: self.trailers }.boxed();
        response
    }

    /// Puts the head of a response over what the guest prepared. As with a writer that already sent its head, status and headers of
    /// a guest that wrote status or body without buffering stand.
    fn merge(&mut self, parts: response::Parts, buffered: bool) {
        if !buffered && (self.status.is_some() || self.written) {
            return;
        }
        self.status = Some(parts.status);
        if self.headers.is_empty() {
            self.headers = parts.headers;
            return;
        }
        let from_next: HashSet<HeaderName> = parts.headers.keys().cloned().collect();
        let prepared = std::mem::replace(&mut self.headers, parts.headers);
        let mut last = None;
        for (name, value) in prepared {
            last = name.or(last);
            let Some(name) = &last else { continue };
            if !from_next.contains(name) {
                self.headers.append(name, value);
            }
        }
    }
}

/// # Errors
/// It is more than [`BUFFER_LIMIT`].
pub(crate) fn within_buffer(length: usize) -> Result<(), String> {
    if length > BUFFER_LIMIT {
        return Err(format!("a body of more than {BUFFER_LIMIT} bytes cannot be buffered"));
    }
    Ok(())
}

/// Says the length of a body that is known as a whole.
pub(crate) fn set_length(headers: &mut HeaderMap, length: usize) {
    headers.remove(http::header::TRANSFER_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}
