//! `nameresolution.local`: the sidecars of one machine find each other through a directory of small files, those of the network
//! by multicast DNS.
//!
//! *Job:* each sidecar writes `registry/<namespace>/<app id>/<pid>-<port>.json` under the data directory and removes it on
//! close; a resolver reads an app's folder. Works without multicast and without a server. *Neighbours:* [`Directory`] does
//! the file work, `network` finds what has no folder. *Invariant:* an entry of a process that is gone is never answered, and
//! whoever meets it deletes it; a cached answer costs no I/O.
//!
//! *The network:* this is the default where the original's is mDNS, and sidecars that find each other so must go on doing it when
//! some or all of them are replaced. So a sidecar that listens on the network is announced there too, and an app that has no
//! folder here is asked for there, as the original would. Apps of the machine come first and wait for nobody.
//!
//! *Namespaces:* sidecars of the wanted namespace are preferred; when none is announced there, those of any other namespace
//! with that app id are used. The original's mDNS, which this replaces, knows no namespaces at all, and apps that leave
//! `NAMESPACE` to chance rely on it. A namespace is no border between the apps of one machine here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pillion_contract::{ComponentError, ErrorKind, InitContext, NameResolver, Registration, ResolveRequest};

use crate::name_mdns::Options;
use directory::Directory;
use network::Network;

mod directory;
mod network;

/// An answer this young is given without looking again.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Up to this age an answer is still given, while it is renewed behind the caller's back.
const USABLE_FOR: Duration = Duration::from_secs(3);

/// The component; see the module text.
pub struct LocalResolver {
    directory: Arc<Directory>,
    cache: Arc<Cache>,
    own: Mutex<Vec<directory::EntryFile>>,
    network: Option<Network>,
}

#[derive(Default)]
struct Cache(Mutex<HashMap<ResolveRequest, Answer>>);

struct Answer {
    addresses: Vec<String>,
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
    Ok(Arc::new(LocalResolver {
        directory: Arc::new(Directory::new(root)),
        cache: Arc::default(),
        own: Mutex::default(),
        network: is_wanted.then(|| Network::new(Options::NETWORK, &context)),
    }))
}

impl Cache {
    /// A usable answer, and whether the caller should start a renewal.
    fn get(&self, request: &ResolveRequest) -> Option<(Vec<String>, bool)> {
        let mut answers = self.0.lock();
        let answer = answers.get_mut(request)?;
        let age = answer.read_at.elapsed();
        if age >= USABLE_FOR {
            return None;
        }
        let renew = age >= FRESH_FOR && !std::mem::replace(&mut answer.is_renewing, true);
        Some((answer.addresses.clone(), renew))
    }

    /// Remembers an answer; one without addresses is not worth remembering.
    fn put(&self, request: &ResolveRequest, addresses: &[String]) {
        let mut answers = self.0.lock();
        if addresses.is_empty() {
            answers.remove(request);
        } else {
            let answer = Answer { addresses: addresses.to_vec(), read_at: Instant::now(), is_renewing: false };
            answers.insert(request.clone(), answer);
        }
    }
}

impl LocalResolver {
    /// Reads the folder on a thread that may block and remembers the answer, also when nobody waits for it any more.
    async fn read(&self, request: ResolveRequest) -> Result<Vec<String>, ComponentError> {
        let (directory, cache) = (self.directory.clone(), self.cache.clone());
        let read = move || {
            let addresses = directory.addresses(&request.namespace, &request.app_id);
            cache.put(&request, addresses.as_deref().unwrap_or_default());
            addresses
        };
        let answer = tokio::task::spawn_blocking(read).await;
        answer.map_err(|error| {
            ComponentError::caused(ErrorKind::Internal, "reading the local registry was interrupted", error)
        })?
    }
}

#[async_trait]
impl NameResolver for LocalResolver {
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        if let Some(network) = &self.network {
            network.announce(registration.clone());
        }
        let directory = self.directory.clone();
        let written = tokio::task::spawn_blocking(move || directory.announce(&registration)).await;
        let entry = written.map_err(|error| {
            ComponentError::caused(ErrorKind::Internal, "writing the local registry was interrupted", error)
        })??;
        self.own.lock().push(entry);
        self.cache.0.lock().clear();
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        if let Some((addresses, renew)) = self.cache.get(request) {
            if renew {
                let (directory, cache, request) = (self.directory.clone(), self.cache.clone(), request.clone());
                tokio::task::spawn_blocking(move || {
                    let addresses = directory.addresses(&request.namespace, &request.app_id);
                    cache.put(&request, addresses.as_deref().unwrap_or_default());
                });
            }
            return Ok(addresses);
        }
        if let Some(addresses) = self.network.as_ref().and_then(|network| network.known(request)) {
            return Ok(addresses);
        }
        let addresses = self.read(request.clone()).await?;
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        let elsewhere = match &self.network {
            Some(network) => match network.find(request).await {
                Ok(addresses) => return Ok(addresses),
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
        self.cache.0.lock().remove(request);
        if let Some(network) = &self.network {
            network.distrust(request, address);
        }
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.own.lock().clear(); // an entry removes its file when it goes
        match &self.network {
            Some(network) => network.close().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
