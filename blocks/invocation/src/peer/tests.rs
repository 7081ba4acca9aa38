//! Which connections are kept, and for whom.

use super::*;

#[test]
fn plain_connections_are_not_kept_longer_than_what_offered_them() {
    let peers = PeerPool::new(0, Logger::silent());
    let target = Target { app_id: "a".to_owned(), namespace: "default".to_owned() };
    peers.offered(&target, "127.0.0.1:1", None);
    assert!(peers.direct_to(&target, "127.0.0.1:1").is_some());
    peers.purge(IDLE_LIMIT);
    assert!(peers.direct.lock().is_empty());
}

#[tokio::test]
async fn a_connection_with_a_stream_is_never_idle() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while connection.accept().await.is_some() {}
    });
    let peers = PeerPool::new(0, Logger::silent());
    let target = Target { app_id: "a".to_owned(), namespace: "default".to_owned() };
    let one = peers.lease(&target, &address).await.unwrap();
    let other = peers.lease(&target, &address).await.unwrap();
    drop(other.guard);
    peers.purge(Duration::ZERO);
    assert_eq!(peers.connections.lock().len(), 1, "one stream is left");
    drop(one.guard);
    peers.purge(IDLE_LIMIT);
    assert_eq!(peers.connections.lock().len(), 1, "it was used a moment ago");
    peers.purge(Duration::ZERO);
    assert!(peers.connections.lock().is_empty());
}

#[test]
fn a_connection_is_for_the_identity_it_was_made_with() {
    let target = |app_id: &str| Target { app_id: app_id.to_owned(), namespace: "default".to_owned() };
    assert!(Proven(None).is(&target("a")));
    assert!(Proven(Some(target("a"))).is(&target("a")));
    assert!(!Proven(Some(target("a"))).is(&target("b")));
}
