//! The W3C trace context: `traceparent` as text, `grpc-trace-bin` as bytes.
//!
//! *Source:* spec metrics.md §5.2. *Invariant:* what is read is a valid context; the all-zero one is only made by `default`.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use pillion_core::log::LogTrace;

use crate::text::hex_pair;

/// Header of the context.
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Header of what vendors say about the context.
pub const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
/// Header of the caller's key-value pairs.
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// Metadata of the context in binary form.
pub const GRPC_TRACE_BIN: HeaderName = HeaderName::from_static("grpc-trace-bin");
/// What an app gets that is called without any context while spans are not recorded. An app's own tracer takes it for none and
/// decides by itself; a made-up context would tell it not to sample.
pub const NO_CONTEXT: HeaderValue = HeaderValue::from_static("00-00000000000000000000000000000000-0000000000000000-00");

const BINARY_LENGTH: usize = 29;
const TEXT_LENGTH: usize = 55;
/// Longest `tracestate` that is passed on. *Source:* spec metrics.md §5.2.
const STATE_LENGTH_MAX: usize = 512;
const SAMPLED: u8 = 1;
/// Of each small hex digit; 255 for any other byte.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// A trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// Id of the whole trace.
    pub trace_id: [u8; 16],
    /// Id of the span that calls.
    pub span_id: [u8; 8],
    /// Flags; the lowest bit says that the caller records.
    pub flags: u8,
}

impl TraceContext {
    /// Reads `version-trace-span-flags` in hex; `None` when it is something else or an id is all zeros.
    pub fn parse(text: &str) -> Option<Self> {
        match text.as_bytes().try_into() {
            Ok(usual) => Self::parse_usual(usual).or_else(|| Self::parse_any(text)),
            Err(_) => Self::parse_any(text),
        }
    }

    /// Version 0 in small letters, as every tracer writes it.
    fn parse_usual(text: &[u8; TEXT_LENGTH]) -> Option<Self> {
        if [text[0], text[1], text[2], text[35], text[52]] != *b"00---" {
            return None;
        }
        let mut context = Self::default();
        // Values are below 16; what is no digit leaves a higher bit.
        let mut odd = 0;
        let mut read = |into: &mut [u8], from: &[u8]| {
            for (byte, digits) in into.iter_mut().zip(from.as_chunks::<2>().0) {
                let (high, low) = (VALUES[usize::from(digits[0])], VALUES[usize::from(digits[1])]);
                odd |= high | low;
                *byte = high << 4 | low;
            }
        };
        read(&mut context.trace_id, &text[3..35]);
        read(&mut context.span_id, &text[36..52]);
        read(std::slice::from_mut(&mut context.flags), &text[53..]);
        if odd >= 16 { None } else { context.valid() }
    }

    /// Other versions may have more parts, and flags may be in capitals.
    fn parse_any(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex::<1>(parts.next()?)?[0];
        // Ids are in small letters, or they are none.
        let mut id = || parts.next().filter(|id| !id.bytes().any(|digit| digit.is_ascii_uppercase()));
        let trace_id = hex(id()?)?;
        let span_id = hex(id()?)?;
        let flags = hex::<1>(parts.next()?)?[0];
        if version == u8::MAX || (version == 0 && parts.next().is_some()) {
            return None;
        }
        Self { trace_id, span_id, flags }.valid()
    }

    /// Reads the value of `traceparent`.
    pub fn of_value(value: &HeaderValue) -> Option<Self> {
        Self::parse(value.to_str().ok()?)
    }

    /// Reads the value of `grpc-trace-bin`.
    pub fn from_binary(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BINARY_LENGTH] = bytes.get(..BINARY_LENGTH)?.try_into().ok()?;
        if (bytes[0], bytes[1], bytes[18], bytes[27]) != (0, 0, 1, 2) {
            return None;
        }
        let mut context = Self { flags: bytes[28], ..Self::default() };
        context.trace_id.copy_from_slice(&bytes[2..18]);
        context.span_id.copy_from_slice(&bytes[19..27]);
        context.valid()
    }

    /// The value of `grpc-trace-bin`, before it is encoded in base64.
    pub fn to_binary(self) -> [u8; BINARY_LENGTH] {
        let mut bytes = [0; BINARY_LENGTH];
        bytes[2..18].copy_from_slice(&self.trace_id);
        bytes[18] = 1;
        bytes[19..27].copy_from_slice(&self.span_id);
        bytes[27] = 2;
        bytes[28] = self.flags;
        bytes
    }

    /// The value of the header `traceparent`.
    pub fn to_value(self) -> HeaderValue {
        // Hex digits and dashes are always a header value; the zeros stand for the case that cannot be.
        HeaderValue::from_bytes(&self.text()).unwrap_or(NO_CONTEXT)
    }

    /// The value of the header `grpc-trace-bin`, base64 without padding as gRPC has it.
    pub fn to_binary_value(self) -> HeaderValue {
        let mut text = [0; 40];
        // 29 bytes take 39 characters.
        let length = base64::Engine::encode_slice(
            &base64::engine::general_purpose::STANDARD_NO_PAD,
            self.to_binary(),
            &mut text,
        );
        let text = length.ok().and_then(|length| text.get(..length));
        text.and_then(|text| HeaderValue::from_bytes(text).ok()).unwrap_or(HeaderValue::from_static(""))
    }

    /// The span a log line of the call belongs to.
    pub fn for_log(self) -> LogTrace {
        LogTrace { trace_id: self.trace_id, span_id: self.span_id, flags: self.flags }
    }

    /// Whether the caller records its spans.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same with the flag of recording set or not.
    #[must_use]
    pub(super) fn sampled(mut self, sampled: bool) -> Self {
        if sampled {
            self.flags |= SAMPLED;
        } else {
            self.flags &= !SAMPLED;
        }
        self
    }

    fn text(self) -> [u8; TEXT_LENGTH] {
        let mut out = [b'-'; TEXT_LENGTH];
        out[..2].copy_from_slice(b"00");
        out[3..35].copy_from_slice(self.trace_id.map(hex_pair).as_flattened());
        out[36..52].copy_from_slice(self.span_id.map(hex_pair).as_flattened());
        out[53..].copy_from_slice(&hex_pair(self.flags));
        out
    }

    fn valid(self) -> Option<Self> {
        (self.trace_id != [0; 16] && self.span_id != [0; 8]).then_some(self)
    }
}

impl fmt::Display for TraceContext {
    /// The value of `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default()) // hex digits and dashes
    }
}

/// The context a caller sends: the binary form counts before the text. `None` when there is none or it is not valid.
pub fn context_of_headers(headers: &HeaderMap) -> Option<TraceContext> {
    match headers.get(GRPC_TRACE_BIN) {
        Some(binary) => TraceContext::from_binary(&decoded(binary)?),
        None => headers.get(TRACE_PARENT).and_then(TraceContext::of_value),
    }
}

/// Removes a `tracestate` that does not belong to a context, or is too long or malformed to be passed on.
pub fn forget_state(headers: &mut HeaderMap, has_context: bool) {
    let Some(state) = headers.get(TRACE_STATE) else { return };
    if !has_context || !is_state(state.as_bytes()) {
        headers.remove(TRACE_STATE);
    }
}

/// Whether it is a list of `key=value`. *Source:* W3C Trace Context §3.3, as far as a list member can be told from none.
fn is_state(state: &[u8]) -> bool {
    state.len() <= STATE_LENGTH_MAX
        && state.split(|byte| *byte == b',').all(|member| {
            let member = member.trim_ascii();
            member.is_empty() || member.iter().position(|byte| *byte == b'=').is_some_and(|at| at > 0)
        })
}

/// gRPC's binary metadata: base64 with or without padding.
fn decoded(value: &HeaderValue) -> Option<Vec<u8>> {
    let text = value.to_str().ok()?.trim_end_matches('=');
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD_NO_PAD, text).ok()
}

fn hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02";

    #[test]
    fn all_forms_say_the_same() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.to_value(), GOOD);
        assert_eq!(TraceContext::from_binary(&context.to_binary()), Some(context));
        assert_eq!(decoded(&context.to_binary_value()).unwrap(), context.to_binary());
        assert_eq!(TraceContext::default().to_value(), NO_CONTEXT);
        assert_eq!(TraceContext::of_value(&NO_CONTEXT), None);
        let capitals = GOOD.replace("-02", "-0A");
        assert_eq!(TraceContext::parse(&capitals), Some(TraceContext { flags: 10, ..context }));
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more";
        assert!(TraceContext::parse(later).is_some(), "later versions may have more parts");
        for text in [
            "",
            "garbage",
            "00-1-2-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-2",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-02",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
        assert_eq!(TraceContext::from_binary(&[0; BINARY_LENGTH]), None);
        assert_eq!(TraceContext::from_binary(b"short"), None);
    }

    #[test]
    fn the_binary_form_counts_before_the_text() {
        let other = TraceContext { trace_id: [7; 16], span_id: [8; 8], flags: 1 };
        let mut headers = HeaderMap::new();
        assert_eq!(context_of_headers(&headers), None);
        headers.insert(TRACE_PARENT, HeaderValue::from_static(GOOD));
        assert_eq!(context_of_headers(&headers), TraceContext::parse(GOOD));
        headers.insert(GRPC_TRACE_BIN, other.to_binary_value());
        assert_eq!(context_of_headers(&headers), Some(other));
        headers.insert(GRPC_TRACE_BIN, HeaderValue::from_static("AA"));
        assert_eq!(context_of_headers(&headers), None, "a bad one is not replaced by the text, as in the original");
    }

    #[test]
    fn a_state_stays_only_beside_a_context() {
        let long = format!("a={}", "b".repeat(STATE_LENGTH_MAX));
        for (state, has_context, stays) in
            [("a=1,b=2", true, true), ("a=1", false, false), ("nonsense", true, false), (long.as_str(), true, false)]
        {
            let mut headers = HeaderMap::from_iter([(TRACE_STATE, HeaderValue::from_str(state).unwrap())]);
            forget_state(&mut headers, has_context);
            assert_eq!(headers.contains_key(TRACE_STATE), stays, "{state}");
        }
    }
}
