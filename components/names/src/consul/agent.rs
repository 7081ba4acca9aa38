//! The calls of Consul's agent.
//!
//! *Source:* the HTTP API of Consul as its Go client uses it: `/v1/agent/…` and `/v1/health/…`, options as parameters.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pillion_contract::{ComponentError, ErrorKind};
use pillion_http_client::{Client, Limits, Tls, TlsOptions, request_to};
use pillion_security::{Certificate, PrivateKey};
use serde_json::Value as Json;

use super::settings::{ClientSettings, QueryOptions};

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const LIMITS: Limits = Limits { time: Duration::from_secs(10), body_bytes: 16 << 20 };
/// How long the agent waits for a change when it is not told. *Source:* Consul's blocking queries.
const WAIT: Duration = Duration::from_secs(300);
/// What the agent's answer may take beside the wait.
const WAIT_MARGIN: Duration = Duration::from_secs(15);
/// Text of an agent's answer that is worth repeating.
const REASON_MAX: usize = 300;
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An agent and how it is asked.
pub(super) struct Agent {
    client: Client,
    settings: ClientSettings,
    query: QueryOptions,
    token: Option<HeaderValue>,
    /// For questions about health, where it is another one.
    query_token: Option<HeaderValue>,
    basic: Option<HeaderValue>,
}

/// A healthy sidecar as the agent knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) address: String,
    /// What its metadata says under the key of the port.
    pub(super) port: Option<String>,
}

/// One health check of an instance.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) service: String,
    pub(super) service_id: String,
    pub(super) node: String,
    pub(super) is_passing: bool,
}

/// Parameters and headers of one question.
#[derive(Default)]
struct Question {
    parameters: Vec<(String, String)>,
    cache_control: Option<HeaderValue>,
    token: Option<HeaderValue>,
}

impl Agent {
    /// Reads the files the settings name; blocks.
    ///
    /// # Errors
    /// Names the file or setting that cannot be used.
    pub(super) fn new(settings: ClientSettings, query: QueryOptions) -> Result<Self, String> {
        let client = match &settings.socket {
            Some(socket) => Client::on_socket(LIMITS, socket.clone()),
            None if settings.base.starts_with("https:") => Client::with_tls(LIMITS, tls(&settings)?),
            None => Client::new(LIMITS),
        };
        let mut token = settings.token.expose().clone();
        if token.is_empty() && !settings.token_file.is_empty() {
            token = read(&settings.token_file)?.trim().to_owned();
        }
        let secret = |text: String, what: &str| -> Result<HeaderValue, String> {
            let mut value = HeaderValue::try_from(text).map_err(|_| format!("{what} contains a line break"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let optional = |text: String| if text.is_empty() { Ok(None) } else { secret(text, "the token").map(Some) };
        let (token, query_token) = (optional(token)?, optional(query.token.expose().clone())?);
        let basic = settings.user.as_ref().map(|(name, password)| {
            secret(format!("Basic {}", STANDARD.encode(format!("{name}:{}", password.expose()))), "the user")
        });
        Ok(Self { client, basic: basic.transpose()?, settings, query, token, query_token })
    }

    /// Where it is asked, for messages.
    pub(super) fn place(&self) -> String {
        let datacenter = [&self.query.datacenter, &self.settings.datacenter].into_iter().find(|name| !name.is_empty());
        let datacenter = datacenter.map(|name| format!(", datacenter {name}")).unwrap_or_default();
        match &self.settings.socket {
            Some(socket) => format!("the Consul agent unix://{}{datacenter}", socket.display()),
            None => format!("the Consul agent {}{datacenter}", self.settings.base),
        }
    }

    /// Whether it answers at all.
    pub(super) async fn check(&self) -> Result<(), ComponentError> {
        self.call(Method::GET, "/v1/agent/self", self.plain(), None, LIMITS.time).await.map(drop)
    }

    pub(super) async fn register(&self, service: &Json) -> Result<(), ComponentError> {
        self.call(Method::PUT, "/v1/agent/service/register", self.plain(), Some(service), LIMITS.time).await.map(drop)
    }

    pub(super) async fn deregister(&self, id: &str) -> Result<(), ComponentError> {
        let path = format!("/v1/agent/service/deregister/{}", escape(id));
        self.call(Method::PUT, &path, self.plain(), None, LIMITS.time).await.map(drop)
    }

    /// The healthy instances of an app; `is_fresh` passes by the agent's cache.
    pub(super) async fn instances(
        &self,
        app_id: &str,
        port_key: &str,
        is_fresh: bool,
    ) -> Result<Vec<Instance>, ComponentError> {
        let mut question = self.question(!is_fresh && self.query.use_cache);
        question.add("passing", "1");
        question.add_text("filter", &self.query.filter);
        let path = format!("/v1/health/service/{}", escape(app_id));
        let answer = self.call(Method::GET, &path, question, None, LIMITS.time).await?;
        let text = |entry: &Json, path: &str| {
            entry.pointer(path).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let instance = |entry: &Json| Instance {
            address: text(entry, "/Service/Address").or_else(|| text(entry, "/Node/Address")).unwrap_or_default(),
            port: entry
                .pointer("/Service/Meta")
                .and_then(|meta| meta.get(port_key)?.as_str())
                .filter(|port| !port.is_empty())
                .map(str::to_owned),
        };
        Ok(self.list(&answer, &path)?.iter().map(instance).filter(|one| !one.address.is_empty()).collect())
    }

    /// The checks of apps, once they have changed since `index`, and the index to go on with.
    pub(super) async fn checks(&self, app_ids: &[String], index: u64) -> Result<(Vec<Check>, u64), ComponentError> {
        let mut question = self.question(false);
        let filters: Vec<String> =
            app_ids.iter().map(|app_id| format!("ServiceName=={}", Json::from(app_id.as_str()))).collect();
        question.add("filter", filters.join(" or "));
        let wait = self.query.wait_time.or(self.settings.wait_time).unwrap_or(WAIT);
        if index != 0 {
            question.add("index", index.to_string());
        }
        let path = "/v1/health/state/any";
        let answer = self.call(Method::GET, path, question, None, wait + wait / 16 + WAIT_MARGIN).await?;
        let header = answer.headers().get(INDEX).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = |check: &Json, name: &str| check.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        let read = |check: &Json| Check {
            service: text(check, "ServiceName"),
            service_id: text(check, "ServiceID"),
            node: text(check, "Node"),
            is_passing: check.get("Status").is_some_and(|status| status == "passing"),
        };
        Ok((self.list(&answer, path)?.iter().map(read).collect(), header.unwrap_or(0)))
    }

    /// The options of a call about this sidecar.
    fn plain(&self) -> Question {
        let client = &self.settings;
        let mut question = Question { token: self.token.clone(), ..Question::default() };
        question.add_text("ns", &client.namespace);
        question.add_text("partition", &client.partition);
        question.add_text("dc", &client.datacenter);
        if let Some(wait) = client.wait_time {
            question.add("wait", format!("{}ms", wait.as_millis()));
        }
        question
    }

    /// The options of a question about health. *Source:* `setQueryOptions` of Consul's Go client.
    fn question(&self, from_cache: bool) -> Question {
        let (client, query) = (&self.settings, &self.query);
        let token = self.query_token.as_ref().or(self.token.as_ref()).cloned();
        let mut question = Question { token, ..Question::default() };
        let first = |one: &str, two: &str| if one.is_empty() { two.to_owned() } else { one.to_owned() };
        question.add_text("ns", &first(&query.namespace, &client.namespace));
        question.add_text("partition", &first(&query.partition, &client.partition));
        question.add_text("dc", &first(&query.datacenter, &client.datacenter));
        question.add_text("near", &query.near);
        for (is_set, name) in [(query.allow_stale, "stale"), (query.require_consistent, "consistent")] {
            if is_set {
                question.add(name, "");
            }
        }
        for (is_set, name) in [(query.local_only, "local-only"), (query.connect, "connect")] {
            if is_set {
                question.add(name, "true");
            }
        }
        if let Some(wait) = query.wait_time.or(client.wait_time) {
            question.add("wait", format!("{}ms", wait.as_millis()));
        }
        for (key, value) in &query.node_meta {
            question.add("node-meta", format!("{key}:{value}"));
        }
        if query.relay_factor != 0 {
            question.add("relay-factor", query.relay_factor.to_string());
        }
        if from_cache && !query.require_consistent {
            question.add("cached", "");
            let ages = [("max-age", query.max_age), ("stale-if-error", query.stale_if_error)];
            let ages: Vec<String> =
                ages.into_iter().filter_map(|(name, age)| Some(format!("{name}={}", age?.as_secs()))).collect();
            question.cache_control = HeaderValue::try_from(ages.join(", ")).ok().filter(|value| !value.is_empty());
        }
        question
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        question: Question,
        body: Option<&Json>,
        time: Duration,
    ) -> Result<Response<Bytes>, ComponentError> {
        let unavailable = |problem: &dyn Display| {
            let message = format!(
                "{method} {path}: {problem}; check spec.nameResolution.configuration.client and that the Consul agent runs"
            );
            ComponentError::new(ErrorKind::Unavailable, message)
        };
        let mut url = format!("{}{path}", self.settings.base);
        for (index, (name, value)) in question.parameters.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(&format!("{name}={}", escape(value)));
        }
        let body = body.map(|body| Bytes::from(body.to_string()));
        let mut request = request_to(&url).map_err(|error| unavailable(&error))?;
        *request.method_mut() = method.clone();
        let json = body.is_some().then(|| HeaderValue::from_static("application/json"));
        let headers = [
            (CONTENT_TYPE, json),
            (CACHE_CONTROL, question.cache_control),
            (TOKEN, question.token),
            (AUTHORIZATION, self.basic.clone()),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request.headers_mut().insert(name, value);
            }
        }
        *request.body_mut() = body.unwrap_or_default();
        let answer = self.client.send_within(request, time).await.map_err(|error| unavailable(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let reason: String = String::from_utf8_lossy(answer.body()).trim().chars().take(REASON_MAX).collect();
        let (kind, advice) = match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                (ErrorKind::Unauthorized, "; check client.token in spec.nameResolution.configuration and its policy")
            }
            status if status.is_server_error() => (ErrorKind::Unavailable, ""),
            _ => (ErrorKind::InvalidRequest, ""),
        };
        let message = format!("{} answered {status} to {method} {path}: {reason}{advice}", self.place());
        Err(ComponentError::new(kind, message))
    }

    fn list(&self, answer: &Response<Bytes>, path: &str) -> Result<Vec<Json>, ComponentError> {
        serde_json::from_slice::<Option<Vec<Json>>>(answer.body()).map(Option::unwrap_or_default).map_err(|error| {
            let message = format!("{} answered something to GET {path} that is no list: {error}", self.place());
            ComponentError::new(ErrorKind::Unavailable, message)
        })
    }
}

impl Question {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.parameters.push((name.to_owned(), value.into()));
    }

    fn add_text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.add(name, value);
        }
    }
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))
}

fn tls(settings: &ClientSettings) -> Result<Tls, String> {
    let certificates = |file: &str| {
        Certificate::from_pem(read(file)?.as_bytes()).map_err(|error| format!("the certificates in {file}: {error}"))
    };
    let mut roots = Vec::new();
    if !settings.ca_file.is_empty() {
        roots = certificates(&settings.ca_file)?;
    } else if !settings.ca_path.is_empty() {
        let folder = Path::new(&settings.ca_path);
        let files = std::fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        for file in files.flatten().map(|file| file.path()).filter(|path| path.is_file()) {
            roots.extend(certificates(&file.to_string_lossy())?);
        }
    }
    let identity = match (settings.certificate_file.as_str(), settings.key_file.as_str()) {
        ("", _) | (_, "") => None,
        (chain, key) => {
            let text = read(key)?;
            let key = PrivateKey::from_pem(text.as_bytes()).map_err(|error| format!("the key in {key}: {error}"))?;
            Some((certificates(chain)?, key))
        }
    };
    let options = TlsOptions {
        roots: (!roots.is_empty()).then_some(roots),
        identity,
        server_name: Some(settings.server_name.clone()).filter(|name| !name.is_empty()),
        is_unverified: settings.is_unverified,
    };
    Tls::new(options).map_err(|error| error.to_string())
}
