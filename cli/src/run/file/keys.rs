//! The settings that stand in `common` or in an application.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pillion_resources::Entry;

use super::values::{Reader, known_key};
use crate::settings::HealthCheck;

/// Where the output of a process goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Console,
    File,
    FileAndConsole,
}

impl Destination {
    pub(crate) fn to_console(self) -> bool {
        self != Self::File
    }

    pub(crate) fn to_file(self) -> bool {
        self != Self::Console
    }
}

/// Shared settings. Zero, empty and `None` = not given here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shared {
    pub(crate) config: Option<PathBuf>,
    pub(crate) resources: Vec<PathBuf>,
    pub(crate) app_protocol: String,
    pub(crate) app_ssl: bool,
    pub(crate) app_max_concurrency: i64,
    pub(crate) listen_addresses: String,
    pub(crate) placement: Option<String>,
    pub(crate) scheduler: Option<String>,
    pub(crate) enable_profiling: bool,
    pub(crate) enable_api_logging: Option<bool>,
    pub(crate) log_level: String,
    pub(crate) max_body_size: Option<String>,
    pub(crate) read_buffer_size: Option<String>,
    pub(crate) health: HealthCheck,
    /// Directory whose `.dapr` holds the runtime of this application.
    pub(crate) runtime_path: Option<PathBuf>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) daprd_log: Option<Destination>,
    pub(crate) app_log: Option<Destination>,
}

/// *Source:* the keys of the original's run file, and two that only its documentation knows.
pub(super) const NAMES: [&str; 25] = [
    "configFilePath",
    "resourcesPaths",
    "resourcesPath",
    "appProtocol",
    "appSSL",
    "appMaxConcurrency",
    "apiListenAddresses",
    "placementHostAddress",
    "schedulerHostAddress",
    "enableProfiling",
    "enableApiLogging",
    "logLevel",
    "maxBodySize",
    "readBufferSize",
    "daprHTTPMaxRequestSize",
    "daprHTTPReadBufferSize",
    "enableAppHealthCheck",
    "appHealthCheckPath",
    "appHealthProbeInterval",
    "appHealthProbeTimeout",
    "appHealthThreshold",
    "runtimePath",
    "env",
    "daprdLogDestination",
    "appLogDestination",
];

impl Shared {
    /// Takes the value of one key; `false` = it is none of ours.
    pub(super) fn take(&mut self, reader: &mut Reader<'_>, entry: &Entry, path: &str) -> bool {
        let Some(key) = known_key(&entry.key, &NAMES) else {
            return false;
        };
        if entry.value.is_null() {
            return true;
        }
        match key {
            "configFilePath" => self.config = reader.file(entry, path),
            "resourcesPaths" | "resourcesPath" => self.resources.extend(reader.directories(entry, path)),
            "appProtocol" => self.app_protocol = protocol(reader, entry, path),
            "appSSL" => self.app_ssl = reader.bool(entry, path).unwrap_or_default(),
            "appMaxConcurrency" => self.app_max_concurrency = reader.int(entry, path).unwrap_or_default().max(0),
            "apiListenAddresses" => self.listen_addresses = reader.text(entry, path).unwrap_or_default(),
            "placementHostAddress" => self.placement = reader.text(entry, path),
            "schedulerHostAddress" => self.scheduler = reader.text(entry, path),
            "enableProfiling" => self.enable_profiling = reader.bool(entry, path).unwrap_or_default(),
            "enableApiLogging" => self.enable_api_logging = reader.bool(entry, path),
            "logLevel" => self.log_level = log_level(reader, entry, path),
            "maxBodySize" => self.max_body_size = reader.quantity(entry, path),
            "readBufferSize" => self.read_buffer_size = reader.quantity(entry, path),
            "daprHTTPMaxRequestSize" => self.max_body_size = reader.number_of(entry, path, "Mi"),
            "daprHTTPReadBufferSize" => self.read_buffer_size = reader.number_of(entry, path, "Ki"),
            "runtimePath" => self.runtime_path = reader.path(entry, path),
            "env" => self.env = reader.variables(entry, path),
            "daprdLogDestination" => self.daprd_log = destination(reader, entry, path),
            "appLogDestination" => self.app_log = destination(reader, entry, path),
            _ => self.take_health(key, reader, entry, path),
        }
        true
    }

    fn take_health(&mut self, key: &str, reader: &mut Reader<'_>, entry: &Entry, path: &str) {
        let health = &mut self.health;
        match key {
            "enableAppHealthCheck" => health.enabled = reader.bool(entry, path).unwrap_or_default(),
            "appHealthCheckPath" => health.path = reader.text(entry, path).unwrap_or_default(),
            "appHealthProbeInterval" => health.interval_in_seconds = reader.int(entry, path).unwrap_or_default(),
            "appHealthProbeTimeout" => health.timeout_in_milliseconds = reader.int(entry, path).unwrap_or_default(),
            _ => health.threshold = reader.int(entry, path).unwrap_or_default(),
        }
    }

    /// Adds what only `common` says. *Source:* a zero value of an application yields to `common`; `env` is merged.
    pub(super) fn complete(&mut self, common: &Self) {
        fn or<T: Clone + Default + PartialEq>(own: &mut T, common: &T) {
            if *own == T::default() {
                own.clone_from(common);
            }
        }
        or(&mut self.config, &common.config);
        or(&mut self.resources, &common.resources);
        or(&mut self.app_protocol, &common.app_protocol);
        or(&mut self.app_ssl, &common.app_ssl);
        or(&mut self.app_max_concurrency, &common.app_max_concurrency);
        or(&mut self.listen_addresses, &common.listen_addresses);
        or(&mut self.placement, &common.placement);
        or(&mut self.scheduler, &common.scheduler);
        or(&mut self.enable_profiling, &common.enable_profiling);
        or(&mut self.enable_api_logging, &common.enable_api_logging);
        or(&mut self.log_level, &common.log_level);
        or(&mut self.max_body_size, &common.max_body_size);
        or(&mut self.read_buffer_size, &common.read_buffer_size);
        or(&mut self.health.enabled, &common.health.enabled);
        or(&mut self.health.path, &common.health.path);
        or(&mut self.health.interval_in_seconds, &common.health.interval_in_seconds);
        or(&mut self.health.timeout_in_milliseconds, &common.health.timeout_in_milliseconds);
        or(&mut self.health.threshold, &common.health.threshold);
        or(&mut self.runtime_path, &common.runtime_path);
        or(&mut self.daprd_log, &common.daprd_log);
        or(&mut self.app_log, &common.app_log);
        for (name, value) in &common.env {
            self.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn protocol(reader: &mut Reader<'_>, entry: &Entry, path: &str) -> String {
    one_of(reader, entry, path, &["http", "https", "grpc", "grpcs", "h2c"]).map(str::to_owned).unwrap_or_default()
}

fn log_level(reader: &mut Reader<'_>, entry: &Entry, path: &str) -> String {
    one_of(reader, entry, path, &["debug", "info", "warn", "error", "fatal"]).map(str::to_owned).unwrap_or_default()
}

fn destination(reader: &mut Reader<'_>, entry: &Entry, path: &str) -> Option<Destination> {
    match one_of(reader, entry, path, &["console", "file", "fileAndConsole"])? {
        "console" => Some(Destination::Console),
        "file" => Some(Destination::File),
        _ => Some(Destination::FileAndConsole),
    }
}

fn one_of(reader: &mut Reader<'_>, entry: &Entry, path: &str, known: &[&'static str]) -> Option<&'static str> {
    let text = reader.text(entry, path).filter(|text| !text.is_empty())?;
    let found = known.iter().find(|word| word.eq_ignore_ascii_case(&text)).copied();
    if found.is_none() {
        reader.error(entry.value.line, path, format!("expected one of {}, found {text:?}", known.join(", ")), "");
    }
    found
}
