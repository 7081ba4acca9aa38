//! Spans of calls of other sidecars, and the trace context on the way between two of them.
//!
//! *Source:* spec metrics.md §5.2 and §5.3. *Neighbours:* `inbound` and `peer` call it; what an app gets is in the headers of the
//! request. *Invariant:* the context of the calling sidecar counts before the one its app sent.

use http::HeaderMap;
use pillion_runtime::message::InvokeRequest;
use pillion_telemetry::trace::{
    GRPC_TRACE_BIN, Span, SpanKind, Started, TRACE_PARENT, TraceContext, Tracer, context_of_headers,
};

/// Puts the context of a call into the metadata of the call between sidecars, where the original looks for it.
pub(crate) fn put_metadata(metadata: &mut HeaderMap, request: &HeaderMap) {
    let Some(parent) = request.get(TRACE_PARENT) else { return };
    let Some(context) = TraceContext::of_value(parent) else { return };
    metadata.insert(TRACE_PARENT, parent.clone());
    metadata.insert(GRPC_TRACE_BIN, context.to_binary_value());
}

/// Starts the span of a call of another sidecar to the app; `sent` is the context in the call's metadata, `path` the method of
/// the sidecars' service. The app gets the context of the span.
pub(crate) fn start(
    tracer: &Tracer,
    app_id: &str,
    path: &str,
    sent: Option<TraceContext>,
    request: &mut InvokeRequest,
) -> Option<Span> {
    if tracer.is_off() {
        return None;
    }
    let parent = sent.or_else(|| request.headers.get(TRACE_PARENT).and_then(TraceContext::of_value));
    let name = || ["CallLocal/", app_id, "/", &request.method].concat();
    let Started { context, span } = tracer.start(SpanKind::Server, parent, name);
    if let Some(context) = context.filter(|_| tracer.is_on() || sent.is_some()) {
        request.headers.insert(TRACE_PARENT, context.to_value());
    }
    span.map(|mut span| {
        span.set("rpc.service", "ServiceInvocation");
        span.set("dapr.invoke_method", request.method.as_str());
        span.set("dapr.protocol", "grpc");
        span.set("dapr.api", path);
        span
    })
}

/// Starts the span of a gRPC call that another sidecar passes on to the app.
pub(crate) fn start_foreign<B>(tracer: &Tracer, request: &mut http::Request<B>) -> Option<Span> {
    if tracer.is_off() {
        return None;
    }
    let parent = context_of_headers(request.headers());
    let name = || request.uri().path().to_owned();
    let Started { context, span } = tracer.start(SpanKind::Server, parent, name);
    if let Some(context) = context.filter(|_| tracer.is_on()) {
        request.headers_mut().insert(TRACE_PARENT, context.to_value());
        request.headers_mut().insert(GRPC_TRACE_BIN, context.to_binary_value());
    }
    span
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn metadata_gets_both_forms_of_a_context_and_nothing_else() {
        let mut metadata = HeaderMap::new();
        let mut request = HeaderMap::new();
        put_metadata(&mut metadata, &request);
        request.insert(TRACE_PARENT, pillion_telemetry::trace::NO_CONTEXT);
        put_metadata(&mut metadata, &request);
        assert!(metadata.is_empty());
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        request.insert(TRACE_PARENT, HeaderValue::from_static(text));
        put_metadata(&mut metadata, &request);
        assert_eq!(metadata[TRACE_PARENT], text);
        assert_eq!(context_of_headers(&metadata), TraceContext::parse(text));
        assert_eq!(metadata.len(), 2);
    }
}
