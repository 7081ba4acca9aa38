//! A state store behind a socket.
//!
//! *Invariant:* the answers of a bulk read are put into the order of the requests, whatever order the component answers in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pillion_contract::{
    BulkGetItem, ComponentError, Concurrency, Consistency, DeleteRequest, GetRequest, InitContext, Querier, QueryItem,
    QueryRequest, QueryResponse, SetRequest, StateCapability, StateItem, StateOperation, StateStore,
    TransactionRequest, TransactionalStore,
};
use pillion_core::log::Logger;
use pillion_proto::components::v1 as pb;
use pillion_proto::components::v1::queriable_state_store_client::QueriableStateStoreClient;
use pillion_proto::components::v1::sorting::Order;
use pillion_proto::components::v1::state_options::{StateConcurrency, StateConsistency};
use pillion_proto::components::v1::state_store_client::StateStoreClient;
use pillion_proto::components::v1::transactional_state_operation::Request as Step;
use pillion_proto::components::v1::transactional_state_store_client::TransactionalStateStoreClient;
use pillion_proto::components::v1::transactional_store_multi_max_size_client::TransactionalStoreMultiMaxSizeClient;
use pillion_proto::google::protobuf::Any;
use tokio::sync::OnceCell;
use tonic::Code;

use crate::connection::{Connection, Transport, properties, to_map};
use crate::status;

/// How long the question for the largest transaction may take. *Source:* the original's pluggable state store.
const MAX_SIZE_TIMEOUT: Duration = Duration::from_secs(5);

/// The component; see the module text.
pub struct PluggableState {
    connection: Connection,
    capability: StateCapability,
    log: Logger,
    /// Asked when the first transaction needs it, as in the original: a component may not be able to tell.
    max_operations: OnceCell<Option<usize>>,
}

/// Connects, initialises and asks what the store can do.
///
/// # Errors
/// No connection, or the component's own status.
pub(crate) async fn create(socket: Arc<Path>, context: InitContext) -> Result<Arc<dyn StateStore>, ComponentError> {
    Ok(Arc::new(PluggableState::open(&socket, &context).await?))
}

impl PluggableState {
    /// Connects, initialises and asks what the store can do.
    ///
    /// # Errors
    /// No connection, or the component's own status.
    pub async fn open(socket: &Path, context: &InitContext) -> Result<Self, ComponentError> {
        let connection = Connection::open(socket, context).await?;
        let mut client = StateStoreClient::new(connection.transport());
        let request = pb::InitRequest { metadata: properties(context) };
        client.init(request).await.map_err(|status| status::error(&status))?;
        let features = client
            .features(pb::FeaturesRequest {})
            .await
            .map_err(|status| status::error(&status))?
            .into_inner()
            .features;
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let (etag, transactional) = (has("ETAG"), has("TRANSACTIONAL"));
        let capability = StateCapability {
            etag,
            transactional,
            query: has("QUERY_API"),
            ttl: has("TTL"),
            // The protocol has no calls for these two, whatever the component says.
            delete_with_prefix: false,
            keys_like: false,
            actor: etag && transactional,
        };
        Ok(Self { connection, capability, log: context.log.clone(), max_operations: OnceCell::new() })
    }

    /// Asks whether the component is alive.
    ///
    /// # Errors
    /// It is not, or it says that something is wrong.
    pub async fn ping(&self) -> Result<(), ComponentError> {
        let answer = self.client().ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(|status| status::error(&status))
    }

    fn client(&self) -> StateStoreClient<Transport> {
        StateStoreClient::new(self.connection.transport())
    }
}

/// The largest transaction; a component that cannot tell has no limit.
async fn max_operations(connection: &Connection, log: &Logger) -> Option<usize> {
    let mut client = TransactionalStoreMultiMaxSizeClient::new(connection.transport());
    let asked = tokio::time::timeout(MAX_SIZE_TIMEOUT, client.multi_max_size(pb::MultiMaxSizeRequest {})).await;
    let problem = match asked {
        Ok(Ok(answer)) => return usize::try_from(answer.into_inner().max_size).ok().filter(|max| *max > 0),
        Ok(Err(status)) if status.code() == Code::Unimplemented => return None,
        Ok(Err(status)) => status::text(&status),
        Err(_elapsed) => "no answer within 5 seconds".to_owned(),
    };
    log.error(format_args!("failed to get multi max size from state store; going on without a limit: {problem}"));
    None
}

#[async_trait]
impl StateStore for PluggableState {
    fn capability(&self) -> StateCapability {
        self.capability
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<StateItem>, ComponentError> {
        let answer = self.client().get(get_request(request)).await.map_err(|status| status::error(&status))?;
        let answer = answer.into_inner();
        Ok(item(answer.data, answer.etag, answer.metadata))
    }

    async fn set(&self, request: &SetRequest) -> Result<(), ComponentError> {
        self.client().set(set_request(request)).await.map(drop).map_err(|status| status::write_error(&status))
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<(), ComponentError> {
        self.client().delete(delete_request(request)).await.map(drop).map_err(|status| status::write_error(&status))
    }

    async fn bulk_get(&self, requests: &[GetRequest]) -> Result<Vec<BulkGetItem>, ComponentError> {
        let request = pb::BulkGetRequest {
            items: requests.iter().map(get_request).collect(),
            options: Some(pb::BulkGetRequestOptions::default()),
        };
        let answer = self.client().bulk_get(request).await.map_err(|status| status::error(&status))?;
        let mut found: HashMap<String, pb::BulkStateItem> =
            answer.into_inner().items.into_iter().map(|item| (item.key.clone(), item)).collect();
        let items = requests.iter().map(|request| match found.get_mut(&request.key) {
            None => BulkGetItem { key: request.key.clone(), item: None, error: None },
            Some(entry) if !entry.error.is_empty() => {
                BulkGetItem { key: request.key.clone(), item: None, error: Some(entry.error.clone()) }
            }
            Some(entry) => {
                let item = item(entry.data.clone(), entry.etag.clone(), entry.metadata.clone());
                BulkGetItem { key: request.key.clone(), item, error: None }
            }
        });
        Ok(items.collect())
    }

    async fn bulk_set(&self, requests: &[SetRequest]) -> Result<(), ComponentError> {
        let request = pb::BulkSetRequest {
            items: requests.iter().map(set_request).collect(),
            options: Some(pb::BulkSetRequestOptions::default()),
        };
        self.client().bulk_set(request).await.map(drop).map_err(|status| status::write_error(&status))
    }

    async fn bulk_delete(&self, requests: &[DeleteRequest]) -> Result<(), ComponentError> {
        let request = pb::BulkDeleteRequest {
            items: requests.iter().map(delete_request).collect(),
            options: Some(pb::BulkDeleteRequestOptions::default()),
        };
        self.client().bulk_delete(request).await.map(drop).map_err(|status| status::bulk_delete_error(&status))
    }

    /// Whether the component can answer queries only a query tells.
    fn querier(&self) -> Option<&dyn Querier> {
        Some(self)
    }

    fn transactional(&self) -> Option<&dyn TransactionalStore> {
        self.capability.transactional.then_some(self)
    }
}

#[async_trait]
impl TransactionalStore for PluggableState {
    async fn transact(&self, request: &TransactionRequest) -> Result<(), ComponentError> {
        let operations = request.operations.iter().map(|operation| pb::TransactionalStateOperation {
            request: Some(match operation {
                StateOperation::Upsert(request) => Step::Set(set_request(request)),
                StateOperation::Delete(request) => Step::Delete(delete_request(request)),
            }),
        });
        let request =
            pb::TransactionalStateRequest { operations: operations.collect(), metadata: to_map(&request.metadata) };
        let mut client = TransactionalStateStoreClient::new(self.connection.transport());
        client.transact(request).await.map(drop).map_err(|status| status::write_error(&status))
    }

    async fn max_operations(&self) -> Option<usize> {
        *self.max_operations.get_or_init(|| max_operations(&self.connection, &self.log)).await
    }
}

#[async_trait]
impl Querier for PluggableState {
    async fn query(&self, request: &QueryRequest) -> Result<QueryResponse, ComponentError> {
        let filter = request.filter.iter().map(|(operator, value)| {
            let value = Any { type_url: String::new(), value: value.to_string().into_bytes().into() };
            (operator.clone(), value)
        });
        let sort = request.sort.iter().map(|sort| {
            let order = if sort.descending { Order::Desc } else { Order::Asc };
            pb::Sorting { key: sort.key.clone(), order: order as i32 }
        });
        let query = pb::Query {
            filter: filter.collect(),
            sort: sort.collect(),
            pagination: Some(pb::Pagination { limit: request.limit, token: request.token.clone() }),
        };
        let request = pb::QueryRequest { query: Some(query), metadata: to_map(&request.metadata) };
        let mut client = QueriableStateStoreClient::new(self.connection.transport());
        let answer = client.query(request).await.map_err(|status| status::error(&status))?.into_inner();
        let items = answer.items.into_iter().map(|item| QueryItem {
            key: item.key,
            data: item.data,
            etag: item.etag.map(|etag| etag.value),
            error: item.error,
        });
        Ok(QueryResponse {
            items: items.collect(),
            token: answer.token,
            metadata: answer.metadata.into_iter().collect(),
        })
    }
}

/// A value as stored; no bytes and no ETag means that there is none, because the protocol cannot say it otherwise.
fn item(data: bytes::Bytes, etag: Option<pb::Etag>, metadata: HashMap<String, String>) -> Option<StateItem> {
    let etag = etag.map(|etag| etag.value);
    if data.is_empty() && etag.as_deref().is_none_or(str::is_empty) {
        return None;
    }
    Some(StateItem { data, etag, metadata: metadata.into_iter().collect() })
}

fn get_request(request: &GetRequest) -> pb::GetRequest {
    pb::GetRequest {
        key: request.key.clone(),
        metadata: to_map(&request.metadata),
        consistency: consistency(request.consistency) as i32,
    }
}

fn set_request(request: &SetRequest) -> pb::SetRequest {
    pb::SetRequest {
        key: request.key.clone(),
        value: request.value.clone(),
        etag: request.etag.clone().map(|value| pb::Etag { value }),
        content_type: request.metadata.get("contentType").cloned().unwrap_or_default(),
        metadata: to_map(&request.metadata),
        options: options(request.concurrency, request.consistency),
    }
}

fn delete_request(request: &DeleteRequest) -> pb::DeleteRequest {
    pb::DeleteRequest {
        key: request.key.clone(),
        etag: request.etag.clone().map(|value| pb::Etag { value }),
        metadata: to_map(&request.metadata),
        options: options(request.concurrency, request.consistency),
    }
}

fn options(with: Concurrency, and: Consistency) -> Option<pb::StateOptions> {
    let concurrency = match with {
        Concurrency::Unspecified => StateConcurrency::ConcurrencyUnspecified,
        Concurrency::FirstWrite => StateConcurrency::ConcurrencyFirstWrite,
        Concurrency::LastWrite => StateConcurrency::ConcurrencyLastWrite,
    };
    Some(pb::StateOptions { concurrency: concurrency as i32, consistency: consistency(and) as i32 })
}

fn consistency(asked: Consistency) -> StateConsistency {
    match asked {
        Consistency::Unspecified => StateConsistency::ConsistencyUnspecified,
        Consistency::Eventual => StateConsistency::ConsistencyEventual,
        Consistency::Strong => StateConsistency::ConsistencyStrong,
    }
}
