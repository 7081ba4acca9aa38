//! Publishing over gRPC.

use std::collections::BTreeMap;

use pillion_building_blocks::pubsub::{BulkEntry, PublishCall, TraceContext, is_raw};
use pillion_core::error::{ApiError, table};
use pillion_proto::runtime::v1 as pb;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{GrpcApi, status};

/// Name of the span of each entry of a bulk publish. *Source:* spec metrics.md §5.3.
const BULK_PUBLISH: &str = "/dapr.proto.runtime.v1.Dapr/BulkPublishEvent";

impl GrpcApi {
    pub(super) async fn publish(&self, request: Request<pb::PublishEventRequest>) -> Result<(), Status> {
        let (trace_parent, trace_state) = trace(request.metadata());
        let event = request.into_inner();
        let mut metadata: BTreeMap<String, String> = event.metadata.into_iter().collect();
        if is_raw(&metadata) == Ok(true) {
            // Without an envelope the trace travels beside the payload.
            metadata.insert("traceid".to_owned(), trace_parent.clone().unwrap_or_default());
            metadata.insert("tracestate".to_owned(), trace_state.clone().unwrap_or_default());
        }
        let call = PublishCall {
            pubsub_name: event.pubsub_name,
            topic: event.topic,
            metadata,
            trace_parent,
            trace_state,
            span_name: String::new(),
            http: false,
        };
        self.pubsub.publish(call, event.data, &event.data_content_type).await.map_err(refuse)
    }

    /// Any failed entry fails the call; gRPC callers cannot see which.
    pub(super) async fn bulk_publish(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<pb::BulkPublishResponse, Status> {
        let (trace_parent, trace_state) = trace(request.metadata());
        let bulk = request.into_inner();
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
            span_name: BULK_PUBLISH.to_owned(),
            http: false,
        };
        self.pubsub.bulk_publish(call, entries).await.map_err(|failed| refuse(failed.error))?;
        Ok(pb::BulkPublishResponse::default())
    }
}

/// The error of an unknown component has no metadata over gRPC.
fn refuse(mut error: ApiError) -> Status {
    if error.spec == &table::PUBSUB_NOT_FOUND {
        error.details.clear();
        error = error.info(&[]);
    }
    status::from_api_error(&error)
}

/// The caller's trace, `traceparent` and `tracestate`; the binary form counts before the text.
pub(super) fn trace(metadata: &MetadataMap) -> (Option<String>, Option<String>) {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let context = match metadata.get_bin("grpc-trace-bin") {
        Some(binary) => binary.to_bytes().ok().and_then(|bytes| TraceContext::from_binary(&bytes)),
        None => text("traceparent").and_then(TraceContext::parse),
    };
    let state = context.and_then(|_| text("tracestate")).map(str::to_owned);
    (context.map(|context| context.to_string()), state)
}
