//! Settings of one application: from the flags of `dapr run`, and the defaults both forms of it share.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use pillion_core::flags::Parsed;

use super::file::App;
use super::names;
use crate::context::Context;
use crate::ports::Wanted;
use crate::runtime_dir::RuntimeDir;
use crate::settings::{HealthCheck, Settings};

/// *Source:* ports of the control plane in self-hosted mode.
const PLACEMENT_PORT: u16 = 50005;
const SCHEDULER_PORT: u16 = 50006;
/// *Source:* the address the original passes when the Configuration asks for mTLS.
const SENTRY: &str = "localhost:50001";

pub(super) fn from_flags(context: &Context, parsed: &Parsed) -> Result<Settings> {
    let port = |name: &str| port(&format!("--{name}"), parsed.int(name));
    let text = |name: &str| Some(parsed.text(name).to_owned()).filter(|text| !text.is_empty());
    let runtime = &context.runtime;
    let mut resources: Vec<PathBuf> = parsed.list("resources-path").iter().map(PathBuf::from).collect();
    if resources.is_empty() {
        resources.extend(text("components-path").map(PathBuf::from));
    }
    for path in &resources {
        if !path.exists() {
            bail!("error validating resources path {:?}: the directory does not exist", path.display());
        }
    }
    let config = text("config").map(PathBuf::from);
    if let Some(config) = config.as_ref().filter(|config| !config.exists()) {
        bail!("error validating config path {:?}: the file does not exist", config.display());
    }
    let address = |name: &str, default_port| match parsed.given(name) || parsed.text(name) != "localhost" {
        true => control_plane_address(Some(parsed.text(name)), default_port),
        false => control_plane_address(None, default_port),
    };
    let mut settings = Settings {
        app_id: text("app-id").unwrap_or_else(names::random),
        wanted: Wanted {
            http: port("dapr-http-port")?,
            grpc: port("dapr-grpc-port")?,
            internal_grpc: port("dapr-internal-grpc-port")?,
            metrics: port("metrics-port")?,
            profile: port("profile-port")?,
            app: port("app-port")?,
        },
        app_protocol: protocol(parsed.text("app-protocol"))?,
        app_channel_address: parsed.text("app-channel-address").to_owned(),
        app_ssl: parsed.bool("app-ssl"),
        resources: resources_or_default(resources, runtime),
        config: config_or_default(config, runtime),
        placement: address("placement-host-address", PLACEMENT_PORT),
        scheduler: address("scheduler-host-address", SCHEDULER_PORT),
        app_max_concurrency: Some(parsed.int("app-max-concurrency")).filter(|limit| *limit > 0),
        health: HealthCheck {
            enabled: parsed.bool("enable-app-health-check"),
            path: parsed.text("app-health-check-path").to_owned(),
            interval_in_seconds: parsed.int("app-health-probe-interval"),
            timeout_in_milliseconds: parsed.int("app-health-probe-timeout"),
            threshold: parsed.int("app-health-threshold"),
        },
        max_body_size: size(parsed, "max-body-size", "dapr-http-max-request-size", "Mi")?,
        read_buffer_size: size(parsed, "read-buffer-size", "dapr-http-read-buffer-size", "Ki")?,
        unix_domain_socket: text("unix-domain-socket").map(PathBuf::from),
        listen_addresses: text("dapr-listen-addresses"),
        enable_profiling: parsed.bool("enable-profiling"),
        enable_api_logging: parsed.given("enable-api-logging").then(|| parsed.bool("enable-api-logging")),
        log_level: parsed.text("log-level").to_owned(),
        command: parsed.positional().to_vec(),
        ..Settings::default()
    };
    settings.sentry = sentry(context, settings.config.as_deref());
    Ok(settings)
}

/// Settings of one application of a run file.
pub(super) fn from_run_file(context: &Context, app: &App) -> Settings {
    let shared = &app.shared;
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    // For its default resources and Configuration only: the sidecars of one file find each other in this command's directory.
    let own_runtime = shared.runtime_path.as_ref().map(|path| RuntimeDir::find(&path.to_string_lossy(), &|_| None));
    let runtime = own_runtime.as_ref().unwrap_or(&context.runtime);
    let config = config_or_default(shared.config.clone(), runtime);
    Settings {
        app_id: app.id.clone(),
        wanted: app.wanted,
        app_protocol: text(&shared.app_protocol).unwrap_or_else(|| "http".to_owned()),
        app_channel_address: text(&app.app_channel_address).unwrap_or_else(|| "127.0.0.1".to_owned()),
        app_ssl: shared.app_ssl,
        sentry: sentry(context, config.as_deref()),
        trust_anchors: None,
        config,
        resources: resources_or_default(shared.resources.clone(), runtime),
        placement: control_plane_address(shared.placement.as_deref(), PLACEMENT_PORT),
        scheduler: control_plane_address(shared.scheduler.as_deref(), SCHEDULER_PORT),
        app_max_concurrency: Some(shared.app_max_concurrency).filter(|limit| *limit > 0),
        health: shared.health.clone(),
        max_body_size: shared.max_body_size.clone(),
        read_buffer_size: shared.read_buffer_size.clone(),
        unix_domain_socket: app.unix_domain_socket.clone(),
        listen_addresses: text(&shared.listen_addresses),
        enable_profiling: shared.enable_profiling,
        enable_api_logging: shared.enable_api_logging,
        log_level: text(&shared.log_level).unwrap_or_else(|| "info".to_owned()),
        command: app.command.clone(),
        directory: Some(app.directory.clone()),
        env: shared.env.clone(),
        // Source: applications of one file are on one machine; the sidecars need no other address.
        host_ip: context.variable("DAPR_HOST_IP").is_none().then_some("127.0.0.1"),
    }
}

/// A port of a flag or a key; zero and less = none was asked for.
fn port(name: &str, number: i64) -> Result<Option<u16>> {
    match u16::try_from(number) {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) if number < 0 => Ok(None),
        Err(_) => bail!("{name} is {number}; expected a port from 1 to 65535"),
    }
}

/// Checks the protocol towards an application; empty = http.
fn protocol(text: &str) -> Result<String> {
    let lower = text.to_lowercase();
    match lower.as_str() {
        "" => Ok("http".to_owned()),
        "http" | "https" | "grpc" | "grpcs" | "h2c" => Ok(lower),
        _ => bail!("the app protocol is {text:?}; expected http, https, grpc, grpcs or h2c"),
    }
}

/// A size flag, or its deprecated form in a fixed unit; `None` = the default, which is not passed on.
fn size(parsed: &Parsed, name: &str, deprecated: &str, unit: &str) -> Result<Option<String>> {
    if parsed.given(name) {
        let text = parsed.text(name);
        if let Err(error) = pillion_core::quantity::parse_bytes(text) {
            bail!("--{name}: {error}");
        }
        return Ok(Some(text.to_owned()));
    }
    Ok(Some(parsed.int(deprecated)).filter(|size| *size > 0).map(|size| format!("{size}{unit}")))
}

/// The directories given, else the runtime directory's components when `dapr init` has made them.
fn resources_or_default(given: Vec<PathBuf>, runtime: &RuntimeDir) -> Vec<PathBuf> {
    if given.is_empty() { Some(runtime.components()).filter(|path| path.is_dir()).into_iter().collect() } else { given }
}

/// The file given, else that of the runtime directory when there is one.
fn config_or_default(given: Option<PathBuf>, runtime: &RuntimeDir) -> Option<PathBuf> {
    given.or_else(|| Some(runtime.config()).filter(|path| path.is_file()))
}

/// Address of a control-plane service: an empty text = off, a host without a port gets the standard one.
///
/// `None` = the standard address, if something listens there now; without a control plane the sidecar would only retry.
fn control_plane_address(given: Option<&str>, default_port: u16) -> Option<String> {
    match given.map(str::trim) {
        Some("") => None,
        Some(address) => {
            Some(address.split(',').map(|one| with_port(one.trim(), default_port)).collect::<Vec<_>>().join(","))
        }
        None => {
            let address = SocketAddr::from(([127, 0, 0, 1], default_port));
            let listens = TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_ok();
            listens.then(|| format!("localhost:{default_port}"))
        }
    }
}

fn with_port(address: &str, port: u16) -> String {
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if has_port && !address.ends_with(']') { address.to_owned() } else { format!("{address}:{port}") }
}

/// Where certificates come from, when the Configuration asks for mTLS. What is wrong with the file, the sidecar tells.
fn sentry(context: &Context, config: Option<&Path>) -> Option<String> {
    let variable = |name: &str| context.variable(name).map(str::to_owned);
    let (configuration, _) = pillion_resources::load_configuration(&[config?.to_owned()], &variable).ok()?;
    (configuration.mtls_enabled == Some(true)).then(|| SENTRY.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::command::Program;

    fn settings(arguments: &[&str]) -> Result<Settings> {
        let program = Program {
            name: "dapr".into(),
            environment: BTreeMap::new(),
            component_types: Vec::new,
            sentry: crate::local_sentry::none,
        };
        let context = Context::new(&program, false, "/nowhere");
        let parsed = super::super::flags::table().parse(arguments.iter().copied()).unwrap();
        from_flags(&context, &parsed)
    }

    #[test]
    fn flags_after_the_command_belong_to_dapr() {
        let settings = settings(&["--app-id", "a", "node", "app.js", "--resources-path", ".", "-p", "8080"]).unwrap();
        assert_eq!(settings.command, ["node", "app.js"]);
        assert_eq!(settings.resources, [PathBuf::from(".")]);
        assert_eq!((settings.wanted.app, settings.wanted.http), (Some(8080), None));
    }

    #[test]
    fn everything_after_two_dashes_belongs_to_the_command() {
        let settings = settings(&["--app-id", "a", "--", "python3", "app.py", "--app-id", "other"]).unwrap();
        assert_eq!(settings.command, ["python3", "app.py", "--app-id", "other"]);
        assert_eq!(settings.app_id, "a");
        assert_eq!(
            (settings.max_body_size, settings.app_max_concurrency, settings.enable_api_logging),
            (None, None, None)
        );
    }

    #[test]
    fn wrong_values_are_named() {
        for (arguments, part) in [
            (&["--resources-path", "/no/such"][..], "resources path"),
            (&["--config", "/no/such"], "config path"),
            (&["--app-port", "70000"], "expected a port"),
            (&["--app-protocol", "gopher"], "expected http"),
            (&["--max-body-size", "much"], "quantity"),
        ] {
            let error = settings(arguments).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn control_plane_addresses() {
        assert_eq!(control_plane_address(Some(""), 50005), None);
        assert_eq!(control_plane_address(Some("localhost"), 50005).as_deref(), Some("localhost:50005"));
        assert_eq!(control_plane_address(Some("a:1, b"), 50005).as_deref(), Some("a:1,b:50005"));
        assert_eq!(control_plane_address(Some("[::1]"), 7).as_deref(), Some("[::1]:7"));
    }
}
