//! Exchanges the authority while it runs: when the files change, or the Secret does.
//!
//! Nothing is closed: the next request is signed by the new issuer, the next handshake shows the new certificate. New material
//! that does not verify changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pillion_core::log::Logger;
use pillion_security::tls::SharedIdentity;
use pillion_security::{Error, PrivateKey, SpiffeId};
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, Settings, SharedAuthority};
use crate::metrics::Metrics;
use crate::options::{CredentialFiles, Mode};
use crate::store::{CredentialStore, Material};

/// Time between two looks at the files.
const FILES_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks at the Secret.
const SECRET_INTERVAL: Duration = Duration::from_secs(60);

/// Sentry's own certificate, which its server shows.
pub(crate) struct OwnIdentity {
    pub(crate) id: SpiffeId,
    pub(crate) identity: SharedIdentity,
    /// When to make a new one.
    renew_at: SystemTime,
}

impl OwnIdentity {
    /// Makes the certificate with the authority itself.
    pub(crate) fn new(id: SpiffeId, authority: &Authority) -> Result<Self, Error> {
        let key = PrivateKey::generate()?;
        let chain = authority.sign(&key.public_key_info(), &id, &[])?;
        let renew_at = half_of(chain.first().map(|leaf| leaf.not_after()));
        Ok(Self { id, identity: SharedIdentity::new(&chain, &key)?, renew_at })
    }

    fn renew(&mut self, authority: &Authority) -> Result<(), Error> {
        let key = PrivateKey::generate()?;
        let chain = authority.sign(&key.public_key_info(), &self.id, &[])?;
        self.renew_at = half_of(chain.first().map(|leaf| leaf.not_after()));
        self.identity.replace(&chain, &key)
    }
}

/// The middle between now and the end.
fn half_of(end: Option<SystemTime>) -> SystemTime {
    let now = SystemTime::now();
    let left = end.and_then(|end| end.duration_since(now).ok()).unwrap_or_default();
    now + left / 2
}

/// What is watched and exchanged.
pub(crate) struct Reload {
    pub(crate) mode: Mode,
    pub(crate) files: CredentialFiles,
    pub(crate) store: Arc<dyn CredentialStore>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) authority: SharedAuthority,
    pub(crate) own: OwnIdentity,
    pub(crate) metrics: Metrics,
    pub(crate) log: Logger,
    /// The material that was looked at last.
    pub(crate) seen: Material,
    /// Whether that is the material in use.
    pub(crate) is_used: bool,
}

impl Reload {
    /// Watches until cancelled.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut stamps = stamps(&self.files).await;
        let mut stable = false; // the first look finds what changed during the start
        let mut since_secret = Duration::ZERO;
        while cancel.run_until_cancelled(tokio::time::sleep(FILES_INTERVAL)).await.is_some() {
            let now = crate::reload::stamps(&self.files).await;
            let changed = now != stamps;
            stamps = now;
            since_secret += FILES_INTERVAL;
            let secret_due = self.mode == Mode::Kubernetes && since_secret >= SECRET_INTERVAL;
            // Files are read once they have stayed the same for one look: writers replace several.
            if (!changed && !stable) || secret_due {
                since_secret = Duration::ZERO;
                self.look().await;
            }
            stable = !changed;
            if SystemTime::now() >= self.own.renew_at {
                self.renew_own();
            }
        }
    }

    async fn look(&mut self) {
        let material = match self.store.load().await {
            Ok(material) => material,
            Err(error) => return self.log.error(format_args!("the credentials in use stay: {error}")),
        };
        if material == self.seen {
            if self.is_used {
                self.publish().await; // somebody may have changed what is published
            }
            return;
        }
        self.is_used = false;
        match Authority::new(self.settings.clone(), &material) {
            Ok(Some(authority)) => {
                self.exchange(authority);
                self.is_used = true;
            }
            Ok(None) => self.log.error("credentials are missing; those in use stay until all are there again"),
            Err(error) => {
                self.log.error(format_args!("the credentials in use stay, the new ones cannot be used: {error}"))
            }
        }
        self.seen = material; // tell of bad material once
        if self.is_used {
            self.publish().await;
        }
    }

    /// What fails now is tried again with the next look.
    async fn publish(&self) {
        if let Err(error) = self.store.publish(&self.seen).await {
            self.log.error(format_args!("the trust anchors are not published: {error}"));
        }
    }

    fn exchange(&mut self, authority: Authority) {
        let before = self.authority.get();
        let roots = authority.trust_anchors().matches("BEGIN").count();
        self.log.warn(format_args!("Issuer credentials changed; reloading ({roots} trust anchor(s))"));
        self.metrics.issuer_expires(authority.expires());
        if before.issuer_chain() != authority.issuer_chain() {
            self.metrics.issuer_changed();
        }
        self.authority.replace(authority);
        self.renew_own();
    }

    fn renew_own(&mut self) {
        if let Err(error) = self.own.renew(&self.authority.get()) {
            self.metrics.own_certificate_failed();
            self.log.error(format_args!("cannot make the certificate of sentry itself: {error}"));
            self.own.renew_at = SystemTime::now() + FILES_INTERVAL * 10;
        }
    }
}

/// What tells that a file changed: its number, size and time; `None` = not there.
type Stamp = Option<(u64, u64, SystemTime)>;

async fn stamps(files: &CredentialFiles) -> Vec<Stamp> {
    let files = [&files.root, &files.issuer_chain, &files.issuer_key, &files.token_key, &files.key_set];
    let mut stamps = Vec::with_capacity(files.len());
    for file in files {
        stamps.push(stamp(file).await);
    }
    stamps
}

async fn stamp(file: &PathBuf) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = tokio::fs::metadata(file).await.ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
}
