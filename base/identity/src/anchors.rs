//! Trust anchors from a text or a file; a file is looked at every second and taken when it has changed.
//!
//! *Invariant:* a file that is gone or broken leaves the anchors as they are; that is logged once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use pillion_core::log::Logger;
use pillion_security::TrustAnchors;
use pillion_security::tls::SharedAnchors;
use pillion_security::trust::PeerRole;
use tokio::sync::Notify;

use crate::{Error, Svid};

/// *Source:* the original looks for a file that is not there yet once a second.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks for a file that is not there between two lines of the log.
const LOOKS_PER_LINE: u32 = 10;

/// Where trust anchors come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorSource {
    /// PEM.
    Pem(String),
    /// A file of PEM, which may change.
    File(PathBuf),
}

/// Anchors and what they were read from.
pub(crate) struct Loaded {
    pub(crate) anchors: TrustAnchors,
    pub(crate) seen: Vec<u8>,
}

/// The anchors to begin with; waits for a file that is not there yet.
pub(crate) async fn load(source: &AnchorSource, log: &Logger) -> Result<Loaded, Error> {
    let (text, place) = match source {
        AnchorSource::Pem(text) => (text.clone().into_bytes(), "DAPR_TRUST_ANCHORS".to_owned()),
        AnchorSource::File(path) => (wait_for(path, log).await?, format!("'{}'", path.display())),
    };
    let anchors = TrustAnchors::from_pem(&text)
        .map_err(|error| Error::new("", format!("failed to decode trust anchors of {place}: {error}")))?;
    Ok(Loaded { anchors, seen: text })
}

async fn wait_for(path: &Path, log: &Logger) -> Result<Vec<u8>, Error> {
    let mut looks = 0;
    loop {
        match tokio::fs::read(path).await {
            Ok(text) => {
                log.info(format_args!("Trust anchors file '{}' found", path.display()));
                return Ok(text);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if looks % LOOKS_PER_LINE == 0 {
                    log.warn(format_args!("Trust anchors file '{}' not found, waiting...", path.display()));
                }
                looks += 1;
                tokio::time::sleep(INTERVAL).await;
            }
            Err(error) => {
                return Err(Error::new("", format!("failed to read trust anchors file '{}': {error}", path.display())));
            }
        }
    }
}

/// Follows a file of trust anchors.
pub(crate) struct Watch {
    pub(crate) path: PathBuf,
    /// What the anchors were read from last.
    pub(crate) seen: Vec<u8>,
    pub(crate) shared: SharedAnchors,
    pub(crate) own: Arc<RwLock<Arc<Svid>>>,
    /// Told when the own certificate does not lead to the anchors any more.
    pub(crate) distrusted: Arc<Notify>,
    pub(crate) log: Logger,
}

impl Watch {
    pub(crate) async fn run(mut self) {
        let mut modified = modification(&self.path).await;
        let mut problem = String::new();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = modification(&self.path).await;
            if now == modified && problem.is_empty() {
                continue;
            }
            match self.take().await {
                Ok(()) => problem.clear(),
                Err(found) if found == problem => {}
                Err(found) => {
                    self.log.error(format_args!(
                        "the trust anchors stay as they are: {found}; it is looked at again every second"
                    ));
                    problem = found;
                }
            }
            modified = now;
        }
    }

    async fn take(&mut self) -> Result<(), String> {
        let path = self.path.display();
        let text = tokio::fs::read(&self.path).await.map_err(|error| format!("cannot read '{path}': {error}"))?;
        if text == self.seen {
            return Ok(());
        }
        let anchors = TrustAnchors::from_pem(&text).map_err(|error| format!("cannot use '{path}': {error}"))?;
        let count = anchors.certificates().len();
        let own = self.own.read().clone();
        let trusted = own.leads_to(&anchors);
        self.shared.replace(anchors);
        self.seen = text;
        self.log.info(format_args!("Trust anchors file '{path}' changed, now trusting {count} root(s)"));
        if !trusted {
            self.log.warn("the own certificate does not lead to the new trust anchors: it is renewed now");
            self.distrusted.notify_one();
        }
        Ok(())
    }
}

async fn modification(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl Svid {
    /// Whether others that trust `anchors` would take the certificate.
    fn leads_to(&self, anchors: &TrustAnchors) -> bool {
        let mut chain = self.chain.iter().map(|certificate| certificate.der().into());
        let Some(leaf) = chain.next() else { return false };
        let rest: Vec<_> = chain.collect();
        anchors.identify(&leaf, &rest, PeerRole::Client, SystemTime::now()).is_ok()
    }
}
