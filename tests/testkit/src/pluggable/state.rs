//! The state store: ETags, first-write and transactions; a count of writes is the ETag.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use pillion_proto::components::v1 as pb;
use pillion_proto::components::v1::state_options::StateConcurrency;
use pillion_proto::components::v1::transactional_state_operation::Request as Step;
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc::BadRequest;
use pillion_proto::google::rpc::bad_request::FieldViolation;
use tonic::{Code, Request, Response, Status};

use super::{Handler, locked, status_with};

/// The largest transaction it takes.
const TRANSACTION_MAX: i64 = 50;

#[derive(Clone, Default)]
pub(super) struct Items {
    by_key: BTreeMap<String, (Bytes, u64)>,
    writes: u64,
}

impl Items {
    fn get(&self, key: &str) -> Option<(Bytes, pb::Etag)> {
        let (data, etag) = self.by_key.get(key)?;
        Some((data.clone(), pb::Etag { value: etag.to_string() }))
    }

    fn check(&self, key: &str, etag: Option<&pb::Etag>, options: Option<pb::StateOptions>) -> Result<(), Status> {
        let current = self.by_key.get(key).map(|(_, etag)| *etag);
        let Some(etag) = etag.filter(|etag| !etag.value.is_empty()) else {
            let first =
                options.is_some_and(|options| options.concurrency == StateConcurrency::ConcurrencyFirstWrite as i32);
            return match current {
                Some(_) if first => Err(wrong(Code::FailedPrecondition, "the key exists")),
                _ => Ok(()),
            };
        };
        match etag.value.parse::<u64>() {
            Err(_) => Err(wrong(Code::InvalidArgument, "expected a number")),
            Ok(wanted) if current == Some(wanted) => Ok(()),
            Ok(_) => Err(wrong(Code::FailedPrecondition, "it is another now")),
        }
    }

    fn set(&mut self, request: pb::SetRequest) -> Result<(), Status> {
        self.check(&request.key, request.etag.as_ref(), request.options)?;
        self.writes += 1;
        self.by_key.insert(request.key, (request.value, self.writes));
        Ok(())
    }

    fn delete(&mut self, request: pb::DeleteRequest) -> Result<(), Status> {
        self.check(&request.key, request.etag.as_ref(), request.options)?;
        self.by_key.remove(&request.key);
        Ok(())
    }
}

fn wrong(code: Code, description: &str) -> Status {
    let violation =
        FieldViolation { field: "etag".to_owned(), description: description.to_owned(), ..Default::default() };
    status_with(code, description, Any::from_message(&BadRequest { field_violations: vec![violation] }))
}

#[tonic::async_trait]
impl pb::state_store_server::StateStore for Handler {
    async fn init(&self, request: Request<pb::InitRequest>) -> Result<Response<pb::InitResponse>, Status> {
        self.initialised("StateStore/Init", &request, request.get_ref().metadata.clone())?;
        Ok(Response::new(Default::default()))
    }

    async fn features(&self, request: Request<pb::FeaturesRequest>) -> Result<Response<pb::FeaturesResponse>, Status> {
        self.called("StateStore/Features", &request)?;
        Ok(Response::new(pb::FeaturesResponse { features: vec!["ETAG".to_owned(), "TRANSACTIONAL".to_owned()] }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        self.called("StateStore/Delete", &request)?;
        locked(&self.shared.items).delete(request.into_inner())?;
        Ok(Response::new(Default::default()))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        self.called("StateStore/Get", &request)?;
        let found = locked(&self.shared.items).get(&request.get_ref().key);
        Ok(Response::new(found.map_or_else(pb::GetResponse::default, |(data, etag)| pb::GetResponse {
            data,
            etag: Some(etag),
            ..Default::default()
        })))
    }

    async fn set(&self, request: Request<pb::SetRequest>) -> Result<Response<pb::SetResponse>, Status> {
        self.called("StateStore/Set", &request)?;
        locked(&self.shared.items).set(request.into_inner())?;
        Ok(Response::new(Default::default()))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        self.called("StateStore/Ping", &request)?;
        Ok(Response::new(Default::default()))
    }

    async fn bulk_delete(
        &self,
        request: Request<pb::BulkDeleteRequest>,
    ) -> Result<Response<pb::BulkDeleteResponse>, Status> {
        self.called("StateStore/BulkDelete", &request)?;
        let mut items = locked(&self.shared.items);
        let done: Vec<_> = request.into_inner().items.into_iter().map(|item| items.delete(item)).collect();
        done.into_iter().collect::<Result<Vec<()>, _>>().map(|_| Response::new(Default::default()))
    }

    /// Answers in reverse order and leaves out what it does not have, as it may.
    async fn bulk_get(&self, request: Request<pb::BulkGetRequest>) -> Result<Response<pb::BulkGetResponse>, Status> {
        self.called("StateStore/BulkGet", &request)?;
        let items = locked(&self.shared.items);
        let keys = request.into_inner().items.into_iter().rev().map(|item| item.key);
        let found = keys.filter_map(|key| {
            let (data, etag) = items.get(&key)?;
            Some(pb::BulkStateItem { key, data, etag: Some(etag), ..Default::default() })
        });
        Ok(Response::new(pb::BulkGetResponse { items: found.collect() }))
    }

    async fn bulk_set(&self, request: Request<pb::BulkSetRequest>) -> Result<Response<pb::BulkSetResponse>, Status> {
        self.called("StateStore/BulkSet", &request)?;
        let mut items = locked(&self.shared.items);
        let done: Vec<_> = request.into_inner().items.into_iter().map(|item| items.set(item)).collect();
        done.into_iter().collect::<Result<Vec<()>, _>>().map(|_| Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl pb::transactional_state_store_server::TransactionalStateStore for Handler {
    async fn transact(
        &self,
        request: Request<pb::TransactionalStateRequest>,
    ) -> Result<Response<pb::TransactionalStateResponse>, Status> {
        self.called("TransactionalStateStore/Transact", &request)?;
        let mut items = locked(&self.shared.items);
        let mut changed = items.clone();
        for operation in request.into_inner().operations {
            match operation.request {
                Some(Step::Set(request)) => changed.set(request)?,
                Some(Step::Delete(request)) => changed.delete(request)?,
                None => return Err(Status::invalid_argument("an operation without request")),
            }
        }
        *items = changed;
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl pb::transactional_store_multi_max_size_server::TransactionalStoreMultiMaxSize for Handler {
    async fn multi_max_size(
        &self,
        request: Request<pb::MultiMaxSizeRequest>,
    ) -> Result<Response<pb::MultiMaxSizeResponse>, Status> {
        self.called("TransactionalStoreMultiMaxSize/MultiMaxSize", &request)?;
        Ok(Response::new(pb::MultiMaxSizeResponse { max_size: TRANSACTION_MAX }))
    }
}

/// Finds everything, sorted by key; the answer's metadata shows the filter.
#[tonic::async_trait]
impl pb::queriable_state_store_server::QueriableStateStore for Handler {
    async fn query(&self, request: Request<pb::QueryRequest>) -> Result<Response<pb::QueryResponse>, Status> {
        self.called("QueriableStateStore/Query", &request)?;
        let query = request.into_inner().query.unwrap_or_default();
        let page = query.pagination.unwrap_or_default();
        let skip = page.token.parse::<usize>().unwrap_or_default();
        let limit = usize::try_from(page.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let items = locked(&self.shared.items);
        let mut found: Vec<_> = items.by_key.iter().collect();
        if query.sort.first().is_some_and(|sort| sort.order == pb::sorting::Order::Desc as i32) {
            found.reverse();
        }
        let next = skip.saturating_add(limit);
        let token = if next < found.len() { next.to_string() } else { String::new() };
        let found = found.into_iter().skip(skip).take(limit).map(|(key, (data, etag))| pb::QueryItem {
            key: key.clone(),
            data: data.clone(),
            etag: Some(pb::Etag { value: etag.to_string() }),
            ..Default::default()
        });
        let filter =
            query.filter.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(&value.value)));
        let metadata = HashMap::from([("filter".to_owned(), filter.collect::<Vec<_>>().join(" "))]);
        Ok(Response::new(pb::QueryResponse { items: found.collect(), token, metadata }))
    }
}
