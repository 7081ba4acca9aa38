//! The flags of `dapr run`. *Source:* names, letters and defaults of the original command.

use pillion_core::flags::{Flag, FlagSet, Kind};

pub(super) fn table() -> FlagSet {
    FlagSet::new().with_all([
        Flag::new(
            Kind::Text,
            "app-id",
            "",
            "the `id` of the application, for calls by name; two random words when not given",
        )
        .short('a'),
        Flag::new(Kind::Int, "app-port", "-1", "the `port` the application listens on; none when not given").short('p'),
        Flag::new(
            Kind::Text,
            "app-protocol",
            "http",
            "how the sidecar talks to the application: http, https, grpc, grpcs or h2c",
        )
        .short('P'),
        Flag::new(Kind::Text, "app-channel-address", "127.0.0.1", "the `address` the application listens on"),
        Flag::new(Kind::Int, "dapr-http-port", "-1", "the `port` of the sidecar's HTTP API; a free one when not given")
            .short('H'),
        Flag::new(Kind::Int, "dapr-grpc-port", "-1", "the `port` of the sidecar's gRPC API; a free one when not given")
            .short('G'),
        Flag::new(
            Kind::Int,
            "dapr-internal-grpc-port",
            "-1",
            "the `port` for calls from other sidecars; a free one when not given",
        )
        .short('I'),
        Flag::new(Kind::Int, "metrics-port", "-1", "the `port` of the sidecar's metrics; a free one when not given")
            .short('M'),
        Flag::new(Kind::Int, "profile-port", "-1", "the `port` of the sidecar's profiles; a free one when not given"),
        Flag::new(Kind::Repeated, "resources-path", "", "a `directory` of resources; may be given several times"),
        Flag::new(Kind::Text, "components-path", "", "a directory of resources")
            .short('d')
            .deprecated("use --resources-path"),
        Flag::new(
            Kind::Text,
            "config",
            "",
            "the Configuration `file`; config.yaml of the runtime directory when not given",
        )
        .short('c'),
        Flag::new(
            Kind::Text,
            "placement-host-address",
            "localhost",
            "`host:port` of the placement service; empty for none",
        ),
        Flag::new(
            Kind::Text,
            "scheduler-host-address",
            "localhost",
            "`host:port` of the scheduler service; empty for none",
        ),
        Flag::new(
            Kind::Int,
            "app-max-concurrency",
            "-1",
            "the most calls the application gets at the same time; -1 for no limit",
        ),
        Flag::new(
            Kind::Bool,
            "enable-app-health-check",
            "",
            "ask the application for its health and hold traffic back while it is ill",
        ),
        Flag::new(Kind::Text, "app-health-check-path", "", "the `path` of the health check of an HTTP application"),
        Flag::new(Kind::Int, "app-health-probe-interval", "0", "`seconds` between health checks"),
        Flag::new(Kind::Int, "app-health-probe-timeout", "0", "`milliseconds` a health check may take"),
        Flag::new(Kind::Int, "app-health-threshold", "0", "failed checks in a row that make an application ill"),
        Flag::new(Kind::Text, "max-body-size", "4Mi", "largest request body, a `quantity` such as 8Mi"),
        Flag::new(Kind::Text, "read-buffer-size", "4Ki", "largest request head, a `quantity` such as 8Ki"),
        Flag::new(Kind::Int, "dapr-http-max-request-size", "-1", "largest body in MiB")
            .deprecated("use --max-body-size"),
        Flag::new(Kind::Int, "dapr-http-read-buffer-size", "-1", "largest head in KiB")
            .deprecated("use --read-buffer-size"),
        Flag::new(
            Kind::Text,
            "unix-domain-socket",
            "",
            "a `directory` for sockets that take the place of the API ports",
        )
        .short('u'),
        Flag::new(
            Kind::Text,
            "dapr-listen-addresses",
            "",
            "the `addresses` the sidecar listens on, separated by commas",
        ),
        Flag::new(Kind::Bool, "enable-profiling", "", "serve profiles of the sidecar"),
        Flag::new(Kind::Bool, "enable-api-logging", "", "log every API call"),
        Flag::new(Kind::Text, "log-level", "info", "how much the sidecar logs: debug, info, warn, error or fatal"),
        Flag::new(
            Kind::Bool,
            "mtls",
            "",
            "mutual TLS between the sidecars of this machine; certificates come from a sentry in this process",
        ),
        Flag::new(Kind::Bool, "app-ssl", "", "TLS towards the application")
            .deprecated("use --app-protocol https or grpcs"),
        Flag::new(Kind::Text, "run-file", "", "a run `file`, or a directory with a dapr.yaml; - reads standard input")
            .short('f'),
        Flag::new(Kind::Bool, "kubernetes", "", "run in a cluster").short('k').hidden(),
    ])
}
