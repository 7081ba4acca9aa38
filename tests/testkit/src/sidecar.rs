//! A sidecar as a process: started with its own ports, watched through its log, stopped as an orchestrator would.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Binary, Reply, eventually, request, reserve};

/// How often a start is tried when another process takes one of its ports.
const PORT_ATTEMPTS: u32 = 3;

/// How to start a sidecar.
#[derive(Clone, Debug)]
pub struct SidecarOptions {
    app_id: String,
    app_port: Option<u16>,
    app_protocol: String,
    resources: Vec<PathBuf>,
    configurations: Vec<PathBuf>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

impl SidecarOptions {
    /// A sidecar for the application `app_id`, without an application port.
    #[must_use]
    pub fn new(app_id: &str) -> Self {
        Self {
            app_id: app_id.to_owned(),
            app_port: None,
            app_protocol: "http".to_owned(),
            resources: Vec::new(),
            configurations: Vec::new(),
            flags: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// How the application is spoken to, as `--app-protocol` writes it; `http` when not called.
    #[must_use]
    pub fn app_protocol(mut self, protocol: &str) -> Self {
        self.app_protocol = protocol.to_owned();
        self
    }

    /// Serves the application on `port`.
    #[must_use]
    pub const fn app_port(mut self, port: u16) -> Self {
        self.app_port = Some(port);
        self
    }

    /// Loads the resources of a directory.
    #[must_use]
    pub fn resources(mut self, dir: &Path) -> Self {
        self.resources.push(dir.to_owned());
        self
    }

    /// Loads a Configuration file.
    #[must_use]
    pub fn configuration(mut self, file: &Path) -> Self {
        self.configurations.push(file.to_owned());
        self
    }

    /// Adds a flag as it is written on a command line.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Sets a variable of the process.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the process and does not wait for it.
    ///
    /// # Errors
    /// When there is no binary, no port, or the process cannot be started.
    pub fn spawn(&self) -> anyhow::Result<Sidecar> {
        let mut command = Binary::find()?.sidecar_command();
        let ports = [reserve()?, reserve()?, reserve()?, reserve()?, reserve()?];
        let [http, grpc, internal, metrics, public] = [0, 1, 2, 3, 4].map(|index: usize| ports[index].port());
        command.args([
            format!("--app-id={}", self.app_id),
            format!("--app-protocol={}", self.app_protocol),
            format!("--dapr-http-port={http}"),
            format!("--dapr-grpc-port={grpc}"),
            format!("--dapr-internal-grpc-port={internal}"),
            "--dapr-internal-grpc-listen-address=127.0.0.1".to_owned(),
            "--dapr-listen-addresses=127.0.0.1".to_owned(),
            format!("--dapr-public-port={public}"),
            "--dapr-public-listen-address=127.0.0.1".to_owned(),
            format!("--metrics-port={metrics}"),
            "--metrics-listen-address=127.0.0.1".to_owned(),
            "--log-level=debug".to_owned(),
            "--mode=standalone".to_owned(),
        ]);
        command.args(self.app_port.map(|port| format!("--app-port={port}")));
        command.args(self.resources.iter().map(|path| format!("--resources-path={}", path.display())));
        command.args(self.configurations.iter().map(|path| format!("--config={}", path.display())));
        command.args(&self.flags).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ports.into_iter().for_each(crate::Reserved::release);
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().map(|stdout| collect(stdout, Arc::clone(&log)));
        let stderr = child.stderr.take().map(|stderr| collect(stderr, Arc::clone(&log)));
        let readers = stdout.into_iter().chain(stderr).collect();
        Ok(Sidecar { child, log, readers, app_id: self.app_id.clone(), http, grpc, internal, metrics, public })
    }

    /// Starts the process and waits until `/v1.0/healthz` answers 204.
    ///
    /// Between the release of a port and its use another process can take it; the sidecar is then started anew on others.
    ///
    /// # Errors
    /// As [`SidecarOptions::spawn`].
    ///
    /// # Panics
    /// When the sidecar is not ready within 30 s or exits, with its log.
    pub async fn start(&self) -> anyhow::Result<Sidecar> {
        for _ in 0..PORT_ATTEMPTS {
            let mut sidecar = self.spawn()?;
            if sidecar.ready_or_ended().await {
                return Ok(sidecar);
            }
            let log = sidecar.log().to_lowercase();
            let lost_port = log.contains("address already in use") || log.contains("could not listen on any endpoint");
            assert!(lost_port, "the sidecar is not ready; its log:\n{}", sidecar.log());
        }
        anyhow::bail!("{PORT_ATTEMPTS} times in a row another process took a port")
    }
}

/// A sidecar process. Dropping it kills the process.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Threads that fill the log.
    readers: Vec<JoinHandle<()>>,
    app_id: String,
    /// Port of the HTTP API.
    pub http: u16,
    /// Port of the gRPC API.
    pub grpc: u16,
    /// Port other sidecars talk to.
    pub internal: u16,
    /// Port of `/metrics`.
    pub metrics: u16,
    /// Port of the public (read-only) HTTP API.
    pub public: u16,
}

/// The sidecar did not end as asked.
#[derive(Debug)]
pub struct StopError {
    status: Option<ExitStatus>,
    log: String,
}

impl std::fmt::Display for StopError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => {
                write!(f, "ended with {:?}, signal {:?}; its log:\n{}", status.code(), status.signal(), self.log)
            }
            None => write!(f, "still runs; its log:\n{}", self.log),
        }
    }
}

impl std::error::Error for StopError {}

impl Sidecar {
    /// The application id it was started with.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote so far, both streams.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits up to 10 s for a text in the log.
    pub async fn wait_for_log(&self, text: &str) {
        let what = format!("log line {text:?}");
        eventually(&what, Duration::from_secs(10), || async { self.log().contains(text).then_some(()) }).await;
    }

    /// Waits until `/v1.0/healthz` answers 204.
    ///
    /// # Panics
    /// After 30 s, or when the process has ended, with its log.
    pub async fn wait_until_ready(&mut self) {
        assert!(self.ready_or_ended().await, "the sidecar is not ready; its log:\n{}", self.log());
    }

    /// Whether the sidecar became ready: `false` as soon as the process has ended, and after 30 s.
    async fn ready_or_ended(&mut self) -> bool {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while tokio::time::Instant::now() < deadline {
            let reply = request(self.http, Method::GET, "/v1.0/healthz", &[], "").await;
            if reply.is_ok_and(|reply| reply.status == StatusCode::NO_CONTENT) {
                return true;
            }
            if self.child.try_wait().ok().flatten().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// A GET without headers.
    ///
    /// # Errors
    /// When the sidecar cannot be reached.
    pub async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        request(self.http, Method::GET, path, &[], "").await
    }

    /// A POST of JSON.
    ///
    /// # Errors
    /// When the sidecar cannot be reached.
    pub async fn post(&self, path: &str, body: &str) -> anyhow::Result<Reply> {
        request(self.http, Method::POST, path, &[("content-type", "application/json")], body.to_owned()).await
    }

    /// Any request with headers.
    ///
    /// # Errors
    /// When the sidecar cannot be reached.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> anyhow::Result<Reply> {
        request(self.http, method, path, headers, body).await
    }

    /// Sends SIGINT and waits: the exit code must be 0.
    ///
    /// # Errors
    /// When it ends otherwise or still runs after 20 s.
    pub async fn stop(mut self) -> Result<(), StopError> {
        self.signal(Signal::INT);
        match self.wait_for_exit(Duration::from_secs(20)).await {
            Some(status) if status.code() == Some(0) => Ok(()),
            status => Err(StopError { status, log: self.log() }),
        }
    }

    /// Sends SIGINT and goes on.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGHUP, which reloads everything in the same process.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Waits for the process to end by itself; `None` after `limit`.
    pub async fn wait_for_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.log_is_read().await;
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Waits until what an ended process wrote is in the log; not for long, since a child of it may hold its output open.
    async fn log_is_read(&self) {
        for _ in 0..100 {
            if self.readers.iter().all(JoinHandle::is_finished) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the process at once, as `kill -9` does.
    pub fn kill(&mut self) {
        // It can have ended by itself: both calls then have nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A process that has ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(stream: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    })
}
