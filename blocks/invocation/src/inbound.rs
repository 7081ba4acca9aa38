//! The internal gRPC server: calls of other sidecars to the app of this one.

mod connection;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Request, Response};
use pillion_core::error::GrpcCode;
use pillion_core::log::Logger;
use pillion_http2::server::SendResponse;
use pillion_http2::{RecvStream, SendStream};
use pillion_runtime::app_channel::AppChannel;
use pillion_runtime::body::{Body, BodyError};
use pillion_runtime::http2::stream::send_data;
use pillion_runtime::loops::Loops;
use pillion_runtime::message::{CALLER_APP_ID, InvokeRequest, InvokeResponse, NO_VERB, known_verb, normalize_in_place};
use pillion_runtime::succession::{Seat, Server, Succession};
use pillion_security::{MutualTls, SpiffeId};
use pillion_telemetry::metrics::{Metrics, ServiceMetrics};
use pillion_telemetry::trace::{TraceContext, Tracer, context_of_headers};
use prost::Message;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{AccessControl, Asked, correct_caller};
use crate::direct;
use crate::peer::{CALL_LOCAL, CALL_LOCAL_STREAM, OWN_AGENT, PeerError};
use crate::proxy;
use crate::shortcut::Shortcut;
use crate::spans;
use crate::stream::{Direction, MessageStream, send_payloads};
use crate::wire::{WireError, decode_invoke_request, decode_request, first_response_frame};
use connection::{log_end, serve_tcp, serve_unix};

/// Bodies up to this size are sent in one message with their head.
const INLINE_BODY: u64 = 64 * 1024;
/// Paths of the sidecars' own service; every other one is the app's.
const OWN_SERVICE: &str = "/dapr.proto.internals.v1.ServiceInvocation/";
/// Wait after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The offer of a sidecar without a [`Shortcut`].
const NO_SHORTCUT: HeaderValue = HeaderValue::from_static("1");

/// Gives the app channel once the app has been found.
pub type ChannelSource = Arc<dyn Fn() -> Option<AppChannel> + Send + Sync>;

/// Who is at the other end of a connection, as its certificate says; `None` without mutual TLS.
pub(crate) type PeerId = Option<Arc<SpiffeId>>;

/// Serves other sidecars. Cheap to clone.
#[derive(Clone)]
pub struct InternalServer {
    channel: ChannelSource,
    max_body_bytes: usize,
    tracer: Tracer,
    app_id: Arc<str>,
    metrics: Metrics,
    log: Logger,
    tasks: TaskTracker,
    succession: Succession<Self>,
    /// `None` = plain connections.
    tls: Option<TlsAcceptor>,
    access: Option<Arc<AccessControl>>,
    /// What tells another Pillion how it can call without gRPC.
    offer: HeaderValue,
    loops: Loops,
}

impl Server for InternalServer {
    fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn succession(&self) -> &Succession<Self> {
        &self.succession
    }
}

impl InternalServer {
    /// Makes a server. `max_body_bytes` limits one message; 0 = no limit.
    pub fn new(channel: ChannelSource, max_body_bytes: usize, log: Logger) -> Self {
        let (tracer, app_id) = (Tracer::default(), Arc::from(""));
        let (metrics, tasks) = (Metrics::off(), TaskTracker::new());
        Self {
            channel,
            max_body_bytes,
            tracer,
            app_id,
            metrics,
            log,
            tasks,
            succession: Succession::default(),
            tls: None,
            access: None,
            offer: NO_SHORTCUT,
            loops: Loops::default(),
        }
    }

    /// The same, sharing its connections out to loops.
    #[must_use]
    pub fn on(self, loops: Loops) -> Self {
        Self { loops, ..self }
    }

    /// The same over mutual TLS, if there is one; plain connections are refused then.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn secured(self, tls: Option<&MutualTls>) -> Result<Self, pillion_security::Error> {
        let Some(tls) = tls else { return Ok(self) };
        let config = tls.server(&[pillion_security::tls::HTTP2, direct::ALPN])?;
        Ok(Self { tls: Some(TlsAcceptor::from(config)), ..self })
    }

    /// The same, letting through only what the rules allow.
    #[must_use]
    pub fn controlled(self, access: Option<Arc<AccessControl>>) -> Self {
        Self { access, ..self }
    }

    /// The same, recording the calls it gets.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same with spans, which name the own app.
    #[must_use]
    pub fn traced(self, tracer: Tracer, app_id: &str) -> Self {
        Self { tracer, app_id: app_id.into(), ..self }
    }

    /// The same, telling callers on this machine of its Unix socket.
    #[must_use]
    pub fn offering(self, shortcut: Option<&Shortcut>) -> Self {
        // Names are plain text, so this cannot fail.
        let offer = shortcut.and_then(|shortcut| HeaderValue::from_str(&shortcut.name).ok());
        Self { offer: offer.unwrap_or(NO_SHORTCUT), ..self }
    }

    /// Accepts until cancelled, then lets the calls under way finish. Its connections go on with the successor, if there is one.
    pub async fn serve(self, listener: TcpListener, shortcut: Option<Shortcut>, cancel: CancellationToken) {
        if let Some(Shortcut { listener, .. }) = shortcut {
            let (server, cancel) = (self.clone(), cancel.clone());
            self.tasks.spawn(async move { server.accept_by_shortcut(listener, cancel).await });
        }
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (seat, stream) = (Seat::new(self.clone(), cancel.clone()), stream.into_std());
                    self.loops.spawn(move || async move {
                        let log = seat.server.log.clone();
                        log_end(&log, serve_tcp(seat, stream).await);
                    });
                }
                Err(error) => {
                    self.log.warn(format_args!("cannot accept a connection of another sidecar: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Callers on this machine; they speak nothing but [`direct`].
    async fn accept_by_shortcut(&self, listener: UnixListener, cancel: CancellationToken) {
        while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await; // no more files; the port's log line tells
                continue;
            };
            let (seat, stream) = (Seat::new(self.clone(), cancel.clone()), stream.into_std());
            self.loops.spawn(move || async move {
                let log = seat.server.log.clone();
                log_end(&log, serve_unix(seat, stream).await);
            });
        }
    }

    async fn answer_direct(&self, request: Request<Body>, peer: Option<&SpiffeId>) -> Response<Body> {
        let Some(request) = direct::decode(request) else {
            let mut refused =
                Response::new(Body::full("this port is for calls between sidecars; the API has a port of its own\n"));
            *refused.status_mut() = http::StatusCode::NOT_FOUND;
            return refused;
        };
        let outcome = match self.channel() {
            Ok(channel) => self.invoke(&channel, CALL_LOCAL, None, request, peer).await,
            Err(error) => Err(error),
        };
        direct::encode(outcome)
    }

    /// Answers one call; `peer` is who the connection is with.
    async fn handle(&self, mut request: Request<RecvStream>, mut respond: SendResponse, peer: Option<&SpiffeId>) {
        let outcome = match request.uri().path() {
            CALL_LOCAL_STREAM => self.call_local_stream(request, &mut respond, peer).await,
            CALL_LOCAL => self.call_local(request, &mut respond, peer).await,
            other if other.starts_with(OWN_SERVICE) => Err(PeerError::new(
                GrpcCode::Unimplemented,
                format!("unknown method {other} on the internal gRPC server"),
            )),
            // Boxed, so that the far more frequent calls of apps do not carry its size.
            _ => {
                let _span = spans::start_foreign(&self.tracer, &mut request); // ends with the call
                let gate = proxy::Gate { access: self.access.as_deref(), peer };
                return Box::pin(proxy::serve((self.channel)(), self.max_body_bytes, gate, request, respond)).await;
            }
        };
        if let Err(error) = outcome {
            self.log.debug(format_args!("call of another sidecar failed: {error}"));
            refuse(&mut respond, &error);
        }
    }

    async fn call_local_stream(
        &self,
        request: Request<RecvStream>,
        respond: &mut SendResponse,
        peer: Option<&SpiffeId>,
    ) -> Result<(), PeerError> {
        let channel = self.channel()?;
        let sent = self.context_of(request.headers());
        let terse = request.headers().get(USER_AGENT).is_some_and(|agent| agent == OWN_AGENT);
        let mut messages = MessageStream::new(request.into_body(), Direction::Request, self.max_body_bytes);
        let first = messages
            .message()
            .await
            .map_err(|error| malformed(&error))?
            .ok_or_else(|| malformed(&"no message in the request"))?;
        let chunk = decode_request(first).map_err(|error| malformed(&error))?;
        let mut request = chunk
            .request
            .ok_or_else(|| malformed(&"request does not contain the required fields in the leading chunk"))?;
        request.body = messages.into_body(chunk.payload).map_err(|error| malformed(&error))?;
        let response = self.invoke(&channel, CALL_LOCAL_STREAM, sent, request, peer).await?;
        stream_response(response, respond, terse.then_some(&self.offer)).await
    }

    async fn call_local(
        &self,
        request: Request<RecvStream>,
        respond: &mut SendResponse,
        peer: Option<&SpiffeId>,
    ) -> Result<(), PeerError> {
        let channel = self.channel()?;
        let sent = self.context_of(request.headers());
        let mut messages = MessageStream::new(request.into_body(), Direction::Request, self.max_body_bytes);
        let message = messages
            .message()
            .await
            .map_err(|error| malformed(&error))?
            .ok_or_else(|| malformed(&"no message in the request"))?;
        let request = decode_invoke_request(message).map_err(|error: WireError| malformed(&error))?;
        let response = self.invoke(&channel, CALL_LOCAL, sent, request, peer).await?;
        let message = unary_response(response, self.max_body_bytes).await?;
        let mut stream = respond.send_response(head(), false).map_err(|error| gone(&error))?;
        send_data(&mut stream, frame(&message), false).await.map_err(|error| gone(&error))?;
        stream.send_trailers(ok_trailers()).map_err(|error| gone(&error))
    }

    fn channel(&self) -> Result<AppChannel, PeerError> {
        (self.channel)().ok_or_else(|| PeerError::new(GrpcCode::Internal, "app channel is not initialized"))
    }

    /// The trace context of a call between sidecars.
    fn context_of(&self, metadata: &HeaderMap) -> Option<TraceContext> {
        if self.tracer.is_off() { None } else { context_of_headers(metadata) }
    }

    async fn invoke(
        &self,
        channel: &AppChannel,
        path: &str,
        sent: Option<TraceContext>,
        mut request: InvokeRequest,
        peer: Option<&SpiffeId>,
    ) -> Result<InvokeResponse, PeerError> {
        normalize_in_place(&mut request.method).map_err(|error| PeerError::new(GrpcCode::InvalidArgument, error.0))?;
        request.verb = known_verb(request.verb);
        if let Some(access) = &self.access {
            let verb = Some(request.verb.as_str()).filter(|verb| *verb != NO_VERB);
            access.check(peer, &request.method, Asked::Method(verb))?;
        }
        correct_caller(&mut request.headers, peer);
        pillion_runtime::message::strip_hop_by_hop(&mut request.headers);
        let received = self.received(&request.headers);
        let span = spans::start(&self.tracer, &self.app_id, path, sent, &mut request);
        let outcome = channel.invoke(request).await.map_err(|error| app_broke(&PeerError::from(error)));
        if let (Some(mut span), Err(error)) = (span, &outcome) {
            span.fail(error.message.as_str());
        }
        if let Some((metrics, caller)) = received {
            let status = outcome.as_ref().map_or(GrpcCode::Internal as i32, |answer| answer.status.number());
            metrics.response_sent(name_of(caller.as_ref()), status);
        }
        outcome
    }

    /// Tells the metrics of a call, and who called, for the answer.
    fn received(&self, headers: &HeaderMap) -> Option<(&ServiceMetrics, Option<HeaderValue>)> {
        let metrics = self.metrics.service()?;
        let caller = headers.get(CALLER_APP_ID).cloned();
        metrics.request_received(name_of(caller.as_ref()));
        Some((metrics, caller))
    }
}

/// The caller as metrics name it.
fn name_of(caller: Option<&HeaderValue>) -> &str {
    caller.and_then(|caller| caller.to_str().ok()).unwrap_or("unknown")
}

/// `offer`: the caller is a Pillion too. It takes the end of the stream for OK, which saves both sides a packet; any other
/// gRPC client wants the status in trailers.
async fn stream_response(
    mut response: InvokeResponse,
    respond: &mut SendResponse,
    offer: Option<&HeaderValue>,
) -> Result<(), PeerError> {
    let small = response.body.known_length().is_some_and(|length| length <= INLINE_BODY);
    let first = if small {
        let bytes = std::mem::take(&mut response.body).collect(0).await.map_err(|error| app_broke(&error))?;
        (!bytes.is_empty()).then_some(bytes)
    } else {
        None
    };
    let frame = first_response_frame(&response, first.as_ref());
    let mut head = head();
    if let Some(offer) = offer {
        head.headers_mut().insert(direct::MARK, offer.clone());
    }
    let mut stream = respond.send_response(head, false).map_err(|error| gone(&error))?;
    stream.send_data(frame, small && offer.is_some()).map_err(|error| gone(&error))?;
    if small && offer.is_some() {
        return Ok(());
    }
    if !small {
        let mut body = response.body;
        if let Err(error) = send_payloads(&mut stream, &mut body, 0).await {
            return end_with_error(&mut stream, &app_broke(&error));
        }
    }
    stream.send_trailers(ok_trailers()).map_err(|error| gone(&error))
}

/// The head is out already: the status goes into the trailers.
fn end_with_error(stream: &mut SendStream, error: &PeerError) -> Result<(), PeerError> {
    let mut trailers = HeaderMap::new();
    put_status(&mut trailers, error);
    stream.send_trailers(trailers).map_err(|error| gone(&error))
}

async fn unary_response(response: InvokeResponse, limit: usize) -> Result<Vec<u8>, PeerError> {
    use pillion_proto::common::v1 as common;
    use pillion_proto::google::protobuf::Any;
    use pillion_proto::internals::v1 as internals;
    let content_type = response.content_type().to_owned();
    let mut headers: std::collections::HashMap<String, internals::ListStringValue> = std::collections::HashMap::new();
    for (name, value) in &response.headers {
        if let Ok(text) = value.to_str() {
            headers.entry(name.as_str().to_owned()).or_default().values.push(text.to_owned());
        }
    }
    let status = internals::Status {
        code: response.status.number(),
        message: response.status_message,
        details: response.status_details,
    };
    let data = response.body.collect(limit).await.map_err(|error| app_broke(&error))?;
    let message =
        common::InvokeResponse { data: Some(Any { type_url: response.data_type_url, value: data }), content_type };
    Ok(internals::InternalInvokeResponse {
        status: Some(status),
        headers: headers.into_iter().collect(),
        message: Some(message),
        ..Default::default()
    }
    .encode_to_vec())
}

fn frame(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 5);
    out.push(0);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes()); // limited far below 4 GiB
    out.extend_from_slice(message);
    out.into()
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn refuse(respond: &mut SendResponse, error: &PeerError) {
    let mut response = head();
    put_status(response.headers_mut(), error);
    let _ = respond.send_response(response, true); // the caller is gone, or has its status already
}

fn put_status(headers: &mut HeaderMap, error: &PeerError) {
    headers.insert("grpc-status", HeaderValue::from(error.code as i32));
    const RESERVED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    let text = percent_encoding::utf8_percent_encode(&error.message, RESERVED).to_string();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert("grpc-message", value);
    }
}

fn malformed(error: &dyn std::fmt::Display) -> PeerError {
    PeerError::new(GrpcCode::InvalidArgument, format!("parsing InternalInvokeRequest error: {error}"))
}

fn app_broke(error: &dyn std::fmt::Display) -> PeerError {
    PeerError::new(GrpcCode::Internal, format!("error invoking app channel: {error}"))
}

fn gone(error: &dyn std::fmt::Display) -> PeerError {
    PeerError::new(GrpcCode::Unavailable, format!("the calling sidecar is gone: {error}"))
}

impl From<BodyError> for PeerError {
    fn from(error: BodyError) -> Self {
        Self::new(GrpcCode::Internal, error.to_string())
    }
}
