//! The span of a request on the HTTP API, its trace context and baggage.
//!
//! *Source:* spec metrics.md §5. *Neighbours:* `front` has it around everything else; the handlers find the
//! context to pass on in the request's `traceparent`. *Invariant:* a request that is not sampled gets a context and nothing more;
//! the token of the API is never an attribute.

use http::{HeaderMap, HeaderValue};
use pillion_runtime::message::{DAPR_API_TOKEN, clean_path};
use pillion_telemetry::trace::{
    BAGGAGE, BaggageError, NO_CONTEXT, Span, SpanKind, Started, TRACE_PARENT, TRACE_STATE, TraceContext, check_baggage,
    forget_state, http_failure,
};

use super::endpoints::Call;
use super::front::{Incall, Shared};
use super::invoke::find_target;
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
        let baggage = baggage(&call.headers)?;
        let tracer = &self.options.tracer;
        let parent = call.headers.get(TRACE_PARENT).and_then(TraceContext::of_value);
        forget_state(&mut call.headers, parent.is_some());
        let Started { context, span } =
            tracer.start(SpanKind::Client, parent, || path::decode_path(call.uri.path()).into_owned());
        let span = span.map(|mut span| {
            self.describe(&mut span, call);
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
        Ok(Trace { span, parent: value, state: call.headers.get(TRACE_STATE).cloned(), baggage })
    }

    fn describe(&self, span: &mut Span, call: &Incall) {
        let path = path::decode_path(call.uri.path());
        let api = format!("{} {path}", call.verb);
        for (name, value) in &call.headers {
            let name = name.as_str();
            if name.starts_with("dapr-") && name != DAPR_API_TOKEN {
                span.set(name.to_owned(), String::from_utf8_lossy(value.as_bytes()));
            }
        }
        if let Some(state) = call.headers.get(TRACE_STATE).and_then(|state| state.to_str().ok()) {
            span.set_state(state);
        }
        let cleaned = path::clean(call.uri.path());
        match self.options.rules.find(&call.verb, &cleaned) {
            Some((endpoint, _)) if endpoint.call != Call::Invoke => describe_block(span, &cleaned, &api),
            Some(_) => describe_invoke(span, &path, &call.headers),
            None => {}
        }
        span.set("dapr.protocol", "http");
        span.set("dapr.api", api);
        span.set("http.request.method", call.verb.as_str());
        span.set("url.full", call.uri.path_and_query().map_or("", |target| target.as_str()));
        if let Some(peer) = call.peer {
            span.set("server.address", peer.ip().to_string());
            span.set("server.port", peer.port().to_string());
        }
    }
}

impl Trace {
    pub(super) fn finish(self, mut response: HttpResponse) -> HttpResponse {
        let headers = response.headers_mut();
        if let Some(parent) = self.parent
            && !headers.contains_key(TRACE_PARENT)
        {
            headers.insert(TRACE_PARENT, parent);
            if let Some(state) = self.state {
                headers.insert(TRACE_STATE, state);
            }
        }
        if let Some(baggage) = self.baggage {
            headers.insert(BAGGAGE, baggage);
        }
        if let Some(mut span) = self.span {
            let code = response.status().as_u16();
            span.set("dapr.status_code", code.to_string());
            if let Some(reason) = http_failure(code) {
                span.fail(reason);
            }
        }
        response
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

/// Whom a service invocation is for.
fn describe_invoke(span: &mut Span, path: &str, headers: &HeaderMap) {
    let mut headers = headers.clone(); // the header of the target is taken out
    let Some((target, method)) = find_target(path, &mut headers) else { return };
    span.set("rpc.service", "ServiceInvocation");
    span.rename(format!("CallLocal/{target}/{method}"));
    span.set("net.peer.name", target);
}

/// Which component or actor a call is for; `path` is cleaned and still escaped.
fn describe_block(span: &mut Span, path: &str, api: &str) {
    let plain = |segment: &str| path::unescape_parameter(segment).unwrap_or_default();
    let mut segments = path.trim_matches('/').split('/').skip(1);
    let mut next = || segments.next().unwrap_or_default();
    let store = |span: &mut Span, system: &'static str, name: String| {
        span.set("db.system", system);
        span.set("db.connection_string", system);
        span.set("db.statement", api);
        span.set("db.name", name);
    };
    match next() {
        "state" => store(span, "state", plain(next())),
        "secrets" => store(span, "secrets", plain(next())),
        "bindings" => store(span, "bindings", plain(next())),
        "publish" => {
            if next() == "bulk" {
                let _pubsub = next();
            }
            span.set("messaging.system", "pubsub");
            span.set("messaging.destination.name", plain(&segments.collect::<Vec<_>>().join("/")));
        }
        "actors" => {
            let (kind, id, part) = (plain(next()), plain(next()), next());
            let actor = format!("{kind}.{id}");
            span.set("dapr.actor", actor.as_str());
            match part {
                "state" => store(span, "state", "actor".to_owned()),
                "method" => {
                    let method = clean_path(&plain(&segments.collect::<Vec<_>>().join("/")));
                    span.set("rpc.service", "ServiceInvocation");
                    span.set("net.peer.name", actor);
                    span.rename(format!("CallActor/{kind}/{method}"));
                }
                _ => {}
            }
        }
        _ => {}
    }
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
