//! What costs us something and is of no use to anybody is bounded.

use std::time::Duration;

use http::{Request, Response};
use pillion_http2::server::Builder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::peer::*;

const CALM: Option<u32> = Some(11);

/// Sends `bytes` again and again while somebody reads what comes back; answers the reason of the GOAWAY.
async fn flooded(peer: RawPeer, first: Vec<u8>, mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> Option<u32> {
    let (mut read, mut write) = tokio::io::split(peer.io);
    let writing = tokio::spawn(async move {
        if write.write_all(&first).await.is_err() {
            return;
        }
        for number in 0..200_000 {
            if write.write_all(&next(number)).await.is_err() {
                return;
            }
        }
    });
    let mut all = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(60), read.read_to_end(&mut all));
    let ended = reading.await.is_ok();
    writing.abort();
    assert!(ended, "the flood is borne for ever");
    // The last frame that is whole and not of a stream.
    let mut rest = all.as_slice();
    let mut reason = None;
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        if rest[3] == GOAWAY {
            reason = Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
        }
        rest = &rest[9 + length..];
    }
    reason
}

#[tokio::test]
async fn requests_that_are_reset_at_once() {
    let (peer, _serving) = server_with(Builder::new(), 1 << 16).await;
    let reason = flooded(peer, vec![], |number| {
        let id = number * 2 + 1;
        [post(id, END), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    });
    assert_eq!(reason.await, CALM);
}

#[tokio::test]
async fn requests_we_have_to_reset() {
    let (peer, _serving) = server_with(Builder::new(), 1 << 16).await;
    assert_eq!(flooded(peer, vec![], |number| post_with(number * 2 + 1, END, &[("A", "b")])).await, CALM);
}

#[tokio::test]
async fn data_without_data() {
    let (peer, _serving) = server_with(Builder::new(), 1 << 16).await;
    assert_eq!(flooded(peer, post(1, 0), |_| frame(DATA, 0, 1, &[])).await, CALM);
}

#[tokio::test]
async fn blocks_without_end() {
    for part in [0, 1, 10_000] {
        let (peer, _serving) = server_with(Builder::new(), 1 << 16).await;
        let begin = frame(HEADERS, END, 1, POST);
        assert_eq!(flooded(peer, begin, move |_| frame(CONTINUATION, 0, 1, &vec![0x82; part])).await, CALM);
    }
}

#[tokio::test]
async fn one_byte_that_stands_for_many() {
    let mut builder = Builder::new();
    builder.max_header_list_size(16_384);
    let (mut peer, _serving) = server_with(builder, 1 << 16).await;
    let mut block = vec![0x40, 1, b'a', 0x7f, 0x81, 0x1e]; // a value of 4000 bytes
    block.extend_from_slice(&[b'v'; 4000]);
    peer.send(&frame(HEADERS, END | WHOLE, 1, &[POST, &block, &[0xbe; 1000]].concat())).await;
    let mut last = None;
    while let Some(frame) = peer.next().await {
        last = Some(frame);
    }
    assert_eq!(last.unwrap().reason(), CALM);
}

/// Who does not take our answers is not read any more.
#[tokio::test]
async fn questions_without_end() {
    for question in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[]), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])] {
        let answered = question[3] != PRIORITY;
        let (mut peer, serving) = server_with(Builder::new(), 1024).await;
        let many = question.repeat(100);
        let mut sent = 0;
        while sent < 4_000_000 {
            match tokio::time::timeout(Duration::from_millis(200), peer.io.write(&many[sent % many.len()..])).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => break,
            }
        }
        assert_eq!(sent < 200_000, answered, "{sent}");
        if answered {
            // Once they are taken it goes on.
            let (mut read, mut write) = tokio::io::split(peer.io);
            tokio::spawn(async move { read.read_to_end(&mut Vec::new()).await });
            for _ in 0..1000 {
                let rest = &many[sent % many.len()..];
                tokio::time::timeout(Duration::from_secs(5), write.write_all(rest)).await.unwrap().unwrap();
                sent += rest.len();
            }
        }
        assert!(!serving.is_finished());
    }
}

#[tokio::test]
async fn many_cancelled_calls_are_no_flood() {
    let (mut peer, _serving) = server_with(Builder::new(), 1 << 16).await;
    for round in 0..20 {
        let ids = (0..100).map(|number| (round * 100 + number) * 2 + 1);
        peer.says(&ids.clone().flat_map(|id| post(id, 0)).collect::<Vec<_>>()).await;
        let frames = peer.says(&ids.flat_map(|id| frame(RST_STREAM, 0, id, &[0, 0, 0, 8])).collect::<Vec<_>>()).await;
        assert!(frames.is_empty(), "{frames:?}");
    }
}

/// A gigabyte would do; what is measured is that what is not sent stays where it is.
#[tokio::test]
async fn senders_wait_for_slow_readers() {
    let (near, far) = tokio::io::duplex(1 << 12);
    let mut connection = Builder::new();
    connection.initial_window_size(1 << 20).initial_connection_window_size(1 << 30);
    let mut client = pillion_http2::client::Builder::new();
    client.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (mut sender, driving) = client.handshake(near).await.unwrap();
    let driving = tokio::spawn(driving);
    let (told, mut hear) = tokio::sync::watch::channel(0usize);
    tokio::spawn(async move {
        let mut connection = connection.handshake(far).await.unwrap();
        let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let piece = bytes::Bytes::from(vec![1; 50_000]);
        loop {
            stream.reserve_capacity(piece.len());
            while stream.capacity() < 1000 {
                std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                stream.reserve_capacity(piece.len());
            }
            let part = piece.slice(..stream.capacity().min(piece.len()));
            told.send_modify(|sent| *sent += part.len());
            if stream.send_data(part, false).is_err() {
                return;
            }
        }
    });
    let (answer, _sending) = sender.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    hear.changed().await.unwrap();
    // The client's driver does not run any more: nobody takes anything off the pipe.
    driving.abort();
    let _ = driving.await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut received = 0;
    while let Some(Ok(data)) = body.data().await {
        received += data.len();
    }
    let sent = *hear.borrow();
    assert!(sent - received < 600_000, "{sent} sent, {received} received");
}

/// Who takes no answers is not asked for more of them.
#[tokio::test]
async fn requests_of_who_reads_nothing() {
    let (mut peer, serving) = server_with(Builder::new(), 1024).await;
    let mut sent = 0;
    let mut id = 1;
    while sent < 100_000_000 {
        let many: Vec<u8> = (0..100).flat_map(|number| post(id + number * 2, END)).collect();
        id += 200;
        match tokio::time::timeout(Duration::from_millis(500), peer.io.write_all(&many)).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        sent += many.len();
    }
    assert!(sent < 10_000_000, "{sent} bytes of requests were taken");
    assert!(!serving.is_finished());
}
