//! What one application's sidecar is started with, whether it comes from flags or from a run file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::client::{Endpoint, socket_path};
use crate::local_sentry::RunningSentry;
use crate::ports::{Ports, Wanted};

/// Settings of an application and its sidecar; `None` and empty = the sidecar's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) app_id: String,
    pub(crate) wanted: Wanted,
    pub(crate) app_protocol: String,
    pub(crate) app_channel_address: String,
    pub(crate) app_ssl: bool,
    pub(crate) config: Option<PathBuf>,
    pub(crate) resources: Vec<PathBuf>,
    pub(crate) placement: Option<String>,
    pub(crate) scheduler: Option<String>,
    /// Address of sentry, when the Configuration or the user asks for mTLS.
    pub(crate) sentry: Option<String>,
    /// Trust anchors of the sentry in this process, which is that of the default control plane.
    pub(crate) trust_anchors: Option<PathBuf>,
    pub(crate) app_max_concurrency: Option<i64>,
    pub(crate) health: HealthCheck,
    /// Kubernetes quantities.
    pub(crate) max_body_size: Option<String>,
    pub(crate) read_buffer_size: Option<String>,
    pub(crate) unix_domain_socket: Option<PathBuf>,
    pub(crate) listen_addresses: Option<String>,
    pub(crate) enable_profiling: bool,
    pub(crate) enable_api_logging: Option<bool>,
    pub(crate) log_level: String,
    /// Program and arguments; empty = sidecar only.
    pub(crate) command: Vec<String>,
    /// Working directory of the command; `None` = that of this process. The sidecar always has the latter.
    pub(crate) directory: Option<PathBuf>,
    /// Added to the application's environment.
    pub(crate) env: BTreeMap<String, String>,
    /// `DAPR_HOST_IP` of the sidecar, unless the environment has one.
    pub(crate) host_ip: Option<&'static str>,
}

/// App health checks; zero and empty = not passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) enabled: bool,
    pub(crate) path: String,
    pub(crate) interval_in_seconds: i64,
    pub(crate) timeout_in_milliseconds: i64,
    pub(crate) threshold: i64,
}

impl Settings {
    /// Mutual TLS with identities of the sentry in this process, if there is one.
    pub(crate) fn secure(&mut self, sentry: Option<&RunningSentry>) {
        if let Some(sentry) = sentry {
            self.sentry = Some(sentry.address.to_string());
            self.trust_anchors = Some(sentry.roots.clone());
        }
    }

    /// Where the sidecar's HTTP API will listen.
    pub(crate) fn http_endpoint(&self, ports: &Ports) -> Endpoint {
        match &self.unix_domain_socket {
            Some(directory) => Endpoint::Socket(socket_path(directory, &self.app_id, "http")),
            None => Endpoint::Port(ports.http),
        }
    }

    pub(crate) fn grpc_endpoint(&self, ports: &Ports) -> Endpoint {
        match &self.unix_domain_socket {
            Some(directory) => Endpoint::Socket(socket_path(directory, &self.app_id, "grpc")),
            None => Endpoint::Port(ports.grpc),
        }
    }

    /// Arguments of `daprd`.
    pub(crate) fn sidecar_arguments(&self, ports: &Ports) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        arguments.add("--app-id", &self.app_id);
        arguments.add("--dapr-http-port", ports.http.to_string());
        arguments.add("--dapr-grpc-port", ports.grpc.to_string());
        arguments.add("--dapr-internal-grpc-port", ports.internal_grpc.to_string());
        arguments.add("--metrics-port", ports.metrics.to_string());
        self.app_arguments(&mut arguments);
        for path in &self.resources {
            arguments.add("--resources-path", path);
        }
        arguments.add_if("--config", self.config.as_ref());
        arguments.add_if("--placement-host-address", self.placement.as_ref());
        arguments.add_if("--scheduler-host-address", self.scheduler.as_ref());
        if let Some(sentry) = &self.sentry {
            arguments.flag("--enable-mtls");
            arguments.add("--sentry-address", sentry);
        }
        if self.trust_anchors.is_some() {
            // Variables of the environment must not send it elsewhere.
            arguments.add("--control-plane-trust-domain", "localhost");
            arguments.add("--control-plane-namespace", "default");
        }
        arguments.add_if("--max-body-size", self.max_body_size.as_ref());
        arguments.add_if("--read-buffer-size", self.read_buffer_size.as_ref());
        arguments.add_if("--unix-domain-socket", self.unix_domain_socket.as_ref());
        arguments.add_if("--dapr-listen-addresses", self.listen_addresses.as_ref());
        if self.enable_profiling {
            arguments.flag("--enable-profiling");
            arguments.add("--profile-port", ports.profile.to_string());
        }
        if let Some(logging) = self.enable_api_logging {
            arguments.flag(&format!("--enable-api-logging={logging}"));
        }
        if !self.log_level.is_empty() {
            arguments.add("--log-level", &self.log_level);
        }
        arguments.0
    }

    fn app_arguments(&self, arguments: &mut Arguments) {
        if let Some(port) = self.wanted.app {
            arguments.add("--app-port", port.to_string());
        }
        if !self.app_protocol.is_empty() {
            arguments.add("--app-protocol", &self.app_protocol);
        }
        if !self.app_channel_address.is_empty() {
            arguments.add("--app-channel-address", &self.app_channel_address);
        }
        if self.app_ssl {
            arguments.flag("--app-ssl");
        }
        arguments.add_if("--app-max-concurrency", self.app_max_concurrency.map(|limit| limit.to_string()));
        let health = &self.health;
        if health.enabled {
            arguments.flag("--enable-app-health-check");
        }
        if !health.path.is_empty() {
            arguments.add("--app-health-check-path", &health.path);
        }
        for (name, number) in [
            ("--app-health-probe-interval", health.interval_in_seconds),
            ("--app-health-probe-timeout", health.timeout_in_milliseconds),
            ("--app-health-threshold", health.threshold),
        ] {
            arguments.add_if(name, (number > 0).then(|| number.to_string()));
        }
    }

    /// What the application finds in its environment, beside what it inherits.
    ///
    /// *Source:* the variables the SDKs read.
    pub(crate) fn app_variables(&self, ports: &Ports) -> Vec<(String, OsString)> {
        let mut variables: Vec<(String, OsString)> = Vec::new();
        let mut add = |name: &str, value: OsString| variables.push((name.to_owned(), value));
        add("APP_ID", self.app_id.clone().into());
        add("APP_CHANNEL_ADDRESS", self.app_channel_address.clone().into());
        if let Some(port) = self.wanted.app {
            add("APP_PORT", port.to_string().into());
        }
        let protocol = match (self.app_protocol.as_str(), self.app_ssl) {
            ("" | "http", true) => "https",
            ("grpc", true) => "grpcs",
            ("", false) => "http",
            (protocol, _) => protocol,
        };
        add("APP_PROTOCOL", protocol.into());
        add("DAPR_HTTP_PORT", ports.http.to_string().into());
        add("DAPR_GRPC_PORT", ports.grpc.to_string().into());
        add("DAPR_METRICS_PORT", ports.metrics.to_string().into());
        for (name, value) in &self.env {
            add(name, value.into());
        }
        variables
    }

    /// What the sidecar finds in its environment, beside what it inherits.
    pub(crate) fn sidecar_variables(&self) -> Vec<(String, OsString)> {
        let mut variables = Vec::new();
        if let Some(address) = self.host_ip {
            variables.push(("DAPR_HOST_IP".to_owned(), address.into()));
        }
        if let Some(roots) = &self.trust_anchors {
            variables.push(("DAPR_TRUST_ANCHORS_FILE".to_owned(), roots.clone().into()));
            variables.push(("DAPR_TRUST_ANCHORS".to_owned(), OsString::new())); // one or the other
        }
        variables
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn add(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn add_if(&mut self, name: &str, value: Option<impl Into<OsString>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        Ports { http: 3500, grpc: 50001, internal_grpc: 50002, metrics: 9090, profile: 7777 }
    }

    #[test]
    fn only_what_was_set_is_passed() {
        let settings = Settings { app_id: "cart".into(), ..Settings::default() };
        let line: Vec<String> =
            settings.sidecar_arguments(&ports()).iter().map(|part| part.to_string_lossy().into_owned()).collect();
        assert_eq!(
            line.join(" "),
            "--app-id cart --dapr-http-port 3500 --dapr-grpc-port 50001 --dapr-internal-grpc-port 50002 --metrics-port 9090"
        );
    }

    #[test]
    fn every_setting_has_its_flag() {
        let settings = Settings {
            app_id: "cart".into(),
            wanted: Wanted { app: Some(8080), ..Wanted::default() },
            app_protocol: "grpc".into(),
            app_channel_address: "127.0.0.1".into(),
            app_ssl: true,
            config: Some("c.yaml".into()),
            resources: vec!["r1".into(), "r2".into()],
            placement: Some("p:1".into()),
            scheduler: Some("s:2".into()),
            sentry: Some("localhost:50001".into()),
            app_max_concurrency: Some(7),
            health: HealthCheck {
                enabled: true,
                path: "/up".into(),
                interval_in_seconds: 2,
                timeout_in_milliseconds: 300,
                threshold: 4,
            },
            max_body_size: Some("8Mi".into()),
            read_buffer_size: Some("8Ki".into()),
            unix_domain_socket: Some("/s".into()),
            listen_addresses: Some("127.0.0.1".into()),
            enable_profiling: true,
            enable_api_logging: Some(false),
            log_level: "debug".into(),
            ..Settings::default()
        };
        let line: Vec<String> =
            settings.sidecar_arguments(&ports()).iter().map(|part| part.to_string_lossy().into_owned()).collect();
        assert!(line.join(" ").ends_with(
            "--app-port 8080 --app-protocol grpc --app-channel-address 127.0.0.1 --app-ssl --app-max-concurrency 7 \
             --enable-app-health-check --app-health-check-path /up --app-health-probe-interval 2 --app-health-probe-timeout 300 \
             --app-health-threshold 4 --resources-path r1 --resources-path r2 --config c.yaml --placement-host-address p:1 \
             --scheduler-host-address s:2 --enable-mtls --sentry-address localhost:50001 --max-body-size 8Mi --read-buffer-size 8Ki \
             --unix-domain-socket /s --dapr-listen-addresses 127.0.0.1 --enable-profiling --profile-port 7777 \
             --enable-api-logging=false --log-level debug"
        ));
        assert_eq!(settings.http_endpoint(&ports()), Endpoint::Socket("/s/dapr-cart-http.socket".into()));
        let protocol = settings.app_variables(&ports()).into_iter().find(|(name, _)| name == "APP_PROTOCOL");
        assert_eq!(protocol.unwrap().1, "grpcs");
    }

    #[test]
    fn a_sentry_of_this_process_is_passed_with_its_roots() {
        let mut settings = Settings { app_id: "cart".into(), ..Settings::default() };
        settings.secure(None);
        assert_eq!(settings.sidecar_variables(), []);
        let sentry = RunningSentry {
            address: ([127, 0, 0, 1], 4711).into(),
            roots: "/data/sentry/ca.crt".into(),
            running: Box::new(()),
        };
        settings.secure(Some(&sentry));
        let line: Vec<String> =
            settings.sidecar_arguments(&ports()).iter().map(|part| part.to_string_lossy().into_owned()).collect();
        assert!(line.join(" ").ends_with(
            "--enable-mtls --sentry-address 127.0.0.1:4711 --control-plane-trust-domain localhost \
             --control-plane-namespace default"
        ));
        let variables = settings.sidecar_variables();
        assert_eq!(variables[0], ("DAPR_TRUST_ANCHORS_FILE".to_owned(), "/data/sentry/ca.crt".into()));
        assert_eq!(variables[1], ("DAPR_TRUST_ANCHORS".to_owned(), OsString::new()));
    }
}
