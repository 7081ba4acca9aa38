//! What the Configuration says to sentry: `spec.mtls` with lifetimes and token validators.
//!
//! *Source:* spec internals.md §5.3 and flags.md §4.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use pillion_core::duration::parse_go;
use pillion_resources::expand_environment;
use serde_json::Value as Json;

use crate::environment::Environment;
use crate::kube::KubeClient;
use crate::options::{Mode, Options};
use crate::yaml;

const WORKLOAD_TTL: Duration = Duration::from_secs(24 * 3600);
const CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);

/// The settings of sentry that come from the Configuration.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// How long a workload certificate holds.
    pub(crate) workload_ttl: Duration,
    /// How long certificates hold before they are made.
    pub(crate) clock_skew: Duration,
    /// How callers prove who they are.
    pub(crate) validators: Validators,
}

/// Which validators are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators {
    /// Anybody is who they say.
    pub(crate) insecure: bool,
    /// Service account tokens of Kubernetes.
    pub(crate) kubernetes: bool,
    /// Tokens signed by a key of a set.
    pub(crate) jwks: Option<JwksOptions>,
}

/// Options of the validator `jwks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JwksOptions {
    /// URL, file, or the set itself, plain or in base64.
    pub(crate) source: String,
    /// PEM or a file with it.
    pub(crate) ca_certificate: Option<String>,
    /// Least time between two looks at the URL.
    pub(crate) min_refresh_interval: Duration,
    /// Longest time a look takes.
    pub(crate) request_timeout: Duration,
}

impl Configuration {
    /// Reads the Configuration of the options: a file on a machine, a resource in Kubernetes.
    ///
    /// # Errors
    /// Names the Configuration and what is wrong with it.
    pub(crate) async fn load(options: &Options, kube: Option<&KubeClient>) -> Result<Self, String> {
        let name = &options.configuration;
        let document = match (options.mode, kube) {
            (Mode::Kubernetes, Some(kube)) => {
                let path = format!("/apis/dapr.io/v1alpha1/namespaces/{}/configurations/{name}", options.namespace);
                kube.get(&path).await.map_err(|error| {
                    format!("cannot read the Configuration {name:?} in namespace {:?}: {error}", options.namespace)
                })?
            }
            // The default name is that of a resource; on a machine it is a file only when somebody says so.
            _ if !options.configuration_given => Json::Null,
            _ => read_file(Path::new(name), &options.environment)?,
        };
        Self::from_document(&document, options.mode).map_err(|error| format!("the Configuration {name:?}: {error}"))
    }

    fn from_document(document: &Json, mode: Mode) -> Result<Self, String> {
        let duration = |field: &str, default: Duration| match yaml::text(document, &format!("/spec/mtls/{field}")) {
            Some(text) => parse_go(text).map_err(|error| format!("spec.mtls.{field}: {error}")),
            None => Ok(default),
        };
        Ok(Self {
            workload_ttl: duration("workloadCertTTL", WORKLOAD_TTL)?,
            clock_skew: duration("allowedClockSkew", CLOCK_SKEW)?,
            validators: validators(document, mode)?,
        })
    }
}

fn read_file(file: &Path, environment: &Environment) -> Result<Json, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read the Configuration file {}: {error}; check --config", file.display()))?;
    let expanded = expand_environment(&text, &mut |name, _| environment.get(name).map(str::to_owned));
    Ok(yaml::read(file, &expanded)?.unwrap_or(Json::Null))
}

/// The built-in validators cannot be configured: `kubernetes` is always on in Kubernetes, `insecure` is on outside of it when
/// nothing else is.
fn validators(document: &Json, mode: Mode) -> Result<Validators, String> {
    let kubernetes = mode == Mode::Kubernetes;
    let mut found = Validators { insecure: false, kubernetes, jwks: None };
    let given = document.pointer("/spec/mtls/tokenValidators").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    for validator in given {
        let name = yaml::text(validator, "/name").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "jwks" => found.jwks = Some(jwks(validator)?),
            "kubernetes" | "insecure" => {
                return Err("invalid token validator: the built-in 'kubernetes' and 'insecure' validators cannot be configured manually".to_owned());
            }
            _ => return Err(format!("invalid token validator name: '{name}'; supported values: 'jwks'")),
        }
    }
    found.insecure = !kubernetes && found.jwks.is_none();
    Ok(found)
}

fn jwks(validator: &Json) -> Result<JwksOptions, String> {
    let entries = validator.pointer("/options").and_then(Json::as_object);
    // The names of options are read without regard to case, as in the original.
    let options: HashMap<String, &Json> =
        entries.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let text = |name: &str| options.get(name).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
    let duration = |name: &str, least: Duration, default: Duration| match text(&name.to_ascii_lowercase()) {
        Some(text) => {
            let value = parse_go(text).map_err(|error| format!("the option {name} of the validator jwks: {error}"))?;
            Ok::<_, String>(if value > least { value } else { default })
        }
        None => Ok(default),
    };
    Ok(JwksOptions {
        source: text("source")
            .ok_or("the validator jwks has no option source: expected a URL, a file, or the key set itself")?
            .to_owned(),
        ca_certificate: text("cacertificate").map(str::to_owned),
        min_refresh_interval: duration("minRefreshInterval", Duration::from_secs(1), Duration::from_secs(600))?,
        request_timeout: duration("requestTimeout", Duration::from_millis(1), Duration::from_secs(30))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, mode: Mode) -> Result<Configuration, String> {
        let document = yaml::read(Path::new("c.yaml"), text).unwrap().unwrap_or(Json::Null);
        Configuration::from_document(&document, mode)
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let configuration = read("", Mode::Standalone).unwrap();
        assert_eq!((configuration.workload_ttl, configuration.clock_skew), (WORKLOAD_TTL, CLOCK_SKEW));
        assert_eq!(configuration.validators, Validators { insecure: true, kubernetes: false, jwks: None });
        let configuration = read("spec: {mtls: {}}", Mode::Kubernetes).unwrap();
        assert_eq!(configuration.validators, Validators { insecure: false, kubernetes: true, jwks: None });
    }

    #[test]
    fn a_configured_validator_switches_the_insecure_one_off() {
        let text = "spec: {mtls: {workloadCertTTL: 1h, allowedClockSkew: 1m, tokenValidators: [{name: JWKS, options: {source: /f, minRefreshInterval: 2m}}]}}";
        let configuration = read(text, Mode::Standalone).unwrap();
        assert_eq!(configuration.workload_ttl, Duration::from_secs(3600));
        assert_eq!(configuration.clock_skew, Duration::from_secs(60));
        let jwks = configuration.validators.jwks.unwrap();
        assert_eq!((jwks.source.as_str(), jwks.min_refresh_interval), ("/f", Duration::from_secs(120)));
        assert_eq!(jwks.request_timeout, Duration::from_secs(30));
        assert!(!configuration.validators.insecure);
    }

    #[test]
    fn mistakes_are_told() {
        let told = |text: &str| read(text, Mode::Standalone).unwrap_err();
        assert!(told("spec: {mtls: {workloadCertTTL: soon}}").contains("spec.mtls.workloadCertTTL"));
        assert!(told("spec: {mtls: {tokenValidators: [{name: insecure}]}}").contains("cannot be configured manually"));
        assert!(told("spec: {mtls: {tokenValidators: [{name: x}]}}").contains("'x'"));
        assert!(told("spec: {mtls: {tokenValidators: [{name: jwks}]}}").contains("no option source"));
    }
}
