//! Calls made by hand on the port for sidecars, with a true identity: what no sidecar would send.

use std::collections::HashMap;
use std::sync::Arc;

use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::common::v1::{HttpExtension, InvokeRequest};
use pillion_proto::components::v1::PingRequest;
use pillion_proto::components::v1::input_binding_client::InputBindingClient;
use pillion_proto::internals::v1::service_invocation_client::ServiceInvocationClient;
use pillion_proto::internals::v1::{InternalInvokeRequest, InternalInvokeRequestStream, ListStringValue};
use pillion_security::SpiffeId;
use pillion_security::tls::{Peer, client};
use pillion_testkit::{Binary, Sidecar};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{PUBLIC_ONLY, Secured, http_app};
use crate::grpc_proxy::app as grpc_app;
use crate::sentry::{Dial, Sentry};

/// The port for sidecars, and an identity that sentry gave to show there.
async fn dial(sentry: &Sentry, app_id: &str, callee: &Sidecar, protocol: &[u8]) -> Dial {
    let (identity, anchors) = sentry.identity(app_id).await;
    let id = SpiffeId::parse(&format!("spiffe://public/ns/default/{}", callee.app_id())).unwrap();
    let mut tls = client(Some(identity), anchors, Peer::Exactly(id)).unwrap();
    tls.alpn_protocols = vec![protocol.to_vec()];
    Dial { port: callee.internal, tls: Arc::new(tls) }
}

async fn channel(sentry: &Sentry, app_id: &str, callee: &Sidecar) -> Channel {
    let dial = dial(sentry, app_id, callee, b"h2").await;
    Endpoint::from_static("http://callee").connect_with_connector(dial).await.unwrap()
}

/// A call as a sidecar makes it, with headers of the caller's choice.
fn call(method: &str, verb: Option<Verb>, headers: &[(&str, &str)]) -> InternalInvokeRequest {
    let list = |value: &str| ListStringValue { values: vec![value.to_owned()] };
    let metadata: HashMap<String, ListStringValue> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), list(value))).collect();
    let http_extension = verb.map(|verb| HttpExtension { verb: verb.into(), querystring: String::new() });
    let message = InvokeRequest { method: method.to_owned(), http_extension, ..InvokeRequest::default() };
    InternalInvokeRequest {
        ver: 1,
        metadata: metadata.into_iter().collect(),
        message: Some(message),
        ..Default::default()
    }
}

const SOME: &[(&str, &str)] = &[("x-some", "1")];

async fn unary(channel: &Channel, request: InternalInvokeRequest) -> Result<i32, Status> {
    let mut client = ServiceInvocationClient::new(channel.clone());
    client.call_local(request).await.map(|answer| answer.into_inner().status.unwrap_or_default().code)
}

async fn streamed(channel: &Channel, request: InternalInvokeRequest) -> Result<i32, Status> {
    let mut client = ServiceInvocationClient::new(channel.clone());
    let first = InternalInvokeRequestStream { request: Some(request), payload: None };
    let answer = client.call_local_stream(tonic::codegen::tokio_stream::iter([first])).await?;
    let first = answer.into_inner().message().await?.unwrap_or_default();
    Ok(first.response.unwrap_or_default().status.unwrap_or_default().code)
}

#[tokio::test]
async fn messages_no_sidecar_sends() {
    let app = http_app().await;
    // What is listed is denied, all else is allowed: every way past a rule is a way in.
    let spec = PUBLIC_ONLY.replace("defaultAction: deny", "defaultAction: allow").replace("/public", "/admin");
    let pair = Secured::start(app.port(), "http", &spec.replace("action: allow}", "action: deny}")).await;
    let channel = channel(&pair.sentry, pair.caller.app_id(), &pair.callee).await;
    assert_eq!(unary(&channel, call("open", Some(Verb::Get), SOME)).await.unwrap(), 200);
    assert_eq!(streamed(&channel, call("open", Some(Verb::Get), SOME)).await.unwrap(), 200);
    for method in ["admin", "/admin", "//admin", "open/../admin", "../admin", "./admin/", "ADMIN", "admin/below"] {
        for verb in [Verb::Get, Verb::Post, Verb::Trace] {
            let request = || call(method, Some(verb), SOME);
            let refused = [unary(&channel, request()).await, streamed(&channel, request()).await];
            for refused in refused {
                let status = refused.expect_err(method);
                assert_eq!(status.code(), Code::PermissionDenied, "{method}: {status}");
            }
        }
    }
    for method in ["admin?", "admin#", "admin\0", "x\n/../admin"] {
        let status = unary(&channel, call(method, Some(Verb::Get), SOME)).await.expect_err(method);
        assert_eq!(status.code(), Code::InvalidArgument, "{method:?}: {status}");
        assert!(status.message().starts_with("invalid method: method contains"), "{method:?}: {status}");
    }
    // Without a verb the original looks at the default action alone, and its application channel refuses the call then.
    for verb in [None, Some(Verb::None)] {
        assert!(unary(&channel, call("admin", verb, SOME)).await.is_err());
        assert!(streamed(&channel, call("admin", verb, SOME)).await.is_err());
    }
    // Without metadata the original does not look at the verb, and lets the call of a listed verb through.
    if Binary::find().unwrap().is_ours() {
        let status = unary(&channel, call("admin", Some(Verb::Get), &[])).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        for method in ["%61dmin", "open/%2e%2e/admin", "open%2f..%2fadmin"] {
            let status = unary(&channel, call(method, Some(Verb::Get), SOME)).await.expect_err(method);
            assert_eq!(status.code(), Code::PermissionDenied, "{method}: {status}");
        }
        for path in ["/admin", "/admin/below", "/%61dmin", "/ADMIN", "/open/%2e%2e/admin"] {
            assert!(app.requests(path).is_empty(), "{path} was reached");
        }
    }
}

#[tokio::test]
async fn a_false_name_in_the_headers() {
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", PUBLIC_ONLY).await;
    let known = pair.caller.app_id().to_owned();
    let forged = [("dapr-caller-app-id", known.as_str()), ("source-app-id", known.as_str())];
    let stranger = channel(&pair.sentry, "stranger", &pair.callee).await;
    let status = unary(&stranger, call("public", Some(Verb::Get), &forged)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("spiffe://public/ns/default/stranger "), "{status}");
    // A caller that may call still cannot make the application believe that it is another one.
    let caller = channel(&pair.sentry, &known, &pair.callee).await;
    let forged = [("dapr-caller-app-id", "somebody"), ("Dapr-Caller-Namespace", "elsewhere")];
    assert_eq!(unary(&caller, call("public", Some(Verb::Get), &forged)).await.unwrap(), 200);
    if Binary::find().unwrap().is_ours() {
        let seen = &app.requests("/public")[0];
        assert_eq!(
            (seen.header("dapr-caller-app-id"), seen.header("dapr-caller-namespace")),
            (known.as_str(), "default")
        );
    }
}

#[tokio::test]
async fn proxied_paths_no_client_sends() {
    let (port, _app) = grpc_app().await;
    let spec = PUBLIC_ONLY.replace("defaultAction: deny", "defaultAction: allow");
    let spec = spec.replace(
        "/public, httpVerb: ['*'], action: allow",
        "/dapr.proto.components.v1.InputBinding/Ping, action: deny",
    );
    let pair = Secured::start(port, "grpc", &spec).await;
    let channel = channel(&pair.sentry, pair.caller.app_id(), &pair.callee).await;
    let named = |message: PingRequest| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("dapr-app-id", pair.callee.app_id().parse().unwrap());
        request
    };
    let status = InputBindingClient::new(channel.clone()).ping(named(PingRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    for path in [
        "//dapr.proto.components.v1.InputBinding/Ping",
        "/dapr.proto.components.v1.InputBinding//Ping",
        "/dapr.proto.components.v1.InputBinding/Ping/",
        "/x/../dapr.proto.components.v1.InputBinding/Ping",
        "/dapr.proto.components.v1.InputBinding/./Ping",
        "/dapr.proto.components.v1.InputBinding/Ping?x",
        "/dapr.proto.components.v1.InputBinding/%50ing",
    ] {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<PingRequest, PingRequest>::default();
        let status = client.unary(named(PingRequest::default()), path.parse().unwrap(), codec).await.expect_err(path);
        let refused = [Code::PermissionDenied, Code::InvalidArgument, Code::Unimplemented];
        assert!(refused.contains(&status.code()), "{path}: {status}");
    }
}

/// The way between two sidecars of ours that needs no gRPC.
#[tokio::test]
async fn direct_calls_are_under_the_same_rules() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", PUBLIC_ONLY).await;
    let known = pair.caller.app_id();
    let caller = dial(&pair.sentry, known, &pair.callee, b"pillion-direct/1").await;
    let stranger = dial(&pair.sentry, "stranger", &pair.callee, b"pillion-direct/1").await;
    let forged = format!("dapr-caller-app-id: {known}\r\n");
    for (dial, verb, target, headers, allowed) in [
        (&caller, "GET", "/public", "", true),
        (&caller, "GET", "//public", "", true),
        (&caller, "GET", "/admin/../public", "", true),
        (&caller, "GET", "/admin%2f..%2fpublic", "", true),
        (&caller, "GET", "/admin", "", false),
        (&caller, "get", "/admin", "", false),
        (&caller, "FOO", "/admin", "", false),
        (&caller, "GET", "//admin", "", false),
        (&caller, "GET", "/public/../admin", "", false),
        (&caller, "GET", "/public/%2e%2e/admin", "", false),
        (&caller, "GET", "/public/%252e%252e/admin", "", false),
        (&caller, "GET", "/public%2f..%2fadmin", "", false),
        (&caller, "GET", "/admin?/public", "", false),
        (&caller, "GET", "/public%3f/../admin", "", false),
        (&caller, "GET", "/public%00", "", false),
        (&stranger, "GET", "/public", forged.as_str(), false),
    ] {
        let mut stream = dial.connect().await.unwrap();
        let head =
            format!("{verb} {target} HTTP/1.1\r\nhost: x\r\npillion-direct: 1\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await; // however it is closed
        let answer = String::from_utf8_lossy(&answer);
        let reached = answer.starts_with("HTTP/1.1 200") && !answer.contains("pillion-failure");
        assert_eq!(reached, allowed, "{verb} {target}: {answer}");
    }
    assert!(app.requests("/admin").is_empty());
}
