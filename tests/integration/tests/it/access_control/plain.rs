//! Without identities the default action decides alone, on every way into an application.

use http::Method;
use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::components::v1::PingRequest;
use pillion_testkit::{GrpcApp, Sidecar, SidecarOptions};
use tonic::Code;

use super::{denial, http_app, invoke, path, rules};
use crate::fixture::unique;
use crate::grpc_proxy::{app as grpc_app, client as grpc_client, to};

const DENY: &str = "defaultAction: deny\ntrustDomain: public";

async fn caller() -> Sidecar {
    SidecarOptions::new(&unique("caller")).start().await.unwrap()
}

#[tokio::test]
async fn http_calls_are_denied_with_403() {
    let (app, rules, called) = (http_app().await, rules(DENY), unique("callee"));
    let options = SidecarOptions::new(&called).app_port(app.port()).configuration(rules.path());
    let (callee, caller) = (options.start().await.unwrap(), caller().await);
    for _ in 0..3 {
        // The first goes over gRPC; a caller of the same make may go another way afterwards.
        let reply = caller.get(&path(&called, "x/y?q=1")).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.error_code()), (403, "ERR_DIRECT_INVOKE".to_owned()));
        let said = format!("failed to invoke, id: {called}, err: rpc error: code = PermissionDenied desc = ");
        assert_eq!(reply.json()["message"], said + &denial("", "x/y", "GET"));
    }
    let large = caller.send(Method::PUT, &path(&called, "x"), &[], vec![b'x'; 300_000]).await.unwrap();
    assert_eq!(large.status, 403, "{}", large.text());
    let status = invoke(&caller, &called, "x", Verb::Post).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status}");
    assert!(status.message().contains(&denial("", "x", "POST")), "{status}");
    callee.wait_for_log(&denial("", "x", "POST")).await;
    assert!(callee.log().contains("scope=dapr.acl"));
    assert!(app.requests("/x/y").is_empty() && app.requests("/x").is_empty());

    // A call to the own application is no call of another one.
    let own = callee.get(&path(&called, "x/y")).await.unwrap();
    assert_eq!((own.status.as_u16(), own.text()), (200, "GET /x/y".to_owned()));
    let own = invoke(&callee, &called, "x", Verb::Get).await.unwrap();
    assert_eq!(own, "GET /x");
}

#[tokio::test]
async fn grpc_calls_are_denied() {
    let (app, rules, called) = (GrpcApp::start(Vec::new()).await.unwrap(), rules(DENY), unique("callee"));
    let options = SidecarOptions::new(&called).app_port(app.port()).app_protocol("grpc").configuration(rules.path());
    let (_callee, caller) = (options.start().await.unwrap(), caller().await);
    let reply = caller.get(&path(&called, "m")).await.unwrap();
    assert_eq!(reply.status, 403);
    // The verb is no part of a call of a gRPC application.
    assert!(reply.text().contains(&denial("", "m", "NONE")), "{}", reply.text());
    let status = invoke(&caller, &called, "/m", Verb::Get).await.unwrap_err();
    assert!(status.message().contains(&denial("", "/m", "NONE")), "{status}");
    assert_eq!(app.methods(), Vec::<String>::new());
}

#[tokio::test]
async fn proxied_calls_are_denied_also_to_oneself() {
    let ((port, _app), rules, called) = (grpc_app().await, rules(DENY), unique("callee"));
    let options = SidecarOptions::new(&called).app_port(port).app_protocol("grpc").configuration(rules.path());
    let (callee, caller) = (options.start().await.unwrap(), caller().await);
    let text = denial("", "/dapr.proto.components.v1.InputBinding/Ping", "NONE");
    for from in [&caller, &callee] {
        let status = grpc_client(from).await.ping(to(&called, PingRequest::default())).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, text.as_str()));
    }
}

#[tokio::test]
async fn policies_are_for_callers_with_an_identity() {
    let deny = "policies:\n- {appId: CALLER, trustDomain: public, namespace: default, defaultAction: deny}";
    let caller = caller().await;
    let (app, rules, called) = (http_app().await, rules(&deny.replace("CALLER", caller.app_id())), unique("callee"));
    let options = SidecarOptions::new(&called).app_port(app.port()).configuration(rules.path());
    let callee = options.start().await.unwrap();
    for _ in 0..3 {
        assert_eq!(caller.get(&path(&called, "x")).await.unwrap().text(), "GET /x");
    }
    let metrics = pillion_testkit::request(callee.metrics, Method::GET, "/metrics", &[], "").await.unwrap().text();
    let line = "dapr_runtime_acl_global_policy_action_allowed_total{app_id=\"\",namespace=\"\",trustDomain=\"\"} 3";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn an_incomplete_policy_ends_the_start() {
    let rules = rules("defaultAction: deny\npolicies:\n- {appId: a, namespace: default}");
    let mut sidecar = SidecarOptions::new(&unique("bad")).configuration(rules.path()).spawn().unwrap();
    let status = sidecar.wait_for_exit(std::time::Duration::from_secs(20)).await;
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    assert!(sidecar.log().to_lowercase().contains("trustdomain"), "{}", sidecar.log());
}
