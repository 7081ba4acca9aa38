//! The span of a request on the HTTP API, its trace context and baggage.
//!
//! *Source:* spec metrics.md §5. *Neighbours:* `front` has it around everything else; the handlers find the
//! context to pass on in the request's `traceparent`. *Invariant:* a request that is not sampled gets a context and nothing more;
//! the token of the API is never an attribute.

use http::header::Entry;
use http::{HeaderMap, HeaderValue};
use pillion_runtime::message::{DAPR_API_TOKEN, clean_path};
use pillion_telemetry::trace::{
    BAGGAGE, BaggageError, NO_CONTEXT, Span, SpanKind, Started, TRACE_PARENT, TRACE_STATE, TraceContext, check_baggage,
    forget_state, http_failure,
};

use super::endpoints::Call;
use super::front::{Incall, Shared};
use super::invoke::named_target;
use super::path;
use super::respond::{self, HttpResponse};

/// What a response gets of the request's trace.
pub(super) struct Trace {
    span: Option<Span>,
    parent: Option<HeaderValue>,
    state: Option<HeaderValue>,
    baggage: Option<HeaderValue>,
}

impl Shared {
    /// Begins the span of a request that takes part in tracing; the answer to give instead when its baggage is not valid.
    pub(super) fn start_trace(&self, call: &mut Incall) -> Result<Option<Trace>, Box<HttpResponse>> {
        if self.options.tracer.is_off() || call.uri.path().contains("/healthz") {
            return Ok(None);
        }
        self.trace(call).map(Some).map_err(|refused| Box::new(respond::text(400, &format!("{refused}\n"))))
    }

    fn trace(&self, call: &mut Incall) -> Result<Trace, BaggageError> {
        let seen = Seen::in_headers(&call.headers);
        let baggage = if seen.baggage { baggage(&call.headers)? } else { None };
        let tracer = &self.options.tracer;
        let parent = if seen.parent { call.headers.get(TRACE_PARENT).and_then(TraceContext::of_value) } else { None };
        if seen.state {
            forget_state(&mut call.headers, parent.is_some());
        }
        let state = if seen.state { call.headers.get(TRACE_STATE).cloned() } else { None };
        // The name follows when it is known what the call is for.
        let Started { context, span } = tracer.start(SpanKind::Client, parent, String::new);
        let span = span.map(|mut span| {
            self.describe(&mut span, call, state.as_ref());
            span
        });
        let value = context.filter(|_| tracer.is_on()).map(TraceContext::to_value);
        let value = match value {
            Some(value) => {
                call.headers.insert(TRACE_PARENT, value.clone());
                Some(value)
            }
            None if context.is_some() => call.headers.get(TRACE_PARENT).cloned(),
            None => {
                call.headers.insert(TRACE_PARENT, NO_CONTEXT);
                None
            }
        };
        Ok(Trace { span, parent: value, state, baggage })
    }

    fn describe(&self, span: &mut Span, call: &Incall, state: Option<&HeaderValue>) {
        let path = path::decode_path(call.uri.path());
        for (name, value) in &call.headers {
            let name = name.as_str();
            if name.starts_with("dapr-") && name != DAPR_API_TOKEN {
                span.set(name, String::from_utf8_lossy(value.as_bytes()));
            }
        }
        if let Some(state) = state.and_then(|state| state.to_str().ok()) {
            span.set_state(state);
        }
        let api = [call.verb.as_str(), " ", &path];
        let cleaned = path::clean(call.uri.path());
        let name = match self.options.rules.find(&call.verb, &cleaned) {
            Some((endpoint, _)) if endpoint.call != Call::Invoke => describe_block(span, &cleaned, &api),
            Some(_) => describe_invoke(span, &path, &call.headers),
            None => None,
        };
        span.rename(name.unwrap_or_else(|| path.clone().into_owned()));
        span.set("dapr.protocol", "http");
        span.set_parts("dapr.api", &api);
        span.set("http.request.method", call.verb.as_str());
        span.set("url.full", call.uri.path_and_query().map_or("", |target| target.as_str()));
        if let Some(peer) = call.peer {
            span.set_address("server.address", peer.ip());
            span.set_number("server.port", peer.port());
        }
    }
}

impl Trace {
    pub(super) fn finish(self, mut response: HttpResponse) -> HttpResponse {
        let headers = response.headers_mut();
        if let Some(parent) = self.parent
            && let Entry::Vacant(place) = headers.entry(TRACE_PARENT)
        {
            place.insert(parent);
            if let Some(state) = self.state {
                headers.insert(TRACE_STATE, state);
            }
        }
        if let Some(baggage) = self.baggage {
            headers.insert(BAGGAGE, baggage);
        }
        if let Some(mut span) = self.span {
            let code = response.status().as_u16();
            span.set_number("dapr.status_code", code);
            if let Some(reason) = http_failure(code) {
                span.fail(reason);
            }
        }
        response
    }
}

/// Which headers of tracing there are: looked for all at once, since most requests have none of them.
#[derive(Default)]
struct Seen {
    parent: bool,
    state: bool,
    baggage: bool,
}

impl Seen {
    fn in_headers(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "traceparent" => seen.parent = true,
                "tracestate" => seen.state = true,
                "baggage" => seen.baggage = true,
                _ => {}
            }
        }
        seen
    }
}

/// The request's baggage as it came, for the response.
fn baggage(headers: &HeaderMap) -> Result<Option<HeaderValue>, BaggageError> {
    let mut values = headers.get_all(BAGGAGE).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let Some(second) = values.next() else {
        check_baggage(first.as_bytes())?;
        return Ok(Some(first.clone()));
    };
    let all: Vec<&[u8]> = [first, second].into_iter().chain(values).map(HeaderValue::as_bytes).collect();
    let joined = all.join(&b","[..]);
    check_baggage(&joined)?;
    Ok(HeaderValue::from_bytes(&joined).ok())
}

/// Whom a service invocation is for; gives the name of the span.
fn describe_invoke(span: &mut Span, path: &str, headers: &HeaderMap) -> Option<String> {
    let (target, method) = named_target(path, headers)?;
    span.set("rpc.service", "ServiceInvocation");
    span.set("net.peer.name", &target);
    Some(["CallLocal/", &target, "/", &clean_path(method)].concat())
}

/// Which component or actor a call is for; `path` is cleaned and still escaped. Gives the name of the span where it is not the
/// path.
fn describe_block(span: &mut Span, path: &str, api: &[&str]) -> Option<String> {
    let plain = |segment: &str| path::unescape_parameter(segment).unwrap_or_default();
    let mut segments = path.trim_matches('/').split('/').skip(1);
    let mut next = || segments.next().unwrap_or_default();
    let store = |span: &mut Span, system: &'static str, name: &str| {
        span.set("db.system", system);
        span.set("db.connection_string", system);
        span.set_parts("db.statement", api);
        span.set("db.name", name);
    };
    match next() {
        "state" => store(span, "state", &plain(next())),
        "secrets" => store(span, "secrets", &plain(next())),
        "bindings" => store(span, "bindings", &plain(next())),
        "publish" => {
            if next() == "bulk" {
                let _pubsub = next();
            }
            span.set("messaging.system", "pubsub");
            span.set("messaging.destination.name", plain(&segments.collect::<Vec<_>>().join("/")));
        }
        "actors" => {
            let (kind, id, part) = (plain(next()), plain(next()), next());
            span.set_parts("dapr.actor", &[&kind, ".", &id]);
            match part {
                "state" => store(span, "state", "actor"),
                "method" => {
                    let method = clean_path(&plain(&segments.collect::<Vec<_>>().join("/")));
                    span.set("rpc.service", "ServiceInvocation");
                    span.set_parts("net.peer.name", &[&kind, ".", &id]);
                    return Some(format!("CallActor/{kind}/{method}"));
                }
                _ => {}
            }
        }
        _ => {}
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baggage_of_several_headers_is_one() {
        let mut headers = HeaderMap::new();
        assert_eq!(baggage(&headers), Ok(None));
        headers.append(BAGGAGE, HeaderValue::from_static("a=1"));
        assert_eq!(baggage(&headers).unwrap().unwrap(), "a=1");
        headers.append(BAGGAGE, HeaderValue::from_static("b=2"));
        assert_eq!(baggage(&headers).unwrap().unwrap(), "a=1,b=2");
        headers.append(BAGGAGE, HeaderValue::from_static("nonsense"));
        assert!(baggage(&headers).is_err());
    }
}
