//! Calls between applications in full: forms of address, what is translated between the protocols, streams, hosts outside.

mod addresses;
mod many_streams;
mod mapping;
mod outside;
mod streams;
