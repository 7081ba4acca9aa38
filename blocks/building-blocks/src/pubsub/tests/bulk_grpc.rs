//! Bulk delivery to gRPC apps with the new service, the older one, or neither.

use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::app_callback_alpha_server::{AppCallbackAlpha, AppCallbackAlphaServer};
use pillion_proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use pillion_runtime::app_channel::{AppChannel, AppHealth, GrpcChannel};
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

use super::*;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Which of the two services an app has, and what it answers.
#[derive(Clone, Copy, PartialEq)]
enum Has {
    New(Result<i32, Code>),
    Older,
    Neither,
}

#[derive(Clone)]
struct GrpcApp {
    has: Has,
    seen: Arc<Mutex<Vec<(MetadataMap, pb::TopicEventBulkRequest)>>>,
}

impl GrpcApp {
    fn answer(&self, request: Request<pb::TopicEventBulkRequest>, status: i32) -> Response<pb::TopicEventBulkResponse> {
        let (metadata, _, bulk) = request.into_parts();
        let statuses = bulk
            .entries
            .iter()
            .map(|entry| pb::TopicEventBulkResponseEntry { entry_id: entry.entry_id.clone(), status });
        let answer = pb::TopicEventBulkResponse { statuses: statuses.collect() };
        self.seen.lock().push((metadata, bulk));
        Response::new(answer)
    }
}

#[tonic::async_trait]
impl AppCallback for GrpcApp {
    async fn on_bulk_topic_event(
        &self,
        request: Request<pb::TopicEventBulkRequest>,
    ) -> Result<Response<pb::TopicEventBulkResponse>, Status> {
        match self.has {
            Has::New(answer) => {
                answer.map(|status| self.answer(request, status)).map_err(|code| Status::new(code, "told so"))
            }
            Has::Older | Has::Neither => Err(Status::unimplemented("no such method")),
        }
    }
}

#[tonic::async_trait]
impl AppCallbackAlpha for GrpcApp {
    async fn on_bulk_topic_event_alpha1(
        &self,
        request: Request<pb::TopicEventBulkRequest>,
    ) -> Result<Response<pb::TopicEventBulkResponse>, Status> {
        if self.has == Has::Older { Ok(self.answer(request, 0)) } else { Err(Status::unimplemented("no such method")) }
    }
}

#[tokio::test]
async fn apps_are_called_by_the_service_they_have() {
    let cases = [
        (Has::New(Ok(0)), Outcome::Ack, 1),
        (Has::New(Ok(1)), Outcome::Nack, 1),
        (Has::New(Ok(2)), Outcome::Ack, 1),
        (Has::New(Ok(9)), Outcome::Nack, 1),
        (Has::New(Err(Code::Unavailable)), Outcome::Nack, 0),
        (Has::Older, Outcome::Ack, 1),
        (Has::Neither, Outcome::Ack, 0),
    ];
    for (index, (has, expected, calls)) in cases.into_iter().enumerate() {
        let app = GrpcApp { has, seen: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::builder()
            .add_service(AppCallbackServer::new(app.clone()))
            .add_service(AppCallbackAlphaServer::new(app.clone()));
        let server = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let channel = GrpcChannel::new("127.0.0.1", port, 0, None, 0, AppHealth::new(true)).unwrap();

        let setup = setup();
        let mut manifest = subscription(&[("", "/x")], "");
        manifest.bulk_subscribe =
            pillion_resources::types::BulkSubscribe { enabled: true, max_messages_count: 1, max_await_duration_ms: 10 };
        setup.subscriptions.set_declarative(&[manifest]);
        setup
            .subscriptions
            .start(app_sink(
                AppChannel::Grpc(Arc::new(channel)),
                &pillion_telemetry::trace::Tracer::default(),
                &Logger::silent(),
            ))
            .await;
        let event = json!({"id": "1", "datacontenttype": "application/json", "data": {"n": 1}, "traceparent": TRACE})
            .to_string();
        assert_eq!(setup.broker.deliver("orders", event).await, expected, "case {index}");
        let seen = app.seen.lock();
        assert_eq!(seen.len(), calls, "case {index}");
        for (metadata, bulk) in seen.iter() {
            assert_eq!((bulk.path.as_str(), bulk.topic.as_str(), bulk.pubsub_name.as_str()), ("/x", "orders", "bus"));
            assert_eq!(metadata.get("traceparent").unwrap(), TRACE);
            assert!(metadata.get_bin("grpc-trace-bin").is_some());
        }
        server.abort();
    }
}
