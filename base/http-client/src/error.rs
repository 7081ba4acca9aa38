//! Why there is no answer.

use std::io;
use std::time::Duration;

/// See the module text; each names the server and what was being done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL this client can be sent to.
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    /// No connection.
    #[error("connecting to {0}: {1}")]
    Connect(String, #[source] io::Error),
    /// No trust, or no TLS at all.
    #[error("TLS with {0}: {1}")]
    Tls(String, #[source] io::Error),
    /// This system trusts nobody.
    #[error("no root certificates found on this system (install the package ca-certificates)")]
    Roots,
    /// A certificate or key that was given cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// The connection broke, or what came was no HTTP.
    #[error("request to {0}: {1}")]
    Exchange(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// More bytes than allowed.
    #[error("request to {0}: the answer has more than {1} bytes")]
    TooLarge(String, usize),
    /// More time than allowed.
    #[error("request to {0}: no full answer within {seconds} s", seconds = .1.as_secs_f32())]
    Timeout(String, Duration),
    /// Sent from one to the next.
    #[error("stopped after {0} redirects, at {1}")]
    Redirects(usize, String),
}
