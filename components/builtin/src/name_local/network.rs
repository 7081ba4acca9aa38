//! The part of `nameresolution.local` that looks beyond this machine.
//!
//! *Job:* announces a sidecar that others can reach, finds apps that have no folder. *Neighbours:* `name_mdns` does both.
//! *Invariant:* costs nothing where no network has multicast: nothing is waited for there, and no failure of it is one of the
//! resolver.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use pillion_contract::{ComponentError, InitContext, NameResolver as _, Registration, ResolveRequest};
use pillion_core::log::Logger;

use super::FRESH_FOR;
use crate::name_mdns::{MdnsResolver, Options};

/// Apps remembered at most; beyond it every question goes to the directory first.
const APPS_MAX: usize = 4096;

/// See the module text.
pub(super) struct Network {
    mdns: Arc<MdnsResolver>,
    /// Apps that had no folder, and when that was seen.
    away: Mutex<HashMap<ResolveRequest, Instant>>,
    log: Logger,
}

impl Network {
    pub(super) fn new(options: Options, context: &InitContext) -> Self {
        let mdns = MdnsResolver::start(options, context.log.clone(), context.cancel.child_token());
        Self { mdns, away: Mutex::default(), log: context.log.clone() }
    }

    /// Announces a sidecar that others can reach; nobody waits for it.
    pub(super) fn announce(&self, registration: Registration) {
        let is_reachable = registration.host.parse().is_ok_and(|address: IpAddr| !address.is_loopback());
        if !is_reachable {
            return;
        }
        let (mdns, log) = (self.mdns.clone(), self.log.clone());
        tokio::spawn(async move {
            if let Err(error) = mdns.register(registration).await {
                log.debug(format_args!("not announced to the sidecars of other machines: {error}"));
            }
        });
    }

    /// The addresses of an app that had no folder a moment ago and is known elsewhere.
    pub(super) fn known(&self, request: &ResolveRequest) -> Option<Vec<String>> {
        let is_away = self.away.lock().get(request).is_some_and(|seen_at| seen_at.elapsed() < FRESH_FOR);
        is_away.then(|| self.mdns.known(&request.app_id)).filter(|addresses| !addresses.is_empty())
    }

    /// The addresses of an app that has no folder; else a text that says why there are none.
    pub(super) async fn find(&self, request: &ResolveRequest) -> Result<Vec<String>, String> {
        let found = self.mdns.find(&request.app_id).await?;
        let mut away = self.away.lock();
        if away.len() >= APPS_MAX {
            away.retain(|_, seen_at| seen_at.elapsed() < FRESH_FOR);
        }
        if away.len() < APPS_MAX {
            away.insert(request.clone(), Instant::now());
        }
        Ok(found)
    }

    pub(super) fn distrust(&self, request: &ResolveRequest, address: &str) {
        if self.away.lock().remove(request).is_some() {
            self.mdns.report_failure(request, address);
        }
    }

    pub(super) async fn close(&self) -> Result<(), ComponentError> {
        self.mdns.close().await
    }
}
