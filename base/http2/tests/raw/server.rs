//! What a server must refuse, and what it must not. *Source:* RFC 9113 §4 to §8.

use pillion_http2::server::Builder;

use super::peer::*;

/// What a peer must get.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// GOAWAY and the end.
    End(u32),
    /// RST_STREAM, and the connection lives.
    Reset(u32, u32),
    /// An answer on the stream.
    Answer(u32),
    /// Neither an error nor an answer.
    Nothing,
}
use Expected::*;

fn both(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn block(id: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | WHOLE, id, bytes)
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    let payload = [name.to_be_bytes().as_slice(), value.to_be_bytes().as_slice()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn update(id: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, id, &by.to_be_bytes())
}

fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    post_with(1, END, fields)
}

#[rustfmt::skip] // a table
fn cases() -> Vec<(&'static str, Vec<u8>, Expected)> {
    let long = vec![0; 16_385];
    let big = vec![0; 16_384];
    let reset = |id| frame(RST_STREAM, 0, id, &[0, 0, 0, 8]);
    vec![
        ("a plain request", post(1, END), Answer(1)),
        ("a request with data", both(&[post(1, 0), frame(DATA, END, 1, b"abc")]), Answer(1)),
        ("with trailers", both(&[post(1, 0), frame(DATA, 0, 1, b"abc"), block(1, END, &literal("a", "b"))]), Answer(1)),
        ("unknown frames", both(&[frame(0x42, 0xff, 7, b"what"), post(1, END)]), Answer(1)),
        ("unknown flags", block(1, END | 0xc2, POST), Answer(1)),
        ("padding", both(&[frame(HEADERS, PADDED | WHOLE, 1, &[&[2], POST, &[0, 0]].concat()), frame(DATA, PADDED | END, 1, &[3, b'a', 0, 0, 0])]), Answer(1)),
        ("nothing but padding", both(&[post(1, 0), frame(DATA, PADDED | END, 1, &[3, 0, 0, 0])]), Answer(1)),
        ("a priority", frame(HEADERS, END | WHOLE | WITH_PRIORITY, 1, &[&[0, 0, 0, 3, 1], POST].concat()), Answer(1)),
        ("PRIORITY of an idle stream", both(&[frame(PRIORITY, 0, 9, &[0, 0, 0, 3, 1]), post(1, END)]), Answer(1)),
        ("CONTINUATION", both(&[frame(HEADERS, END, 1, &POST[..2]), frame(CONTINUATION, 0, 1, &POST[2..4]), frame(CONTINUATION, WHOLE, 1, &POST[4..])]), Answer(1)),
        ("unknown settings", both(&[setting(0x99, 7), post(1, END)]), Answer(1)),
        ("a reserved bit in the id", block(1 | 1 << 31, END, POST), Answer(1)),

        ("a frame past the size", both(&[post(1, 0), frame(DATA, 0, 1, &long)]), End(6)),
        ("HEADERS past the size", block(1, END, &long), End(6)),
        ("DATA on stream 0", frame(DATA, 0, 0, b"a"), End(1)),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"a"), End(1)),
        ("DATA padded past its end", both(&[post(1, 0), frame(DATA, PADDED, 1, &[2, 0])]), End(1)),
        ("DATA padded without length", both(&[post(1, 0), frame(DATA, PADDED, 1, &[])]), End(1)),
        ("DATA after the end", both(&[post(1, END), frame(DATA, 0, 1, b"a")]), Reset(1, 5)),
        ("DATA after a reset", both(&[post(1, 0), reset(1), frame(DATA, 0, 1, b"a")]), Reset(1, 5)),
        ("more DATA than the window", both(&[post(1, 0), frame(DATA, 0, 1, &big).repeat(5)]), End(3)),
        ("HEADERS on stream 0", block(0, END, POST), End(1)),
        ("HEADERS on a stream of the server", block(2, END, POST), End(1)),
        ("HEADERS on a lower stream", both(&[post(5, END), post(3, END)]), End(1)),
        ("HEADERS after the end", both(&[post(1, END), post(1, END)]), Reset(1, 5)),
        ("HEADERS padded past the end", frame(HEADERS, PADDED | WHOLE, 1, &[9, 0x83]), End(1)),
        ("HEADERS without their priority", frame(HEADERS, WITH_PRIORITY | WHOLE, 1, &[0, 0]), End(6)),
        ("a stream that depends on itself", frame(HEADERS, END | WHOLE | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 1], POST].concat()), Reset(1, 1)),
        ("something inside a block", both(&[frame(HEADERS, END, 1, &POST[..2]), frame(PING, 0, 0, &[0; 8])]), End(1)),
        ("something unknown inside a block", both(&[frame(HEADERS, END, 1, &POST[..2]), frame(0x42, 0, 1, &[])]), End(1)),
        ("CONTINUATION of another stream", both(&[frame(HEADERS, END, 1, &POST[..2]), frame(CONTINUATION, WHOLE, 3, &POST[2..])]), End(1)),
        ("CONTINUATION of nothing", frame(CONTINUATION, WHOLE, 1, POST), End(1)),
        ("CONTINUATION of a whole block", both(&[post(1, 0), frame(CONTINUATION, WHOLE, 1, &[])]), End(1)),
        ("a block that is no HPACK", block(1, END, &[0x80]), End(9)),
        ("trailers that do not end", both(&[post(1, 0), block(1, 0, &literal("a", "b"))]), Reset(1, 1)),
        ("trailers with a pseudo-header", both(&[post(1, 0), block(1, END, POST)]), Reset(1, 1)),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), End(1)),
        ("PRIORITY of a wrong length", frame(PRIORITY, 0, 1, &[0; 4]), End(6)),
        ("RST_STREAM on stream 0", reset(0), End(1)),
        ("RST_STREAM on an idle stream", reset(1), End(1)),
        ("RST_STREAM of a wrong length", both(&[post(1, 0), frame(RST_STREAM, 0, 1, &[0; 3])]), End(6)),
        ("RST_STREAM twice", both(&[post(1, 0), reset(1), reset(1)]), Nothing),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), End(1)),
        ("SETTINGS of a wrong length", frame(SETTINGS, 0, 0, &[0; 5]), End(6)),
        ("SETTINGS ACK with something", frame(SETTINGS, ACK, 0, &[0; 6]), End(6)),
        ("ENABLE_PUSH of 2", setting(2, 2), End(1)),
        ("an initial window past the limit", setting(4, 1 << 31), End(3)),
        ("a frame size too small", setting(5, 16_383), End(1)),
        ("a frame size too large", setting(5, 1 << 24), End(1)),
        ("windows past the limit by SETTINGS", both(&[post(1, 0), update(1, 0x7fff_0000), setting(4, 0x7fff_ffff)]), End(3)),
        ("PUSH_PROMISE", both(&[post(1, 0), frame(PUSH_PROMISE, WHOLE, 1, &[0, 0, 0, 2])]), End(1)),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), End(1)),
        ("PING of a wrong length", frame(PING, 0, 0, &[0; 7]), End(6)),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), End(1)),
        ("GOAWAY of a wrong length", frame(GOAWAY, 0, 0, &[0; 7]), End(6)),
        ("WINDOW_UPDATE of a wrong length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), End(6)),
        ("WINDOW_UPDATE by nothing", update(0, 0), End(1)),
        ("WINDOW_UPDATE of a stream by nothing", both(&[post(1, 0), update(1, 0)]), Reset(1, 1)),
        ("WINDOW_UPDATE of an idle stream", update(1, 1), End(1)),
        ("WINDOW_UPDATE past the limit", update(0, 0x7fff_ffff), End(3)),
        ("WINDOW_UPDATE of a stream past the limit", both(&[post(1, 0), update(1, 0x7fff_ffff)]), Reset(1, 3)),

        ("capitals", with(&[("Abc", "d")]), Reset(1, 1)),
        ("a field of connections", with(&[("connection", "close")]), Reset(1, 1)),
        ("keep-alive", with(&[("keep-alive", "1")]), Reset(1, 1)),
        ("proxy-connection", with(&[("proxy-connection", "1")]), Reset(1, 1)),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), Reset(1, 1)),
        ("upgrade", with(&[("upgrade", "h2c")]), Reset(1, 1)),
        ("te of something", with(&[("te", "gzip")]), Reset(1, 1)),
        ("te of trailers", with(&[("te", "trailers")]), Answer(1)),
        ("a line end in a value", with(&[("a", "b\r\nc")]), Reset(1, 1)),
        ("an unknown pseudo-header", with(&[(":what", "d")]), Reset(1, 1)),
        ("a pseudo-header of responses", with(&[(":status", "200")]), Reset(1, 1)),
        ("a pseudo-header after fields", with(&[("a", "b"), (":authority", "c")]), Reset(1, 1)),
        ("a pseudo-header twice", with(&[(":path", "/")]), Reset(1, 1)),
        ("no method", block(1, END, &POST[1..]), Reset(1, 1)),
        ("no scheme", block(1, END, &[0x83, 0x84]), Reset(1, 1)),
        ("no path", block(1, END, &[0x83, 0x86]), Reset(1, 1)),
        ("an empty path", block(1, END, &[&[0x83, 0x86], literal(":path", "").as_slice()].concat()), Reset(1, 1)),
        ("a path without slash", block(1, END, &[&[0x83, 0x86], literal(":path", "a").as_slice()].concat()), Reset(1, 1)),
        ("no authority", block(1, END, &[0x83, 0x86, 0x84]), Answer(1)),
        ("CONNECT with a path", block(1, END, &[literal(":method", "CONNECT").as_slice(), &POST[1..]].concat()), Reset(1, 1)),
        ("less data than said", both(&[post_with(1, 0, &[("content-length", "4")]), frame(DATA, END, 1, b"abc")]), Reset(1, 1)),
        ("more data than said", both(&[post_with(1, 0, &[("content-length", "2")]), frame(DATA, 0, 1, b"abc")]), Reset(1, 1)),
        ("data as said, then trailers", both(&[post_with(1, 0, &[("content-length", "3")]), frame(DATA, 0, 1, b"abc"), block(1, END, &literal("a", "b"))]), Answer(1)),
        ("trailers before all that was said", both(&[post_with(1, 0, &[("content-length", "4")]), block(1, END, &literal("a", "b"))]), Reset(1, 1)),
        ("an end before all that was said", with(&[("content-length", "4")]), Reset(1, 1)),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "1")]), Reset(1, 1)),
        ("a length that is none", with(&[("content-length", "+1")]), Reset(1, 1)),
    ]
}

#[tokio::test]
async fn what_is_forbidden_is_refused_and_nothing_else() {
    for (name, bytes, expected) in cases() {
        let (mut peer, serving) = server_with(Builder::new(), 1 << 18).await;
        let frames = peer.says(&bytes).await;
        let ended = frames.iter().find(|frame| frame.kind == GOAWAY);
        let resets: Vec<_> = frames.iter().filter(|frame| frame.kind == RST_STREAM).collect();
        match expected {
            End(reason) => {
                assert_eq!(ended.and_then(Frame::reason), Some(reason), "{name}: {frames:?}");
                assert_eq!(peer.next().await, None, "{name}");
                let error = serving.await.unwrap().expect(name);
                assert!(
                    error.is_go_away() && error.is_library() && error.reason() == Some(reason.into()),
                    "{name}: {error}"
                );
                continue;
            }
            Reset(id, reason) => {
                assert_eq!(resets.len(), 1, "{name}: {frames:?}");
                assert_eq!((resets[0].id, resets[0].reason()), (id, Some(reason)), "{name}: {frames:?}");
            }
            Answer(id) => {
                assert!(resets.is_empty(), "{name}: {frames:?}");
                let answer: Vec<_> =
                    frames.iter().filter(|frame| frame.id == id && matches!(frame.kind, DATA | HEADERS)).collect();
                assert_eq!(answer.len(), 3, "{name}: {frames:?}");
                assert_eq!(answer[2].flags & END, END, "{name}");
            }
            Nothing => assert!(resets.is_empty(), "{name}: {frames:?}"),
        }
        assert_eq!(ended, None, "{name}");
        // The connection is as good as before.
        let frames = peer.says(&post(101, END)).await;
        assert_eq!(frames.iter().filter(|frame| frame.id == 101).count(), 3, "{name}: {frames:?}");
    }
}

#[tokio::test]
async fn something_else_than_http2_is_refused() {
    for first in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", "\u{16}\u{3}\u{1}"] {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(async move { Builder::new().handshake(far).await.map(|_| ()) });
        tokio::io::AsyncWriteExt::write_all(&mut near, first.as_bytes()).await.unwrap();
        let error = serving.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(pillion_http2::Reason::PROTOCOL_ERROR));
        let mut peer = RawPeer { io: near };
        assert_eq!(peer.next().await.unwrap().kind, SETTINGS, "said before the client was known");
    }
}

#[tokio::test]
async fn something_else_than_settings_first_is_refused() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(serve_on(Builder::new(), far));
    let mut peer = RawPeer { io: near };
    peer.send(&[PREFACE, &post(1, END)].concat()).await;
    assert_eq!(serving.await.unwrap().unwrap().reason(), Some(pillion_http2::Reason::PROTOCOL_ERROR));
}

#[tokio::test]
async fn streams_past_the_limit_are_refused() {
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let (mut peer, _serving) = server_with(builder, 1 << 16).await;
    let frames = peer.says(&[post(1, 0), post(3, 0), post(5, 0), frame(DATA, END, 5, b"late")].concat()).await;
    let resets: Vec<_> = frames.iter().filter_map(|frame| Some((frame.id, frame.reason()?))).collect();
    assert_eq!(resets, [(5, 7)]);
    let frames = peer.says(&[frame(DATA, END, 1, b""), frame(DATA, END, 3, b"")].concat()).await;
    assert_eq!(frames.iter().filter(|frame| frame.flags & END != 0).count(), 2, "{frames:?}");
    assert_eq!(peer.says(&post(7, END)).await.len(), 3);
}

#[tokio::test]
async fn windows_made_negative_by_settings_are_waited_for() {
    let (mut peer, _serving) = server_with(Builder::new(), 1 << 16).await;
    let frames = peer.says(&[setting(4, 1), post(1, END)].concat()).await;
    let data: Vec<_> = frames.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.clone()).collect();
    assert_eq!(data, [b"o"], "one byte of two");
    let frames = peer.says(&setting(4, 0)).await;
    assert!(frames.iter().all(|frame| frame.kind == SETTINGS), "{frames:?}");
    let frames = peer.says(&update(1, 1)).await;
    assert!(frames.is_empty(), "the window is 0 now: {frames:?}");
    let frames = peer.says(&update(1, 1)).await;
    assert_eq!(frames.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [DATA, HEADERS]);
}

#[tokio::test]
async fn late_frames_of_calls_given_up_are_ignored() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut peer = RawPeer { io: near };
    tokio::spawn(async move {
        let mut connection = Builder::new().handshake(far).await.unwrap();
        while let Some(Ok(_dropped)) = connection.accept().await {}
    });
    peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    let frames = peer.says(&post(1, 0)).await;
    assert_eq!(frames.iter().filter_map(Frame::reason).collect::<Vec<_>>(), [8]);
    let late =
        [frame(DATA, 0, 1, b"late"), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), block(1, END, &literal("a", "b"))]
            .concat();
    assert_eq!(peer.says(&late).await, []);
}

#[tokio::test]
async fn what_comes_after_the_final_goaway_is_ignored() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut peer = RawPeer { io: near };
    let serving = tokio::spawn(async move {
        let mut connection = Builder::new().handshake(far).await.unwrap();
        let call = connection.accept().await.unwrap().unwrap();
        connection.graceful_shutdown();
        let (done, end) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let mut call = call;
            let seen = read(call.0.body_mut()).await.unwrap();
            assert_eq!(seen.0, b"abc");
            call.1.send_response(http::Response::new(()), true).unwrap();
            done.send(()).unwrap();
        });
        let more = connection.accept().await.is_some();
        end.await.unwrap();
        more
    });
    peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &post(1, 0)].concat()).await;
    let mut goaways = Vec::new();
    let ping = loop {
        let next = peer.next().await.unwrap();
        match next.kind {
            GOAWAY => goaways.push(next),
            PING => break next,
            _ => {}
        }
    };
    assert_eq!(goaways[0].payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    peer.send(&frame(PING, ACK, 0, &ping.payload)).await;
    let frames = peer.says(&[post(3, 0), frame(DATA, END, 3, b"x"), frame(DATA, 0, 1, b"abc")].concat()).await;
    let kinds: Vec<_> =
        frames.iter().map(|frame| (frame.kind, frame.id)).filter(|(kind, _)| *kind != SETTINGS).collect();
    assert_eq!(kinds, [(GOAWAY, 0)], "{frames:?}");
    peer.send(&frame(DATA, END, 1, b"")).await;
    assert_eq!(peer.next().await.map(|frame| (frame.kind, frame.id)), Some((HEADERS, 1)));
    assert_eq!(peer.next().await, None);
    assert!(!serving.await.unwrap());
}
