//! Our two sides against a peer that speaks bytes, not HTTP/2: what is forbidden is refused, what floods is bounded, and nothing
//! that comes makes them hang or panic.

#![allow(clippy::unwrap_used)] // tests

mod client;
mod floods;
mod peer;
mod server;
mod soup;
