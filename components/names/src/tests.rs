//! What the tests of this crate share.

use pillion_contract::{InitContext, Metadata, Registration, ResolveRequest};
use pillion_core::log::Logger;

/// A context as the sidecar would pass it.
pub(crate) fn context(component_type: &str, metadata: &[(&str, &str)]) -> InitContext {
    InitContext {
        name: "test".into(),
        component_type: component_type.into(),
        version: "v1".into(),
        metadata: Metadata::new(metadata.iter().copied()),
        app_id: "test-app".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir().join(format!("pillion-names-{}", std::process::id())),
        log: Logger::silent(),
        cancel: tokio_util::sync::CancellationToken::new(),
    }
}

/// A sidecar on this machine.
pub(crate) fn registration(app_id: &str, port: u16) -> Registration {
    Registration {
        app_id: app_id.into(),
        namespace: "default".into(),
        host: "127.0.0.1".into(),
        local_host: "127.0.0.1".into(),
        internal_port: port,
        http_port: 3500,
        app_port: Some(8080),
    }
}

/// A question for an app of the same namespace.
pub(crate) fn question(app_id: &str) -> ResolveRequest {
    ResolveRequest { app_id: app_id.into(), namespace: "default".into() }
}

#[test]
fn ipv6_hosts_get_brackets() {
    assert_eq!(super::join_host_port("::1", 80), "[::1]:80");
    assert_eq!(super::join_host_port("[::1]", 80), "[::1]:80");
    assert_eq!(super::join_host_port("10.0.0.1", 80), "10.0.0.1:80");
}
