//! The table of `daprd` flags. *Source:* spec flags.md §1 and §7.

use pillion_core::flags::{Flag, FlagSet, Kind};

use Kind::{Bool, Duration, Int, List, Text, Uint};

/// All flags, in the order of the help.
pub(super) fn flags() -> FlagSet {
    FlagSet::new()
        .single_dash_long()
        .with_all(app())
        .with_all(api())
        .with_all(resources())
        .with_all(control_plane())
        .with_all(process())
}

fn app() -> [Flag; 14] {
    [
        Flag::new(Text, "app-id", "", "id of the app, under which others call it; required"),
        Flag::new(Text, "app-port", "", "port the app listens on; empty = no app"),
        Flag::new(Text, "app-protocol", "http", "how to speak to the app: http, https, h2c, grpc or grpcs"),
        Flag::new(Text, "app-channel-address", "127.0.0.1", "host of the app"),
        Flag::new(Int, "app-max-concurrency", "-1", "calls of the app at a time; -1 = unlimited"),
        Flag::new(Bool, "app-ssl", "", "speak TLS to the app").deprecated("use --app-protocol https or grpcs"),
        Flag::new(Bool, "enable-app-health-check", "", "probe the app and hold calls back while it is unhealthy"),
        Flag::new(Text, "app-health-check-path", "/healthz", "path of the HTTP probe"),
        Flag::new(Int, "app-health-probe-interval", "5", "`seconds` between probes"),
        Flag::new(Int, "app-health-probe-timeout", "500", "`milliseconds` a probe may take"),
        Flag::new(Int, "app-health-threshold", "3", "failed probes in a row that make the app unhealthy"),
        Flag::new(
            Duration,
            "app-binding-options-timeout",
            "3s",
            "time an input binding waits for the app's answer to its question",
        ),
        Flag::new(List, "disable-init-endpoints", "", "what the app is not asked for at start: config, subscribe"),
        Flag::new(Text, "mode", "standalone", "where the sidecar runs: standalone or kubernetes"),
    ]
}

fn api() -> [Flag; 16] {
    [
        Flag::new(Text, "dapr-http-port", "3500", "port of the HTTP API"),
        Flag::new(Text, "dapr-grpc-port", "50001", "port of the gRPC API"),
        Flag::new(Text, "dapr-internal-grpc-port", "", "port for other sidecars; empty = one made from the app id"),
        Flag::new(Text, "dapr-internal-grpc-listen-address", "", "address for other sidecars; empty = all"),
        Flag::new(Text, "dapr-listen-addresses", "", "addresses of the APIs, separated by commas; empty = all"),
        Flag::new(Text, "dapr-public-port", "", "port that serves health and metadata only"),
        Flag::new(Text, "dapr-public-listen-address", "", "address of the public port; empty = all"),
        Flag::new(Text, "profile-port", "7777", "port of the profiles"),
        Flag::new(Bool, "enable-profiling", "", "serve profiles"),
        Flag::new(Text, "unix-domain-socket", "", "directory; serve the APIs on sockets there instead of ports"),
        Flag::new(Text, "allowed-origins", "", "origins of CORS requests that are answered, separated by commas"),
        Flag::new(Text, "max-body-size", "4Mi", "largest request body, as a `quantity`; 0 = no limit"),
        Flag::new(Int, "dapr-http-max-request-size", "4", "largest request body in MiB")
            .deprecated("use --max-body-size"),
        Flag::new(Text, "read-buffer-size", "4Ki", "read buffer, which limits request headers, as a `quantity`"),
        Flag::new(Int, "dapr-http-read-buffer-size", "4", "read buffer in KiB").deprecated("use --read-buffer-size"),
        Flag::new(Bool, "enable-api-logging", "", "log each API call; without the flag, as the Configuration says"),
    ]
}

fn resources() -> [Flag; 4] {
    [
        Flag::new(List, "resources-path", "", "`directory` of resource files; repeatable"),
        Flag::new(Text, "components-path", "", "directory of resource files").deprecated("use --resources-path"),
        Flag::new(List, "config", "", "Configuration `file`; repeatable, later ones win"),
        Flag::new(Bool, "disable-builtin-k8s-secret-store", "", "no secret store kubernetes of its own"),
    ]
}

fn control_plane() -> [Flag; 13] {
    [
        Flag::new(Text, "control-plane-address", "", "address of the operator"),
        Flag::new(Text, "control-plane-namespace", "default", "namespace of the control plane"),
        Flag::new(Text, "control-plane-trust-domain", "localhost", "trust domain of the control plane"),
        Flag::new(Text, "sentry-address", "", "address of sentry"),
        Flag::new(List, "sentry-request-jwt-audiences", "", "audiences of the token asked of sentry"),
        Flag::new(Bool, "enable-mtls", "", "mutual TLS between sidecars"),
        Flag::new(Text, "placement-host-address", "", "addresses of placement, separated by commas"),
        Flag::new(List, "scheduler-host-address", "", "addresses of the scheduler"),
        Flag::new(Uint, "scheduler-job-streams", "3", "connections over which the scheduler sends jobs"),
        Flag::new(Duration, "actors-disseminate-timeout", "30s", "time a round of actor placement may take"),
        Flag::new(Duration, "hot-reload-reconcile-interval", "0s", "time between checks of all resources; 0 = 60s"),
        Flag::new(Text, "actors-service", "", "without effect").hidden(),
        Flag::new(Text, "reminders-service", "", "without effect").hidden(),
    ]
}

fn process() -> [Flag; 11] {
    [
        Flag::new(
            Int,
            "dapr-graceful-shutdown-seconds",
            "5",
            "`seconds` work under way gets to finish at the end; 0 = no limit",
        ),
        Flag::new(
            Text,
            "dapr-block-shutdown-duration",
            "",
            "`time` the end is put off unless the app becomes unhealthy",
        ),
        Flag::new(Bool, "wait", "", "wait until the sidecar on --dapr-http-port can call out, then end"),
        Flag::new(Bool, "version", "", "print the version and end"),
        Flag::new(Bool, "build-info", "", "print how this program was built and end"),
        Flag::new(Text, "log-level", "info", "least `level` that is logged: debug, info, warn, error or fatal"),
        Flag::new(Bool, "log-as-json", "", "log JSON lines"),
        Flag::new(Text, "log-file", "", "log to this file"),
        Flag::new(Bool, "enable-metrics", "true", "serve metrics"),
        Flag::new(Text, "metrics-port", "9090", "port of the metrics"),
        Flag::new(Text, "metrics-listen-address", "0.0.0.0", "address of the metrics"),
    ]
}
