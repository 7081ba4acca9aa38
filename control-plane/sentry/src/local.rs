//! Sentry inside another process, for the sidecars of one machine: `pillion run --mtls` starts it.
//!
//! *Job:* one authority per directory, made by the first and shared by all that start later; a free port of the loopback
//! address, no other ports. *Invariant:* whoever may read the directory is trusted by every sidecar here, so it is for its
//! owner only; two that start at once do not make two authorities.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pillion_core::log::{Level, Logger};
use pillion_security::{Certificate, TrustDomain};
use rustix::fs::{FlockOperation, flock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::environment::Environment;
use crate::options::{CredentialFiles, Mode, Options};
use crate::run::{RunError, start};

/// The trust domain of the control plane of one machine. *Source:* the default of `daprd`.
pub const TRUST_DOMAIN: &str = "localhost";
/// The namespace of the control plane of one machine. *Source:* the default of `daprd`.
pub const NAMESPACE: &str = "default";
const OWNER_ONLY: u32 = 0o700;
/// An authority that ends sooner is replaced by the next start.
const LEFT_MIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A running sentry of one machine. Dropping it ends it.
#[derive(Debug)]
pub struct Local {
    address: SocketAddr,
    roots: PathBuf,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Local {
    /// Starts with the authority in `directory`; makes both where they are not there yet. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// When the directory or the authority in it cannot be used.
    pub async fn start(directory: &Path, log: Logger) -> Result<Self, RunError> {
        let owned = directory.to_owned();
        let prepared = tokio::task::spawn_blocking(move || prepare(&owned)).await;
        let lock = prepared.map_err(|error| error.to_string()).and_then(|lock| lock).map_err(RunError::new)?;
        let files = CredentialFiles::of(directory);
        let roots = files.root.clone();
        let cancel = CancellationToken::new();
        let started = start(options(files), &log, cancel.clone()).await;
        drop(lock); // the authority is there now
        match started {
            Ok(started) => Ok(Self { address: started.address, roots, cancel, tasks: started.tasks }),
            Err(error) => {
                cancel.cancel(); // ends the parts that were started
                Err(RunError::new(format!("{error} (the authority of this machine is in {})", directory.display())))
            }
        }
    }

    /// Where it takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with its trust anchors.
    #[must_use]
    pub fn roots(&self) -> &Path {
        &self.roots
    }

    /// Ends it and waits for the end.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Makes the directory, waits until no other is starting there, and removes an authority that is about to end.
fn prepare(directory: &Path) -> Result<std::fs::File, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} {}: {error}", directory.display());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(directory)
        .map_err(|error| failed("make the directory", &error))?;
    let lock = std::fs::File::create(directory.join("lock")).map_err(|error| failed("write into", &error))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed("lock", &error))?;
    let files = CredentialFiles::of(directory);
    if ends_soon(&files.root) || ends_soon(&files.issuer_chain) {
        for file in [&files.root, &files.issuer_chain, &files.issuer_key] {
            std::fs::remove_file(file).map_err(|error| failed("replace the authority in", &error))?;
        }
    }
    Ok(lock)
}

/// Whether a certificate of the file is over, or soon will be. A file that cannot be read is for the start to tell.
fn ends_soon(file: &Path) -> bool {
    let Ok(text) = std::fs::read(file) else { return false };
    let limit = SystemTime::now() + LEFT_MIN;
    Certificate::from_pem(&text).is_ok_and(|all| all.iter().any(|certificate| certificate.not_after() < limit))
}

fn options(files: CredentialFiles) -> Options {
    Options {
        configuration: String::new(),
        configuration_given: false,
        mode: Mode::Standalone,
        trust_domain: TrustDomain::parse(TRUST_DOMAIN).unwrap_or_else(|_| TrustDomain::public()), // it is one
        namespace: NAMESPACE.to_owned(),
        port: 0,
        listen_address: "127.0.0.1".to_owned(),
        healthz_port: None,
        healthz_listen_address: String::new(),
        metrics_port: None,
        metrics_listen_address: String::new(),
        files,
        tokens: None,
        oidc: None,
        kubeconfig: None,
        log_level: Level::Info,
        log_as_json: false,
        log_file: None,
        warnings: Vec::new(),
        environment: Environment::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn those_that_start_at_once_share_one_authority() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("a/b");
        let (one, two) = tokio::join!(Local::start(&place, Logger::silent()), Local::start(&place, Logger::silent()));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_ne!(one.address(), two.address());
        assert_eq!(one.roots(), two.roots());
        let root = std::fs::read(one.roots()).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        one.stop().await;
        drop(two);
        let three = Local::start(&place, Logger::silent()).await.unwrap();
        assert_eq!(std::fs::read(three.roots()).unwrap(), root);
    }

    #[tokio::test]
    async fn an_authority_that_cannot_be_used_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), "junk").unwrap();
        let error = Local::start(directory.path(), Logger::silent()).await.unwrap_err().to_string();
        assert!(error.contains(directory.path().to_str().unwrap()), "{error}");
    }
}
