//! The peer that speaks bytes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use pillion_http2::server::{Builder, Connection, SendResponse};
use pillion_http2::{Error, RecvStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const WHOLE: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 32;

/// POST http://a/ as a block.
pub(crate) const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    fn number_at(&self, place: usize) -> u32 {
        u32::from_be_bytes(self.payload[place..place + 4].try_into().unwrap())
    }

    /// What a GOAWAY or RST_STREAM says.
    pub(crate) fn reason(&self) -> Option<u32> {
        match self.kind {
            GOAWAY => Some(self.number_at(4)),
            RST_STREAM => Some(self.number_at(0)),
            _ => None,
        }
    }
}

pub(crate) fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Fields that are not in any table.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0, name.len() as u8];
    out.extend_from_slice(name.as_bytes());
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
    out
}

pub(crate) fn post(id: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags | WHOLE, id, POST)
}

pub(crate) fn post_with(id: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = POST.to_vec();
    for (name, value) in fields {
        block.extend_from_slice(&literal(name, value));
    }
    frame(HEADERS, flags | WHOLE, id, &block)
}

pub(crate) struct RawPeer {
    pub(crate) io: DuplexStream,
}

impl RawPeer {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await; // it may have ended already
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = self.io.read_exact(&mut head);
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("it says nothing").ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        let id = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], id, payload })
    }

    /// What comes until the end, or the answer to a ping of this name.
    pub(crate) async fn until_pong(&mut self, name: [u8; 8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            if frame.kind == PING && frame.flags == ACK && frame.payload == name {
                break;
            }
            frames.push(frame);
        }
        frames
    }

    /// Sends this, then a ping; answers the frames that came back.
    pub(crate) async fn says(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.send(bytes).await;
        // Let handlers run: what they have to say comes before the answer to the ping.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.send(&frame(PING, 0, 0, b"raw-peer")).await;
        self.until_pong(*b"raw-peer").await
    }
}

/// What became of a call at the server.
pub(crate) type Seen = Result<(Vec<u8>, Option<HeaderMap>), Error>;

/// A server on these bytes.
pub(crate) async fn serve_on(builder: Builder, io: DuplexStream) -> Option<Error> {
    match builder.handshake(io).await {
        Ok(connection) => serve(connection).await,
        Err(error) => Some(error),
    }
}

/// Reads requests whole, then answers `ok` and trailers.
async fn serve(mut connection: Connection<DuplexStream>) -> Option<Error> {
    while let Some(call) = connection.accept().await {
        match call {
            Ok((request, respond)) => {
                tokio::spawn(answer(request.into_body(), respond));
            }
            Err(error) => return Some(error),
        }
    }
    None
}

async fn answer(mut body: RecvStream, mut respond: SendResponse) {
    if read(&mut body).await.is_err() {
        return;
    }
    let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    if stream.send_data(Bytes::from_static(b"ok"), false).is_ok() {
        let _ = stream.send_trailers(trailers);
    }
}

pub(crate) async fn read(body: &mut RecvStream) -> Seen {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

/// A server of ours and the peer, after the preface and SETTINGS of both.
pub(crate) async fn server_with(builder: Builder, pipe: usize) -> (RawPeer, JoinHandle<Option<Error>>) {
    let (near, far) = tokio::io::duplex(pipe);
    let serving = tokio::spawn(serve_on(builder, far));
    let mut peer = RawPeer { io: near };
    peer.send(PREFACE).await;
    peer.send(&frame(SETTINGS, 0, 0, &[])).await;
    assert_eq!(peer.next().await.unwrap().kind, SETTINGS);
    loop {
        let next = peer.next().await.unwrap();
        if next.kind == SETTINGS {
            assert_eq!(next.flags, ACK);
            peer.send(&frame(SETTINGS, ACK, 0, &[])).await;
            return (peer, serving);
        }
    }
}
