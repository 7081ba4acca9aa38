//! `nameresolution.local`: the sidecars of one machine find each other through a directory of small files, those of the network
//! by multicast DNS. Calls go to all of them in turn.
//!
//! *Job:* each sidecar writes `registry/<namespace>/<app id>/<pid>-<port>.json` under the data directory and removes it on
//! close; a resolver reads an app's folder. Works without multicast and without a server. *Neighbours:* [`Directory`] does
//! the file work, `network` knows the sidecars of other machines. *Invariant:* an entry of a process that is gone is never answered,
//! and whoever meets it deletes it; a cached answer costs no I/O; an app that has a folder waits for no network.
//!
//! *The network:* this is the default where the original's is mDNS, and sidecars that find each other so must go on doing it when
//! some or all of them are replaced. So a sidecar that listens on the network is announced there too, and every app is asked for there,
//! as the original would. One with a folder here is answered at once, and its sidecars elsewhere take their turns as soon as they have
//! been heard of. A sidecar of this machine is heard of as well: its entry says under which address, so that it is counted once.
//!
//! *Namespaces:* sidecars of the wanted namespace are preferred; when none is announced there, those of any other namespace
//! with that app id are used. The original's mDNS, which this replaces, knows no namespaces at all, and apps that leave
//! `NAMESPACE` to chance rely on it. A namespace is no border between the apps of one machine here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pillion_contract::{ComponentError, ErrorKind, InitContext, NameResolver, Registration, ResolveRequest};
use tokio::task::JoinHandle;

use crate::name_mdns::Options;
use directory::{Directory, Found};
use network::Network;

mod directory;
mod network;

/// An answer this young is given without looking again.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Apps remembered at most; beyond it every question goes to the directory.
const APPS_MAX: usize = 4096;
/// Up to this age an answer is still given, while it is renewed behind the caller's back.
const USABLE_FOR: Duration = Duration::from_secs(3);

/// The component; see the module text.
pub struct LocalResolver {
    directory: Arc<Directory>,
    cache: Arc<Cache>,
    own: Mutex<Vec<directory::EntryFile>>,
}

/// The answers given lately, and what is known of the network.
struct Cache {
    answers: Mutex<HashMap<ResolveRequest, Answer>>,
    network: Option<Network>,
}

struct Answer {
    /// What was read.
    found: Found,
    /// The same with the addresses of other machines.
    addresses: Vec<String>,
    /// The state of the network these are of.
    network_version: u64,
    read_at: Instant,
    is_renewing: bool,
}

/// Makes the component; the directory is metadata `path`, or `registry` under the data directory. Metadata `mdns: false` leaves
/// the network out.
///
/// # Errors
/// None now; a directory that cannot be written is an error of [`NameResolver::register`].
pub async fn create(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let root = match context.metadata.first_of(&["path"]) {
        Some(path) => path.into(),
        None => context.data_dir.join("registry"),
    };
    let is_wanted = context.metadata.first_of(&["mdns"]).is_none() || context.metadata.bool("mdns");
    let network = is_wanted.then(|| Network::new(Options::NETWORK, &context));
    Ok(Arc::new(LocalResolver::new(root, network)))
}

impl Answer {
    fn new(app_id: &str, found: Found, network: Option<&Network>) -> Self {
        let (addresses, read_at) = (Vec::new(), Instant::now());
        let mut answer = Self { found, addresses, network_version: 0, read_at, is_renewing: false };
        answer.merge(app_id, network);
        answer
    }

    /// Puts what the network knows behind what was read. A sidecar of this machine is known there by another address.
    fn merge(&mut self, app_id: &str, network: Option<&Network>) {
        self.addresses.clone_from(&self.found.addresses);
        let Some(network) = network else { return };
        self.network_version = network.version(); // before the look: what comes in between is looked at again
        for address in network.known(app_id) {
            if !self.found.on_network.contains(&address) && !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
    }
}

impl Cache {
    /// A usable answer, and whether the caller should start a renewal.
    fn get(&self, request: &ResolveRequest) -> Option<(Vec<String>, bool)> {
        let mut answers = self.answers.lock();
        let answer = answers.get_mut(request)?;
        let age = answer.read_at.elapsed();
        if age >= USABLE_FOR {
            return None;
        }
        if let Some(network) = &self.network
            && network.version() != answer.network_version
        {
            answer.merge(&request.app_id, Some(network));
        }
        if answer.addresses.is_empty() {
            return None;
        }
        let renew = age >= FRESH_FOR && !std::mem::replace(&mut answer.is_renewing, true);
        Some((answer.addresses.clone(), renew))
    }

    /// Remembers what was read and gives the answer; one without addresses is not worth remembering.
    fn put(&self, request: &ResolveRequest, found: Found) -> Vec<String> {
        let answer = Answer::new(&request.app_id, found, self.network.as_ref());
        let addresses = answer.addresses.clone();
        let mut answers = self.answers.lock();
        if addresses.is_empty() {
            answers.remove(request);
            return addresses;
        }
        if answers.len() >= APPS_MAX {
            answers.retain(|_, answer| answer.read_at.elapsed() < USABLE_FOR);
        }
        if answers.len() < APPS_MAX {
            answers.insert(request.clone(), answer);
        }
        addresses
    }
}

impl LocalResolver {
    fn new(root: PathBuf, network: Option<Network>) -> Self {
        let cache = Cache { answers: Mutex::default(), network };
        Self { directory: Arc::new(Directory::new(root)), cache: Arc::new(cache), own: Mutex::default() }
    }

    /// Reads the folder on a thread that may block and remembers the answer, also when nobody waits for it.
    fn read(&self, request: ResolveRequest) -> JoinHandle<Result<Vec<String>, ComponentError>> {
        let (directory, cache) = (self.directory.clone(), self.cache.clone());
        tokio::task::spawn_blocking(move || {
            let (found, problem) = match directory.find(&request.namespace, &request.app_id) {
                Ok(found) => (found, None),
                Err(problem) => (Found::default(), Some(problem)),
            };
            let addresses = cache.put(&request, found);
            if let Some(network) = &cache.network {
                network.browse(&request.app_id);
            }
            // The network may know the app all the same.
            problem.filter(|_| addresses.is_empty()).map_or(Ok(addresses), Err)
        })
    }
}

#[async_trait]
impl NameResolver for LocalResolver {
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        if let Some(network) = &self.cache.network {
            network.announce(registration.clone());
        }
        let directory = self.directory.clone();
        let written = tokio::task::spawn_blocking(move || directory.announce(&registration)).await;
        let entry = written.map_err(|error| {
            ComponentError::caused(ErrorKind::Internal, "writing the local registry was interrupted", error)
        })??;
        self.own.lock().push(entry);
        self.cache.answers.lock().clear();
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        if let Some((addresses, renew)) = self.cache.get(request) {
            if renew {
                drop(self.read(request.clone())); // goes on by itself
            }
            return Ok(addresses);
        }
        let addresses = self.read(request.clone()).await.map_err(|error| {
            ComponentError::caused(ErrorKind::Internal, "reading the local registry was interrupted", error)
        })??;
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        let elsewhere = match &self.cache.network {
            Some(network) => match network.find(request).await {
                Ok(addresses) => {
                    self.cache.put(request, Found::default());
                    return Ok(addresses);
                }
                Err(why) => format!(", and {why}"),
            },
            None => String::new(),
        };
        let message = format!(
            "couldn't find service: {} (no running sidecar of namespace {} or another one is announced in {}{elsewhere}; check that the app runs and its app ID)",
            request.app_id,
            request.namespace,
            self.directory.root().display()
        );
        Err(ComponentError::new(ErrorKind::NotFound, message))
    }

    fn report_failure(&self, request: &ResolveRequest, address: &str) {
        self.cache.answers.lock().remove(request);
        if let Some(network) = &self.cache.network {
            network.distrust(request, address);
        }
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.own.lock().clear(); // an entry removes its file when it goes
        match &self.cache.network {
            Some(network) => network.close().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
