//! The same calls between our two sides, and between each of them and the `h2` crate.
//!
//! *Neighbours:* `suite.rs` holds the calls; it is compiled once for each pair of client and server.

#![allow(clippy::unwrap_used)] // tests

/// Our client and server.
mod ours {
    pub(crate) mod client {
        pub(crate) use pillion_http2::client::{Builder, Connection, SendRequest};
        pub(crate) type Sending = pillion_http2::SendStream;

        pub(crate) async fn connect(
            builder: &Builder,
            io: tokio::io::DuplexStream,
        ) -> (SendRequest, Connection<tokio::io::DuplexStream>) {
            builder.handshake(io).await.unwrap()
        }

        pub(crate) async fn ping(pings: &mut pillion_http2::PingPong) {
            pings.ping(pillion_http2::Ping::opaque()).await.unwrap();
        }
    }
    pub(crate) mod server {
        pub(crate) use pillion_http2::server::{Builder, Connection, SendResponse};
        pub(crate) use pillion_http2::{Reason, RecvStream};

        pub(crate) async fn serve(
            builder: &Builder,
            io: tokio::io::DuplexStream,
        ) -> Connection<tokio::io::DuplexStream> {
            builder.handshake(io).await.unwrap()
        }
    }
    pub(crate) use pillion_http2::{Reason, RecvStream};
}

/// Those of the `h2` crate.
mod theirs {
    pub(crate) mod client {
        use bytes::Bytes;
        pub(crate) use h2::client::Builder;
        pub(crate) type SendRequest = h2::client::SendRequest<Bytes>;
        pub(crate) type Sending = h2::SendStream<Bytes>;
        pub(crate) type Connection<IO> = h2::client::Connection<IO, Bytes>;

        pub(crate) async fn connect(
            builder: &Builder,
            io: tokio::io::DuplexStream,
        ) -> (SendRequest, Connection<tokio::io::DuplexStream>) {
            builder.handshake(io).await.unwrap()
        }

        pub(crate) async fn ping(pings: &mut h2::PingPong) {
            pings.ping(h2::Ping::opaque()).await.unwrap();
        }
    }
    pub(crate) mod server {
        use bytes::Bytes;
        pub(crate) use h2::server::Builder;
        pub(crate) use h2::{Reason, RecvStream};
        pub(crate) type SendResponse = h2::server::SendResponse<Bytes>;
        pub(crate) type Connection<IO> = h2::server::Connection<IO, Bytes>;

        pub(crate) async fn serve(
            builder: &Builder,
            io: tokio::io::DuplexStream,
        ) -> Connection<tokio::io::DuplexStream> {
            builder.handshake(io).await.unwrap()
        }
    }
    pub(crate) use h2::{Reason, RecvStream};
}

mod ours_with_ours {
    use super::ours::client::{self, Sending, connect, ping};
    use super::ours::server::{self, serve};
    use super::ours::{Reason, RecvStream};
    include!("suite.rs");
}

mod our_client_with_h2 {
    use super::ours::client::{self, Sending, connect, ping};
    use super::ours::{Reason, RecvStream};
    use super::theirs::server::{self, serve};
    include!("suite.rs");
}

mod our_server_with_h2 {
    use super::ours::server::{self, serve};
    use super::theirs::client::{self, Sending, connect, ping};
    use super::theirs::{Reason, RecvStream};
    include!("suite.rs");
}
