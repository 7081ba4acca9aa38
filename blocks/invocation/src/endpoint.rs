//! Calls to hosts outside the mesh: HTTPEndpoint resources and full URLs as app ids.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use parking_lot::Mutex;
use pillion_contract::HttpPipeline;
use pillion_core::error::GrpcCode;
use pillion_runtime::app_channel::TlsClient;
use pillion_runtime::app_channel::pool::{HostPool, Protocol, SendError};
use pillion_runtime::message::{AppStatus, InvokeRequest, InvokeResponse, check_escapes, strip_hop_by_hop};
use pillion_runtime::pipeline;
use pillion_telemetry::metrics::Metrics;

use crate::peer::PeerError;

/// An HTTPEndpoint resource with its secrets resolved.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    /// `spec.baseUrl`.
    pub base_url: String,
    /// `spec.headers`; they replace headers of the caller.
    pub headers: Vec<(String, String)>,
    /// `spec.clientTLS`; `None` checks the host against the system's roots.
    pub tls: Option<EndpointTls>,
}

/// The TLS settings of one HTTPEndpoint resource. Connections are shared by calls of that resource alone, as they carry
/// its identity.
#[derive(Clone, Debug)]
pub struct EndpointTls {
    /// Name of the resource.
    pub name: String,
    /// Roots and client certificate.
    pub client: TlsClient,
}

/// All HTTPEndpoint resources and the connections to their hosts.
#[derive(Default)]
pub struct Endpoints {
    named: ArcSwap<HashMap<String, Endpoint>>,
    pools: Mutex<HashMap<String, Arc<HostPool>>>,
    header_limit: usize,
    pipeline: HttpPipeline,
    metrics: Metrics,
}

impl Endpoints {
    /// Takes the resources by name. `header_limit` is in bytes.
    pub fn new(named: HashMap<String, Endpoint>, header_limit: usize) -> Self {
        Self {
            named: ArcSwap::from_pointee(named),
            pools: Mutex::default(),
            header_limit,
            pipeline: HttpPipeline::default(),
            metrics: Metrics::off(),
        }
    }

    /// Puts other resources into their place. Calls under way go on; connections that carry an identity are made anew.
    pub fn replace(&self, named: HashMap<String, Endpoint>) {
        self.named.store(Arc::new(named));
        self.pools.lock().retain(|name, _| name.starts_with(' ')); // see `pool`: those without an owner
    }

    /// The same, counting its calls with those of the app, as the original does.
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// The same with `spec.appHttpPipeline` around every call, as in the original.
    pub fn with_pipeline(mut self, pipeline: HttpPipeline) -> Self {
        self.pipeline = pipeline;
        self
    }

    /// The base URL and headers a target stands for: an endpoint's name, or the URL itself. `None` for app ids.
    pub fn find(&self, target: &str) -> Option<Endpoint> {
        if let Some(endpoint) = self.named.load().get(target) {
            return Some(endpoint.clone());
        }
        is_url(target).then(|| Endpoint { base_url: target.to_owned(), ..Endpoint::default() })
    }

    /// Calls `method` below the endpoint's base URL.
    ///
    /// # Errors
    /// `InvalidArgument` for an unusable URL, `Internal` when the host does not answer.
    pub async fn call(&self, endpoint: &Endpoint, request: InvokeRequest) -> Result<InvokeResponse, PeerError> {
        let invalid = |reason: String| {
            PeerError::new(GrpcCode::InvalidArgument, format!("endpoint {:?}: {reason}", endpoint.base_url))
        };
        let mut target = endpoint.base_url.trim_end_matches('/').to_owned();
        let method = request.method.trim_start_matches('/');
        if !method.is_empty() {
            check_escapes(method).map_err(invalid)?;
            target.push('/');
            target.push_str(&percent_encoding::utf8_percent_encode(method, PATH).to_string());
        }
        if !request.query.is_empty() {
            target.push('?');
            target.push_str(&request.query);
        }
        let uri: Uri = target.parse().map_err(|error| invalid(format!("{error}")))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(invalid("expected http://host/… or https://host/…".to_owned()));
        };
        let pool = self.pool(scheme, authority.host(), authority.port_u16(), endpoint.tls.as_ref())?;
        let mut outgoing = Request::new(request.body);
        let verb = request.verb.clone();
        *outgoing.method_mut() = request.verb;
        *outgoing.headers_mut() = request.headers;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *outgoing.uri_mut() = path.parse().map_err(|error| invalid(format!("{error}")))?;
        for (name, value) in &endpoint.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| invalid(format!("header name {name:?} is not valid")))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| invalid(format!("the value of header {name} is not valid")))?;
            outgoing.headers_mut().insert(name, value);
        }
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            outgoing.headers_mut().insert(HOST, host);
        }
        let started = Instant::now();
        let measured = self.metrics.http().map(|metrics| {
            let verb = outgoing.method().clone();
            metrics.asking(verb.as_str(), uri.path(), outgoing.body().known_length().unwrap_or_default());
            (metrics, verb)
        });
        let sent = if self.pipeline.is_empty() {
            pool.send(outgoing).await
        } else {
            Box::pin(pipeline::through(&self.pipeline, outgoing, |outgoing| async move { pool.send(outgoing).await }))
                .await
        };
        if let Some((metrics, verb)) = measured {
            let answer = sent
                .as_ref()
                .ok()
                .map(|response| (response.status().as_u16(), response.body().known_length().unwrap_or_default()));
            metrics.asked(verb.as_str(), uri.path(), answer, started.elapsed());
        }
        let response = sent.map_err(|error| failed(&verb, &target, &error))?;
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        Ok(InvokeResponse {
            status: AppStatus::Http(parts.status.as_u16()),
            status_message: String::new(),
            status_details: Vec::new(),
            headers: parts.headers,
            body,
            data_type_url: String::new(),
        })
    }

    fn pool(
        &self,
        scheme: &str,
        host: &str,
        port: Option<u16>,
        tls: Option<&EndpointTls>,
    ) -> Result<Arc<HostPool>, PeerError> {
        let (protocol, default_port) = match scheme {
            "http" => (Protocol::Http1, 80),
            "https" => (Protocol::Https, 443),
            other => {
                let message = format!("scheme {other:?} is not supported: expected http or https");
                return Err(PeerError::new(GrpcCode::InvalidArgument, message));
            }
        };
        let port = port.unwrap_or(default_port);
        let mut pools = self.pools.lock();
        let tls = tls.filter(|_| protocol == Protocol::Https);
        let owner = tls.map_or("", |tls| tls.name.as_str());
        let pool = pools.entry(format!("{owner} {scheme}://{host}:{port}")).or_insert_with(|| match tls {
            Some(tls) => HostPool::with_tls(host, port, tls.client.clone(), self.header_limit),
            None => HostPool::new(host, port, protocol, 0, self.header_limit),
        });
        Ok(pool.clone())
    }
}

/// A request without an answer, in the words of the original's HTTP client, which are compared with.
fn failed(verb: &Method, url: &str, error: &SendError) -> PeerError {
    let reason = match error {
        SendError::Connect { address, source } => {
            let text = source.to_string();
            match text.strip_prefix("invalid peer certificate: ") {
                Some("UnknownIssuer") => {
                    "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
                }
                Some(other) => format!("tls: failed to verify certificate: {other}"),
                None if source.kind() == std::io::ErrorKind::ConnectionRefused => {
                    format!("dial tcp {address}: connect: connection refused")
                }
                None => format!("dial tcp {address}: {text}"),
            }
        }
        SendError::Broken(_) => error.to_string(),
    };
    let verb = verb.as_str();
    let (first, rest) = verb.split_at_checked(1).unwrap_or_default();
    PeerError::plain(GrpcCode::Internal, format!("{first}{} {url:?}: {reason}", rest.to_ascii_lowercase()))
}

/// Characters of a decoded path that have to be escaped in a URL; `%` stays, as the original keeps escapes.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Whether a target is a full URL.
pub fn is_url(target: &str) -> bool {
    target.starts_with("http://") || target.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_or_urls() {
        let named = HashMap::from([(
            "pay".to_owned(),
            Endpoint { base_url: "https://pay.example".into(), ..Endpoint::default() },
        )]);
        let endpoints = Endpoints::new(named, 4096);
        assert_eq!(endpoints.find("pay").unwrap().base_url, "https://pay.example");
        assert_eq!(endpoints.find("http://host:1").unwrap().base_url, "http://host:1");
        assert!(endpoints.find("cart").is_none());
        endpoints.replace(HashMap::from([("cart".to_owned(), Endpoint::default())]));
        assert!(endpoints.find("cart").is_some() && endpoints.find("pay").is_none());
    }

    #[test]
    fn connections_with_an_identity_are_not_shared() {
        let endpoints = Endpoints::new(HashMap::new(), 4096);
        let client = TlsClient::new(None, None).unwrap();
        let own = |name: &str| EndpointTls { name: name.to_owned(), client: client.clone() };
        let pool = |tls: Option<&EndpointTls>| endpoints.pool("https", "host", None, tls).unwrap();
        let (one, two) = (own("one"), own("two"));
        assert!(Arc::ptr_eq(&pool(Some(&one)), &pool(Some(&one))));
        assert!(!Arc::ptr_eq(&pool(Some(&one)), &pool(Some(&two))));
        assert!(!Arc::ptr_eq(&pool(Some(&one)), &pool(None)));
    }

    #[tokio::test]
    async fn an_unusable_url_is_named() {
        let endpoints = Endpoints::new(HashMap::new(), 4096);
        let endpoint = Endpoint { base_url: "ftp://host".into(), ..Endpoint::default() };
        let error = endpoints.call(&endpoint, InvokeRequest::default()).await.unwrap_err();
        assert!(error.message.contains("ftp"), "{error}");
        let endpoint = Endpoint { base_url: "http://host".into(), ..Endpoint::default() };
        let request = InvokeRequest { method: "100%".into(), ..InvokeRequest::default() };
        let error = endpoints.call(&endpoint, request).await.unwrap_err();
        assert!(error.message.contains("invalid URL escape"), "{error}");
    }
}
