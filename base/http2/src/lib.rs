//! HTTP/2 for gRPC messages: client and server, over any byte stream.
//!
//! *Job:* RFC 9113 with HPACK (RFC 7541), without upgrade, push and priorities, at little cost per call. The API is the
//! part of the `h2` crate's that calls need, with the same names and meanings, for bodies of [`bytes::Bytes`].
//! *Neighbours:* whoever serves or makes gRPC calls; nothing of ours is imported. *Invariant:* what is sent is encoded
//! straight into the one output buffer of its connection, under the connection's lock, and leaves with whatever else is
//! ready in the same turn of the event loop; only payload that has no room (window, output buffer) waits, in its
//! stream.
//!
//! The files, from the wire up: `frame`, `settings`, `hpack`, `head` (fields and their rules), `streams` (what is known
//! of each) and `line`, `state` (what is known of the connection), `input` and `fields` (what the peer says), `output`
//! and `pump` (what is said), `flow` (windows), `lifecycle` (ends of streams and connections), `parser` (frames out of
//! bytes), `driver` (I/O), and the handles `client`, `server`, `send`, `recv`, `ping`.

pub mod client;
mod driver;
mod error;
mod fields;
mod flood;
mod flow;
mod frame;
mod head;
mod hpack;
mod input;
mod lifecycle;
mod line;
mod output;
mod parser;
mod ping;
mod pump;
mod recv;
mod send;
pub mod server;
mod settings;
mod state;
mod streams;
#[cfg(test)]
mod tests;

pub use error::{Error, Reason};
pub use ping::{Ping, PingPong, Pong};
pub use recv::{FlowControl, RecvStream};
pub use send::SendStream;
