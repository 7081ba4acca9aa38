//! What a client must refuse, and what it must not.

use std::time::Duration;

use http::Request;
use pillion_http2::client::{Builder, SendRequest};
use pillion_http2::{Error, Reason, SendStream};
use tokio::task::JoinHandle;

use super::peer::*;

type Answer = JoinHandle<Result<(u16, Seen), Error>>;

/// A client with a call under way, at the peer that saw it.
async fn calling() -> (RawPeer, SendRequest, Answer, SendStream, JoinHandle<Result<(), Error>>) {
    let (near, far) = tokio::io::duplex(1 << 18);
    let mut peer = RawPeer { io: far };
    let (mut sender, connection) = Builder::new().handshake(near).await.unwrap();
    let ended = tokio::spawn(connection);
    let (answer, stream) = call(&mut sender);
    let mut preface = [0; 24];
    tokio::io::AsyncReadExt::read_exact(&mut peer.io, &mut preface).await.unwrap();
    assert_eq!(preface, PREFACE);
    while peer.next().await.unwrap().kind != HEADERS {}
    peer.send(&frame(SETTINGS, 0, 0, &[])).await;
    (peer, sender, answer, stream, ended)
}

fn call(sender: &mut SendRequest) -> (Answer, SendStream) {
    let (answer, stream) = sender.send_request(Request::post("http://a/b").body(()).unwrap(), false).unwrap();
    let answer = tokio::spawn(async move {
        let (head, mut body) = answer.await?.into_parts();
        Ok((head.status.as_u16(), read(&mut body).await))
    });
    (answer, stream)
}

fn head(flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | WHOLE, 1, block)
}

#[tokio::test]
async fn answers_are_read_whole() {
    let (mut peer, _sender, answer, _stream, _ended) = calling().await;
    let informational = literal(":status", "103");
    let bytes = [
        head(0, &informational),
        head(0, &[0x88]),
        frame(DATA, 0, 1, b"abc"),
        frame(DATA, PADDED, 1, &[1, b'd', 0]),
        head(END, &literal("grpc-status", "0")),
    ];
    peer.send(&bytes.concat()).await;
    let (status, seen) = answer.await.unwrap().unwrap();
    let (data, trailers) = seen.unwrap();
    assert_eq!((status, data.as_slice()), (200, b"abcd".as_slice()));
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

/// Errors of one call, after which the connection serves the next.
#[tokio::test]
async fn broken_answers_are_their_calls_end() {
    let with = |fields: &[(&str, &str)]| {
        let mut block = vec![0x88];
        fields.iter().for_each(|(name, value)| block.extend_from_slice(&literal(name, value)));
        block
    };
    let cases = [
        ("data first", frame(DATA, 0, 1, b"abc"), 1),
        ("no status", head(END, &literal("a", "b")), 1),
        ("a pseudo-header of requests", head(END, &with(&[(":path", "/")])), 1),
        ("capitals", head(END, &with(&[("A", "b")])), 1),
        ("of connections", head(END, &with(&[("connection", "close")])), 1),
        ("101", head(0, &literal(":status", "101")), 1),
        ("an end that informs", head(END, &literal(":status", "103")), 1),
        ("less than said", [head(0, &with(&[("content-length", "3")])), frame(DATA, END, 1, b"ab")].concat(), 1),
        ("more than said", [head(0, &with(&[("content-length", "1")])), frame(DATA, END, 1, b"ab")].concat(), 1),
        ("trailers that do not end", [head(0, &[0x88]), head(0, &literal("a", "b"))].concat(), 1),
        ("DATA after the end", [head(END, &[0x88]), frame(DATA, END, 1, b"ab")].concat(), 5),
        ("an update by nothing", frame(WINDOW_UPDATE, 0, 1, &[0; 4]), 1),
    ];
    for (name, bytes, reason) in cases {
        let (mut peer, mut sender, answer, _stream, ended) = calling().await;
        let frames = peer.says(&bytes).await;
        let resets: Vec<_> = frames.iter().filter_map(|frame| Some((frame.id, frame.reason()?))).collect();
        assert_eq!(resets, [(1, reason)], "{name}: {frames:?}");
        let told = answer.await.unwrap();
        if reason == 1 {
            let error = told.and_then(|(_, seen)| seen).expect_err(name);
            assert!(error.is_reset() && !error.is_remote() && error.reason() == Some(Reason::PROTOCOL_ERROR), "{name}");
            assert_eq!(error.to_string(), "stream error detected: unspecific protocol error detected");
        }
        let (answer, _stream) = call(&mut sender);
        let frames = peer.says(&frame(HEADERS, END | WHOLE, 3, &[0x88])).await;
        assert!(frames.iter().any(|frame| frame.kind == HEADERS && frame.id == 3), "{name}: {frames:?}");
        assert_eq!(answer.await.unwrap().unwrap().0, 200, "{name}");
        assert!(!ended.is_finished(), "{name}");
    }
}

#[tokio::test]
async fn more_than_the_window_ends_the_connection() {
    let (near, far) = tokio::io::duplex(1 << 18);
    let mut peer = RawPeer { io: far };
    let (mut sender, connection) = Builder::new().handshake(near).await.unwrap();
    let ended = tokio::spawn(connection);
    let (answer, _stream) = sender.send_request(Request::get("http://a/b").body(()).unwrap(), true).unwrap();
    peer.send(&[frame(SETTINGS, 0, 0, &[]), head(0, &[0x88]), frame(DATA, 0, 1, &[0; 16_384])].concat()).await;
    let body = answer.await.unwrap().into_body(); // not read
    peer.send(&frame(DATA, 0, 1, &[0; 16_384]).repeat(3)).await;
    let error = ended.await.unwrap().unwrap_err();
    assert_eq!((error.is_library(), error.reason()), (true, Some(Reason::FLOW_CONTROL_ERROR)));
    drop(body);
}

/// Errors of the whole connection.
#[tokio::test]
async fn what_is_forbidden_ends_the_connection() {
    let setting = |name: u8, value: u8| frame(SETTINGS, 0, 0, &[0, name, 0, 0, 0, value]);
    let cases = [
        ("a push", frame(PUSH_PROMISE, WHOLE, 1, &[0, 0, 0, 2, 0x82, 0x86, 0x84]), 1),
        ("a server that may push", setting(2, 1), 1),
        ("an answer to nothing", frame(HEADERS, END | WHOLE, 3, &[0x88]), 1),
        ("a stream of the server", frame(HEADERS, END | WHOLE, 2, &[0x88]), 1),
        ("no HPACK", head(END, &[0xff]), 9),
        (
            "GOAWAY that goes back",
            [frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])].concat(),
            1,
        ),
        ("SETTINGS out of range", setting(5, 1), 1),
    ];
    for (name, bytes, reason) in cases {
        let (mut peer, sender, answer, stream, ended) = calling().await;
        drop(answer);
        peer.send(&bytes).await;
        let mut last = None;
        while let Some(frame) = peer.next().await {
            last = Some(frame);
        }
        let Some(last) = last else { panic!("{name}: nothing was said") };
        assert_eq!((last.kind, last.reason()), (GOAWAY, Some(reason)), "{name}");
        let error = ended.await.unwrap().unwrap_err();
        assert!(error.is_go_away() && error.is_library(), "{name}: {error}");
        assert!(sender.is_closed());
        drop(stream);
    }
}

#[tokio::test]
async fn calls_a_goaway_does_not_take_fail_at_once_and_others_go_on() {
    let (mut peer, mut sender, first, _one, ended) = calling().await;
    let (second, _two) = call(&mut sender);
    let frames = peer.says(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await;
    assert!(frames.iter().any(|frame| frame.kind == HEADERS && frame.id == 3));
    let error = second.await.unwrap().unwrap_err();
    assert_eq!((error.is_go_away(), error.is_remote(), error.reason()), (true, true, Some(Reason::NO_ERROR)));
    assert!(sender.is_closed() && !first.is_finished());
    let error = sender.clone().ready().await.unwrap_err();
    assert_eq!((error.is_go_away(), error.is_remote(), error.reason()), (true, true, Some(Reason::NO_ERROR)));
    peer.send(&[head(0, &[0x88]), frame(DATA, END, 1, b"abc")].concat()).await;
    assert_eq!(first.await.unwrap().unwrap().1.unwrap().0, b"abc");
    drop(_one);
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_wait_for_the_peers_limit_and_fail_with_its_goaway() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut peer = RawPeer { io: far };
    let (mut sender, connection) = Builder::new().initial_max_send_streams(1).handshake(near).await.unwrap();
    assert_eq!(connection.max_concurrent_send_streams(), 1);
    tokio::spawn(connection);
    let (one, _one) = call(&mut sender);
    let mut other = sender.clone();
    let (two, _two) = call(&mut other);
    let mut preface = [0; 24];
    tokio::io::AsyncReadExt::read_exact(&mut peer.io, &mut preface).await.unwrap();
    let frames = peer.says(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1])).await;
    assert_eq!(frames.iter().filter(|frame| frame.kind == HEADERS).count(), 1, "{frames:?}");
    assert_eq!(sender.max_concurrent_send_streams(), 1);
    peer.says(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await;
    assert!(two.await.unwrap().unwrap_err().is_go_away());
    assert!(!one.is_finished());
}

#[tokio::test]
async fn settings_without_a_limit_lift_it() {
    let (mut peer, sender, _answer, _stream, _ended) = calling().await;
    peer.says(&[]).await;
    assert_eq!(sender.max_concurrent_send_streams(), usize::MAX);
}

#[tokio::test]
async fn the_last_handle_ends_the_connection() {
    let (mut peer, sender, answer, stream, ended) = calling().await;
    peer.says(&head(END, &[0x88])).await;
    answer.await.unwrap().unwrap().1.unwrap();
    drop(sender);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!ended.is_finished(), "a request is still being sent");
    drop(stream);
    ended.await.unwrap().unwrap();
    let frames = [peer.next().await, peer.next().await, peer.next().await];
    let reasons: Vec<_> = frames.iter().flatten().map(|frame| (frame.kind, frame.reason())).collect();
    assert_eq!(reasons, [(RST_STREAM, Some(8)), (GOAWAY, Some(0))]);
}

#[tokio::test]
async fn a_cut_inside_a_frame_is_an_error() {
    let (mut peer, _sender, answer, _stream, ended) = calling().await;
    peer.send(&head(0, &[0x88])[..5]).await;
    drop(peer);
    assert!(answer.await.unwrap().unwrap_err().is_io());
    assert!(ended.await.unwrap().unwrap_err().is_io());
}
