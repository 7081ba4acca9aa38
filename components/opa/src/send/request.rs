//! What a policy says to `http.send`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use pillion_core::duration;
use pillion_http_client::{Tls, TlsOptions};
use pillion_security::{Certificate, PrivateKey};
use regorus::Value;

use super::{Problem, TIMEOUT};
use crate::functions::field;

/// Parameters that are no text and read below.
const OTHERS: &[&str] = &["headers", "body", "timeout", "max_retry_attempts"];
/// Parameters that have to be text.
const TEXTS: &[&str] = &[
    "method",
    "url",
    "raw_body",
    "tls_ca_cert",
    "tls_ca_cert_file",
    "tls_ca_cert_env_variable",
    "tls_client_cert",
    "tls_client_cert_file",
    "tls_client_cert_env_variable",
    "tls_client_key",
    "tls_client_key_file",
    "tls_client_key_env_variable",
    "tls_server_name",
];
/// Parameters that have to be `true` or `false`.
const FLAGS: &[&str] = &[
    "enable_redirect",
    "tls_use_system_certs",
    "tls_insecure_skip_verify",
    "raise_error",
    "force_json_decode",
    "cache",
    "force_cache",
];
/// Parameters that change nothing, as in the original, whose middleware has no cache across requests.
const IGNORED: &[&str] = &["force_cache_duration_seconds", "caching_mode", "cache_ignored_headers"];

/// A request, ready to be sent.
pub(super) struct Call {
    pub(super) request: Request<Bytes>,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) follows_redirects: bool,
    pub(super) decodes_json: bool,
    /// When there are options of TLS.
    pub(super) tls: Option<Tls>,
}

/// Whether a problem makes the call undefined; otherwise it is a value.
pub(super) fn raises_errors(request: &Value) -> bool {
    field(request, "raise_error") != Some(&Value::from(false))
}

impl Call {
    /// Reads the parameters; files and variables of TLS too.
    pub(super) fn parse(parameters: &Value) -> Result<Self, Problem> {
        for (name, value) in parameters.as_object().map_err(|error| error.to_string())?.iter() {
            check(name, value)?;
        }
        let text = |name: &str| field(parameters, name).and_then(|value| value.as_string().ok()).map(|text| &**text);
        let is_set = |name: &str| field(parameters, name) == Some(&Value::from(true));
        let required = |name: &str| text(name).ok_or_else(|| format!("missing required request parameter {name:?}"));
        let (method, url) = (required("method")?.to_ascii_uppercase(), required("url")?);
        let mut request = Request::new(body(parameters)?);
        *request.method_mut() =
            Method::from_bytes(method.as_bytes()).map_err(|_| format!("invalid method {method:?}"))?;
        *request.uri_mut() = url.parse::<Uri>().map_err(|error| format!("url {url:?}: {error}"))?;
        let mut server_name = text("tls_server_name").filter(|name| !name.is_empty()).map(str::to_owned);
        if let Some(headers) = field(parameters, "headers") {
            for (name, value) in headers.as_object().map_err(|_| "invalid type for headers key".to_owned())?.iter() {
                let (name, value) = header(name, value)?;
                // As in the original, the host that is asked for is the one that has to answer.
                if name == http::header::HOST && server_name.is_none() && request.uri().scheme_str() == Some("https") {
                    server_name = value.to_str().ok().map(str::to_owned);
                }
                request.headers_mut().insert(name, value);
            }
        }
        Ok(Self {
            request,
            timeout: timeout(field(parameters, "timeout"))?,
            retries: match field(parameters, "max_retry_attempts") {
                None => 0,
                Some(value) => value.as_u32().map_err(|_| "max_retry_attempts must be a number".to_owned())?,
            },
            follows_redirects: is_set("enable_redirect"),
            decodes_json: is_set("force_json_decode"),
            tls: tls(parameters, server_name)?,
        })
    }
}

/// Whether the parameter exists and has its form.
fn check(name: &Value, value: &Value) -> Result<(), String> {
    let name = name.as_string().map_err(|_| format!("invalid request parameter {name}"))?;
    let is_known = |names: &[&str]| names.contains(&&**name);
    match value {
        _ if is_known(OTHERS) || is_known(IGNORED) => Ok(()),
        Value::String(_) if is_known(TEXTS) => Ok(()),
        _ if is_known(TEXTS) => Err(format!("{name:?} must be a string")),
        Value::Bool(_) if is_known(FLAGS) => Ok(()),
        _ if is_known(FLAGS) => Err(format!("invalid value for {name} field: expected true or false")),
        Value::Bool(false) if **name == *"force_yaml_decode" => Ok(()),
        _ if **name == *"force_yaml_decode" => {
            Err("force_yaml_decode is not supported: YAML is not decoded here".to_owned())
        }
        _ => Err(format!("invalid request parameter {name:?}")),
    }
}

fn body(parameters: &Value) -> Result<Bytes, String> {
    if let Some(Value::String(text)) = field(parameters, "raw_body") {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    match field(parameters, "body") {
        Some(value) => Ok(value.to_string().into()),
        None => Ok(Bytes::new()),
    }
}

fn header(name: &Value, value: &Value) -> Result<(HeaderName, HeaderValue), String> {
    let (Ok(name), Ok(text)) = (name.as_string(), value.as_string()) else {
        return Err(format!("invalid type for headers value {value}"));
    };
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(text.as_bytes())) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(format!("{name:?} with this value cannot be a header")),
    }
}

/// Nanoseconds, or text of nanoseconds or with a unit. 0 is no limit but that of the question.
fn timeout(value: Option<&Value>) -> Result<Duration, String> {
    let wrong = || format!("invalid timeout value {}", value.unwrap_or(&Value::Undefined));
    let found = match value {
        None => return Ok(TIMEOUT),
        Some(Value::String(text)) => match text.parse::<u64>() {
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
            Err(_) => duration::parse_go(text).map_err(|_| wrong())?,
        },
        Some(value) => Duration::from_nanos(value.as_u64().map_err(|_| wrong())?),
    };
    Ok(if found.is_zero() { Duration::MAX } else { found })
}

/// `None` when there are no options.
fn tls(parameters: &Value, server_name: Option<String>) -> Result<Option<Tls>, String> {
    let is = |name: &str, value: bool| field(parameters, name) == Some(&Value::from(value));
    let certificates = |text: &str| Certificate::from_pem(text.as_bytes()).map_err(|error| error.to_string());
    // In one line the ends of lines are written out.
    let authority = pem(parameters, "tls_ca_cert")?.map(|text| text.replace("\\n", "\n"));
    let (chain, key) = (pem(parameters, "tls_client_cert")?, pem(parameters, "tls_client_key")?);
    let identity = match chain.zip(key) {
        None => None,
        Some((chain, key)) => {
            let key = PrivateKey::from_pem(key.as_bytes()).map_err(|error| format!("tls_client_key: {error}"))?;
            Some((certificates(&chain)?, key))
        }
    };
    let only_own = is("tls_use_system_certs", false) || (authority.is_some() && !is("tls_use_system_certs", true));
    let is_unverified = is("tls_insecure_skip_verify", true);
    if authority.is_none() && identity.is_none() && server_name.is_none() && !is_unverified && !only_own {
        return Ok(None);
    }
    let roots = match authority {
        None if only_own => Some(Vec::new()),
        None => None,
        Some(text) => {
            let mut roots = certificates(&text).map_err(|error| format!("tls_ca_cert: {error}"))?;
            if !only_own {
                let found = rustls_native_certs::load_native_certs().certs;
                roots.extend(found.iter().filter_map(|der| Certificate::from_der(der).ok()));
            }
            Some(roots)
        }
    };
    let options = TlsOptions { roots, identity, server_name, is_unverified };
    Tls::new(options).map(Some).map_err(|error| error.to_string())
}

/// The text itself, or that of a file or of an environment variable.
fn pem(parameters: &Value, name: &str) -> Result<Option<String>, String> {
    let text = |name: &str| {
        let found = field(parameters, name).and_then(|value| value.as_string().ok());
        found.map(|text| &**text).filter(|text| !text.is_empty())
    };
    if let Some(found) = text(name) {
        return Ok(Some(found.to_owned()));
    }
    if let Some(file) = text(&format!("{name}_file")) {
        return std::fs::read_to_string(file).map(Some).map_err(|error| format!("{name}_file {file}: {error}"));
    }
    match text(&format!("{name}_env_variable")) {
        Some(variable) => {
            std::env::var(variable).map(Some).map_err(|error| format!("{name}_env_variable {variable}: {error}"))
        }
        None => Ok(None),
    }
}
