//! Frames at random, and conversations cut anywhere.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use pillion_http2::{client, server};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;

use super::peer::*;

/// Frames that are nearly right, so that some get far.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![4 => Just(1u32), 3 => Just(3), 2 => Just(5), 1 => Just(0), 1 => 0u32..20, 1 => any::<u32>()];
    let payload = prop_oneof![
        3 => Just(POST.to_vec()),
        2 => Just(vec![0x88]),
        1 => Just(literal("a", "b")),
        1 => Just(vec![]),
        1 => prop::collection::vec(any::<u8>(), 4..=4),
        1 => Just(vec![0, 0, 0, 8]),
        1 => Just(vec![0, 4, 0, 0, 0, 9]),
        1 => Just(vec![0, 3, 0, 0, 0, 1]),
        1 => Just(vec![0, 1, 0, 0, 0, 0]),
        1 => prop::collection::vec(any::<u8>(), 8..=8),
        2 => prop::collection::vec(any::<u8>(), 0..100),
        1 => Just(vec![0; 5000]),
    ];
    let flags = prop_oneof![4 => Just(4u8), 3 => Just(5), 1 => Just(0), 1 => Just(1), 1 => any::<u8>()];
    let frames = prop::collection::vec((prop_oneof![9 => 0u8..10, 1 => any::<u8>()], flags, id, payload), 0..30);
    frames.prop_map(|frames| {
        frames.iter().flat_map(|(kind, flags, id, payload)| frame(*kind, *flags, *id, payload)).collect()
    })
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), work).await.expect("it hangs") });
}

/// Writes in pieces while reading, then ends; returns what came back.
async fn feed(io: tokio::io::DuplexStream, bytes: Vec<u8>, piece: usize) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(io);
    let writing = tokio::spawn(async move {
        for part in bytes.chunks(piece) {
            if write.write_all(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    });
    let mut all = Vec::new();
    read.read_to_end(&mut all).await.unwrap();
    writing.await.unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::default())] // PROPTEST_CASES tells how many

    #[test]
    fn servers_bear_anything(bytes in soup(), piece in 1usize..300) {
        run(async {
            let (near, far) = tokio::io::duplex(1 << 12);
            let mut builder = server::Builder::new();
            builder.max_concurrent_streams(3).max_header_list_size(1000);
            let serving = tokio::spawn(serve_on(builder, far));
            feed(near, [PREFACE, &frame(SETTINGS, 0, 0, &[]), &bytes].concat(), piece).await;
            serving.await.unwrap();
        });
    }

    #[test]
    fn clients_bear_anything(bytes in soup(), piece in 1usize..300) {
        run(async {
            let (near, far) = tokio::io::duplex(1 << 12);
            let (sender, connection) = client::Builder::new().handshake(near).await.unwrap();
            let ended = tokio::spawn(connection);
            let calls: Vec<_> = (0..3).map(|number| {
                let mut sender = sender.clone();
                tokio::spawn(async move {
                    let request = Request::post("http://a/").body(()).unwrap();
                    let Ok((answer, mut stream)) = sender.send_request(request, false) else { return };
                    let _ = stream.send_data(vec![7; number * 1000].into(), number == 1);
                    if let Ok(answer) = answer.await {
                        let _ = read(&mut answer.into_body()).await;
                    }
                })
            }).collect();
            feed(far, [frame(SETTINGS, 0, 0, &[]), bytes].concat(), piece).await;
            for call in calls {
                call.await.unwrap();
            }
            let _ = ended.await.unwrap();
        });
    }

    #[test]
    fn bytes_are_borne_as_well(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        run(async {
            let (near, far) = tokio::io::duplex(1 << 12);
            let serving = tokio::spawn(serve_on(server::Builder::new(), far));
            feed(near, [PREFACE, &frame(SETTINGS, 0, 0, &[]), &bytes].concat(), 1000).await;
            serving.await.unwrap();
        });
    }
}

/// What a server saw of a conversation in these pieces.
async fn seen_by_server(parts: &[&[u8]]) -> Vec<String> {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let serving = tokio::spawn(async move {
        let mut connection = server::Builder::new().handshake(far).await.unwrap();
        let mut calls = Vec::new();
        while let Some(call) = connection.accept().await {
            let (request, mut respond) = call.unwrap();
            let noted = noted.clone();
            calls.push(tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                let (data, trailers) = read(&mut body).await.unwrap();
                let fields: Vec<_> = head.headers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
                noted.lock().await.push(format!("{} {} {fields:?} {data:?} {trailers:?}", head.method, head.uri));
                respond.send_response(Response::new(()), true).unwrap();
            }));
        }
        for call in calls {
            call.await.unwrap();
        }
    });
    for part in parts {
        near.write_all(part).await.unwrap();
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    let mut peer = RawPeer { io: near };
    let frames = peer.says(&[]).await;
    let answers = frames.iter().filter(|frame| frame.kind == HEADERS).count();
    peer.io.shutdown().await.unwrap();
    serving.await.unwrap();
    let mut seen = seen.lock().await.clone();
    seen.sort();
    seen.push(format!("{answers} answers"));
    seen
}

#[test]
fn conversations_may_be_cut_anywhere() {
    let bytes = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0x10, 0]),
        post(1, 0),
        frame(HEADERS, 0, 3, &POST[..3]),
        frame(CONTINUATION, WHOLE, 3, &[&POST[3..], literal("a", "b").as_slice()].concat()),
        frame(DATA, 0, 1, b"one"),
        frame(DATA, PADDED | END, 3, &[1, b't', b'w', b'o', 0]),
        frame(PING, 0, 0, b"whatever"),
        frame(0x77, 0, 0, b"what"),
        frame(HEADERS, END | WHOLE, 1, &literal("grpc-status", "0")),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        post_with(5, END, &[("x", "y")]),
    ]
    .concat();
    run(async {
        let whole = seen_by_server(&[&bytes]).await;
        assert_eq!(whole.len(), 4, "{whole:?}");
        for cut in 1..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let _ = tokio::time::timeout(Duration::from_millis(1), async {}).await;
            assert_eq!(seen_by_server(&[first, second]).await, whole, "cut at {cut}");
        }
        assert_eq!(seen_by_server(&bytes.chunks(1).collect::<Vec<_>>()).await, whole);
    });
}

#[test]
fn answers_may_be_cut_anywhere() {
    let bytes = [
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, WHOLE, 1, &literal(":status", "100")),
        frame(HEADERS, WHOLE, 1, &[0x88]),
        frame(DATA, 0, 1, b"abc"),
        frame(SETTINGS, ACK, 0, &[]),
        frame(DATA, PADDED, 1, &[2, b'd', 0, 0]),
        frame(HEADERS, END, 1, &literal("a", "b")),
        frame(CONTINUATION, WHOLE, 1, &literal("c", "d")),
    ]
    .concat();
    run(async {
        for cut in 0..bytes.len() {
            let (near, mut far) = tokio::io::duplex(1 << 16);
            let (mut sender, connection) = client::Builder::new().handshake(near).await.unwrap();
            tokio::spawn(connection);
            let request = Request::get("http://a/").body(()).unwrap();
            let (answer, _stream) = sender.send_request(request, true).unwrap();
            let answer = tokio::spawn(async move { read(&mut answer.await.unwrap().into_body()).await.unwrap() });
            for part in [&bytes[..cut], &bytes[cut..]] {
                far.write_all(part).await.unwrap();
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
            let (data, trailers) = answer.await.unwrap();
            assert_eq!((data.as_slice(), trailers.unwrap().len()), (b"abcd".as_slice(), 2), "cut at {cut}");
        }
    });
}
