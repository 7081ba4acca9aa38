//! The table of sentry's flags. *Source:* spec flags.md §4 and §7; the directory of the credentials is that of the original 1.18.3.

use pillion_core::flags::{Flag, FlagSet, Kind};

use Kind::{Bool, Duration, Int, List, Text};

/// All flags, in the order of the help.
pub(super) fn flags() -> FlagSet {
    FlagSet::new().single_dash_long().with_all(service()).with_all(credentials()).with_all(tokens()).with_all(process())
}

fn service() -> [Flag; 8] {
    [
        Flag::new(Text, "config", "daprsystem", "Configuration `file`, or name of a Configuration in Kubernetes"),
        Flag::new(Text, "mode", "standalone", "where sentry runs: standalone or kubernetes"),
        Flag::new(Text, "trust-domain", "localhost", "trust domain of the control plane"),
        Flag::new(Int, "port", "50001", "port of the certificate authority"),
        Flag::new(Text, "listen-address", "", "address of the certificate authority; empty = all"),
        Flag::new(Int, "healthz-port", "8080", "port of the health check"),
        Flag::new(Text, "healthz-listen-address", "", "address of the health check; empty = all"),
        Flag::new(
            Text,
            "kubeconfig",
            "",
            "`file` that says how to reach Kubernetes; empty = ~/.kube/config, or the cluster around",
        ),
    ]
}

fn credentials() -> [Flag; 4] {
    [
        Flag::new(
            Text,
            "issuer-credentials",
            "/var/run/secrets/dapr.io/credentials",
            "`directory` of the credentials; what is missing is made there",
        ),
        Flag::new(Text, "issuer-ca-filename", "ca.crt", "`file` of the trust anchors"),
        Flag::new(Text, "issuer-certificate-filename", "issuer.crt", "`file` of the issuer's certificate chain"),
        Flag::new(Text, "issuer-key-filename", "issuer.key", "`file` of the issuer's private key"),
    ]
}

fn tokens() -> [Flag; 16] {
    [
        Flag::new(Bool, "jwt-enabled", "", "issue JWT SVIDs beside certificates"),
        Flag::new(Text, "jwt-key-filename", "jwt.key", "`file` of the key that signs tokens"),
        Flag::new(Text, "jwks-filename", "jwks.json", "`file` of the public keys of tokens"),
        Flag::new(Text, "jwt-issuer", "", "issuer that tokens name; empty = none"),
        Flag::new(Text, "jwt-signing-algorithm", "RS256", "algorithm of the signature; must suit the key"),
        Flag::new(Text, "jwt-key-id", "", "id of the key in tokens; empty = its thumbprint"),
        Flag::new(Duration, "jwt-ttl", "24h", "time a token holds"),
        Flag::new(Bool, "oidc-enabled", "", "serve the OIDC discovery document and the public keys"),
        Flag::new(Int, "oidc-server-listen-port", "9080", "port of the OIDC server"),
        Flag::new(Text, "oidc-server-listen-address", "localhost", "address of the OIDC server"),
        Flag::new(Bool, "oidc-server-tls-enabled", "true", "serve OIDC over TLS"),
        Flag::new(Text, "oidc-server-tls-cert-file", "", "certificate `file` of the OIDC server"),
        Flag::new(Text, "oidc-server-tls-key-file", "", "key `file` of the OIDC server"),
        Flag::new(Text, "oidc-jwks-uri", "", "where others find the public keys; empty = on this server"),
        Flag::new(Text, "oidc-path-prefix", "", "prefix of the paths of the OIDC server"),
        Flag::new(List, "oidc-allowed-hosts", "", "hosts OIDC requests may name; empty = all"),
    ]
}

fn process() -> [Flag; 6] {
    [
        Flag::new(Bool, "enable-metrics", "true", "serve metrics"),
        Flag::new(Text, "metrics-port", "9090", "port of the metrics"),
        Flag::new(Text, "metrics-listen-address", "0.0.0.0", "address of the metrics"),
        Flag::new(Text, "log-level", "info", "debug, info, warn, error or fatal"),
        Flag::new(Bool, "log-as-json", "", "write log lines as JSON"),
        Flag::new(Text, "log-file", "", "write the log to this `file`"),
    ]
}
