//! From an HTTP request to the endpoint it names.
//!
//! Order as in the original (spec http_api.md §1 "Middleware order"): path cleaning, cross-origin answers, token, the user's
//! middleware, API log, route. The public port has the health and metadata routes alone, and none of the layers before them.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body::Body as _;
use pillion_core::log::{FieldValue, Level, Logger};
use pillion_runtime::body::{Body, CollectError};
use pillion_runtime::loops::Loops;
use pillion_runtime::message::DAPR_API_TOKEN;
use pillion_runtime::succession::{Server, Succession};
use pillion_telemetry::trace::{TRACE_PARENT, TraceContext};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cors::Cors;
use super::endpoints::{Call, Endpoint, INVOKE_ACTOR};
use super::observe::Observed;
use super::respond::HttpResponse;
use super::{HttpApi, HttpOptions, malformed, path, respond};
use crate::token::is_same;

/// The HTTP server. Cheap to clone.
#[derive(Clone)]
pub struct HttpFront {
    pub(super) shared: Arc<Shared>,
    public: bool,
    tasks: TaskTracker,
    succession: Succession<Self>,
}

pub(super) struct Shared {
    pub(super) api: HttpApi,
    pub(super) options: HttpOptions,
    cors: Option<Cors>,
    api_log: Logger,
}

/// A request on its way to its endpoint.
pub(super) struct Incall {
    pub(super) verb: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Address of the caller, when the listener tells it.
    pub(super) peer: Option<SocketAddr>,
}

impl Server for HttpFront {
    fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn succession(&self) -> &Succession<Self> {
        &self.succession
    }
}

impl HttpFront {
    /// Puts the blocks behind the routes.
    pub fn new(api: HttpApi, options: HttpOptions) -> Self {
        let cors = Cors::new(&options.allowed_origins);
        let api_log = options.log.scope("dapr.runtime.http-info");
        let shared = Arc::new(Shared { api, options, cors, api_log });
        Self { shared, public: false, tasks: TaskTracker::new(), succession: Succession::default() }
    }

    /// The front of `--dapr-public-port`: health and metadata for everybody.
    pub fn public(&self) -> Self {
        let shared = self.shared.clone();
        Self { shared, public: true, tasks: TaskTracker::new(), succession: Succession::default() }
    }

    pub(super) fn log(&self) -> &Logger {
        &self.shared.options.log
    }

    pub(super) fn loops(&self) -> &Loops {
        &self.shared.options.loops
    }

    pub(super) fn idle(&self) -> &CancellationToken {
        &self.shared.options.idle
    }

    pub(super) fn read_buffer_bytes(&self) -> usize {
        self.shared.options.read_buffer_bytes
    }

    pub(super) fn max_body_bytes(&self) -> usize {
        self.shared.options.max_body_bytes
    }

    pub(super) fn allows_http2(&self) -> bool {
        self.shared.options.http2 && !self.public
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Body>, peer: Option<SocketAddr>) -> HttpResponse {
        if let Some(response) = malformed::early(&request) {
            return response;
        }
        let (parts, body) = request.into_parts();
        let mut call = Incall { verb: parts.method, uri: parts.uri, headers: parts.headers, body, peer };
        let observed = self.shared.options.metrics.is_on().then(|| Observed::begin(&call));
        let response = match self.shared.start_trace(&mut call) {
            Err(refused) => *refused,
            Ok(trace) if self.public => {
                let response = Box::pin(self.shared.public(call)).await;
                match trace {
                    Some(trace) => trace.finish(response),
                    None => response,
                }
            }
            Ok(None) => self.shared.checked(call).await,
            Ok(Some(trace)) => trace.finish(self.shared.checked(call).await),
        };
        match observed {
            Some(observed) => observed.end(&self.shared.options.metrics, response),
            None => response,
        }
    }
}

impl Shared {
    async fn public(&self, call: Incall) -> HttpResponse {
        let path = path::clean(call.uri.path()).into_owned();
        match self.options.rules.find(&call.verb, &path) {
            Some((endpoint, parameters))
                if matches!(
                    endpoint.call,
                    Call::Health | Call::OutboundHealth | Call::GetMetadata | Call::SetMetadata
                ) =>
            {
                self.dispatch(endpoint, parameters, call).await
            }
            _ => respond::text(404, "404 page not found\n"),
        }
    }

    /// Cross-origin answers come before the token, so that a browser's question needs none.
    pub(super) async fn checked(&self, mut call: Incall) -> HttpResponse {
        let Some(cors) = &self.cors else { return self.authorised(call).await };
        if Cors::is_preflight(&call.verb, &call.headers) {
            let mut response = respond::empty(200);
            *response.headers_mut() = cors.preflight(&call.headers);
            return response;
        }
        let added = cors.actual(&call.verb, &call.headers);
        call.headers.remove(http::header::ACCESS_CONTROL_REQUEST_METHOD);
        let mut response = self.authorised(call).await;
        response.headers_mut().extend(added);
        response
    }

    async fn authorised(&self, mut call: Incall) -> HttpResponse {
        if let Some(token) = self.options.api_token.as_ref().filter(|token| !token.expose().is_empty()) {
            // Removed, so that it is not passed on to apps.
            let sent = call.headers.remove(DAPR_API_TOKEN);
            let fits = sent.is_some_and(|sent| is_same(sent.as_bytes(), token.expose().as_bytes()));
            if !fits && !is_health_check(&call) {
                return respond::text(401, "invalid api token\n");
            }
        }
        if self.options.pipeline.is_empty() {
            return self.inside(call).await;
        }
        // Boxed, so that requests without middleware do not carry its size.
        Box::pin(self.through_pipeline(call)).await
    }

    /// What the user's middleware stands around.
    pub(super) async fn inside(&self, call: Incall) -> HttpResponse {
        let logged = self.options.api_logging.then(|| Box::new(self.begin_log(&call)));
        let (endpoint, response) = self.route(call).await;
        if let (Some(logged), Some(endpoint)) = (logged, endpoint) {
            self.end_log(*logged, endpoint, &response);
        }
        response
    }

    fn begin_log(&self, call: &Incall) -> Logged {
        let trace = if self.api_log.is_tapped() { call.headers.get(TRACE_PARENT) } else { None };
        Logged {
            started: Instant::now(),
            verb: call.verb.clone(),
            uri: call.uri.clone(), // copies share their bytes
            agent: call.headers.get(http::header::USER_AGENT).cloned(),
            trace: trace.and_then(TraceContext::of_value),
            target: if self.options.obfuscate_urls { invoked(call) } else { None },
        }
    }

    fn end_log(&self, logged: Logged, endpoint: &'static Endpoint, response: &HttpResponse) {
        if self.options.omit_health_checks && matches!(endpoint.call, Call::Health | Call::OutboundHealth) {
            return;
        }
        let Logged { started, verb, uri, agent, trace, target } = logged;
        let method = match target {
            _ if !self.options.obfuscate_urls => [verb.as_str(), " ", &path::decode_path(uri.path())].concat().into(),
            Some(target) if endpoint.call == Call::Invoke => format!("{}/{target}", endpoint.name).into(),
            _ if endpoint.name == INVOKE_ACTOR => {
                format!("{INVOKE_ACTOR}/{}", path::actor(uri.path(), self.options.log_actor_ids)).into()
            }
            _ => Cow::Borrowed(endpoint.name),
        };
        let agent = agent.as_ref().and_then(|agent| agent.to_str().ok());
        let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let fields = [
            ("code", FieldValue::Number(response.status().as_u16().into())),
            ("duration", FieldValue::Number(elapsed)),
            ("method", FieldValue::Text(&method)),
            ("size", FieldValue::Number(response.body().size_hint().lower())),
            ("useragent", FieldValue::Text(agent.unwrap_or_default())),
        ];
        let sent = if agent.is_some() { fields.len() } else { fields.len() - 1 };
        self.api_log.request(Level::Info, "HTTP API Called", &fields[..sent], trace.map(TraceContext::for_log));
    }

    async fn route(&self, call: Incall) -> (Option<&'static Endpoint>, HttpResponse) {
        // The path is borrowed from a copy of the URI: copying shares its bytes.
        let uri = call.uri.clone();
        let path = path::clean(uri.path());
        match self.options.rules.find(&call.verb, &path) {
            Some((endpoint, parameters)) => (Some(endpoint), self.dispatch(endpoint, parameters, call).await),
            None => (None, respond::text(404, "404 page not found\n")),
        }
    }

    async fn dispatch(&self, endpoint: &'static Endpoint, raw: [&str; 2], call: Incall) -> HttpResponse {
        if endpoint.call == Call::Invoke {
            return self.invoke(call).await;
        }
        let [first, second] = match unescaped(raw) {
            Ok(parameters) => parameters,
            Err(problem) => return respond::text(400, &format!("{problem}\n")),
        };
        let answer = match endpoint.call {
            Call::Health => self.health(&call),
            Call::OutboundHealth => self.outbound_health(),
            Call::GetMetadata => Ok(self.get_metadata()),
            Call::SetMetadata => self.set_metadata(first, call).await,
            Call::Shutdown => Ok(self.shutdown(&call)),
            Call::GetState => self.get_state(&first, &second, &call).await,
            Call::DeleteState => self.delete_state(&first, second.into_owned(), &call).await,
            Call::SaveState => self.save_state(&first, call).await,
            Call::GetBulkState => self.get_bulk_state(&first, call).await,
            Call::TransactState => self.transact_state(&first, call).await,
            Call::QueryState => self.query_state(&first, call).await,
            Call::Publish => self.publish(first.into_owned(), second.into_owned(), call).await,
            Call::BulkPublish => return self.bulk_publish(first.into_owned(), second.into_owned(), call).await,
            Call::GetSecret => self.get_secret(&first, &second, &call).await,
            Call::GetBulkSecret => self.get_bulk_secret(&first, &call).await,
            Call::InvokeBinding => return self.invoke_binding(&first, call).await,
            Call::NotBuilt(block) => Err(self.absent(block, endpoint.name, &first, call).await),
            Call::Invoke => return self.invoke(call).await,
        };
        answer.unwrap_or_else(|error| respond::error(&error))
    }

    /// The whole body, at most `--max-body-size`.
    pub(super) async fn whole(&self, body: Body) -> Result<bytes::Bytes, CollectError> {
        body.collect(self.options.max_body_bytes).await
    }
}

fn is_health_check(call: &Incall) -> bool {
    call.verb == Method::GET && matches!(call.uri.path().trim_matches('/'), "v1.0/healthz" | "v1.0/healthz/outbound")
}

fn unescaped(raw: [&str; 2]) -> Result<[Cow<'_, str>; 2], String> {
    let [first, second] = raw;
    Ok([unescape(first)?, unescape(second)?])
}

fn unescape(text: &str) -> Result<Cow<'_, str>, String> {
    if text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        path::unescape_parameter(text).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(text))
    }
}

/// What the API log tells of a call, as far as it is known before its answer.
struct Logged {
    started: Instant,
    verb: Method,
    uri: Uri,
    agent: Option<HeaderValue>,
    trace: Option<TraceContext>,
    /// The app an invocation goes to, where the path is not told.
    target: Option<String>,
}

/// The app an invocation goes to.
fn invoked(call: &Incall) -> Option<String> {
    let path = path::decode_path(call.uri.path());
    if let Some(rest) = path.strip_prefix("/v1.0/invoke/") {
        return rest.split_once("/method/").map(|(target, _)| target.to_owned());
    }
    call.headers.get("dapr-app-id").and_then(|target| target.to_str().ok()).map(str::to_owned)
}
