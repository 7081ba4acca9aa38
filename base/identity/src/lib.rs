//! The SPIFFE identity of one process: asked of sentry, kept fresh, handed out for TLS.
//!
//! *Job:* [`Identity::obtain`] makes a key, has sentry sign a certificate for it and renews both before they end; trust anchors
//! come from a text or from a file that is watched. *Neighbours:* `security` has the cryptography, the sidecar holds the
//! [`Identity`] as long as it runs. *Invariant:* a private key never leaves the process; a bad renewal or a broken file of
//! anchors never replaces what works. *Source:* spec internals.md §5.2, §5.6.

mod anchors;
pub mod connector;
mod options;
mod renewal;
mod sentry;
mod token;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::RwLock;
use pillion_core::log::Logger;
use pillion_security::tls::{SharedAnchors, SharedIdentity};
use pillion_security::{MutualTls, SpiffeId};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use anchors::AnchorSource;
pub use options::{Options, sentry_id};
pub use sentry::Svid;
pub use token::TokenSource;

/// Why there is no identity. The text says what was asked where, and what to check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    text: String,
    reason: &'static str,
}

impl Error {
    fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self { text: text.into(), reason }
    }

    /// The word metrics have for it; empty when they have none.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

/// Told the word for each renewal that fails.
type FailureWatcher = Box<dyn Fn(&'static str) + Send + Sync>;

/// The identity of this process, renewed in the background until it is stopped or dropped.
pub struct Identity {
    id: Arc<SpiffeId>,
    tls: MutualTls,
    anchors: SharedAnchors,
    current: Arc<RwLock<Arc<Svid>>>,
    watcher: Arc<OnceLock<FailureWatcher>>,
    tasks: TaskTracker,
    _running: DropGuard,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id)
    }
}

impl Identity {
    /// Asks sentry for an identity; waits as long as sentry cannot be reached, and as long as a file of trust anchors is not
    /// there, and logs what it waits for. Must be called in a Tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When waiting cannot help: trust anchors or a token that cannot be used, or a refusal by sentry.
    pub async fn obtain(options: Options, log: Logger) -> Result<Self, Error> {
        let first = anchors::load(&options.anchors, &log).await?;
        let shared = SharedAnchors::new(first.anchors.clone());
        log.info("Fetching initial identity");
        let svid = sentry::first(&options, &shared, &log)
            .await
            .map_err(|error| Error::new(error.reason, format!("failed to retrieve the initial identity: {error}")))?;
        let unusable =
            |error: pillion_security::Error| Error::new("", format!("the new identity cannot be used: {error}"));
        let identity = SharedIdentity::new(&svid.chain, &svid.key).map_err(unusable)?;
        log.info(format_args!("Security is initialized successfully: this is {}", svid.id));

        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (id, tls) = (Arc::new(svid.id.clone()), MutualTls::new(identity.clone(), shared.clone()));
        let current = Arc::new(RwLock::new(Arc::new(svid)));
        let distrusted = Arc::new(Notify::new());
        let watcher = Arc::new(OnceLock::new());
        if let AnchorSource::File(path) = &options.anchors {
            let watch = anchors::Watch {
                path: path.clone(),
                seen: first.seen,
                shared: shared.clone(),
                own: current.clone(),
                distrusted: distrusted.clone(),
                log: log.clone(),
            };
            let cancel = cancel.clone();
            tasks.spawn(async move { cancel.run_until_cancelled(watch.run()).await });
        }
        let renewal = renewal::Renewal {
            options,
            anchors: shared.clone(),
            identity,
            current: current.clone(),
            distrusted,
            watcher: watcher.clone(),
            log,
        };
        let ending = cancel.clone();
        tasks.spawn(async move { ending.run_until_cancelled(renewal.run()).await });
        Ok(Self { id, tls, anchors: shared, current, watcher, tasks, _running: cancel.drop_guard() })
    }

    /// Who this process is.
    #[must_use]
    pub fn id(&self) -> &Arc<SpiffeId> {
        &self.id
    }

    /// What TLS is made with.
    #[must_use]
    pub fn tls(&self) -> &MutualTls {
        &self.tls
    }

    /// Calls `watcher` with [`Error::reason`] for each renewal that fails from now on. Only the first watcher counts.
    pub fn watch_failures(&self, watcher: impl Fn(&'static str) + Send + Sync + 'static) {
        let _ = self.watcher.set(Box::new(watcher)); // one is there already
    }

    /// The trust anchors now, as PEM.
    #[must_use]
    pub fn trust_anchors(&self) -> String {
        self.anchors.get().to_pem()
    }

    /// Certificate, key and tokens as they are now.
    #[must_use]
    pub fn svid(&self) -> Arc<Svid> {
        self.current.read().clone()
    }

    /// The end of the certificate that is shown now.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.current.read().not_after()
    }

    /// Ends the renewal and waits for its end.
    pub async fn stop(self) {
        let Self { tasks, _running, .. } = self;
        drop(_running);
        tasks.close();
        tasks.wait().await;
    }
}
