//! `nameresolution.aws.cloudmap`: sidecars are instances of services of AWS Cloud Map, which somebody else registers.
//!
//! *Job:* asks for the healthy instances of the service that is called as the app. *Neighbours:* `sign` signs requests,
//! `credentials` finds the keys. *Invariant:* an app that was found is asked for again at most every [`KEEP_FOR`].
//!
//! *Source:* components-contrib nameresolution/aws/cloudmap; the cache is that of the original's runtime. IAM Roles Anywhere is
//! refused: it takes ECDSA and RSA certificates, sentry's are Ed25519, and the original fails on every start with it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use pillion_contract::{ComponentError, ErrorKind, InitContext, Metadata, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use pillion_core::secret::Secret;
use pillion_http_client::{Client, Limits, request_to};
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;

use crate::answers::Answers;
use crate::environment::Environment;
use crate::join_host_port;
use credentials::Credentials;
use sign::{Keys, Scope, sign};

mod credentials;
mod sign;

/// *Source:* `resolverCacheTTL` of the original's runtime.
const KEEP_FOR: Duration = Duration::from_secs(20);
/// *Source:* the component's `defaultDaprPort`.
const PORT: u16 = 50_002;
const LIMITS: Limits = Limits { time: Duration::from_secs(10), body_bytes: 16 << 20 };
const SERVICE: &str = "servicediscovery";

/// The component; see the module text.
pub struct CloudMapResolver {
    client: Client,
    credentials: Credentials,
    region: String,
    endpoint: Option<String>,
    namespace_id: Option<String>,
    /// Known from the start, or asked for by its id.
    namespace: OnceCell<String>,
    port: u16,
    answers: Answers,
    log: Logger,
}

/// Makes the component: finds keys, region and namespace.
///
/// # Errors
/// `InvalidRequest` for missing fields, else as Cloud Map's answer.
pub async fn create(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    make(context, Environment::of_process(&["AWS_", "HOME"])).await
}

async fn make(context: InitContext, environment: Environment) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let metadata = &context.metadata;
    let text = |names: &[&str]| metadata.first_of(names).map(str::to_owned);
    let (name, namespace_id) = (text(&["namespaceName"]), text(&["namespaceId"]));
    if name.is_none() && namespace_id.is_none() {
        return Err(invalid("invalid metadata: either namespaceName or namespaceId must be provided"));
    }
    if let Some(name) = ["trustAnchorArn", "trustProfileArn"].into_iter().find(|name| text(&[name]).is_some()) {
        return Err(invalid(&format!(
            "{name}: IAM Roles Anywhere takes no Ed25519 certificates, which is what sentry issues; use keys, or assumeRoleArn"
        )));
    }
    let endpoint = text(&["endpoint"]);
    let credentials = credentials(metadata, environment);
    let region = match text(&["region", "awsRegion"]) {
        Some(region) => region,
        None => credentials
            .region()
            .await
            .ok_or_else(|| invalid("no AWS region: set region in spec.nameResolution.configuration, or AWS_REGION"))?,
    };
    let port = match text(&["defaultDaprPort"]) {
        None => PORT,
        Some(text) => match text.parse() {
            Ok(0) => PORT,
            Ok(port) => port,
            Err(_) => return Err(invalid(&format!("defaultDaprPort: {text:?} is no port: expected 1 to 65535"))),
        },
    };
    let resolver = CloudMapResolver {
        client: Client::new(LIMITS),
        credentials: credentials.in_region(&region),
        region,
        endpoint,
        namespace_id,
        namespace: OnceCell::new(),
        port,
        answers: Answers::new(KEEP_FOR),
        log: context.log,
    };
    let namespace = resolver
        .namespace(name.as_deref())
        .await
        .map_err(|error| ComponentError::new(error.kind, format!("failed to validate CloudMap access: {error}")))?;
    let _ = resolver.namespace.set(namespace); // it is new
    Ok(Arc::new(resolver))
}

fn credentials(metadata: &Metadata, environment: Environment) -> Credentials {
    let text = |name: &str| metadata.first_of(&[name]).map(str::to_owned);
    let given = text("accessKey").zip(text("secretKey")).map(|(access_key, secret_key)| Keys {
        access_key,
        secret_key: Secret::new(secret_key),
        session_token: text("sessionToken").map(Secret::new),
    });
    Credentials::new(environment, given, text("assumeRoleArn"), &text("sessionName").unwrap_or_default())
}

fn invalid(message: &str) -> ComponentError {
    ComponentError::new(ErrorKind::InvalidRequest, message)
}

impl CloudMapResolver {
    /// The name of the namespace, which exists.
    async fn namespace(&self, name: Option<&str>) -> Result<String, ComponentError> {
        let missing = |message: String| ComponentError::new(ErrorKind::NotFound, message);
        if let Some(id) = &self.namespace_id {
            let answer = self.call("GetNamespace", "", &json!({"Id": id})).await.map_err(|error| {
                ComponentError::new(error.kind, format!("failed to get namespace with ID {id}: {error}"))
            })?;
            let name = answer.pointer("/Namespace/Name").and_then(Json::as_str);
            return name.map(str::to_owned).ok_or_else(|| missing(format!("namespace ID {id} exists but has no name")));
        }
        let name = name.unwrap_or_default();
        let mut question = json!({});
        loop {
            let answer = self
                .call("ListNamespaces", "", &question)
                .await
                .map_err(|error| ComponentError::new(error.kind, format!("failed to list namespaces: {error}")))?;
            let namespaces = answer.get("Namespaces").and_then(Json::as_array);
            if namespaces.into_iter().flatten().any(|one| one.get("Name").is_some_and(|found| found == name)) {
                return Ok(name.to_owned());
            }
            match answer.get("NextToken").filter(|token| token.is_string()) {
                Some(token) => question = json!({"NextToken": token}),
                None => {
                    return Err(missing(format!(
                        "namespace not found: {name} (asked {}); check namespaceName, the region and the account",
                        self.place()
                    )));
                }
            }
        }
    }

    fn place(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("AWS Cloud Map at {endpoint}, region {}", self.region),
            None => format!("AWS Cloud Map, region {}", self.region),
        }
    }

    /// One call; `prefix` is that of the host name, which AWS wants for some calls.
    async fn call(&self, action: &str, prefix: &str, body: &Json) -> Result<Json, ComponentError> {
        let unavailable = |problem: &dyn std::fmt::Display| {
            ComponentError::new(ErrorKind::Unavailable, format!("{action} of {}: {problem}", self.place()))
        };
        let url = match &self.endpoint {
            Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
            None => {
                let domain = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                format!("https://{prefix}{SERVICE}.{}.{domain}/", self.region)
            }
        };
        let body = Bytes::from(body.to_string());
        let mut request = request_to(&url).map_err(|error| unavailable(&error))?.map(|_| body);
        *request.method_mut() = Method::POST;
        let target = HeaderValue::try_from(format!("Route53AutoNaming_v20170314.{action}"));
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert("x-amz-target", target.map_err(|error| unavailable(&error))?);
        let keys = self.credentials.keys().await.map_err(|problem| {
            ComponentError::new(ErrorKind::Unauthorized, format!("{action} of {}: {problem}", self.place()))
        })?;
        let scope = Scope { region: &self.region, service: SERVICE, now: SystemTime::now() };
        sign(&mut request, &keys, scope).map_err(|problem| invalid(&problem))?;
        let answer = self.client.send(request).await.map_err(|error| unavailable(&error))?;
        let told: Json = serde_json::from_slice(answer.body()).unwrap_or(Json::Null);
        if answer.status().is_success() {
            return Ok(told);
        }
        Err(self.refused(action, answer.status(), &told))
    }

    fn refused(&self, action: &str, status: http::StatusCode, told: &Json) -> ComponentError {
        let text = |names: [&str; 2]| names.into_iter().find_map(|name| told.get(name)?.as_str()).unwrap_or_default();
        let name = text(["__type", "code"]).rsplit('#').next().unwrap_or_default();
        let (kind, advice) = match name {
            "ServiceNotFound" | "NamespaceNotFound" => (ErrorKind::NotFound, ""),
            "AccessDeniedException" => (
                ErrorKind::Unauthorized,
                "; permit servicediscovery:DiscoverInstances, GetNamespace and ListNamespaces",
            ),
            "UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException" => {
                (ErrorKind::Unauthorized, "; check the AWS keys and the clock")
            }
            "RequestLimitExceeded" | "ThrottlingException" => (ErrorKind::RateLimited, ""),
            _ if status.is_server_error() => (ErrorKind::Unavailable, ""),
            _ => (ErrorKind::InvalidRequest, ""),
        };
        let message = text(["message", "Message"]);
        ComponentError::new(kind, format!("{action} of {}: {status} {name} {message}{advice}", self.place()))
    }

    fn address(&self, instance: &Json) -> Option<String> {
        let id = instance.get("InstanceId").and_then(Json::as_str).unwrap_or_default();
        let attribute = |name: &str| instance.get("Attributes")?.get(name)?.as_str().filter(|text| !text.is_empty());
        let names = ["AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6", "AWS_INSTANCE_CNAME"];
        let Some(host) = names.into_iter().find_map(attribute) else {
            self.log.warn(format_args!("Instance {id} has no valid address attributes"));
            return None;
        };
        let port = match attribute("DAPR_PORT").map(|text| (text, text.parse::<u16>())) {
            None => self.port,
            Some((_, Ok(port))) => port,
            Some((text, Err(_))) => {
                let port = self.port;
                self.log
                    .warn(format_args!("Invalid DAPR_PORT value for instance {id}: {text}, using default port {port}"));
                port
            }
        };
        Some(join_host_port(host, port))
    }
}

#[async_trait]
impl NameResolver for CloudMapResolver {
    /// Nothing is registered: whoever deploys the app does.
    async fn register(&self, _: Registration) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        if let Some(addresses) = self.answers.get(request) {
            return Ok(addresses);
        }
        let (app_id, namespace) = (&request.app_id, self.namespace.get().map_or("", String::as_str));
        let question = json!({"NamespaceName": namespace, "ServiceName": app_id, "HealthStatus": "HEALTHY"});
        let answer = self.call("DiscoverInstances", "data-", &question).await.map_err(|error| {
            self.answers.forget(request);
            let message =
                format!("failed to discover CloudMap instances of service {app_id} in namespace {namespace}: {error}");
            ComponentError::new(error.kind, message)
        })?;
        let instances = answer.get("Instances").and_then(Json::as_array);
        let addresses: Vec<String> = instances.into_iter().flatten().filter_map(|one| self.address(one)).collect();
        if addresses.is_empty() {
            self.answers.forget(request);
            let message = format!(
                "no healthy instances found for service {app_id} in namespace {namespace} (asked {}); check that instances are registered with AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6 or AWS_INSTANCE_CNAME and are healthy",
                self.place()
            );
            return Err(ComponentError::new(ErrorKind::NotFound, message));
        }
        self.answers.put(request, &addresses);
        Ok(addresses)
    }

    fn report_failure(&self, request: &ResolveRequest, _address: &str) {
        self.answers.forget(request);
    }
}

#[cfg(test)]
mod tests;
