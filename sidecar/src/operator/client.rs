//! The calls of the operator, over a connection on which both ends show who they are.
//!
//! *Job:* find the operator, check that it is the one of this control plane, ask again when it is away for a moment. *Neighbours:*
//! [`super`] keeps the answers. *Source:* times and counts are those of the original's `pkg/operator/client` and loaders.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use pillion_core::log::Logger;
use pillion_identity::connector::{Connector, innermost, target};
use pillion_proto::operator::v1 as wire;
use pillion_proto::operator::v1::operator_client::OperatorClient;
use pillion_security::tls::Peer;
use pillion_security::{MutualTls, SpiffeId, TrustDomain};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use super::Kind;
use crate::options::Options;

/// The name of the operator in its SPIFFE id.
const NAME: &str = "dapr-operator";
/// How long the operator is waited for at the start.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_ATTEMPTS: u32 = 100;
const CALL_PAUSE: Duration = Duration::from_millis(50);
/// Name in the addresses of the calls; nobody looks at it.
const AUTHORITY: &str = "http://dapr-operator";

/// A connection to the operator, made again when it breaks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    grpc: OperatorClient<Channel>,
    namespace: String,
}

/// A change as a stream tells it: type of the event and object.
pub(super) type Change = (i32, Bytes);

impl Client {
    /// Waits up to [`DIAL_LIMIT`].
    ///
    /// # Errors
    /// The last reason, with what to check.
    pub(super) async fn connect(
        options: &Options,
        namespace: &str,
        tls: &MutualTls,
        log: &Logger,
    ) -> Result<Self, String> {
        let trust_domain = TrustDomain::parse(&options.control_plane_trust_domain);
        let id = trust_domain
            .and_then(|trust_domain| SpiffeId::new(trust_domain, &options.control_plane_namespace, NAME))
            .map_err(|error| format!("the identity of the operator: {error}; check --control-plane-namespace"))?;
        let peer = Peer::Exactly(id.clone());
        let config = tls.client(peer, b"h2").map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let address = target(&options.control_plane_address).to_owned();
        let connector = Connector::new("the operator", &address, &id, config);
        let end = Instant::now() + DIAL_LIMIT;
        let mut told = String::new();
        loop {
            let endpoint = Endpoint::from_static(AUTHORITY);
            let problem = match timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector.clone())).await {
                Ok(Ok(channel)) => {
                    return Ok(Self { grpc: OperatorClient::new(channel), namespace: namespace.to_owned() });
                }
                Ok(Err(error)) => innermost(&error),
                Err(_) => format!("no connection to the operator at {address} within {} s", CONNECT_TIMEOUT.as_secs()),
            };
            if Instant::now() >= end {
                return Err(format!(
                    "{problem}; waited {} s: check that the operator runs, --control-plane-address, \
                     --control-plane-trust-domain and --control-plane-namespace",
                    DIAL_LIMIT.as_secs()
                ));
            }
            if told != problem {
                log.warn(format_args!("Waiting for the operator: {problem}"));
                told = problem;
            }
            sleep(CONNECT_PAUSE).await;
        }
    }

    /// One Configuration; empty when there is none of this name.
    pub(super) async fn configuration(&self, name: &str) -> Result<Bytes, Status> {
        let request = wire::GetConfigurationRequest { name: name.to_owned(), namespace: self.namespace.clone() };
        let ask = || {
            let (mut grpc, request) = (self.grpc.clone(), request.clone());
            async move { grpc.get_configuration(request).await }
        };
        Ok(repeated(ask).await?.configuration)
    }

    /// All objects of a kind in the namespace; none for Configuration, which is asked for by name.
    pub(super) async fn list(&self, kind: Kind) -> Result<Vec<Bytes>, Status> {
        macro_rules! ask {
            ($call:ident, $request:ident, $field:ident) => {{
                let ask = || {
                    let mut grpc = self.grpc.clone();
                    let request = wire::$request { namespace: self.namespace.clone() };
                    async move { grpc.$call(request).await }
                };
                repeated(ask).await.map(|answer| answer.$field)
            }};
        }
        let listed = match kind {
            Kind::Component => ask!(list_components, ListComponentsRequest, components),
            Kind::Subscription => ask!(list_subscriptions_v2, ListSubscriptionsRequest, subscriptions),
            Kind::Resiliency => ask!(list_resiliency, ListResiliencyRequest, resiliencies),
            Kind::HttpEndpoint => ask!(list_http_endpoints, ListHttpEndpointsRequest, http_endpoints),
            Kind::McpServer => ask!(list_mcp_servers, ListMcpServersRequest, mcp_servers),
            Kind::WorkflowAccessPolicy => {
                ask!(list_workflow_access_policy, ListWorkflowAccessPolicyRequest, policies)
            }
            Kind::Configuration => Ok(Vec::new()),
        };
        match listed {
            // An operator of an older version does not know the kind, so that there is nothing of it.
            Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
            Err(status) if status.message().ends_with("Marshal called with nil") => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Opens the stream of changes of a kind.
    pub(super) async fn changes(&self, kind: Kind) -> Result<Changes, Status> {
        let namespace = self.namespace.clone();
        let mut grpc = self.grpc.clone();
        macro_rules! open {
            ($call:ident, $request:ident, $stream:ident) => {
                Changes::$stream(grpc.$call(wire::$request { namespace }).await?.into_inner())
            };
        }
        Ok(match kind {
            Kind::Component => open!(component_update, ComponentUpdateRequest, Component),
            Kind::Subscription => open!(subscription_update, SubscriptionUpdateRequest, Subscription),
            Kind::Resiliency => open!(resiliency_update, ResiliencyUpdateRequest, Resiliency),
            Kind::HttpEndpoint => open!(http_endpoint_update, HttpEndpointUpdateRequest, HttpEndpoint),
            Kind::McpServer => open!(mcp_server_update, McpServerUpdateRequest, McpServer),
            Kind::WorkflowAccessPolicy => {
                open!(workflow_access_policy_update, WorkflowAccessPolicyUpdateRequest, WorkflowAccessPolicy)
            }
            Kind::Configuration => open!(configuration_update, ConfigurationUpdateRequest, Configuration),
        })
    }
}

/// An open stream of changes of one kind.
pub(super) enum Changes {
    Component(Streaming<wire::ComponentUpdateEvent>),
    Subscription(Streaming<wire::SubscriptionUpdateEvent>),
    Resiliency(Streaming<wire::ResiliencyUpdateEvent>),
    HttpEndpoint(Streaming<wire::HttpEndpointUpdateEvent>),
    McpServer(Streaming<wire::McpServerUpdateEvent>),
    WorkflowAccessPolicy(Streaming<wire::WorkflowAccessPolicyUpdateEvent>),
    Configuration(Streaming<wire::ConfigurationUpdateEvent>),
}

impl Changes {
    /// The next change; `None` when the operator has closed the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Change>, Status> {
        macro_rules! next {
            ($stream:expr, $field:ident) => {
                $stream.message().await?.map(|event| (event.r#type, event.$field))
            };
        }
        Ok(match self {
            Self::Component(stream) => next!(stream, component),
            Self::Subscription(stream) => next!(stream, subscription),
            Self::Resiliency(stream) => next!(stream, resiliency),
            Self::HttpEndpoint(stream) => next!(stream, http_endpoints),
            Self::McpServer(stream) => next!(stream, mcp_server),
            Self::WorkflowAccessPolicy(stream) => next!(stream, policy),
            Self::Configuration(stream) => next!(stream, configuration),
        })
    }
}

/// A status in the words of the original's gRPC library.
pub(super) fn text(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// Asks until there is an answer, or one that will not change.
async fn repeated<T, F>(ask: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut attempt = 1;
    loop {
        let status = match timeout(CALL_TIMEOUT, ask()).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
        };
        // Cancelled is what a connection that breaks leaves; the original's library says Unavailable there.
        let may_pass = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Cancelled);
        if attempt == CALL_ATTEMPTS || !may_pass {
            return Err(status);
        }
        attempt += 1;
        sleep(CALL_PAUSE).await;
    }
}
