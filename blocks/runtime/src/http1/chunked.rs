//! Chunked bodies: decoding those of apps, framing our own. *Source:* RFC 9112 §7.1.

use std::io::Write as _;

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest line with the size of a chunk, extensions included, and longest trailer line.
const LINE_MAX: usize = 4096;
const LINE_END: &[u8] = b"\r\n";
/// All trailers together.
const TRAILERS_MAX: usize = 64 * 1024;

/// Decodes a chunked body as its bytes come.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

impl Decoder {
    /// Whether the last chunk and the trailers have been read.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The next data in `input`, which is consumed; `None` when more bytes are needed or the body is at its end.
    ///
    /// # Errors
    /// A text for what is no chunk.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::Data(left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(take).freeze();
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Some(data));
                }
                State::Size | State::DataEnd | State::Trailer => {
                    let Some(line) = line_length(input)? else { return Ok(None) };
                    self.state = self.after(&input[..line])?;
                    input.advance(line + LINE_END.len());
                }
            }
        }
    }

    /// The state after a line.
    fn after(&mut self, line: &[u8]) -> Result<State, &'static str> {
        match self.state {
            State::Size => match size(line)? {
                0 => Ok(State::Trailer),
                size => Ok(State::Data(size)),
            },
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::DataEnd => Err("a chunk is longer than its size"),
            State::Trailer if line.is_empty() => Ok(State::Done),
            State::Trailer if !is_field(line) => Err("a trailer is no header field"),
            State::Trailer => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > TRAILERS_MAX { Err("the trailers are too long") } else { Ok(State::Trailer) }
            }
            state @ (State::Data(_) | State::Done) => Ok(state),
        }
    }
}

/// The length of the first line without its end. A line end of one byte is refused: others may read on past it.
fn line_length(input: &[u8]) -> Result<Option<usize>, &'static str> {
    match input.iter().take(LINE_MAX + 2).position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if input[end..].starts_with(LINE_END) => Ok(Some(end)),
        Some(end) if input[end..] == *b"\r" => Ok(None),
        Some(_) => Err("a line of a chunked body does not end with CR LF"),
        None if input.len() > LINE_MAX => Err("a line of a chunked body is too long"),
        None => Ok(None),
    }
}

fn size(line: &[u8]) -> Result<u64, &'static str> {
    const BAD: &str = "the size of a chunk is no hexadecimal number";
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii_end(); // blanks may stand before an extension, not before the number
    if digits.is_empty() || digits.len() > 15 {
        return Err(BAD);
    }
    let mut size = 0;
    for digit in digits {
        size = size * 16 + u64::from(char::from(*digit).to_digit(16).ok_or(BAD)?);
    }
    Ok(size)
}

fn is_field(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let value = parts.next().map(http::HeaderValue::from_bytes);
    http::HeaderName::from_bytes(name).is_ok() && matches!(value, Some(Ok(_)))
}

/// The line before a chunk of `length` bytes; after the chunk comes [`CHUNK_END`].
pub(super) fn write_size(out: &mut Vec<u8>, length: usize) {
    let _ = write!(out, "{length:x}\r\n"); // writing to a Vec cannot fail
}

/// What follows the data of a chunk.
pub(super) const CHUNK_END: &[u8] = LINE_END;
/// The last chunk.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(parts: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), &'static str> {
        let (mut decoder, mut input, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
        for part in parts {
            input.extend_from_slice(part);
            while let Some(bytes) = decoder.next(&mut input)? {
                data.extend_from_slice(&bytes);
            }
        }
        Ok((data, decoder.is_done(), input.len()))
    }

    #[test]
    fn chunks_arrive_in_any_pieces() {
        let body: &[u8] = b"5;name=value\r\nhello\r\n1\r\n \r\n00a\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\nrest";
        let whole = (b"hello 0123456789".to_vec(), true, 4);
        assert_eq!(decode(&[body]).unwrap(), whole);
        for cut in 0..body.len() {
            assert_eq!(decode(&[&body[..cut], &body[cut..]]).unwrap(), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(decode(&single).unwrap(), whole);
        assert_eq!(decode(&[b"5\r\nhel"]).unwrap(), (b"hel".to_vec(), false, 0));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in [
            &b"x\r\n"[..],
            b"5\nhello",
            b" 5\r\nhello",
            b"5;x=\ra\r\n",
            b"0\r\nnone\r\n",
            b"\r\n",
            b"-1\r\n",
            b"ffffffffffffffff\r\n",
            b"2\r\nabc\r\n",
            b"1 2\r\n",
        ] {
            assert!(decode(&[bad]).is_err(), "{bad:?}");
        }
        assert!(decode(&[&[b'1'; LINE_MAX + 10]]).is_err());
    }
}
