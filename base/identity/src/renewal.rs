//! Renews an identity at half of its life. *Source:* kit `crypto/spiffe` of the original: looked at every minute, a failure is
//! tried again after ten seconds; ours are spread a little, so that sidecars started together do not ask together.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use pillion_core::log::Logger;
use pillion_security::key;
use pillion_security::tls::{SharedAnchors, SharedIdentity};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;

use crate::{Error, FailureWatcher, Options, Svid, sentry};

/// A machine may sleep: the clock is looked at this often.
const LOOK: Duration = Duration::from_secs(60);
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Certificates that end at once must not make this a busy loop.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// On the board of what is not well.
const PART: &str = "sentry";
/// Part of the half life by which a renewal may come early.
const SPREAD: f64 = 0.05;

pub(crate) struct Renewal {
    pub(crate) options: Options,
    pub(crate) anchors: SharedAnchors,
    pub(crate) identity: SharedIdentity,
    pub(crate) current: Arc<RwLock<Arc<Svid>>>,
    /// The certificate leads to no trust anchor any more.
    pub(crate) distrusted: Arc<Notify>,
    pub(crate) watcher: Arc<OnceLock<FailureWatcher>>,
    pub(crate) log: Logger,
}

impl Renewal {
    pub(crate) async fn run(self) {
        let mut due = self.due("Starting workload identity expiry watcher");
        loop {
            let left = due.duration_since(SystemTime::now()).unwrap_or_default();
            let at_once = tokio::select! {
                () = tokio::time::sleep(left.clamp(PAUSE_MIN, LOOK)) => false,
                () = self.distrusted.notified() => true,
            };
            if !at_once && SystemTime::now() < due {
                continue;
            }
            let ends = self.current.read().not_after();
            self.log.info(format_args!("Renewing workload identity; cert expires on: {}", shown(ends)));
            match self.renew().await {
                Ok(()) => {
                    self.options.board.clear(PART, &self.options.sentry_address);
                    due = self.due("Successfully renewed workload identity");
                }
                Err(error) => {
                    if let Some(watcher) = self.watcher.get().filter(|_| !error.reason().is_empty()) {
                        watcher(error.reason());
                    }
                    self.options.board.unhealthy(
                        PART,
                        self.options.sentry_address.as_str(),
                        format!("the certificate, good until {}, cannot be renewed", shown(ends)),
                        error.to_string(),
                        "start sentry, or check --sentry-address and the trust anchors",
                    );
                    self.log.error(format_args!(
                        "Error renewing identity, trying again in 10 seconds: {error}; the present one is good until {}",
                        shown(ends)
                    ));
                    tokio::time::sleep(AFTER_FAILURE).await;
                    due = SystemTime::now();
                }
            }
        }
    }

    async fn renew(&self) -> Result<(), Error> {
        let svid = sentry::again(&self.options, &self.anchors, &self.log).await?;
        self.identity.replace(&svid.chain, &svid.key).map_err(|error| Error::new("", error.to_string()))?;
        *self.current.write() = Arc::new(svid);
        Ok(())
    }

    /// When the present identity is due; logged.
    fn due(&self, what: &str) -> SystemTime {
        let svid = self.current.read().clone();
        let due = renewal_time(&svid, SystemTime::now(), chance());
        self.log.info(format_args!("{what}; cert expires on: {}, renewal at: {}", shown(svid.not_after()), shown(due)));
        due
    }
}

/// Half of the life of the certificate, or of the token when that ends earlier; `chance` from 0 to 1 brings it forward.
fn renewal_time(svid: &Svid, now: SystemTime, chance: f64) -> SystemTime {
    let half = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default() / 2;
    let early = |half: Duration| half.mul_f64(1.0 - SPREAD * chance.clamp(0.0, 1.0));
    let begins = svid.chain.first().map_or(now, |leaf| leaf.not_before());
    let of_certificate = begins + early(half(begins, svid.not_after()));
    match svid.token_ends {
        Some(ends) => of_certificate.min(now + early(half(now, ends))),
        None => of_certificate,
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    key::random::<2>().map_or(0.0, |bytes| f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}

/// A time as the log shows it.
fn shown(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use pillion_security::issue::{self, Validity};
    use pillion_security::{PrivateKey, SpiffeId};

    use super::*;

    #[test]
    fn renewal_comes_at_half_of_the_life_or_a_little_earlier() {
        let begin = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let key = PrivateKey::generate().unwrap();
        let validity = Validity { now: begin, ttl: Duration::from_secs(2000), clock_skew: Duration::ZERO };
        let chain = vec![issue::root(&key, "x", validity).unwrap()];
        let id = SpiffeId::parse("spiffe://public/ns/default/a").unwrap();
        let mut svid = Svid { id, chain, key, token: None, tokens: Default::default(), token_ends: None };
        let after = |svid: &Svid, chance| renewal_time(svid, begin, chance).duration_since(begin).unwrap();
        assert_eq!(after(&svid, 0.0), Duration::from_secs(1000));
        assert_eq!(after(&svid, 1.0), Duration::from_secs(950));
        svid.token_ends = Some(begin + Duration::from_secs(600));
        assert_eq!(after(&svid, 0.0), Duration::from_secs(300));
    }
}
