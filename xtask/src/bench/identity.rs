//! Identities for the measured paths: a sentry for sidecars, a key pair for other proxies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use pillion_security::PrivateKey;
use pillion_security::issue::{Validity, root};

use super::paths::Sidecar;
use super::process::{Process, free_port};

/// Time a sentry has to make its root.
const READY: Duration = Duration::from_secs(20);

/// A running sentry, ours also for original sidecars.
pub(crate) struct Sentry {
    pub(crate) address: String,
    /// PEM.
    pub(crate) trust_anchors: String,
    pub(crate) process: Process,
}

impl Sentry {
    /// Starts one whose credentials are in `directory`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let credentials = directory.join("credentials");
        fs::create_dir_all(&credentials)?;
        let port = free_port()?;
        let mut command = Command::new(Sidecar::ours()?.program);
        command.args(["sentry", "--log-level", "warn", "--listen-address", "127.0.0.1"]).current_dir(directory);
        command.arg("--issuer-credentials").arg(&credentials).args(["--port", &port.to_string()]);
        for flag in ["--healthz-port", "--metrics-port"] {
            command.args([flag, &free_port()?.to_string()]);
        }
        let mut process = Process::start("sentry", command, directory)?;
        let deadline = Instant::now() + READY;
        // The issuer's key is written last.
        while !credentials.join("issuer.key").exists() || std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            process.still_runs()?;
            if Instant::now() > deadline {
                bail!("sentry is not ready after {READY:?}\n{}", process.log_end());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let trust_anchors = fs::read_to_string(credentials.join("ca.crt")).context("reading sentry's root")?;
        Ok(Self { address: format!("localhost:{port}"), trust_anchors, process })
    }
}

/// Files of a certificate that signs itself and of its key.
pub(crate) struct KeyPair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl KeyPair {
    /// Makes one for a day.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let key = PrivateKey::generate()?;
        let (now, ttl, clock_skew) = (SystemTime::now(), Duration::from_secs(24 * 60 * 60), Duration::from_secs(60));
        let certificate = root(&key, "bench", Validity { now, ttl, clock_skew })?;
        let files = Self { certificate: directory.join("proxy.crt"), key: directory.join("proxy.key") };
        fs::write(&files.certificate, certificate.to_pem())?;
        fs::write(&files.key, key.to_pem())?;
        Ok(files)
    }
}
