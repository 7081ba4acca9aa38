//! HTTP/1.1 for the hot path: requests and answers whose bodies are small and of a known length.
//!
//! *Job:* what a sidecar does most, at the cost of a reverse proxy: one read, one parse, one write per message and side, with
//! no task and no channel in between. *Neighbours:* [`server`] is used by the HTTP front and the internal port, [`client`] by
//! the connection pool. `httparse` parses the heads; hyper takes over whatever is not plain: HTTP/2, HTTP/1.0, streamed
//! request bodies, upgrades, `Expect`, malformed heads. *Invariant:* a head is either understood whole or handed on untouched;
//! nothing is guessed.

mod chunked;
pub mod client;
mod head;
pub mod server;
#[cfg(test)]
mod tests;

pub use head::write_field;

/// Headers of one message; messages with more are left to hyper (requests) or refused (answers).
const HEADERS_MAX: usize = 100;
/// Room for one read.
const READ_BYTES: usize = 8 * 1024;
/// Bodies up to this size travel in one buffer with their head; copying them is cheaper than a second system call.
const COPIED_BODY_MAX: usize = 16 * 1024;
/// Buffers that have grown larger are not kept.
const KEPT_BUFFER_MAX: usize = 64 * 1024;
