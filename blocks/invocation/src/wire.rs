//! The bytes between two sidecars: gRPC frames that hold `InternalInvoke{Request,Response}Stream` messages.
//!
//! Headers go straight from a `HeaderMap` into protobuf and back, without the generated map types: this is the hot path.
//! The field numbers are those of `dapr/proto/internals/v1/service_invocation.proto`; a test compares the bytes with what
//! the generated code makes of them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pillion_proto::google::protobuf::Any;
use pillion_runtime::app_channel::verb_number;
use pillion_runtime::body::Body;
use pillion_runtime::message::{AppStatus, InvokeRequest, InvokeResponse, NO_VERB, content_type};
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len};

/// A message that does not have the specified form.
#[derive(Debug, thiserror::Error)]
#[error("malformed message between sidecars: {0}")]
pub(crate) struct WireError(String);

impl WireError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// A chunk of a body with its number; numbers start at 0 and have no gaps.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Bytes.
    pub(crate) data: Bytes,
    /// Number.
    pub(crate) seq: u64,
}

/// A decoded stream message of a request.
#[derive(Debug, Default)]
pub(crate) struct RequestChunk {
    /// Present in the first message only; its body is empty.
    pub(crate) request: Option<InvokeRequest>,
    /// Body bytes.
    pub(crate) payload: Option<Payload>,
}

/// A decoded stream message of a response.
#[derive(Debug, Default)]
pub(crate) struct ResponseChunk {
    /// Present in the first message only; its body is empty.
    pub(crate) response: Option<InvokeResponse>,
    /// Body bytes.
    pub(crate) payload: Option<Payload>,
}

/// Length of the prefix of a gRPC frame: one flag byte and four length bytes.
const FRAME_HEADER: usize = 5;

/// Makes the first frame of a request stream.
pub(crate) fn first_request_frame(
    request: &InvokeRequest,
    extra: &[(&'static str, &str)],
    payload: Option<&Bytes>,
) -> Bytes {
    let any_length = if request.data_type_url.is_empty() { 0 } else { string_length(1, &request.data_type_url) };
    let verb = verb_number(&request.verb) as u64;
    let extension_length = varint_length(1, verb) + string_length(2, &request.query);
    let message_length = string_length(1, &request.method)
        + if any_length > 0 { nested_length(2, any_length) } else { 0 }
        + string_length(3, content_type(&request.headers))
        + if extension_length > 0 { nested_length(4, extension_length) } else { 0 };
    let headers = HeaderLengths::new(&request.headers, extra);
    let inner = varint_length(1, 1) + headers.total(2) + nested_length(3, message_length);
    let payload_length = payload.map_or(0, |data| payload_body_length(data.len(), 0));
    let total = nested_length(1, inner) + payload.map_or(0, |_| nested_length(2, payload_length));

    let mut out = begin_frame(total);
    put_nested(&mut out, 1, inner);
    put_varint(&mut out, 1, 1); // APIVersion V1
    headers.put(&mut out, 2, &request.headers, extra);
    put_nested(&mut out, 3, message_length);
    put_string(&mut out, 1, &request.method);
    if any_length > 0 {
        put_nested(&mut out, 2, any_length);
        put_string(&mut out, 1, &request.data_type_url);
    }
    put_string(&mut out, 3, content_type(&request.headers));
    if extension_length > 0 {
        put_nested(&mut out, 4, extension_length);
        put_varint(&mut out, 1, verb);
        put_string(&mut out, 2, &request.query);
    }
    if let Some(data) = payload {
        put_payload(&mut out, data, 0, payload_length);
    }
    out.freeze()
}

/// Makes the first frame of a response stream.
pub(crate) fn first_response_frame(response: &InvokeResponse, payload: Option<&Bytes>) -> Bytes {
    let details_length: usize = response.status_details.iter().map(|any| nested_length(3, any.encoded_len())).sum();
    let status_length =
        varint_length(1, response.status.number() as u64) + string_length(2, &response.status_message) + details_length;
    let any_length = if response.data_type_url.is_empty() { 0 } else { string_length(1, &response.data_type_url) };
    let message_length = if any_length > 0 { nested_length(1, any_length) } else { 0 }
        + string_length(2, content_type(&response.headers));
    let headers = HeaderLengths::new(&response.headers, &[]);
    let inner = nested_length(1, status_length) + headers.total(2) + nested_length(4, message_length);
    let payload_length = payload.map_or(0, |data| payload_body_length(data.len(), 0));
    let total = nested_length(1, inner) + payload.map_or(0, |_| nested_length(2, payload_length));

    let mut out = begin_frame(total);
    put_nested(&mut out, 1, inner);
    put_nested(&mut out, 1, status_length);
    put_varint(&mut out, 1, response.status.number() as u64);
    put_string(&mut out, 2, &response.status_message);
    for any in &response.status_details {
        put_nested(&mut out, 3, any.encoded_len());
        any.encode_raw(&mut out);
    }
    headers.put(&mut out, 2, &response.headers, &[]);
    put_nested(&mut out, 4, message_length);
    if any_length > 0 {
        put_nested(&mut out, 1, any_length);
        put_string(&mut out, 1, &response.data_type_url);
    }
    put_string(&mut out, 2, content_type(&response.headers));
    if let Some(data) = payload {
        put_payload(&mut out, data, 0, payload_length);
    }
    out.freeze()
}

/// Makes a further frame of either direction: only a payload.
pub(crate) fn payload_frame(data: &Bytes, seq: u64) -> Bytes {
    let payload_length = payload_body_length(data.len(), seq);
    let mut out = begin_frame(nested_length(2, payload_length));
    put_payload(&mut out, data, seq, payload_length);
    out.freeze()
}

/// Cuts complete frames out of a byte stream.
#[derive(Default)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    whole: Option<Bytes>,
}

impl FrameReader {
    /// Adds received bytes.
    pub(crate) fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return; // the end of a stream may come with an empty frame
        }
        if self.buffer.is_empty() && self.whole.is_none() {
            self.whole = Some(data);
            return;
        }
        if let Some(whole) = self.whole.take() {
            self.buffer.extend_from_slice(&whole);
        }
        self.buffer.extend_from_slice(&data);
    }

    /// The message of the next complete frame.
    ///
    /// # Errors
    /// A compressed frame, or one of more than `limit` bytes (0 = no limit).
    pub(crate) fn next(&mut self, limit: usize) -> Result<Option<Bytes>, WireError> {
        let available: &[u8] = self.whole.as_deref().unwrap_or(&self.buffer);
        let Some(header) = available.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
        if header[0] != 0 {
            return Err(WireError::new("compressed gRPC frames are not supported"));
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if limit > 0 && length > limit {
            return Err(WireError::new(format!("grpc: received message larger than max ({length} vs. {limit})")));
        }
        if available.len() < FRAME_HEADER + length {
            return Ok(None);
        }
        if let Some(whole) = &mut self.whole {
            whole.advance(FRAME_HEADER);
            let message = whole.split_to(length);
            if whole.is_empty() {
                self.whole = None;
            }
            return Ok(Some(message));
        }
        self.buffer.advance(FRAME_HEADER);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether bytes of an incomplete frame are left.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.whole.is_none()
    }
}

/// Decodes a stream message of a request.
///
/// # Errors
/// [`WireError`].
pub(crate) fn decode_request(mut message: Bytes) -> Result<RequestChunk, WireError> {
    let mut chunk = RequestChunk::default();
    while message.has_remaining() {
        match field(&mut message)? {
            (1, Field::Bytes(inner)) => chunk.request = Some(decode_invoke_request(inner)?),
            (2, Field::Bytes(inner)) => chunk.payload = Some(decode_payload(inner)?),
            _ => {}
        }
    }
    Ok(chunk)
}

/// Decodes an `InternalInvokeRequest`, the message of the unary call; its data becomes the body.
///
/// # Errors
/// [`WireError`].
pub(crate) fn decode_invoke_request(mut message: Bytes) -> Result<InvokeRequest, WireError> {
    let mut request = InvokeRequest { verb: no_verb(), ..InvokeRequest::default() };
    let mut found_message = false;
    while message.has_remaining() {
        match field(&mut message)? {
            (2, Field::Bytes(entry)) => decode_header(entry, &mut request.headers)?,
            (3, Field::Bytes(inner)) => {
                found_message = true;
                decode_invoke_message(inner, &mut request)?;
            }
            _ => {}
        }
    }
    if !found_message || request.headers.is_empty() {
        return Err(WireError::new("request does not contain the required fields in the leading chunk"));
    }
    Ok(request)
}

/// Decodes a stream message of a response.
///
/// # Errors
/// [`WireError`].
pub(crate) fn decode_response(mut message: Bytes) -> Result<ResponseChunk, WireError> {
    let mut chunk = ResponseChunk::default();
    while message.has_remaining() {
        match field(&mut message)? {
            // In an event stream the original sends an empty one with every message.
            (1, Field::Bytes(inner)) if inner.is_empty() => {}
            (1, Field::Bytes(inner)) => chunk.response = Some(decode_invoke_response(inner)?),
            (2, Field::Bytes(inner)) => chunk.payload = Some(decode_payload(inner)?),
            _ => {}
        }
    }
    Ok(chunk)
}

/// Decodes an `InternalInvokeResponse`, the answer of the unary call; its data becomes the body.
///
/// # Errors
/// [`WireError`].
pub(crate) fn decode_invoke_response(mut message: Bytes) -> Result<InvokeResponse, WireError> {
    let mut status = None;
    let mut response = InvokeResponse {
        status: AppStatus::Grpc(0),
        status_message: String::new(),
        status_details: Vec::new(),
        headers: HeaderMap::new(),
        body: Body::empty(),
        data_type_url: String::new(),
    };
    while message.has_remaining() {
        match field(&mut message)? {
            (1, Field::Bytes(mut inner)) => {
                let mut number = 0;
                while inner.has_remaining() {
                    match field(&mut inner)? {
                        (1, Field::Varint(code)) => number = code as i32,
                        (2, Field::Bytes(text)) => response.status_message = string(&text)?,
                        (3, Field::Bytes(any)) => response.status_details.push(Any::decode(any)?),
                        _ => {}
                    }
                }
                status = Some(AppStatus::from_number(number));
            }
            (2, Field::Bytes(entry)) => decode_header(entry, &mut response.headers)?,
            (4, Field::Bytes(mut inner)) => {
                while inner.has_remaining() {
                    match field(&mut inner)? {
                        (1, Field::Bytes(any)) => (response.data_type_url, response.body) = decode_any(any)?,
                        (2, Field::Bytes(text)) => set_content_type(&mut response.headers, &text),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    response.status =
        status.ok_or_else(|| WireError::new("response does not contain the required fields in the leading chunk"))?;
    Ok(response)
}

fn decode_invoke_message(mut message: Bytes, request: &mut InvokeRequest) -> Result<(), WireError> {
    while message.has_remaining() {
        match field(&mut message)? {
            (1, Field::Bytes(text)) => request.method = string(&text)?,
            (2, Field::Bytes(any)) => (request.data_type_url, request.body) = decode_any(any)?,
            (3, Field::Bytes(text)) => set_content_type(&mut request.headers, &text),
            (4, Field::Bytes(mut extension)) => {
                while extension.has_remaining() {
                    match field(&mut extension)? {
                        (1, Field::Varint(number)) => request.verb = verb_from_number(number)?,
                        (2, Field::Bytes(text)) => request.query = string(&text)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn decode_any(mut any: Bytes) -> Result<(String, Body), WireError> {
    let (mut type_url, mut value) = (String::new(), Bytes::new());
    while any.has_remaining() {
        match field(&mut any)? {
            (1, Field::Bytes(text)) => type_url = string(&text)?,
            (2, Field::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((type_url, Body::full(value)))
}

fn decode_payload(mut message: Bytes) -> Result<Payload, WireError> {
    let mut payload = Payload::default();
    while message.has_remaining() {
        match field(&mut message)? {
            (1, Field::Bytes(data)) => payload.data = data,
            (2, Field::Varint(seq)) => payload.seq = seq,
            _ => {}
        }
    }
    Ok(payload)
}

/// Adds one entry of a `map<string, ListStringValue>`; names and values that are no HTTP headers are left out.
fn decode_header(mut entry: Bytes, headers: &mut HeaderMap) -> Result<(), WireError> {
    let mut name = None;
    let mut list = Bytes::new();
    while entry.has_remaining() {
        match field(&mut entry)? {
            (1, Field::Bytes(key)) => name = HeaderName::from_bytes(&key).ok(),
            (2, Field::Bytes(values)) => list = values,
            _ => {}
        }
    }
    let Some(name) = name else { return Ok(()) };
    while list.has_remaining() {
        if let (1, Field::Bytes(value)) = field(&mut list)?
            && let Ok(value) = HeaderValue::from_maybe_shared(value)
        {
            headers.append(name.clone(), value);
        }
    }
    Ok(())
}

fn set_content_type(headers: &mut HeaderMap, text: &Bytes) {
    if text.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(text.clone()) {
        headers.insert(CONTENT_TYPE, value);
    }
}

/// The verb of a call whose caller named none.
fn no_verb() -> Method {
    Method::from_bytes(NO_VERB.as_bytes()).unwrap_or(Method::POST) // letters alone are always a verb
}

fn verb_from_number(number: u64) -> Result<Method, WireError> {
    Ok(match number {
        0 => no_verb(),
        1 => Method::GET,
        2 => Method::HEAD,
        3 => Method::POST,
        4 => Method::PUT,
        5 => Method::DELETE,
        6 => Method::CONNECT,
        7 => Method::OPTIONS,
        8 => Method::TRACE,
        9 => Method::PATCH,
        other => return Err(WireError::new(format!("HTTP verb number {other} is not one of 0 to 9"))),
    })
}

enum Field {
    Varint(u64),
    Bytes(Bytes),
    Other,
}

fn field(buffer: &mut Bytes) -> Result<(u32, Field), WireError> {
    let (tag, wire_type) = decode_key(buffer)?;
    let value = match wire_type {
        WireType::Varint => Field::Varint(decode_varint(buffer)?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(buffer)?).unwrap_or(usize::MAX);
            if length > buffer.remaining() {
                return Err(WireError::new("a field is longer than its message"));
            }
            Field::Bytes(buffer.split_to(length))
        }
        WireType::SixtyFourBit if buffer.remaining() >= 8 => {
            buffer.advance(8);
            Field::Other
        }
        WireType::ThirtyTwoBit if buffer.remaining() >= 4 => {
            buffer.advance(4);
            Field::Other
        }
        _ => return Err(WireError::new("unexpected wire type")),
    };
    Ok((tag, value))
}

fn string(bytes: &Bytes) -> Result<String, WireError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| WireError::new("a text field is not UTF-8"))
}

fn begin_frame(length: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(FRAME_HEADER + length);
    out.put_u8(0);
    out.put_u32(length as u32); // bodies are limited far below 4 GiB
    out
}

fn varint_length(tag: u32, value: u64) -> usize {
    if value == 0 { 0 } else { key_len(tag) + encoded_len_varint(value) }
}

fn string_length(tag: u32, text: &str) -> usize {
    if text.is_empty() { 0 } else { nested_length(tag, text.len()) }
}

fn nested_length(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

fn payload_body_length(length: usize, seq: u64) -> usize {
    (if length == 0 { 0 } else { nested_length(1, length) }) + varint_length(2, seq)
}

fn put_varint(out: &mut BytesMut, tag: u32, value: u64) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn put_string(out: &mut BytesMut, tag: u32, text: &str) {
    if !text.is_empty() {
        put_nested(out, tag, text.len());
        out.put_slice(text.as_bytes());
    }
}

fn put_nested(out: &mut BytesMut, tag: u32, length: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

fn put_payload(out: &mut BytesMut, data: &Bytes, seq: u64, length: usize) {
    put_nested(out, 2, length);
    if !data.is_empty() {
        put_nested(out, 1, data.len());
        out.put_slice(data);
    }
    put_varint(out, 2, seq);
}

/// Sizes of the header map, computed once for both passes.
struct HeaderLengths {
    entries: Vec<(usize, usize)>,
}

impl HeaderLengths {
    fn new(headers: &HeaderMap, extra: &[(&'static str, &str)]) -> Self {
        let mut entries = Vec::with_capacity(headers.keys_len() + extra.len());
        for name in headers.keys() {
            let list = headers.get_all(name).iter().map(|value| nested_length(1, value.len())).sum();
            entries.push((list, string_length(1, name.as_str()) + nested_length(2, list)));
        }
        for (name, value) in extra {
            let list = nested_length(1, value.len());
            entries.push((list, string_length(1, name) + nested_length(2, list)));
        }
        Self { entries }
    }

    fn total(&self, tag: u32) -> usize {
        self.entries.iter().map(|(_, entry)| nested_length(tag, *entry)).sum()
    }

    fn put(&self, out: &mut BytesMut, tag: u32, headers: &HeaderMap, extra: &[(&'static str, &str)]) {
        let mut lengths = self.entries.iter();
        let mut next = || lengths.next().copied().unwrap_or_default();
        for name in headers.keys() {
            let (list, entry) = next();
            put_nested(out, tag, entry);
            put_nested(out, 1, name.as_str().len());
            put_canonical(out, name.as_str());
            put_nested(out, 2, list);
            for value in headers.get_all(name) {
                put_nested(out, 1, value.len());
                out.put_slice(value.as_bytes());
            }
        }
        for (name, value) in extra {
            let (list, entry) = next();
            put_nested(out, tag, entry);
            put_string(out, 1, name);
            put_nested(out, 2, list);
            put_nested(out, 1, value.len());
            out.put_slice(value.as_bytes());
        }
    }
}

/// HTTP names travel in Go's canonical form (`Content-Type`); the original looks some of them up case-sensitively.
fn put_canonical(out: &mut BytesMut, name: &str) {
    let mut upper = true;
    for byte in name.bytes() {
        out.put_u8(if upper { byte.to_ascii_uppercase() } else { byte });
        upper = byte == b'-';
    }
}

#[cfg(test)]
mod tests;
