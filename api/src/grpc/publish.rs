//! Publishing over gRPC.

use std::collections::BTreeMap;

use bytes::Bytes;
use pillion_core::error::{ApiError, table};
use pillion_proto::runtime::v1 as pb;
use tonic::{Request, Status};

use super::{GrpcApi, status};

/// A call to publish, before it becomes a CloudEvent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishCall {
    /// Pub/sub component; may be empty, which is an error of the block.
    pub pubsub_name: String,
    /// Topic; may be empty, which is an error of the block.
    pub topic: String,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
    /// `traceparent` of the caller, when it sent one.
    pub trace_parent: Option<String>,
    /// `tracestate` of the caller, when it sent one.
    pub trace_state: Option<String>,
}

/// One event of a bulk publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkEntry {
    /// Id of the entry; missing and duplicate ones are an error of the block.
    pub entry_id: String,
    /// Payload.
    pub data: Bytes,
    /// Content type of the payload.
    pub content_type: String,
    /// Metadata of this entry.
    pub metadata: BTreeMap<String, String>,
}

/// The pub/sub block, as this front sees it.
#[tonic::async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes one event.
    ///
    /// # Errors
    /// The `ERR_PUBSUB_*` errors of the table.
    async fn publish(&self, call: PublishCall, data: Bytes, content_type: String) -> Result<(), ApiError>;

    /// Publishes several; any failed entry fails the call, as gRPC callers cannot see which.
    ///
    /// # Errors
    /// As [`Self::publish`].
    async fn bulk_publish(&self, call: PublishCall, entries: Vec<BulkEntry>) -> Result<(), ApiError>;
}

impl GrpcApi {
    pub(super) async fn publish(&self, request: Request<pb::PublishEventRequest>) -> Result<(), Status> {
        let (trace_parent, trace_state) = trace(&request);
        let event = request.into_inner();
        let publisher = self.publisher(&event.pubsub_name)?;
        let call = PublishCall {
            pubsub_name: event.pubsub_name,
            topic: event.topic,
            metadata: event.metadata.into_iter().collect(),
            trace_parent,
            trace_state,
        };
        publisher.publish(call, event.data, event.data_content_type).await.map_err(|error| status::from_api_error(&error))
    }

    pub(super) async fn bulk_publish(&self, request: Request<pb::BulkPublishRequest>) -> Result<pb::BulkPublishResponse, Status> {
        let (trace_parent, trace_state) = trace(&request);
        let bulk = request.into_inner();
        let publisher = self.publisher(&bulk.pubsub_name)?;
        let entry = |entry: pb::BulkPublishRequestEntry| BulkEntry {
            entry_id: entry.entry_id,
            data: entry.event,
            content_type: entry.content_type,
            metadata: entry.metadata.into_iter().collect(),
        };
        let entries = bulk.entries.into_iter().map(entry).collect();
        let call = PublishCall {
            pubsub_name: bulk.pubsub_name,
            topic: bulk.topic,
            metadata: bulk.metadata.into_iter().collect(),
            trace_parent,
            trace_state,
        };
        publisher.bulk_publish(call, entries).await.map_err(|error| status::from_api_error(&error))?;
        Ok(pb::BulkPublishResponse::default())
    }

    fn publisher(&self, pubsub_name: &str) -> Result<&dyn Publisher, Status> {
        self.publisher.as_deref().ok_or_else(|| {
            let error = ApiError::new(&table::PUBSUB_NOT_CONFIGURED, format!("pubsub {pubsub_name} is not configured"));
            status::from_api_error(&error.info(&[]))
        })
    }
}

fn trace<T>(request: &Request<T>) -> (Option<String>, Option<String>) {
    let text = |name| request.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    (text("traceparent"), text("tracestate"))
}
