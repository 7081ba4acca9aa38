//! The sentry of this machine, as part of this process: for `dapr run --mtls`.
//!
//! *Neighbours:* the control plane is another part of the program, which hands over a [`StartSentry`]. *Invariant:* every command
//! on this machine uses the same authority, in the data directory of its runtime.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;

use anyhow::{Result, anyhow};

use crate::context::Context;
use crate::settings::Settings;

/// Starts a sentry with the authority of a directory.
pub type StartSentry = fn(PathBuf) -> Pin<Box<dyn Future<Output = Result<RunningSentry, String>>>>;

/// A sentry that runs until this is dropped.
pub struct RunningSentry {
    /// Where it takes requests.
    pub address: SocketAddr,
    /// The file with its trust anchors.
    pub roots: PathBuf,
    /// Ends it when dropped.
    pub running: Box<dyn Any>,
}

impl fmt::Debug for RunningSentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunningSentry({})", self.address)
    }
}

/// Says what is missing when a Configuration asks for mutual TLS and nobody gives the roots.
pub(crate) fn hint(context: &Context, settings: &Settings) {
    let given = |name: &str| context.variable(name).is_some();
    if settings.sentry.is_some()
        && settings.trust_anchors.is_none()
        && !given("DAPR_TRUST_ANCHORS")
        && !given("DAPR_TRUST_ANCHORS_FILE")
    {
        context.console.warning(&format!(
            "The Configuration of {} asks for mTLS: add --mtls for certificates of this machine, or set DAPR_TRUST_ANCHORS_FILE \
             to the ca.crt of a sentry that runs",
            settings.app_id
        ));
    }
}

/// Starts it when it is wanted.
pub(crate) async fn start(context: &Context, wanted: bool) -> Result<Option<RunningSentry>> {
    if !wanted {
        return Ok(None);
    }
    let directory = context.runtime.data().join("sentry");
    let sentry = (context.sentry)(directory).await;
    let sentry = sentry.map_err(|error| anyhow!("mutual TLS is not possible, sentry did not start: {error}"))?;
    context.console.info(&format!(
        "Mutual TLS is on: sentry at {}, roots in {}",
        sentry.address,
        sentry.roots.display()
    ));
    Ok(Some(sentry))
}

/// For tests that start none.
#[cfg(test)]
pub(crate) fn none(_: PathBuf) -> Pin<Box<dyn Future<Output = Result<RunningSentry, String>>>> {
    Box::pin(async { Err("none in tests".to_owned()) })
}
