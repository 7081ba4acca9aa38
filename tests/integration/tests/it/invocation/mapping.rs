//! Between HTTP and gRPC: statuses, headers and bodies in both directions.

use http::Method;
use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::common::v1::{HttpExtension, InvokeRequest, InvokeResponse};
use pillion_proto::google::protobuf::Any;
use pillion_proto::runtime::v1::InvokeServiceRequest;
use pillion_proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_testkit::{Answer, Binary, FakeApp, Recorded, Sidecar, SidecarOptions};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

use crate::fixture::unique;

/// Answers `status/<number>` with that code, and tells what it saw of all else.
struct Callbacks;

#[tonic::async_trait]
impl AppCallback for Callbacks {
    async fn on_invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let metadata = request.metadata().clone();
        let message = request.into_inner();
        if let Some(number) = message.method.strip_prefix("status/") {
            let mut status = Status::new(Code::from(number.parse::<i32>().unwrap()), "told to");
            status.metadata_mut().insert("x-mine", "yes".parse().unwrap());
            return Err(status);
        }
        let extension = message.http_extension.as_ref();
        let seen = json!({
            "method": message.method,
            "verb": extension.map(|extension| extension.verb().as_str_name()),
            "query": extension.map(|extension| extension.querystring.clone()),
            "contentType": message.content_type,
            "body": String::from_utf8_lossy(&message.data.unwrap_or_default().value),
            "headers": metadata.keys().map(|key| format!("{key:?}")).collect::<Vec<_>>(),
        });
        let mut answer = Response::new(InvokeResponse {
            data: Some(Any { value: seen.to_string().into(), ..Any::default() }),
            content_type: "application/x-mine".to_owned(),
        });
        answer.metadata_mut().insert("x-mine", "yes".parse().unwrap());
        Ok(answer)
    }
}

async fn grpc_app() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder().add_service(AppCallbackServer::new(Callbacks));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    port
}

async fn pair(port: u16, protocol: &str) -> (Sidecar, Sidecar) {
    let callee = SidecarOptions::new(&unique("callee")).app_port(port).app_protocol(protocol).start().await.unwrap();
    (SidecarOptions::new(&unique("caller")).start().await.unwrap(), callee)
}

#[tokio::test]
async fn from_http_to_a_grpc_application() {
    let (caller, callee) = pair(grpc_app().await, "grpc").await;
    let path = |method: &str| format!("/v1.0/invoke/{}/method/{method}", callee.app_id());
    for from in [&caller, &callee] {
        for (number, http) in [
            (1, 408),
            (2, 500),
            (3, 400),
            (4, 504),
            (5, 404),
            (6, 409),
            (7, 403),
            (8, 429),
            (9, 400),
            (10, 409),
            (11, 400),
            (12, 501),
            (13, 500),
            (14, 503),
            (15, 500),
            (16, 401),
        ] {
            let reply = from.get(&path(&format!("status/{number}"))).await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.json()), (http, json!({"code": number, "message": "told to"})));
            assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
            if Binary::find().unwrap().is_ours() {
                // The original takes no metadata from a status that is all of the answer.
                assert_eq!(reply.header("x-mine"), "yes", "{:?}", reply.headers);
            }
        }
        for _ in 0..2 {
            let sent = [("content-type", "text/x-sent"), ("x-sent", "1"), ("accept", "*/*")];
            let reply = from.send(Method::PATCH, &path("a/b?q=1"), &sent, "body").await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/x-mine"));
            assert_eq!(reply.header("x-mine"), "yes");
            let seen = reply.json();
            assert_eq!(
                (&seen["method"], &seen["verb"], &seen["query"], &seen["contentType"], &seen["body"]),
                (&json!("a/b"), &json!("PATCH"), &json!("q=1"), &json!("text/x-sent"), &json!("body"))
            );
            let headers = seen["headers"].to_string();
            for name in ["x-sent", "dapr-accept", "dapr-content-type"] {
                assert!(headers.contains(&format!("\\\"{name}\\\"")), "{name} in {headers}");
            }
        }
    }
}

async fn invoke(
    from: &Sidecar,
    id: &str,
    method: &str,
    verb: Option<Verb>,
) -> Result<Response<InvokeResponse>, Status> {
    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", from.grpc)).await.unwrap();
    let message = InvokeRequest {
        method: method.to_owned(),
        data: Some(Any { value: "body".into(), ..Any::default() }),
        content_type: "text/x-sent".to_owned(),
        http_extension: verb.map(|verb| HttpExtension { verb: verb.into(), querystring: "q=1".to_owned() }),
    };
    let mut request = Request::new(InvokeServiceRequest { id: id.to_owned(), message: Some(message) });
    request.metadata_mut().insert("x-sent", "1".parse().unwrap());
    client.invoke_service(request).await
}

#[tokio::test]
async fn from_grpc_to_an_http_application() {
    let respond = |request: &Recorded, _| match request.path.strip_prefix("/status/") {
        Some(code) => Answer::text("why").with_status(code.parse().unwrap()).with_header("x-mine", "yes"),
        None => Answer::text(format!("{} {}?{}", request.method, request.path, request.query))
            .with_header("x-mine", "yes")
            .with_header("content-type", "text/x-mine"),
    };
    let app = FakeApp::start(respond).await.unwrap();
    let (caller, callee) = pair(app.port(), "http").await;
    for from in [&caller, &callee] {
        for _ in 0..2 {
            let answer = invoke(from, callee.app_id(), "/a/b", Some(Verb::Put)).await.unwrap();
            assert_eq!(answer.metadata().get("x-mine").unwrap(), "yes");
            assert_eq!(answer.metadata().get("dapr-http-status").unwrap(), "200");
            let message = answer.into_inner();
            assert_eq!(message.content_type, "text/x-mine");
            assert_eq!(message.data.unwrap().value, "PUT /a/b?q=1");
        }
        let seen = app.requests("/a/b");
        let seen = seen.last().unwrap();
        assert_eq!(
            (seen.header("content-type"), seen.header("x-sent"), &seen.body[..]),
            ("text/x-sent", "1", &b"body"[..])
        );
        for (http, code) in [
            (201, Code::Ok),
            (204, Code::Ok),
            (302, Code::Unknown),
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::NotFound),
            (408, Code::Cancelled),
            (409, Code::AlreadyExists),
            (418, Code::Unknown),
            (429, Code::ResourceExhausted),
            (500, Code::Unknown),
            (501, Code::Unimplemented),
            (503, Code::Unavailable),
            (504, Code::DeadlineExceeded),
        ] {
            let (found, head) = match invoke(from, callee.app_id(), &format!("status/{http}"), Some(Verb::Get)).await {
                Ok(answer) => (Code::Ok, answer.metadata().clone()),
                Err(status) => (status.code(), status.metadata().clone()),
            };
            assert_eq!(found, code, "{http}");
            assert_eq!(head.get("dapr-http-status").unwrap(), http.to_string().as_str(), "{http}");
        }
        // An application that speaks HTTP needs a verb.
        let status = invoke(from, callee.app_id(), "a", None).await.unwrap_err();
        assert!(status.message().contains("missing HTTP extension field"), "{status}");
    }
}

#[tokio::test]
async fn from_grpc_to_a_grpc_application() {
    let (caller, callee) = pair(grpc_app().await, "grpc").await;
    for from in [&caller, &callee] {
        for (method, verb) in [("a", None), ("/a/b", None), ("a", Some(Verb::Delete))] {
            let answer = invoke(from, callee.app_id(), method, verb).await.unwrap();
            assert_eq!(answer.metadata().get("x-mine").unwrap(), "yes");
            let message = answer.into_inner();
            assert_eq!(message.content_type, "application/x-mine");
            let seen: serde_json::Value = serde_json::from_slice(&message.data.unwrap().value).unwrap();
            assert_eq!(seen["method"], method, "as it was written");
            assert_eq!(seen["verb"], verb.map_or(json!(null), |verb| json!(verb.as_str_name())));
            assert_eq!((&seen["contentType"], &seen["body"]), (&json!("text/x-sent"), &json!("body")));
        }
        let status = invoke(from, callee.app_id(), "status/9", None).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "told to"));
    }
}
