//! The measured paths: what is started for a variant and which request is sent to it.
//!
//! *Neighbours:* `process` starts, `driver` sends. *Invariant:* everything a path starts lives in its [`MeasuredPath`] and ends
//! with it; a path that cannot be had is an error whose text says why, and the bench goes on without it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::driver::Endpoint;
use super::grpc::{self, Call};
use super::identity::{KeyPair, Sentry};
use super::process::{Process, exchange, free_port};

/// Payload of every measured request that carries one.
pub(crate) const PAYLOAD_BYTES: usize = 1024;
/// Time a path has to become ready.
const READY: Duration = Duration::from_secs(20);

/// One variant, ready to be measured.
pub(crate) struct MeasuredPath {
    /// Short name, column one of the table.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) request: Vec<u8>,
    pub(crate) keep_alive: bool,
    /// Set where calls of gRPC are measured instead of `request`.
    pub(crate) grpc: Option<GrpcTarget>,
    /// Processes whose CPU and memory are reported, in path order.
    pub(crate) processes: Vec<Process>,
    /// Processes that are needed and not measured.
    pub(crate) _helpers: Vec<Process>,
}

/// A call of gRPC and the app that answers it.
pub(crate) struct GrpcTarget {
    pub(crate) call: Call,
    pub(crate) app: Rc<Process>,
}

/// A POST of `body` to `path`; `headers` are whole lines without line ends.
pub(crate) fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// The 1 KiB body: a JSON string, so that every API takes it.
pub(crate) fn payload() -> Vec<u8> {
    format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2)).into_bytes()
}

pub(crate) fn local(port: u16) -> Endpoint {
    Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// How a sidecar binary is called.
#[derive(Clone, Debug)]
pub(crate) struct Sidecar {
    pub(crate) program: PathBuf,
    /// Words before the flags: `daprd` for ours, none for the original.
    pub(crate) role: &'static [&'static str],
}

/// Settings of one started sidecar.
#[derive(Default)]
pub(crate) struct SidecarSettings<'a> {
    pub(crate) app_id: &'a str,
    pub(crate) app_port: Option<u16>,
    /// A Configuration file.
    pub(crate) configuration: Option<&'a Path>,
    pub(crate) resources: Option<&'a Path>,
    /// Directory of the API's Unix sockets.
    pub(crate) sockets: Option<&'a Path>,
    /// HTTP port chosen by the caller.
    pub(crate) http_port: Option<u16>,
    /// gRPC port chosen by the caller.
    pub(crate) grpc_port: Option<u16>,
    /// The app speaks gRPC.
    pub(crate) grpc_app: bool,
    /// Each call of the API is logged.
    pub(crate) api_log: bool,
    /// Who gives it an identity; without, it speaks in clear text.
    pub(crate) sentry: Option<&'a Sentry>,
}

impl Sidecar {
    /// Ours, from `PILLION_BIN` or the release build.
    ///
    /// # Errors
    /// When there is no such file; says how to build it.
    pub(crate) fn ours() -> Result<Self> {
        let program = match std::env::var_os("PILLION_BIN") {
            Some(path) => PathBuf::from(path),
            None => built("pillion")?,
        };
        if !program.exists() {
            bail!("{} is not there: run `cargo build --release -p pillion` or set PILLION_BIN", program.display());
        }
        Ok(Self { program, role: &["daprd"] })
    }

    /// The original, from `PEER_DAPRD`.
    ///
    /// # Errors
    /// When the variable is not set or names no file.
    pub(crate) fn original() -> Result<Self> {
        let program = PathBuf::from(std::env::var_os("PEER_DAPRD").context("PEER_DAPRD is not set")?);
        if !program.exists() {
            bail!("PEER_DAPRD names {}, which is not there", program.display());
        }
        Ok(Self { program, role: &[] })
    }

    /// Starts a sidecar without waiting for it; gives its HTTP port.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, role: &str, settings: &SidecarSettings<'_>, directory: &Path) -> Result<(Process, u16)> {
        let http_port = settings.http_port.map_or_else(free_port, Ok)?;
        let mut command = Command::new(&self.program);
        command.args(self.role).current_dir(directory);
        command.args(["--app-id", settings.app_id, "--dapr-listen-addresses", "127.0.0.1"]);
        // The API log is written at the level of information.
        command.args(["--log-level", if settings.api_log { "info" } else { "warn" }]);
        if settings.api_log {
            command.arg("--enable-api-logging");
        }
        command.args(["--dapr-http-port", &http_port.to_string()]);
        let grpc_port = settings.grpc_port.map_or_else(free_port, Ok)?;
        command.args(["--dapr-grpc-port", &grpc_port.to_string()]);
        for flag in ["--dapr-internal-grpc-port", "--metrics-port"] {
            command.args([flag, &free_port()?.to_string()]);
        }
        if settings.grpc_app {
            command.args(["--app-protocol", "grpc"]);
        }
        if let Some(sentry) = settings.sentry {
            command.args(["--enable-mtls", "--sentry-address", &sentry.address]);
            command.env("DAPR_TRUST_ANCHORS", &sentry.trust_anchors);
        }
        if let Some(port) = settings.app_port {
            command.args(["--app-port", &port.to_string()]);
        }
        for (flag, path) in [
            ("--config", settings.configuration),
            ("--resources-path", settings.resources),
            ("--unix-domain-socket", settings.sockets),
        ] {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
        Ok((Process::start(role, command, directory)?, http_port))
    }

    /// Starts a sidecar and waits until it is healthy.
    ///
    /// # Errors
    /// When it does not become healthy; with the end of its log.
    pub(crate) fn start_ready(
        &self,
        role: &str,
        settings: &SidecarSettings<'_>,
        directory: &Path,
    ) -> Result<(Process, u16)> {
        let (mut process, port) = self.start(role, settings, directory)?;
        if settings.sockets.is_none() {
            process.await_status(port, "/v1.0/healthz", 204, READY)?;
        }
        Ok((process, port))
    }
}

/// A program built into the directory of this one, or the release directory beside it.
///
/// # Errors
/// When it is in neither; says how to build it.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let profile = here.parent().context("this program has no directory")?;
    let release = profile.parent().map(|target| target.join("release").join(name));
    let found = release.into_iter().chain([profile.join(name)]).find(|path| path.exists());
    found.with_context(|| format!("{name} is not built: run `cargo build --release --bin {name}`"))
}

/// How a pair of sidecars is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PairForm {
    /// `dapr-app-id` header.
    Header,
    /// `/v1.0/invoke/<id>/method/<name>`.
    Path,
    /// Header form, the caller's API on a Unix socket.
    UnixSocket,
    /// Header form, every request traced.
    Traced,
    /// Header form, every request traced and sent to a collector, metrics and API log on. The echo app is the collector.
    Observed,
    /// Header form, without metrics, traces and API log.
    Unobserved,
    /// Header form, metrics on with low cardinality.
    LowCardinality,
    /// Header form, the sidecars prove their identity to each other.
    Mtls,
}

/// How the sidecars of a pair find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Whatever the sidecar does without configuration: files on one machine for ours, mDNS for the original.
    Default,
    /// `nameresolution.sqlite` on a shared file; lets two originals meet where multicast is not routed.
    Sqlite,
}

/// Two original sidecars, by SQLite where the binary has that resolver, else by mDNS.
///
/// # Errors
/// When neither way works; tells both reasons.
pub(crate) fn original_pair(id: &str, title: &str, form: PairForm, app: u16, directory: &Path) -> Result<MeasuredPath> {
    let sidecar = Sidecar::original()?;
    pair(id, title, &sidecar, form, Names::Sqlite, app, directory).or_else(|sqlite| {
        pair(id, title, &sidecar, form, Names::Default, app, directory)
            .with_context(|| format!("by SQLite: {sqlite:#}; by mDNS"))
    })
}

/// Starts caller's and callee's sidecar and waits until a call goes through.
///
/// # Errors
/// When either does not start, or no call goes through in 20 s.
pub(crate) fn pair(
    id: &str,
    title: &str,
    sidecar: &Sidecar,
    form: PairForm,
    names: Names,
    app: u16,
    directory: &Path,
) -> Result<MeasuredPath> {
    let directory = directory.join(id);
    fs::create_dir_all(&directory)?;
    let configuration = configuration(form, names, app, &directory)?;
    let (caller_id, callee_id) = (format!("caller-{}", id.to_lowercase()), format!("callee-{}", id.to_lowercase()));
    let sentry = (form == PairForm::Mtls).then(|| Sentry::start(&directory)).transpose()?;
    let callee = SidecarSettings {
        app_id: &callee_id,
        app_port: Some(app),
        configuration: configuration.as_deref(),
        api_log: form == PairForm::Observed,
        sentry: sentry.as_ref(),
        ..SidecarSettings::default()
    };
    let (callee_process, _) = sidecar.start_ready("sidecar of the callee", &callee, &directory)?;
    if callee_process.log_end().contains("couldn't find name resolver") {
        bail!("the binary was built without the name resolver {names:?}");
    }
    let sockets = directory.join("sockets");
    let caller = SidecarSettings {
        app_id: &caller_id,
        configuration: configuration.as_deref(),
        sockets: (form == PairForm::UnixSocket).then_some(sockets.as_path()),
        api_log: form == PairForm::Observed,
        sentry: sentry.as_ref(),
        ..SidecarSettings::default()
    };
    fs::create_dir_all(&sockets)?;
    let (caller_process, port) = sidecar.start_ready("sidecar of the caller", &caller, &directory)?;
    let header = format!("dapr-app-id: {callee_id}");
    let request = match form {
        PairForm::Path => {
            post(&format!("/v1.0/invoke/{callee_id}/method/echo"), &["content-type: application/json"], &payload())
        }
        _ => post("/echo", &["content-type: application/json", &header], &payload()),
    };
    let mut processes = vec![caller_process, callee_process];
    let endpoint = if form == PairForm::UnixSocket {
        let socket = sockets.join(format!("dapr-{caller_id}-http.socket"));
        await_file(&socket, &mut processes)?;
        Endpoint::Unix(socket)
    } else {
        await_answer(port, &request, &mut processes)?;
        local(port)
    };
    Ok(MeasuredPath {
        id: id.to_owned(),
        title: title.to_owned(),
        endpoint,
        request,
        keep_alive: true,
        grpc: None,
        processes,
        _helpers: sentry.into_iter().map(|sentry| sentry.process).collect(),
    })
}

/// The call of the gRPC variants: 1 KiB, of a service that no sidecar knows.
fn grpc_call(port: u16, metadata: Vec<(&'static str, String)>) -> Call {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Call { address, path: "/bench.Echo/Echo", metadata, message: vec![b'x'; PAYLOAD_BYTES] }
}

fn grpc_path(id: &str, title: &str, call: Call, app: (Rc<Process>, u16), processes: Vec<Process>) -> MeasuredPath {
    MeasuredPath {
        id: id.to_owned(),
        title: title.to_owned(),
        endpoint: Endpoint::Tcp(call.address),
        request: Vec::new(),
        keep_alive: true,
        grpc: Some(GrpcTarget { call, app: app.0 }),
        processes,
        _helpers: Vec::new(),
    }
}

/// The gRPC app without sidecars.
pub(crate) fn grpc_direct(id: &str, title: &str, app: (Rc<Process>, u16)) -> MeasuredPath {
    grpc_path(id, title, grpc_call(app.1, Vec::new()), app, Vec::new())
}

/// Two sidecars that pass on gRPC calls.
///
/// # Errors
/// When either does not start, or no call goes through in 20 s.
pub(crate) fn grpc_pair(
    id: &str,
    title: &str,
    sidecar: &Sidecar,
    form: PairForm,
    names: Names,
    app: (Rc<Process>, u16),
    directory: &Path,
) -> Result<MeasuredPath> {
    let directory = directory.join(format!("{id}-{names:?}"));
    fs::create_dir_all(&directory)?;
    let configuration = configuration(form, names, 0, &directory)?;
    let sentry = (form == PairForm::Mtls).then(|| Sentry::start(&directory)).transpose()?;
    let (caller_id, callee_id) = (format!("caller-{}", id.to_lowercase()), format!("callee-{}", id.to_lowercase()));
    let callee = SidecarSettings {
        app_id: &callee_id,
        app_port: Some(app.1),
        grpc_app: true,
        configuration: configuration.as_deref(),
        sentry: sentry.as_ref(),
        ..SidecarSettings::default()
    };
    let (callee_process, _) = sidecar.start_ready("sidecar of the callee", &callee, &directory)?;
    if callee_process.log_end().contains("couldn't find name resolver") {
        bail!("the binary was built without the name resolver {names:?}");
    }
    let grpc_port = free_port()?;
    let caller = SidecarSettings {
        app_id: &caller_id,
        grpc_port: Some(grpc_port),
        configuration: configuration.as_deref(),
        sentry: sentry.as_ref(),
        ..SidecarSettings::default()
    };
    let (caller_process, _) = sidecar.start_ready("sidecar of the caller", &caller, &directory)?;
    let call = grpc_call(grpc_port, vec![("dapr-app-id", callee_id)]);
    let mut processes = vec![caller_process, callee_process];
    let deadline = Instant::now() + READY;
    loop {
        let Err(last) = grpc::once(&call) else { break };
        for process in &mut processes {
            process.still_runs()?;
        }
        if Instant::now() > deadline {
            let logs: Vec<String> = processes.iter().map(Process::log_end).collect();
            bail!("no good answer in {READY:?}; the last was {last:#}\n{}", logs.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let helpers = sentry.into_iter().map(|sentry| sentry.process).collect();
    Ok(MeasuredPath { _helpers: helpers, ..grpc_path(id, title, call, app, processes) })
}

/// The Configuration file a pair needs, if any.
fn configuration(form: PairForm, names: Names, app: u16, directory: &Path) -> Result<Option<PathBuf>> {
    let mut spec = String::new();
    if names == Names::Sqlite {
        let file = directory.join("names.db");
        spec += &format!(
            "  nameResolution:\n    component: sqlite\n    version: v1\n    configuration:\n      connectionString: \"{}\"\n",
            file.display()
        );
    }
    if form == PairForm::Traced {
        spec += "  tracing:\n    samplingRate: \"1\"\n";
    }
    if form == PairForm::Observed {
        spec += &format!(
            "  tracing:\n    samplingRate: \"1\"\n    zipkin:\n      endpointAddress: http://127.0.0.1:{app}/api/v2/spans\n"
        );
    }
    if form == PairForm::LowCardinality {
        spec += "  metrics:\n    enabled: true\n    http:\n      increasedCardinality: false\n";
    }
    if form == PairForm::Unobserved {
        spec += "  tracing:\n    samplingRate: \"0\"\n  metrics:\n    enabled: false\n";
    }
    if spec.is_empty() {
        return Ok(None);
    }
    let path = directory.join("config.yaml");
    let text = format!("apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: bench\nspec:\n{spec}");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(Some(path))
}

/// Two nginx processes, one behind the other, connections kept alive on both sides. With `secured`, they speak TLS to each
/// other, and the first shows a certificate that the second verifies.
///
/// # Errors
/// When nginx is not installed or does not start.
pub(crate) fn nginx(id: &str, title: &str, secured: bool, app: u16, directory: &Path) -> Result<MeasuredPath> {
    let program = installed(&["/usr/sbin/nginx", "/usr/local/sbin/nginx"], "nginx")?;
    let pair = if secured { Some(KeyPair::make(directory)?) } else { None };
    two_hops(id, title, app, directory, |port, upstream, directory| {
        let (file, place) = (directory.join("nginx.conf"), directory.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("  {kind}_temp_path {place}/{kind};\n"))
            .collect();
        let is_first = upstream != app;
        let (mut listen, mut scheme, mut settings) = (String::new(), "http", String::new());
        if let Some(KeyPair { certificate, key }) = &pair {
            let (certificate, key) = (certificate.display(), key.display());
            if is_first {
                scheme = "https";
                settings = format!("proxy_ssl_certificate {certificate}; proxy_ssl_certificate_key {key};");
            } else {
                listen = " ssl".to_owned();
                settings = format!(
                    "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_client_certificate {certificate}; \
                     ssl_verify_client on; ssl_protocols TLSv1.3;"
                );
            }
        }
        fs::write(
            &file,
            format!(
                "daemon off;\nmaster_process off;\npid {place}/nginx.pid;\nerror_log stderr error;\n\
                 events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  keepalive_requests 100000000;\n{temporary}\
                 \x20 upstream next {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}\n\
                 \x20 server {{\n    listen 127.0.0.1:{port}{listen};\n    {settings}\n    location / {{\n\
                 \x20     proxy_pass {scheme}://next;\n      proxy_ssl_protocols TLSv1.3;\n\
                 \x20     proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
            ),
        )?;
        let mut command = Command::new(&program);
        command.arg("-p").arg(directory).arg("-c").arg(&file);
        Ok(command)
    })
}

/// Two haproxy processes, one behind the other.
///
/// # Errors
/// When haproxy is not installed or does not start.
pub(crate) fn haproxy(app: u16, directory: &Path) -> Result<MeasuredPath> {
    let program = installed(&["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"], "haproxy")?;
    two_hops("haproxy", "two haproxy hops", app, directory, |port, upstream, directory| {
        let file = directory.join("haproxy.cfg");
        fs::write(
            &file,
            format!(
                "global\n  nbthread 1\n  maxconn 1024\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n\
                 \x20 timeout server 60s\n  http-reuse always\nfrontend in\n  bind 127.0.0.1:{port}\n  default_backend next\n\
                 backend next\n  server app 127.0.0.1:{upstream}\n"
            ),
        )?;
        let mut command = Command::new(&program);
        command.arg("-f").arg(&file);
        Ok(command)
    })
}

fn installed(places: &[&str], package: &str) -> Result<PathBuf> {
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.with_context(|| format!("{package} is not installed (Debian package {package})"))
}

/// Starts a chain of two proxies in front of `app`; `command` writes the configuration of one and gives its command line.
fn two_hops(
    id: &str,
    title: &str,
    app: u16,
    directory: &Path,
    command: impl Fn(u16, u16, &Path) -> Result<Command>,
) -> Result<MeasuredPath> {
    let mut processes = Vec::new();
    let mut upstream = app;
    for hop in [2, 1] {
        let directory = directory.join(format!("{id}-{hop}"));
        fs::create_dir_all(&directory)?;
        let port = free_port()?;
        let process = Process::start(&format!("{id} hop {hop}"), command(port, upstream, &directory)?, &directory)?;
        processes.insert(0, process);
        upstream = port;
    }
    let request = post("/echo", &["content-type: application/json"], &payload());
    await_answer(upstream, &request, &mut processes)?;
    Ok(MeasuredPath {
        id: id.to_owned(),
        title: title.to_owned(),
        endpoint: local(upstream),
        request,
        keep_alive: true,
        grpc: None,
        processes,
        _helpers: Vec::new(),
    })
}

/// Waits until `request` is answered with 2xx on `port`.
///
/// # Errors
/// When that does not happen in 20 s or one of `processes` ends; with the last answer and the end of the log.
pub(crate) fn await_answer(port: u16, request: &[u8], processes: &mut [Process]) -> Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        for process in processes.iter_mut() {
            process.still_runs()?;
        }
        let last = match exchange(port, request) {
            Ok(message) if (200..300).contains(&message.status) => return Ok(()),
            Ok(message) => format!("status {}: {}", message.status, String::from_utf8_lossy(&message.body)),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            let logs: Vec<String> = processes.iter().map(Process::log_end).collect();
            bail!("no good answer in {READY:?}; the last was {last}\n{}", logs.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn await_file(path: &Path, processes: &mut [Process]) -> Result<()> {
    let deadline = Instant::now() + READY;
    while !path.exists() {
        for process in processes.iter_mut() {
            process.still_runs()?;
        }
        if Instant::now() > deadline {
            bail!("{} did not appear in {READY:?}", path.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::http1::{Parsed, parse};

    #[test]
    fn request_is_one_whole_message_of_the_promised_size() {
        let request = post("/echo", &["dapr-app-id: callee"], &payload());
        let Parsed::Complete(message) = parse(&request, false) else {
            panic!("not a whole message");
        };
        assert_eq!(message.body.len(), PAYLOAD_BYTES);
        assert_eq!(message.wire_bytes, request.len());
        assert!(serde_json::from_slice::<String>(&message.body).is_ok());
    }
}
