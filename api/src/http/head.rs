//! The first head on a connection that hyper is to go on with: read whole, judged, and answered when it is none.
//!
//! *Neighbours:* `serve` comes here after the server for plain requests; `malformed` judges. *Invariant:* nothing is taken from
//! what the client sent: hyper reads it all again. *Source:* spec http_api.md §1.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use pillion_runtime::http1::server::{HEAD_TIMEOUT, Rewound};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::malformed::{Opening, Refusal, is_token, judge, opening};

/// How long what a refused client still sends is read: closing before that could take the answer from it. *Source:* the original.
const LINGER: Duration = Duration::from_millis(500);

/// What a connection begins with.
pub(super) enum First<S> {
    /// A head with so many headers, or HTTP/2.
    Head(Rewound<S>, usize),
    Refused(Refusal, S),
    /// The client went away or took too long.
    Gone,
}

/// Reads the first head of a connection, at most `limit` bytes.
///
/// # Errors
/// Reading failed.
pub(super) async fn read<S: AsyncRead + Unpin>(rest: Rewound<S>, limit: usize) -> io::Result<First<S>> {
    let (first, mut stream) = rest.into_parts();
    let mut bytes = BytesMut::from(first);
    match timeout(HEAD_TIMEOUT, whole(&mut bytes, &mut stream, limit)).await {
        Ok(Ok(Some(Ok(headers)))) => Ok(First::Head(Rewound::new(bytes.freeze(), stream), headers)),
        Ok(Ok(Some(Err(refusal)))) => Ok(First::Refused(refusal, stream)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) | Err(_) => Ok(First::Gone),
    }
}

/// Reads on until it can be told what the head is; `None` when the client goes away before that.
async fn whole(
    bytes: &mut BytesMut,
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<Option<Result<usize, Refusal>>> {
    loop {
        if let Some(told) = look(bytes, limit) {
            return Ok(Some(told));
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// What the first bytes are; `None` when more are needed.
fn look(bytes: &[u8], limit: usize) -> Option<Result<usize, Refusal>> {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count(); // which hyper passes over
    let head = bytes.get(blank..).filter(|head| !head.is_empty())?;
    let end = head.windows(2).position(|two| two == b"\n\n").map(|index| index + 2);
    let end = match head.windows(3).position(|three| three == b"\n\r\n").map(|index| index + 3) {
        Some(other) => Some(end.map_or(other, |end| end.min(other))),
        None => end,
    };
    if blank + end.unwrap_or(head.len()) > limit {
        return Some(Err(Refusal::TOO_LARGE));
    }
    let line =
        head.iter().position(|byte| *byte == b'\n').map(|end| head[..end].strip_suffix(b"\r").unwrap_or(&head[..end]));
    match line.map(opening) {
        // Something else than HTTP, such as TLS, whose client waits for an answer and sends no line.
        None if !is_token(head[0]) => Some(Err(Refusal::BAD_REQUEST)),
        Some(Err(refusal)) => Some(Err(refusal)),
        Some(Ok(Opening::Http2)) => Some(Ok(0)),
        _ => end.map(|end| judge(&head[..end])),
    }
}

/// Tells a client why, and lets it go.
///
/// # Errors
/// The client is gone already.
pub(super) async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, refusal: Refusal) -> io::Result<()> {
    stream.write_all(&refusal.bytes()).await?;
    stream.shutdown().await?;
    let _ = timeout(LINGER, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await; // nobody waits for it
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    async fn first(sent: &[&[u8]], limit: usize) -> (First<tokio::io::DuplexStream>, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        for part in &sent[1..] {
            client.write_all(part).await.unwrap();
        }
        drop(client);
        match read(Rewound::new(Bytes::copy_from_slice(sent[0]), server), limit).await.unwrap() {
            First::Head(mut rest, headers) => {
                let mut again = Vec::new();
                rest.read_to_end(&mut again).await.unwrap();
                (First::Head(rest, headers), again)
            }
            other => (other, Vec::new()),
        }
    }

    #[tokio::test]
    async fn a_head_is_read_whole_and_read_again() {
        for (sent, wanted) in [
            (&[b"GET / HT".as_slice(), b"TP/1.1\r\nHost: a\r\n", b"\r\nbody"][..], 1),
            (&[b"\r\nGET / HTTP/1.0\r\n\r\n"], 0),
            (&[b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n"], 0),
        ] {
            let (first, again) = first(sent, 100).await;
            let First::Head(_, headers) = first else { panic!("{sent:?}") };
            assert_eq!((headers, again), (wanted, sent.concat()));
        }
    }

    #[tokio::test]
    async fn what_is_no_head_is_refused_as_soon_as_it_is_known() {
        for (sent, wanted) in [
            (&b"hello\r\n"[..], Refusal::BAD_REQUEST),
            (b"\x16\x03\x01", Refusal::BAD_REQUEST),
            (b"GET / HTTP/1.1\r\nHost: a\r\nb: 12345678901234567890", Refusal::TOO_LARGE),
            (b"GET /12345678901234567890123456789012345678901", Refusal::TOO_LARGE),
            (b"GET / HTTP/1.1\r\nHost: a\r\nc\r\n\r\n", Refusal::BAD_REQUEST),
        ] {
            let (First::Refused(refusal, _), _) = first(&[sent], 40).await else { panic!("{sent:?}") };
            assert_eq!(refusal, wanted);
        }
        assert!(matches!(first(&[b"GET / HTTP/1.1\r\n"], 40).await.0, First::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_ends_the_connection() {
        let (_client, server) = tokio::io::duplex(100);
        let first = read(Rewound::new(Bytes::from_static(b"GET / HT"), server), 100).await.unwrap();
        assert!(matches!(first, First::Gone));
    }
}
