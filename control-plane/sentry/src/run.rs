//! The service, put together: starts the parts in order, ends them when cancelled.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use pillion_core::log::Logger;
use pillion_proto::sentry::v1::sign_certificate_request::TokenValidator;
use pillion_security::{Certificate, PrivateKey, SpiffeId, tls};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::{Settings, SharedAuthority, prepare};
use crate::bundle::SENTRY;
use crate::cluster_domain;
use crate::configuration::{Configuration, Validators};
use crate::health::Health;
use crate::http_server::{Handler, listen, serve};
use crate::kube::{self, KubeClient};
use crate::metrics::Metrics;
use crate::oidc::{Asked, Oidc};
use crate::options::{Mode, OidcOptions, Options};
use crate::reload::{OwnIdentity, Reload};
use crate::server::{self, Parts, Service};
use crate::store::{CredentialStore, FileStore, SecretStore};
use crate::validator::{Insecure, Jwks, Kubernetes, Validator};

const ALLOW_ROOT: &str = "DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK";
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Time between two looks at a file of the OIDC certificate that is not there yet.
const TLS_FILES_PAUSE: Duration = Duration::from_secs(1);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Why sentry cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(String);

impl RunError {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

/// What runs.
pub(crate) struct Started {
    pub(crate) tasks: TaskTracker,
    /// Where requests for certificates are taken.
    pub(crate) address: SocketAddr,
}

/// Runs sentry until it is cancelled.
///
/// # Errors
/// When a part cannot start: says which, and what to do.
pub async fn run(options: Options, log: Logger, cancel: CancellationToken) -> Result<(), RunError> {
    let ending = cancel.child_token();
    // A start that waits (for keys, for Kubernetes) ends when it is told to.
    let started = cancel.run_until_cancelled(Box::pin(start(options, &log, ending.clone()))).await;
    match started {
        None => Ok(()),
        Some(Err(error)) => {
            ending.cancel(); // ends the parts that were started
            Err(RunError(error))
        }
        Some(Ok(Started { tasks, .. })) => {
            cancel.cancelled().await;
            tasks.close();
            tasks.wait().await;
            Ok(())
        }
    }
}

/// Starts every part; they end when `cancel` is cancelled.
pub(crate) async fn start(options: Options, log: &Logger, cancel: CancellationToken) -> Result<Started, String> {
    check_user(&options, log)?;
    let (health, metrics, tasks) = (Health::default(), Metrics::default(), TaskTracker::new());
    let server_part = health.part("sentry-server");
    let oidc_options = options.oidc.clone().filter(|_| options.tokens.is_some());
    let oidc_part = oidc_options.as_ref().map(|_| health.part("oidc-server"));
    plain_servers(&options, &health, &metrics, log, &tasks, &cancel).await?;

    let kube = match options.mode {
        Mode::Kubernetes => Some(Arc::new(kube::load(&options)?)),
        Mode::Standalone => None,
    };
    let configuration = Configuration::load(&options, kube.as_deref()).await?;
    let sentry = SpiffeId::new(options.trust_domain.clone(), &options.namespace, SENTRY)
        .map_err(|error| format!("the identity of sentry: {error}; check --trust-domain and NAMESPACE"))?;
    let (validators, jwks) = validators(&configuration.validators, kube.as_ref(), &sentry, log).await?;

    let settings = Arc::new(Settings {
        trust_domain: options.trust_domain.clone(),
        namespace: options.namespace.clone(),
        workload_ttl: configuration.workload_ttl,
        clock_skew: configuration.clock_skew,
        tokens: options.tokens.clone(),
    });
    let store: Arc<dyn CredentialStore> = match &kube {
        Some(kube) => Arc::new(SecretStore::new(kube.clone(), &options.namespace, &options.files)),
        None => Arc::new(FileStore::new(options.files.clone())),
    };
    let (authority, seen, made) = prepare(&settings, &*store, &log.scope("dapr.sentry.ca")).await?;
    if made {
        metrics.issuer_changed();
    }
    metrics.issuer_expires(authority.expires());
    let own = OwnIdentity::new(sentry, &authority).map_err(|error| {
        metrics.own_certificate_failed();
        format!("cannot make the certificate of sentry itself: {error}")
    })?;
    let authority = SharedAuthority::new(authority);

    let tls = tls::server(own.identity.clone()).map_err(|error| error.to_string())?;
    let listener = listen(&options.listen_address, options.port, "certificate requests")
        .await
        .map_err(|error| format!("{error}; check --listen-address and --port"))?;
    let service = Service::new(Parts {
        authority: authority.clone(),
        default_validator: default_validator(&configuration.validators),
        validators,
        metrics: metrics.clone(),
        namespace: options.namespace.clone(),
        domain: cluster_domain(&options),
        log: log.scope("dapr.sentry.server"),
    });
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    log.info(format_args!("Running gRPC server on port {}", address.port()));
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tasks.spawn(server::serve(listener, acceptor, service, log.scope("dapr.sentry.server"), cancel.clone()));
    server_part.ready();

    if let (Some(oidc_options), Some(part)) = (oidc_options, oidc_part) {
        let issuer = options.tokens.as_ref().and_then(|tokens| tokens.issuer.clone());
        oidc_server(oidc_options, issuer, authority.clone(), log, &tasks, &cancel).await?;
        part.ready();
    }
    if let Some(jwks) = jwks {
        let cancel = cancel.clone();
        tasks.spawn(async move { jwks.watch(WATCH_INTERVAL, cancel).await });
    }
    let reload = Reload {
        mode: options.mode,
        files: options.files,
        store,
        settings,
        authority,
        own,
        metrics,
        log: log.clone(),
        seen,
        is_used: true,
    };
    tasks.spawn(reload.run(cancel));
    Ok(Started { tasks, address })
}

/// In Kubernetes nobody runs as root by accident. *Source:* flags of the original's security package.
fn check_user(options: &Options, log: &Logger) -> Result<(), String> {
    if options.mode != Mode::Kubernetes {
        return Ok(());
    }
    if options.environment.get(ALLOW_ROOT) == Some("true") {
        log.warn("Skipping container UID/GID check due to env override.");
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        return Err(format!(
            "current user UID(0) is root. Dapr must be run as a non-root user in Kubernetes environments. To override this check, set the environment variable '{ALLOW_ROOT}=true'"
        ));
    }
    Ok(())
}

/// Health and metrics, which answer from the first moment on.
async fn plain_servers(
    options: &Options,
    health: &Health,
    metrics: &Metrics,
    log: &Logger,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<(), String> {
    if let Some(port) = options.healthz_port {
        let listener = listen(&options.healthz_listen_address, port, "health checks")
            .await
            .map_err(|error| format!("{error}; check --healthz-listen-address and --healthz-port"))?;
        let health = health.clone();
        let handler: Handler = Arc::new(move |request| health.respond(request.uri().path()));
        tasks.spawn(serve(listener, None, handler, log.clone(), cancel.clone()));
    }
    if let Some(port) = options.metrics_port {
        let listener = listen(&options.metrics_listen_address, port, "metrics")
            .await
            .map_err(|error| format!("{error}; check --metrics-listen-address and --metrics-port"))?;
        let metrics = metrics.clone();
        let handler: Handler = Arc::new(move |_| metrics.respond());
        tasks.spawn(serve(listener, None, handler, log.clone(), cancel.clone()));
    }
    Ok(())
}

type ValidatorTable = HashMap<TokenValidator, Arc<dyn Validator>>;

async fn validators(
    wanted: &Validators,
    kube: Option<&Arc<KubeClient>>,
    sentry: &SpiffeId,
    log: &Logger,
) -> Result<(ValidatorTable, Option<Arc<Jwks>>), String> {
    let mut table: ValidatorTable = HashMap::new();
    if wanted.insecure {
        log.info("Using validator 'insecure'");
        table.insert(TokenValidator::Insecure, Arc::new(Insecure));
    }
    if let Some(kube) = kube.filter(|_| wanted.kubernetes) {
        log.info("Using validator 'kubernetes'");
        table.insert(TokenValidator::Kubernetes, Arc::new(Kubernetes::new(kube.clone(), sentry.clone(), log)));
    }
    let mut jwks = None;
    if let Some(options) = &wanted.jwks {
        let validator = Jwks::new(options, sentry, log).await;
        let validator = Arc::new(validator.map_err(|error| format!("the validator jwks: {error}"))?);
        log.info("Using validator 'jwks'");
        table.insert(TokenValidator::Jwks, validator.clone());
        jwks = Some(validator);
    }
    Ok((table, jwks))
}

/// *Source:* spec internals.md §5.3: the built-in validator of the place; none where only `jwks` is on.
fn default_validator(wanted: &Validators) -> Option<TokenValidator> {
    match (wanted.kubernetes, wanted.insecure) {
        (true, _) => Some(TokenValidator::Kubernetes),
        (false, true) => Some(TokenValidator::Insecure),
        (false, false) => None,
    }
}

fn cluster_domain(options: &Options) -> String {
    let resolver = match options.mode {
        Mode::Kubernetes => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        Mode::Standalone => String::new(),
    };
    cluster_domain::of_resolver(&resolver).unwrap_or(options.trust_domain.as_str()).to_owned()
}

async fn oidc_server(
    options: OidcOptions,
    issuer: Option<String>,
    authority: SharedAuthority,
    log: &Logger,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<(), String> {
    let acceptor = match &options.tls {
        Some((certificate, key)) => Some(oidc_tls(certificate, key, log).await?),
        None => None,
    };
    let listener = listen(&options.listen_address, options.port, "OIDC")
        .await
        .map_err(|error| format!("{error}; check --oidc-server-listen-address and --oidc-server-listen-port"))?;
    log.info(format_args!("Starting OIDC HTTP server on port {}", options.port));
    let oidc = Oidc::new(options, issuer, authority, log);
    let handler: Handler = Arc::new(move |request| {
        let text =
            |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let host = text(request.headers().get(header::HOST));
        let forwarded = text(request.headers().get(FORWARDED_HOST));
        let (method, path) = (request.method(), request.uri().path());
        oidc.respond(Asked { method, path, host: &host, forwarded: &forwarded })
    });
    tasks.spawn(serve(listener, acceptor, handler, log.clone(), cancel.clone()));
    Ok(())
}

/// TLS of the OIDC server; waits for the files, which others may bring later.
async fn oidc_tls(certificate: &Path, key: &Path, log: &Logger) -> Result<TlsAcceptor, String> {
    let mut told = false;
    let (chain, key_text) = loop {
        match (tokio::fs::read(certificate).await, tokio::fs::read(key).await) {
            (Ok(chain), Ok(key)) => break (chain, key),
            _ if told => {}
            _ => {
                log.warn(format_args!(
                    "Waiting for TLS certificate and key files to be available: {}, {}",
                    certificate.display(),
                    key.display()
                ));
                told = true;
            }
        }
        tokio::time::sleep(TLS_FILES_PAUSE).await;
    };
    let failed = |error: String| format!("failed to load TLS certificate and key of the OIDC server: {error}");
    let chain = Certificate::from_pem(&chain).map_err(|error| failed(error.to_string()))?;
    let key = PrivateKey::from_pem(&key_text).map_err(|error| failed(error.to_string()))?;
    let chain = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
