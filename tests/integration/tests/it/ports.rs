//! Every port a flag names is open, and the public port serves only health and metadata.

use http::Method;
use pillion_testkit::{SidecarOptions, request};
use tokio::net::TcpStream;

use crate::fixture::unique;

#[tokio::test]
async fn all_are_open() {
    let sidecar = SidecarOptions::new(&unique("ports")).start().await.unwrap();
    for port in [sidecar.http, sidecar.grpc, sidecar.internal, sidecar.metrics, sidecar.public] {
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }
}

#[tokio::test]
async fn the_profile_port_is_open_when_asked_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = SidecarOptions::new(&unique("ports")).flag("--enable-profiling");
    let _sidecar = options.flag(&format!("--profile-port={port}")).start().await.unwrap();
    for (path, status) in [("/debug/pprof/", 200), ("/debug/pprof/cmdline", 200), ("/", 404)] {
        let reply = request(port, Method::GET, path, &[], "").await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn the_public_one_serves_health_and_metadata_only() {
    let sidecar = SidecarOptions::new(&unique("ports")).start().await.unwrap();
    for (path, status) in [("/v1.0/healthz", 204), ("/v1.0/metadata", 200), ("/v1.0/state/mystore/key", 404)] {
        let reply = request(sidecar.public, Method::GET, path, &[], "").await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{path}");
    }
}
