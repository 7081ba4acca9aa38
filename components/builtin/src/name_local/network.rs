//! The part of `nameresolution.local` that looks beyond this machine.
//!
//! *Job:* announces a sidecar that others can reach, knows the sidecars of other machines. *Neighbours:* `name_mdns` does both.
//! *Invariant:* costs nothing where no network has multicast: nothing is waited for there, and no failure of it is one of the
//! resolver.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pillion_contract::{ComponentError, InitContext, NameResolver as _, Registration, ResolveRequest};
use pillion_core::log::Logger;

use super::directory::network_address;
use crate::name_mdns::{MdnsResolver, Options};

/// How long an address that failed is left out while there are others: a machine that is seen and cannot be reached costs a call
/// seconds.
const SHUNNED_FOR: Duration = Duration::from_secs(60);
/// Addresses left out at most.
const SHUNNED_MAX: usize = 1024;

/// See the module text.
pub(super) struct Network {
    mdns: Arc<MdnsResolver>,
    /// Addresses that failed, and when.
    shunned: Mutex<HashMap<String, Instant>>,
    log: Logger,
}

impl Network {
    pub(super) fn new(options: Options, context: &InitContext) -> Self {
        let mdns = MdnsResolver::start(options, context.log.clone(), context.cancel.child_token());
        Self { mdns, shunned: Mutex::default(), log: context.log.clone() }
    }

    /// Announces a sidecar that others can reach; nobody waits for it.
    pub(super) fn announce(&self, registration: Registration) {
        if network_address(&registration).is_none() {
            return;
        }
        let (mdns, log) = (self.mdns.clone(), self.log.clone());
        tokio::spawn(async move {
            if let Err(error) = mdns.register(registration).await {
                log.debug(format_args!("not announced to the sidecars of other machines: {error}"));
            }
        });
    }

    /// Another number whenever [`Network::known`] may have another answer.
    pub(super) fn version(&self) -> u64 {
        self.mdns.version()
    }

    /// The addresses of an app that were heard of, without those that failed lately.
    pub(super) fn known(&self, app_id: &str) -> Vec<String> {
        let mut known = self.mdns.known(app_id);
        let shunned = self.shunned.lock();
        if !shunned.is_empty() {
            known.retain(|address| shunned.get(address).is_none_or(|since| since.elapsed() >= SHUNNED_FOR));
        }
        known
    }

    /// Has the network asked for an app, at most every half minute; nobody waits for the answer.
    pub(super) fn browse(&self, app_id: &str) {
        self.mdns.browse(app_id);
    }

    /// The addresses of an app that is not on this machine; else a text that says why there are none.
    pub(super) async fn find(&self, request: &ResolveRequest) -> Result<Vec<String>, String> {
        self.mdns.find(&request.app_id).await
    }

    /// Takes an address out that did not answer; one of this machine means nothing here.
    pub(super) fn distrust(&self, request: &ResolveRequest, address: &str) {
        if !self.mdns.known(&request.app_id).iter().any(|known| known == address) {
            return;
        }
        let mut shunned = self.shunned.lock();
        if shunned.len() >= SHUNNED_MAX {
            shunned.retain(|_, since| since.elapsed() < SHUNNED_FOR);
        }
        if shunned.len() < SHUNNED_MAX {
            shunned.insert(address.to_owned(), Instant::now());
        }
        drop(shunned);
        self.mdns.report_failure(request, address);
    }

    pub(super) async fn close(&self) -> Result<(), ComponentError> {
        self.mdns.close().await
    }
}
