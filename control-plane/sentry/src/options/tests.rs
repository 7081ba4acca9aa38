//! Command lines and what they mean.

use super::*;

fn parse(arguments: &[&str]) -> Result<Options, OptionsError> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Options::parse(&arguments, &Environment::default().with("HOME", "/home/a"))
}

fn refused(arguments: &[&str]) -> String {
    parse(arguments).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_those_of_the_table() {
    let options = parse(&[]).unwrap();
    assert_eq!((options.port, options.healthz_port, options.metrics_port), (50001, Some(8080), Some(9090)));
    assert_eq!(options.files.root, PathBuf::from("/var/run/secrets/dapr.io/credentials/ca.crt"));
    assert_eq!(options.files.key_set, PathBuf::from("/var/run/secrets/dapr.io/credentials/jwks.json"));
    assert_eq!((options.mode, options.namespace.as_str()), (Mode::Standalone, "default"));
    assert_eq!(options.trust_domain.as_str(), "localhost");
    assert_eq!(options.kubeconfig, Some(PathBuf::from("/home/a/.kube/config")));
    assert!(options.tokens.is_none() && options.oidc.is_none() && !options.configuration_given);
}

#[test]
fn one_dash_is_enough_and_absolute_files_stand_alone() {
    let options = parse(&[
        "-port=7",
        "-issuer-credentials=/c",
        "-issuer-ca-filename",
        "/x/root.pem",
        "--jwt-enabled",
        "--jwt-issuer=https://i",
        "--jwt-ttl=1h",
        "--enable-metrics=false",
    ])
    .unwrap();
    assert_eq!((options.port, options.metrics_port), (7, None));
    assert_eq!(options.files.root, PathBuf::from("/x/root.pem"));
    assert_eq!(options.files.issuer_key, PathBuf::from("/c/issuer.key"));
    let tokens = options.tokens.unwrap();
    assert_eq!((tokens.issuer.as_deref(), tokens.ttl), (Some("https://i"), Duration::from_secs(3600)));
    assert_eq!((tokens.algorithm.as_str(), tokens.key_id), ("RS256", None));
}

#[test]
fn wrong_values_are_refused_with_their_flag() {
    assert!(refused(&["--mode=cloud"]).contains("invalid mode: cloud"));
    assert!(refused(&["--trust-domain=A b"]).contains("--trust-domain"));
    assert!(refused(&["--port=70000"]).contains("--port 70000"));
    assert!(refused(&["--metrics-port=x"]).contains("--metrics-port \"x\""));
    assert!(refused(&["--jwt-issuer=x"]).contains("jwt-issuer cannot be set when jwt-enabled is false"));
    assert!(refused(&["--log-level=loud"]).contains("invalid log level"));
    assert!(refused(&["--nonsense"]).contains("unknown flag: --nonsense"));
    assert!(refused(&["x"]).contains("unexpected argument \"x\""));
}

#[test]
fn the_oidc_server_needs_its_certificate_unless_told() {
    assert!(refused(&["--oidc-enabled"]).contains("oidc-server-tls-cert-file is required"));
    let one = ["--oidc-enabled", "--oidc-server-tls-cert-file=c"];
    assert!(refused(&one).contains("oidc-server-tls-key-file is required"));
    let half = ["--oidc-enabled", "--oidc-server-tls-enabled=false", "--oidc-server-tls-cert-file=c"];
    assert!(refused(&half).contains("both OIDC TLS certificate and key"));
    let plain = ["--oidc-enabled", "--oidc-server-tls-enabled=false", "--oidc-allowed-hosts=a,b"];
    let oidc = parse(&plain).unwrap().oidc.unwrap();
    assert!(oidc.tls.is_none());
    assert_eq!((oidc.port, oidc.listen_address.as_str(), oidc.allowed_hosts.len()), (9080, "localhost", 2));
}
