//! State over gRPC: values are opaque bytes, and errors carry an `ErrorInfo` where HTTP has none.

use pillion_building_blocks::state::{CallTrace, DeleteItem, Operation, SetItem, check_key, operation_not_supported};
use pillion_contract::{Concurrency, Consistency};
use pillion_core::error::{ApiError, ErrorDetail, table};
use pillion_proto::common::v1::state_options::{StateConcurrency, StateConsistency};
use pillion_proto::common::v1::{Etag, StateItem, StateOptions};
use pillion_proto::runtime::v1 as pb;
use tonic::{Request, Status};

use super::publish::trace;
use super::{GrpcApi, status};

/// Start of a message that HTTP nests in another error.
const NESTED: &str = "api error: code = InvalidArgument desc = ";

impl GrpcApi {
    pub(super) async fn read_state(&self, request: pb::GetStateRequest) -> Result<pb::GetStateResponse, Status> {
        let metadata = request.metadata.into_iter().collect();
        let found = self
            .state
            .get(&request.store_name, &request.key, consistency(request.consistency), metadata)
            .await
            .map_err(refuse)?;
        Ok(found.map_or_else(pb::GetStateResponse::default, |item| pb::GetStateResponse {
            data: item.data,
            etag: item.etag.unwrap_or_default(),
            metadata: item.metadata.into_iter().collect(),
        }))
    }

    pub(super) async fn read_states(
        &self,
        request: pb::GetBulkStateRequest,
    ) -> Result<pb::GetBulkStateResponse, Status> {
        let metadata = request.metadata.into_iter().collect();
        let found = self.state.bulk_get(&request.store_name, &request.keys, &metadata).await.map_err(refuse)?;
        let items = found.into_iter().map(|found| {
            let item = found.item.unwrap_or_default();
            pb::BulkStateItem {
                key: found.key,
                data: item.data,
                etag: item.etag.unwrap_or_default(),
                error: found.error.unwrap_or_default(),
                metadata: item.metadata.into_iter().collect(),
            }
        });
        Ok(pb::GetBulkStateResponse { items: items.collect() })
    }

    pub(super) async fn write_states(&self, request: pb::SaveStateRequest) -> Result<(), Status> {
        self.state.check(&request.store_name).map_err(refuse)?;
        let mut items = Vec::with_capacity(request.states.len());
        for state in request.states {
            if state.key.is_empty() {
                return Err(refuse(ApiError::of(&table::STATE_KEY_EMPTY, &[])));
            }
            items.push(checked_json(set_item(state))?);
        }
        self.state.save(&request.store_name, items).await.map_err(refuse)
    }

    pub(super) async fn remove_state(&self, request: pb::DeleteStateRequest) -> Result<(), Status> {
        let (concurrency, consistency) = options(request.options);
        let item = DeleteItem {
            key: request.key,
            etag: request.etag.map(|etag| etag.value),
            metadata: request.metadata.into_iter().collect(),
            concurrency,
            consistency,
        };
        self.state.delete(&request.store_name, item).await.map_err(refuse)
    }

    pub(super) async fn remove_states(&self, request: pb::DeleteBulkStateRequest) -> Result<(), Status> {
        let items = request.states.into_iter().map(delete_item).collect();
        self.state.bulk_delete(&request.store_name, items).await.map_err(refuse)
    }

    pub(super) async fn transact(&self, request: Request<pb::ExecuteStateTransactionRequest>) -> Result<(), Status> {
        let (call, _, request) = request.into_parts();
        self.state.check_transactional(&request.store_name).map_err(refuse)?;
        let mut operations = Vec::with_capacity(request.operations.len());
        for operation in request.operations {
            let item = operation.request.unwrap_or_default();
            check_key(&request.store_name, &item.key).map_err(refuse)?;
            operations.push(match operation.operation_type.as_str() {
                "upsert" => Operation::Upsert(set_item(item)),
                "delete" => Operation::Delete(delete_item(item)),
                other => return Err(refuse(operation_not_supported(other))),
            });
        }
        let metadata = request.metadata.into_iter().collect();
        let call_trace = || {
            let (parent, state) = trace(&call);
            CallTrace { parent: parent.unwrap_or_default(), state: state.unwrap_or_default() }
        };
        self.state.transact(&request.store_name, operations, metadata, call_trace).await.map_err(refuse)
    }

    pub(super) async fn query_states(&self, request: pb::QueryStateRequest) -> Result<pb::QueryStateResponse, Status> {
        let metadata = request.metadata.into_iter().collect();
        let found = self.state.query(&request.store_name, &request.query, metadata).await.map_err(refuse)?;
        if found.items.is_empty() {
            return Ok(pb::QueryStateResponse::default());
        }
        let results = found.items.into_iter().map(|item| pb::QueryStateItem {
            key: item.key,
            data: item.data,
            etag: item.etag.unwrap_or_default(),
            error: item.error,
        });
        let metadata = found.metadata.into_iter().collect();
        Ok(pb::QueryStateResponse { results: results.collect(), token: found.token, metadata })
    }
}

fn set_item(item: StateItem) -> SetItem {
    let (concurrency, consistency) = options(item.options);
    SetItem {
        key: item.key,
        value: item.value,
        value_is_json: false,
        is_document: false,
        content_type: None,
        etag: item.etag.map(|Etag { value }| value),
        metadata: item.metadata.into_iter().collect(),
        concurrency,
        consistency,
    }
}

fn delete_item(item: StateItem) -> DeleteItem {
    let (concurrency, consistency) = options(item.options);
    DeleteItem {
        key: item.key,
        etag: item.etag.map(|Etag { value }| value),
        metadata: item.metadata.into_iter().collect(),
        concurrency,
        consistency,
    }
}

/// A value that its metadata calls JSON must be JSON.
fn checked_json(mut item: SetItem) -> Result<SetItem, Status> {
    if item.metadata.get("contentType").is_some_and(|content_type| content_type == "application/json") {
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&item.value) {
            return Err(Status::unknown(format!(
                "value of key {} is not JSON as its metadata contentType says: {error}",
                item.key
            )));
        }
        item.value_is_json = true;
    }
    Ok(item)
}

fn options(options: Option<StateOptions>) -> (Concurrency, Consistency) {
    let options = options.unwrap_or_default();
    let concurrency = match options.concurrency() {
        StateConcurrency::ConcurrencyUnspecified => Concurrency::Unspecified,
        StateConcurrency::ConcurrencyFirstWrite => Concurrency::FirstWrite,
        StateConcurrency::ConcurrencyLastWrite => Concurrency::LastWrite,
    };
    (concurrency, consistency(options.consistency))
}

fn consistency(number: i32) -> Consistency {
    match StateConsistency::try_from(number) {
        Ok(StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(StateConsistency::ConsistencyStrong) => Consistency::Strong,
        Ok(StateConsistency::ConsistencyUnspecified) | Err(_) => Consistency::Unspecified,
    }
}

/// A state error in its gRPC form. *Source:* spec errors.md State: gRPC does not show the app id, but for the outbox, and does not nest.
fn refuse(mut error: ApiError) -> Status {
    if let Some(plain) = error.message.strip_prefix(NESTED) {
        error.message = plain.to_owned();
    }
    let shows_app_id = error.spec == &table::PUBSUB_OUTBOX;
    for detail in &mut error.details {
        match detail {
            ErrorDetail::ErrorInfo { metadata, .. }
                if !shows_app_id && metadata.as_ref().is_some_and(|metadata| metadata.contains_key("appID")) =>
            {
                *metadata = None;
            }
            ErrorDetail::BadRequest(violations) => {
                for (_, description) in violations {
                    if let Some(plain) = description.strip_prefix(NESTED) {
                        *description = plain.to_owned();
                    }
                }
            }
            _ => {}
        }
    }
    status::from_api_error(&error)
}
