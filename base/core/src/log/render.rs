//! The two forms of a line: text and JSON.
//!
//! *Invariant:* rendering writes into the buffer it is given and allocates nothing else.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::{FieldValue, LogLine};

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// `2026-01-02T03:04:05`.
const SECOND_BYTES: usize = 19;

/// Writes times; most of the text stays the same within a second.
#[derive(Default)]
pub(super) struct Clock {
    second: Option<u64>,
    text: [u8; SECOND_BYTES],
}

impl Clock {
    /// As RFC 3339 in UTC, with as many digits of the second's parts as it needs.
    fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.text = second(since);
            self.second = Some(since.as_secs());
        }
        out.extend_from_slice(&self.text);
        let nanoseconds = since.subsec_nanos();
        if nanoseconds > 0 {
            let (mut digits, mut rest) = ([b'0'; 9], nanoseconds);
            for digit in digits.iter_mut().rev() {
                *digit = DIGITS[(rest % 10) as usize];
                rest /= 10;
            }
            let length = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
            out.push(b'.');
            out.extend_from_slice(&digits[..length]);
        }
        out.push(b'Z');
    }
}

fn second(since: Duration) -> [u8; SECOND_BYTES] {
    let time = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
    let mut text = [b'0'; SECOND_BYTES];
    let mut rest: &mut [u8] = &mut text;
    // Years have four digits for some thousand years more.
    let _ = write!(
        rest,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    text
}

/// All of a line but its time, level and message: its own fields and those all lines have, by key.
pub(super) type Fields<'a> = [(&'a str, Part<'a>)];

/// What a line says of a key.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Field(FieldValue<'a>),
    /// The same in all lines: key and value as they are written.
    Ready(&'a [u8]),
}

/// What [`Part::Ready`] has for a text.
pub(super) fn ready(as_json: bool, key: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if as_json {
        json_text(&mut out, key);
        out.push(b':');
        json_text(&mut out, value);
    } else {
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        plain_or_quoted(&mut out, value);
    }
    out
}

/// `key=value` pairs: time, level and message first, then the fields by key.
pub(super) fn text(out: &mut Vec<u8>, clock: &mut Clock, line: &LogLine<'_>, fields: &Fields<'_>) {
    out.extend_from_slice(b"time=\"");
    clock.write(out, line.time);
    out.extend_from_slice(b"\" level=");
    out.extend_from_slice(line.level.name().as_bytes());
    out.extend_from_slice(b" msg=");
    plain_or_quoted(out, line.message);
    for (key, part) in fields {
        out.push(b' ');
        match part {
            Part::Ready(text) => out.extend_from_slice(text),
            Part::Field(value) => {
                out.extend_from_slice(key.as_bytes());
                out.push(b'=');
                match value {
                    FieldValue::Text(text) => plain_or_quoted(out, text),
                    FieldValue::Number(number) => decimal(out, *number),
                }
            }
        }
    }
    out.push(b'\n');
}

/// One object; all keys in order. Numbers are texts too, as logrus' fields of the original are read by tools.
pub(super) fn json(out: &mut Vec<u8>, clock: &mut Clock, line: &LogLine<'_>, fields: &Fields<'_>) {
    const TIME: &str = "time";
    const LEVEL: &str = "level";
    const MESSAGE: &str = "msg";
    let mut own = [LEVEL, MESSAGE, TIME].into_iter().peekable();
    let begin = |out: &mut Vec<u8>| out.push(if out.last() == Some(&b'\n') || out.is_empty() { b'{' } else { b',' });
    let mut put_own = |out: &mut Vec<u8>, name: &str| {
        begin(out);
        json_text(out, name);
        out.push(b':');
        match name {
            LEVEL => json_text(out, line.level.name()),
            MESSAGE => json_text(out, line.message),
            _ => {
                out.push(b'"');
                clock.write(out, line.time);
                out.push(b'"');
            }
        }
    };
    for (key, part) in fields {
        while let Some(name) = own.next_if(|name| name < key) {
            put_own(out, name);
        }
        begin(out);
        match part {
            Part::Ready(text) => out.extend_from_slice(text),
            Part::Field(value) => {
                json_text(out, key);
                out.push(b':');
                match value {
                    FieldValue::Text(text) => json_text(out, text),
                    FieldValue::Number(number) => {
                        out.push(b'"');
                        decimal(out, *number);
                        out.push(b'"');
                    }
                }
            }
        }
    }
    for name in own {
        put_own(out, name);
    }
    out.extend_from_slice(b"}\n");
}

fn json_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text); // writing text to memory cannot fail
}

pub(super) fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Bytes that need no quotes. *Source:* logrus' text formatter.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let is = matches!(byte, b'-' | b'.' | b'_' | b'/' | b'@' | b'^' | b'+');
        plain[byte as usize] = is || byte.is_ascii_alphanumeric();
        byte += 1;
    }
    plain
};

fn plain_or_quoted(out: &mut Vec<u8>, value: &str) {
    if !value.is_empty() && value.bytes().all(|byte| PLAIN[usize::from(byte)]) {
        out.extend_from_slice(value.as_bytes());
    } else {
        quote(out, value);
    }
}

fn quote(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let is_usual = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if value.bytes().all(is_usual) {
        out.extend_from_slice(value.as_bytes());
    } else {
        // Writing to a buffer cannot fail.
        let _ = value.chars().try_for_each(|c| quoted(&mut Text(out), c));
    }
    out.push(b'"');
}

fn quoted(out: &mut Text<'_>, c: char) -> fmt::Result {
    match c {
        '"' => out.write_str("\\\""),
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c if c.is_control() => write!(out, "\\x{:02x}", u32::from(c)),
        c => out.write_char(c),
    }
}

struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        let mut clock = Clock::default();
        for (seconds, nanoseconds) in
            [(0, 0), (1_767_323_045, 120_000_000), (1_767_323_045, 1), (1_767_323_046, 999_999_999)]
        {
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            let mut out = Vec::new();
            clock.write(&mut out, time);
            assert_eq!(String::from_utf8(out).unwrap(), OffsetDateTime::from(time).format(&Rfc3339).unwrap());
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
