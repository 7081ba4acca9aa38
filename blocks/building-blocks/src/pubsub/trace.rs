//! The W3C trace context of an event: read from its attributes, handed to the app as header or binary metadata.
//!
//! *Source:* spec app_channel.md §9. *Invariant:* a text that is not a trace context counts as an empty one, all zeros.

use std::fmt;

use serde_json::Value;

use super::envelope::CloudEvent;

/// Length of the binary form.
const BINARY_LENGTH: usize = 29;

/// A trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// Reads `version-trace-span-flags` in hex; `None` when it is something else or an id is all zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex::<1>(parts.next()?)?[0];
        let trace_id = hex(parts.next()?)?;
        let span_id = hex(parts.next()?)?;
        let flags = hex::<1>(parts.next()?)?[0];
        if version == u8::MAX || (version == 0 && parts.next().is_some()) {
            return None;
        }
        Self { trace_id, span_id, flags }.valid()
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

    /// The value of `grpc-trace-bin`.
    pub fn to_binary(self) -> [u8; BINARY_LENGTH] {
        let mut bytes = [0; BINARY_LENGTH];
        bytes[2..18].copy_from_slice(&self.trace_id);
        bytes[18] = 1;
        bytes[19..27].copy_from_slice(&self.span_id);
        bytes[27] = 2;
        bytes[28] = self.flags;
        bytes
    }

    /// The context an event carries in `traceparent`, or in `traceid` as old publishers wrote it; `None` when it has neither
    /// or the value is no text.
    pub(super) fn of_event(event: &CloudEvent) -> Option<Self> {
        let field = |name: &str| event.get(name).filter(|value| !value.is_null());
        let text = field("traceparent").or_else(|| field("traceid")).and_then(Value::as_str)?;
        Some(Self::parse(text).unwrap_or_default())
    }

    fn valid(self) -> Option<Self> {
        (self.trace_id != [0; 16] && self.span_id != [0; 8]).then_some(self)
    }
}

impl fmt::Display for TraceContext {
    /// The value of `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

fn hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != 2 * LENGTH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02";

    #[test]
    fn both_forms_say_the_same() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(TraceContext::from_binary(&context.to_binary()), Some(context));
        assert_eq!(TraceContext::default().to_string(), "00-00000000000000000000000000000000-0000000000000000-00");
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
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
        assert_eq!(TraceContext::from_binary(&[0; BINARY_LENGTH]), None);
        assert_eq!(TraceContext::from_binary(b"short"), None);
    }
}
