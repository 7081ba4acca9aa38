//! Clients of the gRPC API that break HTTP/2, or use it to harm: they lose their connection, others do not notice.

use std::time::Duration;

use pillion_proto::runtime::v1::GetMetadataRequest;
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_testkit::{Binary, Sidecar, SidecarOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{resident, unique};

const LIMIT: Duration = Duration::from_secs(20);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GOAWAY: u8 = 7;

/// A frame: kind, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a call: POST http://a/, all from the static table but the authority.
fn head(stream: u32) -> Vec<u8> {
    frame(1, 4, stream, &[0x83, 0x86, 0x84, 0x41, 1, b'a'])
}

/// Sends until the server has enough, and gives what it said, as kinds of frames; `None` when it does not close.
async fn said(sidecar: &Sidecar, begin: &[u8], rest: impl Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.grpc)).await.unwrap();
    stream.write_all(begin).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for bytes in rest {
            if writer.write_all(&bytes).await.is_err() {
                return; // it has closed
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        // A reset is an end too: what was sent after the end was never read.
        while let Ok(count) = reader.read(&mut chunk).await
            && count > 0
        {
            answer.extend_from_slice(&chunk[..count]);
        }
    };
    let ended = async {
        tokio::select! {
            () = write => {}
            () = read => {}
        }
    };
    tokio::time::timeout(LIMIT, ended).await.ok()?;
    let mut kinds = Vec::new();
    let mut left = &answer[..];
    while let [a, b, c, kind, ..] = left {
        kinds.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize + 9;
        left = left.get(length..).unwrap_or_default();
    }
    Some(kinds)
}

async fn is_served(sidecar: &Sidecar) {
    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap();
    client.get_metadata(GetMetadataRequest {}).await.unwrap();
}

#[tokio::test]
async fn what_is_no_http2_is_told_so() {
    let sidecar = SidecarOptions::new(&unique("wire")).start().await.unwrap();
    let opened = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for (what, begin) in [
        ("HTTP/1.1", b"GET /v1.0/healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("DATA on stream 0", [&opened[..], &frame(0, 0, 0, b"x")].concat()),
        ("a stream of the server's", [&opened[..], &head(2)].concat()),
        ("a frame that is too long", [&opened[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat()),
        ("a block that is no HPACK", [&opened[..], &frame(1, 4, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])].concat()),
    ] {
        let kinds = said(&sidecar, &begin, std::iter::empty()).await;
        let kinds = kinds.unwrap_or_else(|| panic!("{what}: the connection stays open"));
        // The original only closes where it has not seen the beginning of HTTP/2.
        let told = kinds.last() == Some(&GOAWAY);
        assert!(told || !Binary::find().unwrap().is_ours(), "{what}: {kinds:?}");
    }
    is_served(&sidecar).await;
}

#[tokio::test]
async fn calls_that_are_reset_as_soon_as_they_begin_end_their_connection() {
    let sidecar = SidecarOptions::new(&unique("wire")).start().await.unwrap();
    let begin = [PREFACE, &frame(4, 0, 0, &[])].concat();
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let calls = (0..200_000_u32).map(|number| [head(2 * number + 1), frame(3, 0, 2 * number + 1, &CANCEL)].concat());
    let calls: Vec<Vec<u8>> = calls.collect::<Vec<_>>().chunks(1000).map(<[Vec<u8>]>::concat).collect();
    let cut_off = said(&sidecar, &begin, calls.into_iter()).await;
    assert!(cut_off.is_some() || !Binary::find().unwrap().is_ours(), "the connection stays open");
    is_served(&sidecar).await;
}

#[tokio::test]
async fn who_never_reads_makes_the_sidecar_keep_little() {
    let sidecar = SidecarOptions::new(&unique("wire")).start().await.unwrap();
    let before = resident(&sidecar);
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.grpc)).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    // Each asks for an answer, until nothing more is taken.
    let pings = frame(6, 0, 0, b"pingping").repeat(1000);
    let mut sent = 0;
    while sent < 64 << 20 {
        match tokio::time::timeout(Duration::from_secs(1), stream.write(&pings[sent % pings.len()..])).await {
            Ok(Ok(count)) => sent += count,
            Ok(Err(_)) => break, // the original ends such a connection
            Err(_) => break,     // nothing more is taken
        }
    }
    let grown = resident(&sidecar).saturating_sub(before);
    println!("{sent} bytes sent, grown by {grown} KiB");
    assert!(grown < 8 * 1024 || !Binary::find().unwrap().is_ours(), "{sent} bytes sent, grown by {grown} KiB");
    is_served(&sidecar).await;
}
