//! Calls over HTTP between two sidecars in one process, around an app that knows `/events` and nothing else.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::ACCEPT;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pillion_contract::{ComponentError, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use pillion_runtime::app_channel::{AppChannel, AppHealth, HttpChannel, HttpChannelOptions};
use pillion_runtime::message::EVENT_STREAM;
use pillion_runtime::resiliency::Policies;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::endpoint::Endpoints;
use crate::{InternalServer, InvokerOptions};

/// Every app is behind this address.
struct Everywhere(String);

#[tonic::async_trait]
impl NameResolver for Everywhere {
    async fn register(&self, _: Registration) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn resolve(&self, _: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        Ok(vec![self.0.clone()])
    }
}

async fn app(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let found = request.uri().path() == "/events";
    let mut response = Response::new(Body::full(if found { "data: 1\n\n" } else { "404 page not found\n" }));
    *response.status_mut() = http::StatusCode::from_u16(if found { 200 } else { 404 }).unwrap();
    Ok(response)
}

/// The sidecar of `own`, which shares its app with `callee`.
async fn invoker() -> Invoker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(app)));
        }
    });
    let options = HttpChannelOptions::on_port(port);
    let channel = AppChannel::Http(Arc::new(HttpChannel::new(&options, AppHealth::new(true)).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log, of_callee) = (listener.local_addr().unwrap(), Logger::silent(), channel.clone());
    let server = InternalServer::new(Arc::new(move || Some(of_callee.clone())), 0, log.clone());
    tokio::spawn(server.serve(listener, None, CancellationToken::new()));
    let options = InvokerOptions {
        app_id: "own".into(),
        namespace: "default".into(),
        host_address: String::new(),
        host_name: String::new(),
        max_body_bytes: 0,
    };
    let policies = Arc::new(Policies::compile(&[], &log));
    let invoker = Invoker::new(options, Arc::new(Everywhere(address.to_string())), Endpoints::default(), policies, log);
    invoker.set_app_channel(Some(channel));
    invoker
}

fn request(method: &str, accept: &'static str) -> InvokeRequest {
    let headers = http::HeaderMap::from_iter([(ACCEPT, http::HeaderValue::from_static(accept))]);
    InvokeRequest { method: method.to_owned(), headers, ..InvokeRequest::default() }
}

#[tokio::test]
async fn a_refused_stream_of_events_is_a_failure_of_the_call_between_sidecars() {
    let invoker = invoker().await;
    let error = invoker.invoke("callee", request("missing", EVENT_STREAM)).await.unwrap_err();
    let wanted = "failed to invoke, id: callee, err: rpc error: code = Internal desc = error invoking app channel: no response received from stream";
    assert_eq!(error.message, wanted);
    for (target, method, accept, status) in [
        ("callee", "events", EVENT_STREAM, 200),
        ("callee", "missing", "*/*", 404),
        ("own", "missing", EVENT_STREAM, 404),
    ] {
        let answer = invoker.invoke(target, request(method, accept)).await.unwrap();
        assert_eq!(answer.status, AppStatus::Http(status), "{target} {method} {accept}");
    }
}

#[tokio::test]
async fn a_percent_sign_that_begins_no_escape_is_a_failure() {
    let invoker = invoker().await;
    for target in ["callee", "own"] {
        let error = invoker.invoke(target, request("test%stream", "*/*")).await.unwrap_err();
        assert!(error.message.contains("invalid URL escape \"%st\""), "{}", error.message);
    }
}
