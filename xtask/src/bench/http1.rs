//! Just enough HTTP/1.1 framing for the load driver and the echo app: where does a message end?
//!
//! *Neighbours:* `driver` asks about responses, `echo` about requests. *Invariant:* a message is either found complete,
//! or more bytes are needed, or the peer broke the protocol; nothing is guessed.

use std::borrow::Cow;

/// A complete message at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// Status code of a response; 0 for a request.
    pub(crate) status: u16,
    /// Bytes of the head including the empty line.
    pub(crate) head_bytes: usize,
    /// Bytes of the whole message as it stands on the wire.
    pub(crate) wire_bytes: usize,
    /// The body without chunk framing.
    pub(crate) body: Cow<'a, [u8]>,
    /// The sender closes the connection after this message.
    pub(crate) close: bool,
}

impl Message<'_> {
    /// The message by itself, whatever becomes of the buffer.
    pub(crate) fn into_owned(self) -> Message<'static> {
        Message { body: Cow::Owned(self.body.into_owned()), ..self }
    }
}

/// What a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// A whole message.
    Complete(Message<'a>),
    /// The start of one.
    Partial,
    /// Not HTTP/1.1; the text says why.
    Broken(&'static str),
}

/// How the end of a body is known.
enum Length {
    Bytes(usize),
    Chunked,
}

/// Looks for one message at the start of `buffer`. A body of unknown length (response until close) counts as broken,
/// since none of the measured servers sends one on a keep-alive connection.
pub(crate) fn parse(buffer: &[u8], response: bool) -> Parsed<'_> {
    let Some(head_bytes) = find(buffer, b"\r\n\r\n").map(|at| at + 4) else {
        return Parsed::Partial;
    };
    let Ok(head) = std::str::from_utf8(&buffer[..head_bytes]) else {
        return Parsed::Broken("head is not text");
    };
    let mut lines = head.lines();
    let start = lines.next().unwrap_or_default();
    let status = match (response, start.split(' ').nth(1).map(str::parse)) {
        (false, _) => 0,
        (true, Some(Ok(status))) => status,
        (true, _) => return Parsed::Broken("no status code"),
    };
    let bodyless = !response || status == 204 || status == 304;
    let mut length = bodyless.then_some(Length::Bytes(0));
    let mut close = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            match value.parse() {
                Ok(bytes) => length = Some(Length::Bytes(bytes)),
                Err(_) => return Parsed::Broken("content-length is not a number"),
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            length = Some(Length::Chunked);
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close");
        }
    }
    let rest = &buffer[head_bytes..];
    let (body, used) = match length {
        None => return Parsed::Broken("no content-length and not chunked"),
        Some(Length::Bytes(bytes)) if rest.len() < bytes => return Parsed::Partial,
        Some(Length::Bytes(bytes)) => (Cow::Borrowed(&rest[..bytes]), bytes),
        Some(Length::Chunked) => match unchunk(rest) {
            Ok(Some((body, used))) => (Cow::Owned(body), used),
            Ok(None) => return Parsed::Partial,
            Err(why) => return Parsed::Broken(why),
        },
    };
    Parsed::Complete(Message { status, head_bytes, wire_bytes: head_bytes + used, body, close })
}

/// Reads a chunked body: the data and the bytes it took, `None` when it is not complete.
fn unchunk(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let mut body = Vec::new();
    let whole = rest.len();
    loop {
        let Some(line) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..line])
            .ok()
            .and_then(|text| text.split(';').next())
            .and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok())
            .ok_or("chunk size is not a hexadecimal number")?;
        rest = &rest[line + 2..];
        if size == 0 {
            // Trailers end with an empty line.
            return Ok(if rest.starts_with(b"\r\n") {
                Some((body, whole - rest.len() + 2))
            } else {
                find(rest, b"\r\n\r\n").map(|at| (body, whole - rest.len() + at + 4))
            });
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// Position of `needle` in `haystack`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(parsed: Parsed<'_>) -> Message<'_> {
        match parsed {
            Parsed::Complete(message) => message,
            other => panic!("expected a whole message, got {other:?}"),
        }
    }

    #[test]
    fn response_with_length_leaves_the_next_one_alone() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 204";
        let message = complete(parse(bytes, true));
        assert_eq!((message.status, message.wire_bytes), (200, bytes.len() - 12));
        assert_eq!(*message.body, *b"abc");
    }

    #[test]
    fn every_cut_of_a_chunked_message_is_partial() {
        let bytes = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut], false), Parsed::Partial, "cut at {cut}");
        }
        let message = complete(parse(bytes, false));
        assert_eq!(*message.body, *b"abcde");
        assert_eq!(message.wire_bytes, bytes.len());
    }

    #[test]
    fn no_content_needs_no_length_but_ok_does() {
        let message = complete(parse(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", true));
        assert!(message.close);
        assert!(matches!(parse(b"HTTP/1.1 200 OK\r\n\r\n", true), Parsed::Broken(_)));
    }

    #[test]
    fn nonsense_is_broken_not_awaited() {
        assert!(matches!(parse(b"HTTP/1.1 abc\r\n\r\n", true), Parsed::Broken(_)));
        let chunk = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
        assert!(matches!(parse(chunk, false), Parsed::Broken(_)));
    }
}
