//! The command line of sentry, checked and turned into [`Options`]. *Source:* spec flags.md §4 and §7.

mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_core::flags::{FlagError, Parsed};
use pillion_core::log::Level;
use pillion_security::TrustDomain;

use crate::environment::Environment;

/// Namespace of a process that is told none.
const DEFAULT_NAMESPACE: &str = "default";

/// Where sentry runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On a machine: material in files.
    Standalone,
    /// In Kubernetes: material in a Secret.
    Kubernetes,
}

/// How sentry is to run; every value is checked and has its default.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // named after the flags of spec flags.md §4, which say what they mean
pub struct Options {
    /// Name or file of the Configuration, and whether it was asked for.
    pub configuration: String,
    pub configuration_given: bool,
    pub mode: Mode,
    pub trust_domain: TrustDomain,
    /// From `NAMESPACE`.
    pub namespace: String,
    pub port: u16,
    pub listen_address: String,
    /// `None` = no health server.
    pub healthz_port: Option<u16>,
    pub healthz_listen_address: String,
    /// `None` = no metrics server.
    pub metrics_port: Option<u16>,
    pub metrics_listen_address: String,
    pub files: CredentialFiles,
    /// `None` = no JWT SVIDs.
    pub tokens: Option<TokenOptions>,
    /// `None` = no OIDC server.
    pub oidc: Option<OidcOptions>,
    pub kubeconfig: Option<PathBuf>,
    pub log_level: Level,
    pub log_as_json: bool,
    pub log_file: Option<PathBuf>,
    /// What is worth a warning in the log.
    pub warnings: Vec<String>,
    pub environment: Environment,
}

/// The files of the credentials; in Kubernetes the last parts of the paths are keys of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CredentialFiles {
    pub root: PathBuf,
    pub issuer_chain: PathBuf,
    pub issuer_key: PathBuf,
    pub token_key: PathBuf,
    pub key_set: PathBuf,
}

impl CredentialFiles {
    /// The files of `directory` with the names they have unless flags say otherwise.
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            root: directory.join("ca.crt"),
            issuer_chain: directory.join("issuer.crt"),
            issuer_key: directory.join("issuer.key"),
            token_key: directory.join("jwt.key"),
            key_set: directory.join("jwks.json"),
        }
    }
}

/// How JWT SVIDs are made.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct TokenOptions {
    pub issuer: Option<String>,
    pub algorithm: String,
    pub key_id: Option<String>,
    pub ttl: Duration,
}

/// How the OIDC server answers.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct OidcOptions {
    pub port: u16,
    pub listen_address: String,
    /// Certificate and key files; `None` = plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub jwks_uri: Option<String>,
    pub path_prefix: Option<String>,
    pub allowed_hosts: Vec<String>,
}

/// Why sentry cannot be started with its command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The arguments cannot be read, or help was asked for; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A value cannot be used; exit code 1.
    #[error("Invalid options: {0}")]
    Invalid(String),
}

/// The help of all flags.
pub(crate) fn usage() -> String {
    table::flags().usage()
}

impl Options {
    /// Reads the arguments (without the program's name).
    ///
    /// # Errors
    /// Names the first flag that cannot be used, and why.
    pub fn parse(arguments: &[String], environment: &Environment) -> Result<Self, OptionsError> {
        let parsed = table::flags().parse(arguments.iter().cloned()).map_err(|error| match error {
            FlagError::Help => OptionsError::Usage(String::new()),
            error => OptionsError::Usage(error.to_string()),
        })?;
        if let Some(argument) = parsed.positional().first() {
            return Err(OptionsError::Usage(format!("unexpected argument {argument:?}: sentry takes flags only")));
        }
        Self::check(&parsed, environment).map_err(OptionsError::Invalid)
    }

    fn check(parsed: &Parsed, environment: &Environment) -> Result<Self, String> {
        let mode = match parsed.text("mode") {
            "standalone" => Mode::Standalone,
            "kubernetes" => Mode::Kubernetes,
            other => return Err(format!("invalid mode: {other} (--mode is standalone or kubernetes)")),
        };
        let trust_domain =
            TrustDomain::parse(parsed.text("trust-domain")).map_err(|error| format!("--trust-domain: {error}"))?;
        let given = |name: &str| Some(parsed.text(name).to_owned()).filter(|_| parsed.given(name));
        let tokens = parsed.bool("jwt-enabled").then(|| TokenOptions {
            issuer: given("jwt-issuer"),
            algorithm: parsed.text("jwt-signing-algorithm").to_owned(),
            key_id: given("jwt-key-id"),
            ttl: parsed.duration("jwt-ttl"),
        });
        if tokens.is_none() && parsed.given("jwt-issuer") {
            return Err("jwt-issuer cannot be set when jwt-enabled is false".to_owned());
        }
        let home_configuration = environment.get("HOME").map(|home| Path::new(home).join(".kube").join("config"));
        let kubeconfig = match parsed.text("kubeconfig") {
            "" => environment.get("KUBECONFIG").map(PathBuf::from).or(home_configuration),
            path => Some(PathBuf::from(path)),
        };
        Ok(Self {
            configuration: parsed.text("config").to_owned(),
            configuration_given: parsed.given("config"),
            mode,
            trust_domain,
            namespace: environment.get("NAMESPACE").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            port: port(parsed.int("port"), "port")?,
            listen_address: parsed.text("listen-address").to_owned(),
            healthz_port: Some(port(parsed.int("healthz-port"), "healthz-port")?),
            healthz_listen_address: parsed.text("healthz-listen-address").to_owned(),
            metrics_port: metrics_port(parsed)?,
            metrics_listen_address: parsed.text("metrics-listen-address").to_owned(),
            files: files(parsed),
            tokens,
            oidc: oidc(parsed)?,
            kubeconfig,
            log_level: Level::parse(parsed.text("log-level"))?,
            log_as_json: parsed.bool("log-as-json"),
            log_file: Some(parsed.text("log-file")).filter(|path| !path.is_empty()).map(PathBuf::from),
            warnings: parsed.warnings().to_vec(),
            environment: environment.clone(),
        })
    }
}

fn metrics_port(parsed: &Parsed) -> Result<Option<u16>, String> {
    if !parsed.bool("enable-metrics") {
        return Ok(None);
    }
    let text = parsed.text("metrics-port");
    text.parse().map(Some).map_err(|_| format!("invalid --metrics-port {text:?}: expected a port from 0 to 65535"))
}

fn files(parsed: &Parsed) -> CredentialFiles {
    let directory = Path::new(parsed.text("issuer-credentials"));
    let file = |name: &str| directory.join(parsed.text(name)); // an absolute name stands alone
    CredentialFiles {
        root: file("issuer-ca-filename"),
        issuer_chain: file("issuer-certificate-filename"),
        issuer_key: file("issuer-key-filename"),
        token_key: file("jwt-key-filename"),
        key_set: file("jwks-filename"),
    }
}

fn oidc(parsed: &Parsed) -> Result<Option<OidcOptions>, String> {
    let given = |name: &str| Some(parsed.text(name)).filter(|_| parsed.given(name));
    let needed = |name: &str| {
        given(name).map(PathBuf::from).ok_or_else(|| {
            format!("{name} is required when OIDC HTTP server is enabled (unless oidc-server-tls-enabled is false)")
        })
    };
    let (certificate, key) = (given("oidc-server-tls-cert-file"), given("oidc-server-tls-key-file"));
    if !parsed.bool("oidc-enabled") {
        return Ok(None);
    }
    let tls = match (parsed.bool("oidc-server-tls-enabled"), certificate, key) {
        (false, None, None) => None,
        (false, Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (false, ..) => return Err("both OIDC TLS certificate and key must be provided if one is specified".to_owned()),
        (true, ..) => Some((needed("oidc-server-tls-cert-file")?, needed("oidc-server-tls-key-file")?)),
    };
    Ok(Some(OidcOptions {
        port: port(parsed.int("oidc-server-listen-port"), "oidc-server-listen-port")?,
        listen_address: parsed.text("oidc-server-listen-address").to_owned(),
        tls,
        jwks_uri: given("oidc-jwks-uri").map(str::to_owned),
        path_prefix: given("oidc-path-prefix").map(str::to_owned),
        allowed_hosts: parsed.list("oidc-allowed-hosts").to_vec(),
    }))
}

fn port(value: i64, flag: &str) -> Result<u16, String> {
    u16::try_from(value).map_err(|_| format!("invalid --{flag} {value}: expected a port from 0 to 65535"))
}
