//! Properties of the trace context and the baggage that callers send.
//!
//! *Job:* try random and hostile header values against simple second implementations. `PROPTEST_CASES` sets the number of cases.
//! *Invariant:* nothing panics, what is written is read back, and both implementations agree.

use http::{HeaderMap, HeaderValue};
use pillion_telemetry::trace::{
    GRPC_TRACE_BIN, TRACE_PARENT, TRACE_STATE, TraceContext, check_baggage, context_of_headers, forget_state,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn contexts() -> impl Strategy<Value = TraceContext> {
    (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
        .prop_map(|(trace_id, span_id, flags)| TraceContext { trace_id, span_id, flags })
        .prop_filter("an id of zeros is none", |context| context.trace_id != [0; 16] && context.span_id != [0; 8])
}

/// Values that look like a context, with mistakes, and anything at all.
fn parents() -> impl Strategy<Value = String> {
    let zeros = prop_oneof![1 => Just("0".repeat(32)), 4 => "[0-9a-f]{32}", 1 => "[0-9a-fA-F]{31,33}"];
    let span = prop_oneof![1 => Just("0".repeat(16)), 4 => "[0-9a-f]{16}", 1 => "[0-9a-fA-Fg]{15,17}"];
    let version = prop_oneof![4 => Just("00".to_owned()), 1 => Just("ff".to_owned()), 1 => "[0-9a-fA-F]{1,3}"];
    let end = prop_oneof![4 => Just(String::new()), 1 => "-[0-9a-z-]{0,5}", 1 => "[a-z]"];
    let like = (version, zeros, span, "[0-9a-f]{2}", end)
        .prop_map(|(version, trace, span, flags, end)| format!("{version}-{trace}-{span}-{flags}{end}"));
    prop_oneof![6 => like, 1 => any::<String>(), 1 => "[0-9a-f-]{0,60}"]
}

/// A second reader: splits once and asks the standard library for the numbers.
fn read(text: &str) -> Option<TraceContext> {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags, rest @ ..] = parts.as_slice() else { return None };
    let number = |text: &str, length: usize| {
        let fits = text.len() == length && text.chars().all(|c| c.is_ascii_hexdigit());
        fits.then(|| u128::from_str_radix(text, 16).expect("hexadecimal, as just checked"))
    };
    let (version, trace) = (number(version, 2)?, number(trace, 32)?);
    let (span, flags) = (number(span, 16)?, number(flags, 2)?);
    let large = parts[1..3].iter().any(|id| id.chars().any(|c| c.is_ascii_uppercase()));
    let refused = version == 255 || (version == 0 && !rest.is_empty()) || trace == 0 || span == 0 || large;
    let context = TraceContext {
        trace_id: trace.to_be_bytes(),
        span_id: u64::try_from(span).expect("16 digits fit").to_be_bytes(),
        flags: u8::try_from(flags).expect("2 digits fit"),
    };
    (!refused).then_some(context)
}

/// The grammar of baggage, character by character from W3C Baggage §3.2.1.
fn is_baggage(text: &[u8]) -> bool {
    let token = |text: &[u8]| {
        let delimiters = b"\"(),/:;<=>?@[\\]{}";
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_graphic() && !delimiters.contains(byte))
    };
    let value = |text: &[u8]| {
        let mut rest = text;
        while let [first, after @ ..] = rest {
            rest = after;
            match first {
                b'%' => match rest {
                    [a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest = after,
                    _ => return false,
                },
                b'"' | b',' | b';' | b'\\' => return false,
                byte if byte.is_ascii_graphic() => {}
                _ => return false,
            }
        }
        true
    };
    let trimmed = |part: &[u8]| part.trim_ascii().to_vec();
    let member = |member: &[u8]| {
        member.len() <= 4096
            && member.split(|byte| *byte == b';').enumerate().all(|(number, part)| {
                match part.iter().position(|byte| *byte == b'=') {
                    Some(at) => token(&trimmed(&part[..at])) && value(&trimmed(&part[at + 1..])),
                    None => number > 0 && token(&trimmed(part)),
                }
            })
    };
    text.is_empty()
        || (text.len() <= 8192
            && text.split(|byte| *byte == b',').count() <= 180
            && text.split(|byte| *byte == b',').all(member))
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_context_survives_each_form(context in contexts()) {
        prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
        prop_assert_eq!(TraceContext::of_value(&context.to_value()), Some(context));
        prop_assert_eq!(TraceContext::from_binary(&context.to_binary()), Some(context));
        for (name, value) in [(TRACE_PARENT, context.to_value()), (GRPC_TRACE_BIN, context.to_binary_value())] {
            let headers = HeaderMap::from_iter([(name, value)]);
            prop_assert_eq!(context_of_headers(&headers), Some(context));
        }
        prop_assert_eq!(context.is_sampled(), context.flags % 2 == 1);
    }

    #[test]
    fn both_readers_of_a_parent_agree(text in parents()) {
        prop_assert_eq!(TraceContext::parse(&text), read(&text));
    }

    #[test]
    fn no_value_of_a_header_panics(
        parent in vec(any::<u8>(), 0..60),
        binary in vec(any::<u8>(), 0..60),
        state in vec(any::<u8>(), 0..60),
        has_context in any::<bool>(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, bytes) in [(TRACE_PARENT, &parent), (GRPC_TRACE_BIN, &binary), (TRACE_STATE, &state)] {
            if let Ok(value) = HeaderValue::from_bytes(bytes) {
                headers.insert(name, value);
            }
        }
        let _ = context_of_headers(&headers);
        forget_state(&mut headers, has_context);
        prop_assert!(has_context || !headers.contains_key(TRACE_STATE));
        if let Some(context) = TraceContext::from_binary(&binary) {
            prop_assert_eq!(&context.to_binary()[..], &binary[..29]);
        }
    }

    #[test]
    fn baggage_is_taken_as_the_grammar_says(
        parts in vec(prop::sample::select(vec!["key", "=", "value", ",", ";", " ", "%20", "%", "%2", "\"", "p", "é", "\t", "/", ":"]), 0..16),
        random in vec(any::<u8>(), 0..40),
    ) {
        for text in [parts.concat().into_bytes(), random] {
            prop_assert_eq!(check_baggage(&text).is_ok(), is_baggage(&text), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn well_formed_baggage_is_taken(
        members in vec(("[!#$%&'*+.^_`|~a-zA-Z0-9-]{1,8}", "[!#-+.-9A-~&&[^\\\\%;,]]{0,8}(%[0-9a-fA-F]{2})?", "(;[a-z]{1,4}(=[a-z]{0,3})?)?"), 1..180),
    ) {
        let text: Vec<String> = members.into_iter().map(|(key, value, property)| format!("{key} = {value}{property}")).collect();
        let text = text.join(" , ");
        prop_assert_eq!(check_baggage(text.as_bytes()).is_ok(), text.len() <= 8192, "{}", text);
    }
}
