//! `nameresolution.nameformat`: an app's address is its id, put into a pattern.
//!
//! *Source:* components-contrib nameresolution/nameformat. Two things are ours: a pattern without a port gets the internal port
//! of this sidecar (the original's own example has none, and fails), and gRPC's prefix `dns:///` is taken off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use pillion_contract::{ComponentError, ErrorKind, InitContext, NameResolver, Registration, ResolveRequest};

use crate::join_host_port;

const PLACEHOLDER: &str = "{appid}";

/// The component; see the module text.
pub struct NameFormatResolver {
    format: String,
    has_port: bool,
    /// Of this sidecar; all sidecars are taken to use the same.
    port: AtomicU16,
}

/// Makes the component from its one field, `format`.
///
/// # Errors
/// `InvalidRequest` for a format that is missing or has no place for the app id.
pub async fn create(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let invalid = |message: &str| ComponentError::new(ErrorKind::InvalidRequest, message);
    let format = context.metadata.first_of(&["format"]).ok_or_else(|| {
        invalid("format is required in metadata: for example \"{appid}.internal:50002\", in spec.nameResolution.configuration")
    })?;
    if !format.contains(PLACEHOLDER) {
        return Err(invalid(&format!("format must contain {{appid}} placeholder: {format:?} does not")));
    }
    let format = format.strip_prefix("dns:///").unwrap_or(format).to_owned();
    let has_port = format.rsplit_once(':').is_some_and(|(host, port)| {
        let is_inside_brackets = host.contains('[') && !host.contains(']');
        !is_inside_brackets && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    context.log.debug(format_args!("Initialized with format: {format}"));
    Ok(Arc::new(NameFormatResolver { format, has_port, port: AtomicU16::new(0) }))
}

#[async_trait]
impl NameResolver for NameFormatResolver {
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        self.port.store(registration.internal_port, Ordering::Relaxed);
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        if request.app_id.is_empty() {
            return Err(ComponentError::new(ErrorKind::InvalidRequest, "empty ID not allowed"));
        }
        let address = self.format.replace(PLACEHOLDER, &request.app_id);
        let port = || self.port.load(Ordering::Relaxed);
        Ok(vec![if self.has_port { address } else { join_host_port(&address, port()) }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{context, question, registration};

    async fn resolver(format: &str) -> Result<Arc<dyn NameResolver>, ComponentError> {
        create(context("nameresolution.nameformat", &[("format", format)])).await
    }

    #[tokio::test]
    async fn the_id_is_put_into_the_pattern() {
        let cases = [
            ("{appid}.internal:50002", "shop.internal:50002"),
            ("{appid}-{appid}:1", "shop-shop:1"),
            ("service-{appid}.default.svc.cluster.local", "service-shop.default.svc.cluster.local:41000"),
            ("dns:///{appid}:7", "shop:7"),
            ("[fd00::{appid}]", "[fd00::shop]:41000"),
            ("[fd00::{appid}]:7", "[fd00::shop]:7"),
        ];
        for (format, wanted) in cases {
            let resolver = resolver(format).await.unwrap();
            resolver.register(registration("me", 41_000)).await.unwrap();
            assert_eq!(resolver.resolve(&question("shop")).await.unwrap(), [wanted]);
        }
        let nobody = resolver("{appid}").await.unwrap().resolve(&question("")).await.unwrap_err();
        assert_eq!(nobody.to_string(), "empty ID not allowed");
    }

    #[tokio::test]
    async fn a_format_needs_a_place_for_the_id() {
        let error = resolver("").await.err().unwrap().to_string();
        assert!(error.starts_with("format is required in metadata: "), "{error}");
        let error = resolver("host:1").await.err().unwrap().to_string();
        assert_eq!(error, "format must contain {appid} placeholder: \"host:1\" does not");
    }
}
