//! HTTP/2 on a connection to another sidecar, for as long as anything comes from there.
//!
//! *Neighbours:* [`super`] dials and keeps what comes out of here.

use std::time::Duration;

use pillion_http2::client::SendRequest;
use pillion_runtime::http2::alive::{PING_INTERVAL, PING_TIMEOUT, listen, until_silent};
use pillion_runtime::http2::{CONNECTION_WINDOW, STREAM_WINDOW};
use tokio::io::{AsyncRead, AsyncWrite};

/// Begins HTTP/2 on a connection.
pub(super) async fn establish<S>(stream: S) -> Result<SendRequest, pillion_http2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    establish_with(stream, PING_INTERVAL, PING_TIMEOUT).await
}

async fn establish_with<S>(
    stream: S,
    interval: Duration,
    timeout: Duration,
) -> Result<SendRequest, pillion_http2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, heard) = listen(stream);
    let (sender, mut connection) = pillion_http2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await?;
    let pings = connection.ping_pong();
    tokio::spawn(async move {
        // Its streams get the error, also when it is dropped because nobody answers. First what has arrived is read: after
        // a standstill of this process it is there together with the end of the wait.
        tokio::select! {
            biased;
            _ = connection => {}
            () = until_silent(pings, heard, interval, timeout) => {}
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// An empty SETTINGS frame, and a WINDOW_UPDATE of one byte.
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const UPDATE: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[tokio::test]
    async fn who_sends_without_answering_pings_is_alive_and_who_sends_nothing_is_not() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_millis(200));
        let sender = establish_with(near, interval, timeout).await.unwrap();
        far.write_all(SETTINGS).await.unwrap();
        for _ in 0..50 {
            far.write_all(UPDATE).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sender.clone().ready().await.expect("it sends");
        let is_given_up = async {
            while sender.clone().ready().await.is_ok() {
                tokio::time::sleep(interval).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_given_up).await.expect("it is silent");
    }
}
