//! The certificate authority over gRPC: picks the validator, checks, signs. TLS with sentry's own identity; callers show none.
//!
//! *Source:* spec internals.md §5.2; codes and texts are those of the original.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pillion_core::log::Logger;
use pillion_proto::sentry::v1::ca_server::{Ca, CaServer};
use pillion_proto::sentry::v1::sign_certificate_request::TokenValidator;
use pillion_proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use pillion_security::certificate::chain_to_pem;
use pillion_security::{SpiffeId, request::public_key};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::authority::{Authority, SharedAuthority};
use crate::metrics::Metrics;
use crate::validator::Validator;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks whether a caller is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Time calls under way get at the end.
const DRAIN: Duration = Duration::from_secs(5);
/// Replicas of the scheduler, which call each other by name.
const SCHEDULERS: usize = 3;

/// The service `dapr.proto.sentry.v1.CA`.
#[derive(Clone)]
pub(crate) struct Service(Arc<Parts>);

/// What the service works with.
pub(crate) struct Parts {
    pub(crate) authority: SharedAuthority,
    pub(crate) validators: HashMap<TokenValidator, Arc<dyn Validator>>,
    /// For requests that name no validator; `None` = they must.
    pub(crate) default_validator: Option<TokenValidator>,
    pub(crate) metrics: Metrics,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Domain of the cluster.
    pub(crate) domain: String,
    pub(crate) log: Logger,
}

impl Service {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    async fn sign(&self, request: SignCertificateRequest) -> Result<SignCertificateResponse, Status> {
        let parts = &self.0;
        let who = format!("{}/{}", request.namespace, request.id);
        let asked = TokenValidator::try_from(request.token_validator).ok();
        let chosen =
            match asked {
                Some(TokenValidator::Unknown) => Some(parts.default_validator.ok_or_else(|| {
                    Status::invalid_argument("a validator name must be specified in this environment")
                })?),
                other => other,
            };
        let validator = chosen.and_then(|chosen| parts.validators.get(&chosen));
        let validator = validator.ok_or_else(|| Status::invalid_argument("the requested validator is not enabled"))?;
        let trust_domain = validator.validate(&request).await.map_err(|error| {
            parts.log.debug(format_args!("Failed to validate request for {who}: {error}"));
            Status::permission_denied(error)
        })?;
        let key = public_key(&request.certificate_signing_request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let refused = |error: pillion_security::Error| {
            parts.log.error(format_args!("Error signing identity of {who}: {error}"));
            Status::internal("failed to sign certificate")
        };
        let id = SpiffeId::new(trust_domain.clone(), &request.namespace, &request.id).map_err(refused)?;
        let dns_names = self.dns_names(&request);
        let authority = parts.authority.get();
        let mut audiences = vec![trust_domain.to_string()]; // always the first
        audiences.extend(request.jwt_audiences);
        // A signature with RSA takes about a millisecond.
        let signed = tokio::task::spawn_blocking(move || answer(&authority, &key, &id, &dns_names, &audiences)).await;
        let response = signed.map_err(|error| Status::internal(error.to_string()))?.map_err(refused)?;
        parts.log.debug(format_args!("Successfully signed certificate for {who}"));
        Ok(response)
    }

    /// DNS names of services others reach by host name; only of the control plane's own namespace.
    fn dns_names(&self, request: &SignCertificateRequest) -> Vec<String> {
        let namespace = &self.0.namespace;
        if request.namespace != *namespace {
            return Vec::new();
        }
        match request.id.as_str() {
            "dapr-injector" => vec![format!("dapr-sidecar-injector.{namespace}.svc")],
            "dapr-operator" => vec![format!("dapr-webhook.{namespace}.svc")],
            "dapr-scheduler" => (0..SCHEDULERS)
                .map(|index| {
                    format!("dapr-scheduler-server-{index}.dapr-scheduler-server.{namespace}.svc.{}", self.0.domain)
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn answer(
    authority: &Authority,
    key: &[u8],
    id: &SpiffeId,
    dns_names: &[String],
    audiences: &[String],
) -> Result<SignCertificateResponse, pillion_security::Error> {
    let chain = authority.sign(key, id, dns_names)?;
    let ends = chain.first().map_or(UNIX_EPOCH, |leaf| leaf.not_after());
    let mut per_audience = HashMap::new();
    if authority.issues_tokens() {
        for audience in audiences {
            if let Some(token) = authority.token(id, std::slice::from_ref(audience))? {
                per_audience.insert(audience.clone(), token);
            }
        }
    }
    Ok(SignCertificateResponse {
        workload_certificate: chain_to_pem(&chain).into(),
        trust_chain_certificates: vec![authority.trust_anchors().into()],
        valid_until: Some(timestamp(ends)),
        jwt: authority.token(id, audiences)?,
        per_audience_jwts: per_audience,
    })
}

fn timestamp(at: SystemTime) -> prost_types::Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

#[async_trait]
impl Ca for Service {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        self.0.metrics.request();
        let answered = self.sign(request.into_inner()).await;
        self.0.metrics.answered(answered.is_ok());
        answered.map(Response::new)
    }
}

/// Serves until cancelled, then lets calls under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    service: Service,
    log: Logger,
    cancel: CancellationToken,
) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
        let Ok((stream, from)) = accepted else {
            log.warn("cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(Ok(place)) = cancel.run_until_cancelled(places.clone().acquire_owned()).await else { break };
        let _ = stream.set_nodelay(true); // only a matter of speed
        let (tls, service, log, cancel) = (tls.clone(), service.clone(), log.clone(), cancel.clone());
        connections.spawn(async move {
            let _place = place;
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
            let stream = match cancel.run_until_cancelled(handshake).await {
                Some(Ok(Ok(stream))) => stream,
                Some(Ok(Err(error))) => return log.debug(format_args!("no TLS with {from}: {error}")),
                _ => return,
            };
            let service = TowerToHyperService::new(CaServer::new(service));
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEP_ALIVE)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = &mut connection => {} // a caller that hangs up is no event
                () = cancel.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await; // as above
                }
            }
        });
    }
    log.info("Shutting down gRPC server");
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        log.warn("some calls did not finish in time");
    }
}
