//! The command line of `daprd`, checked and turned into [`Options`]. *Source:* spec flags.md §1 and §7.

mod table;
#[cfg(test)]
mod tests;
mod unused;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pillion_core::flags::{FlagError, Parsed};
use pillion_core::log::Level;
use pillion_core::{duration, quantity};
use pillion_runtime::app_channel::HealthOptions;

use crate::environment::Environment;

const MIB: i64 = 1024 * 1024;
const DEFAULT_GRACE: Duration = Duration::from_secs(5);
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
const DEFAULT_PROBE_THRESHOLD: u32 = 3;
/// Also for a value that is no limit. *Source:* the original.
const APP_BINDING_OPTIONS_TIMEOUT: Duration = Duration::from_secs(3);

/// How the app is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AppProtocol {
    Http,
    Https,
    H2c,
    Grpc,
    Grpcs,
}

impl AppProtocol {
    /// Whether the app is called over HTTP.
    pub fn is_http(self) -> bool {
        !matches!(self, Self::Grpc | Self::Grpcs)
    }

    /// The word of the flag and of the metadata API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }
}

/// Where a sidecar runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On a machine; resources come from files.
    Standalone,
    /// In a pod; resources come from the operator of the control plane.
    Kubernetes,
}

/// How a sidecar is to run; every value is checked and has its default.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // named after the flags of spec flags.md §1, which say what they mean
pub struct Options {
    pub app_id: String,
    /// `None` = no app.
    pub app_port: Option<u16>,
    pub app_protocol: AppProtocol,
    pub app_channel_address: String,
    /// 0 = unlimited.
    pub app_max_concurrency: usize,
    /// `None` = no health checks.
    pub app_health: Option<HealthOptions>,
    /// How long the app may take to say which input bindings it takes.
    pub app_binding_options_timeout: Duration,
    pub ask_config: bool,
    pub ask_subscriptions: bool,
    pub http_port: u16,
    pub grpc_port: u16,
    /// `None` = the stable port of the app id.
    pub internal_port: Option<u16>,
    pub internal_listen_address: String,
    /// Empty text = all interfaces.
    pub listen_addresses: Vec<String>,
    pub public_port: Option<u16>,
    pub public_listen_address: String,
    pub unix_socket_dir: Option<PathBuf>,
    pub allowed_origins: String,
    /// Bytes; 0 = no limit.
    pub max_body_bytes: usize,
    /// Bytes.
    pub read_buffer_bytes: usize,
    pub resource_paths: Vec<PathBuf>,
    pub configurations: Vec<PathBuf>,
    /// Zero = wait without limit.
    pub graceful_shutdown: Duration,
    pub block_shutdown: Option<Duration>,
    /// `None` = as the Configuration says.
    pub api_logging: Option<bool>,
    /// `None` = no metrics server.
    pub metrics_port: Option<u16>,
    pub metrics_listen_address: String,
    /// `None` = no profile server.
    pub profile_port: Option<u16>,
    /// Time between two checks of all resources; `None` = the default.
    pub reconcile_interval: Option<Duration>,
    pub log_level: Level,
    pub log_as_json: bool,
    pub log_file: Option<PathBuf>,
    pub mode: Mode,
    /// `host:port` of the operator, in Kubernetes.
    pub control_plane_address: String,
    /// Mutual TLS with other sidecars.
    pub mtls: bool,
    pub sentry_address: String,
    pub sentry_jwt_audiences: Vec<String>,
    pub control_plane_trust_domain: String,
    pub control_plane_namespace: String,
    /// Whether addresses of placement or scheduler were given, which this version does not use.
    pub control_plane_given: Vec<&'static str>,
    /// What to tell about flags that were given and are deprecated or change nothing.
    pub notices: Vec<String>,
}

/// What a command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Run a sidecar.
    Run(Box<Options>),
    /// Print this text.
    Print(String),
    /// Wait until the sidecar on this HTTP port can call out.
    Wait(u16),
}

/// A command line that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// It cannot be read: unknown flag, wrong value. The text; usage follows, exit code 2.
    Usage(String),
    /// It can be read and makes no sense; exit code 1.
    Invalid(String),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Invalid(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for OptionsError {}

impl Command {
    /// Reads the arguments of `daprd`, without the program's name.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn parse(arguments: &[String], environment: &Environment) -> Result<Self, OptionsError> {
        let table = table::flags();
        let parsed = match table.parse(arguments.iter().map(String::as_str)) {
            Ok(parsed) => parsed,
            Err(FlagError::Help) => return Ok(Self::Print(format!("Usage of daprd:\n{}", table.usage()))),
            Err(error) => return Err(OptionsError::Usage(error.to_string())),
        };
        if parsed.bool("version") {
            return Ok(Self::Print(format!("{}\n", pillion_core::DAPR_VERSION)));
        }
        if parsed.bool("build-info") {
            let text = format!(
                "Version: {}\nGit Commit: \nGit Version: pillion-{}\n",
                pillion_core::DAPR_VERSION,
                env!("CARGO_PKG_VERSION")
            );
            return Ok(Self::Print(text));
        }
        if parsed.bool("wait") {
            return Ok(Self::Wait(port(&parsed, "dapr-http-port")?.unwrap_or(3500)));
        }
        options(&parsed, environment).map(|options| Self::Run(Box::new(options)))
    }
}

/// The help lines of all flags.
pub(crate) fn usage() -> String {
    table::flags().usage()
}

fn options(flags: &Parsed, environment: &Environment) -> Result<Options, OptionsError> {
    let text = |name: &str| flags.text(name).to_owned();
    // Source: the original looks at these variables where the flag is not given.
    let or_variable = |name: &str, variable: &str| match environment.get(variable) {
        Some(value) if !flags.given(name) => value.to_owned(),
        _ => text(name),
    };
    let app_id = text("app-id");
    check_app_id(&app_id)?;
    let mode = mode(flags)?;
    unused::check(flags)?;
    let listen_addresses = text("dapr-listen-addresses").split(',').map(|address| address.trim().to_owned()).collect();
    let options = Options {
        app_port: port(flags, "app-port")?,
        app_protocol: app_protocol(flags)?,
        app_channel_address: text("app-channel-address"),
        app_max_concurrency: usize::try_from(flags.int("app-max-concurrency")).unwrap_or(0),
        app_health: app_health(flags)?,
        app_binding_options_timeout: Some(flags.duration("app-binding-options-timeout"))
            .filter(|limit| !limit.is_zero())
            .unwrap_or(APP_BINDING_OPTIONS_TIMEOUT),
        ask_config: asks(flags, "config")?,
        ask_subscriptions: asks(flags, "subscribe")?,
        http_port: port(flags, "dapr-http-port")?.unwrap_or(0),
        grpc_port: port(flags, "dapr-grpc-port")?.unwrap_or(0),
        internal_port: port(flags, "dapr-internal-grpc-port")?,
        internal_listen_address: text("dapr-internal-grpc-listen-address"),
        listen_addresses,
        public_port: port(flags, "dapr-public-port")?,
        public_listen_address: text("dapr-public-listen-address"),
        unix_socket_dir: some_path(flags.text("unix-domain-socket")),
        allowed_origins: text("allowed-origins"),
        max_body_bytes: size(flags, "max-body-size", "dapr-http-max-request-size", MIB, 4 * MIB)?,
        read_buffer_bytes: size(flags, "read-buffer-size", "dapr-http-read-buffer-size", 1024, 4096)?,
        resource_paths: resource_paths(flags),
        configurations: flags.list("config").iter().filter_map(|path| some_path(path)).collect(),
        graceful_shutdown: u64::try_from(flags.int("dapr-graceful-shutdown-seconds"))
            .map_or(DEFAULT_GRACE, Duration::from_secs),
        block_shutdown: block_shutdown(flags)?,
        api_logging: flags.given("enable-api-logging").then(|| flags.bool("enable-api-logging")),
        metrics_port: if flags.bool("enable-metrics") { port(flags, "metrics-port")?.or(Some(0)) } else { None },
        metrics_listen_address: text("metrics-listen-address"),
        profile_port: if flags.bool("enable-profiling") { port(flags, "profile-port")?.or(Some(0)) } else { None },
        reconcile_interval: Some(flags.duration("hot-reload-reconcile-interval"))
            .filter(|interval| !interval.is_zero()),
        log_level: Level::parse(flags.text("log-level")).map_err(OptionsError::Invalid)?,
        log_as_json: flags.bool("log-as-json"),
        log_file: some_path(flags.text("log-file")),
        mode,
        control_plane_address: text("control-plane-address"),
        mtls: flags.bool("enable-mtls"),
        sentry_address: text("sentry-address"),
        sentry_jwt_audiences: texts(flags, "sentry-request-jwt-audiences"),
        control_plane_trust_domain: or_variable("control-plane-trust-domain", "DAPR_CONTROLPLANE_TRUST_DOMAIN"),
        control_plane_namespace: or_variable("control-plane-namespace", "DAPR_CONTROLPLANE_NAMESPACE"),
        control_plane_given: control_plane(flags, environment),
        notices: unused::notices(flags, mode),
        app_id,
    };
    for (name, own) in [("dapr-http-port", options.http_port), ("dapr-grpc-port", options.grpc_port)] {
        if options.app_port == Some(own) {
            return Err(OptionsError::Invalid(format!("the '{name}' argument value {own} conflicts with 'app-port'")));
        }
    }
    Ok(options)
}

fn check_app_id(app_id: &str) -> Result<(), OptionsError> {
    if app_id.is_empty() {
        return Err(OptionsError::Invalid("parameter app-id cannot be empty".to_owned()));
    }
    if app_id.contains('.') {
        return Err(OptionsError::Invalid("parameter app-id cannot contain dots".to_owned()));
    }
    Ok(())
}

fn mode(flags: &Parsed) -> Result<Mode, OptionsError> {
    match flags.text("mode") {
        "standalone" => Ok(Mode::Standalone),
        "kubernetes" if flags.text("control-plane-address").is_empty() => Err(OptionsError::Invalid(
            "--mode=kubernetes needs the address of the operator: set --control-plane-address, such as \
             dapr-api.dapr-system.svc.cluster.local:443"
                .to_owned(),
        )),
        "kubernetes" => Ok(Mode::Kubernetes),
        other => {
            Err(OptionsError::Invalid(format!("--mode: {other:?} is not a mode; expected standalone or kubernetes")))
        }
    }
}

/// A port flag; `None` for empty and 0.
fn port(flags: &Parsed, name: &str) -> Result<Option<u16>, OptionsError> {
    let text = flags.text(name).trim();
    if text.is_empty() {
        return Ok(None);
    }
    let number: u16 = text.parse().map_err(|_| {
        OptionsError::Invalid(format!(
            "error parsing {name} flag: {text:?} is not a port; expected a number from 0 to 65535"
        ))
    })?;
    Ok((number != 0).then_some(number))
}

fn app_protocol(flags: &Parsed) -> Result<AppProtocol, OptionsError> {
    let tls = flags.bool("app-ssl");
    match flags.text("app-protocol").to_ascii_lowercase().as_str() {
        "http" if tls => Ok(AppProtocol::Https),
        "http" | "" => Ok(AppProtocol::Http),
        "https" => Ok(AppProtocol::Https),
        "h2c" => Ok(AppProtocol::H2c),
        "grpc" if tls => Ok(AppProtocol::Grpcs),
        "grpc" => Ok(AppProtocol::Grpc),
        "grpcs" => Ok(AppProtocol::Grpcs),
        _ => Err(OptionsError::Invalid(format!(
            "invalid value for 'app-protocol': {}; expected http, https, h2c, grpc or grpcs",
            flags.text("app-protocol")
        ))),
    }
}

fn app_health(flags: &Parsed) -> Result<Option<HealthOptions>, OptionsError> {
    let positive = |name: &str| u64::try_from(flags.int(name)).ok().filter(|value| *value > 0);
    let interval = positive("app-health-probe-interval").map_or(DEFAULT_PROBE_INTERVAL, Duration::from_secs);
    let timeout = positive("app-health-probe-timeout").map_or(DEFAULT_PROBE_TIMEOUT, Duration::from_millis);
    if timeout > interval {
        let text = "value for 'health-probe-timeout' must be smaller than 'health-probe-interval'";
        return Err(OptionsError::Invalid(text.to_owned()));
    }
    let threshold =
        positive("app-health-threshold").and_then(|value| u32::try_from(value).ok()).unwrap_or(DEFAULT_PROBE_THRESHOLD);
    let path = flags.text("app-health-check-path").to_owned();
    Ok(flags.bool("enable-app-health-check").then_some(HealthOptions { path, interval, timeout, threshold }))
}

/// Whether the app is to be asked for one of the things of `--disable-init-endpoints`.
fn asks(flags: &Parsed, what: &str) -> Result<bool, OptionsError> {
    let mut asks = true;
    for word in flags.list("disable-init-endpoints") {
        let word = word.trim().to_ascii_lowercase();
        match word.as_str() {
            "" => {}
            "config" | "subscribe" => asks &= word != what,
            _ => {
                return Err(OptionsError::Invalid(format!(
                    "invalid value for 'disable-init-endpoints': {word}; expected config or subscribe"
                )));
            }
        }
    }
    Ok(asks)
}

/// A size: the quantity flag, or the deprecated one in `unit` bytes. -1 stands for the default.
fn size(flags: &Parsed, name: &str, deprecated: &str, unit: i64, default: i64) -> Result<usize, OptionsError> {
    let bytes = if flags.given(name) {
        let bytes = quantity::parse_bytes(flags.text(name))
            .map_err(|problem| OptionsError::Invalid(format!("invalid value for '{name}' option: {problem}")))?;
        i64::try_from(bytes).unwrap_or(i64::MAX)
    } else {
        match flags.int(deprecated) {
            negative if negative < 0 => default,
            units => units.saturating_mul(unit),
        }
    };
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn resource_paths(flags: &Parsed) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = flags.list("resources-path").iter().filter_map(|path| some_path(path)).collect();
    if paths.is_empty() { some_path(flags.text("components-path")).into_iter().collect() } else { paths }
}

fn block_shutdown(flags: &Parsed) -> Result<Option<Duration>, OptionsError> {
    let text = flags.text("dapr-block-shutdown-duration");
    if text.is_empty() {
        return Ok(None);
    }
    duration::parse_go(text).map(Some).map_err(|problem| {
        OptionsError::Usage(format!("invalid argument {text:?} for \"--dapr-block-shutdown-duration\" flag: {problem}"))
    })
}

fn control_plane(flags: &Parsed, environment: &Environment) -> Vec<&'static str> {
    let quoted = |text: &str| text.trim().trim_matches(['"', '\'']).trim().is_empty();
    let mut given = Vec::new();
    if !quoted(flags.text("placement-host-address")) {
        given.push("placement");
    }
    let scheduler = flags.list("scheduler-host-address").iter().any(|address| !quoted(address));
    if scheduler || environment.non_empty("DAPR_SCHEDULER_HOST_ADDRESS_DNS_A").is_some() {
        given.push("scheduler");
    }
    given
}

/// The entries of a list that are not empty.
fn texts(flags: &Parsed, name: &str) -> Vec<String> {
    flags.list(name).iter().filter(|text| !text.is_empty()).cloned().collect()
}

fn some_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}
