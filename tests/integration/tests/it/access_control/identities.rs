//! With identities: what the rules of a caller say, for the application and the protocols it speaks.

use http::Method;
use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::components::v1::{PingRequest, ReadRequest};
use pillion_testkit::{Binary, Sidecar};
use tonic::Code;

use super::{Secured, denial, http_app, invoke, path, secured};
use crate::fixture::unique;
use crate::grpc_proxy::{app as grpc_app, client as grpc_client, to};

const RULES: &str = "
defaultAction: deny
trustDomain: public
policies:
- appId: CALLER
  defaultAction: deny
  trustDomain: public
  namespace: default
  operations:
  - {name: /orders/*, httpVerb: [GET, POST], action: allow}
  - {name: /files/**, httpVerb: ['*'], action: allow}
  - {name: /Reports, httpVerb: [GET], action: allow}
  - {name: /img*.png, httpVerb: [GET], action: allow}
  - {name: /tree, httpVerb: [GET], action: allow}
- appId: elsewhere
  defaultAction: allow
  trustDomain: public
  namespace: other
- appId: foreign
  defaultAction: allow
  trustDomain: private
  namespace: default
";

async fn status(caller: &Sidecar, verb: &Method, callee: &str, method: &str) -> u16 {
    caller.send(verb.clone(), &path(callee, method), &[], "").await.unwrap().status.as_u16()
}

#[tokio::test]
async fn operations_verbs_and_wildcards_decide() {
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", RULES).await;
    let called = pair.callee.app_id();
    // Twice, as calls between sidecars of one make may change their way after the first.
    for _ in 0..2 {
        for (verb, method, wanted) in [
            (Method::GET, "orders/1", 200),
            (Method::POST, "orders/1", 200),
            (Method::PUT, "orders/1", 403),
            (Method::DELETE, "orders/1", 403),
            (Method::GET, "orders", 200),
            (Method::GET, "orders/1/items", 403),
            (Method::GET, "ORDERS/1", 200),
            (Method::PATCH, "files/a/b/c", 200),
            (Method::HEAD, "files", 200),
            (Method::GET, "reports", 200),
            (Method::GET, "REPORTS", 200),
            (Method::GET, "img1.png", 200),
            (Method::GET, "img1.gif", 403),
            (Method::GET, "tree", 200),
            (Method::GET, "tree/below", 200), // a name also covers what is below it, as in the original
            (Method::GET, "trees", 403),
            (Method::GET, "", 403),
        ] {
            assert_eq!(status(&pair.caller, &verb, called, method).await, wanted, "{verb} {method}");
        }
    }
    let reply = pair.caller.send(Method::PUT, &path(called, "Orders/1"), &[], "").await.unwrap();
    let said = format!("failed to invoke, id: {called}, err: rpc error: code = PermissionDenied desc = ");
    assert_eq!(reply.json()["message"], said + &denial(&pair.identity(), "Orders/1", "PUT"));
    let metrics = pillion_testkit::request(pair.callee.metrics, Method::GET, "/metrics", &[], "").await.unwrap().text();
    for decision in ["app_policy_action_allowed", "app_policy_action_blocked"] {
        let series = format!(
            "dapr_runtime_acl_{decision}_total{{app_id=\"{}\",namespace=\"default\",trustDomain=\"public\"}} ",
            pair.caller.app_id()
        );
        assert!(metrics.contains(&series), "{series}\n{metrics}");
    }
}

#[tokio::test]
async fn the_identity_decides_whose_rules_count() {
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", RULES).await;
    let called = pair.callee.app_id();
    // Known under another namespace or trust domain only, and not known at all.
    for app_id in ["elsewhere", "foreign", &unique("stranger")] {
        let caller = secured(app_id, &pair.sentry).start().await.unwrap();
        let reply = caller.get(&path(called, "orders/1")).await.unwrap();
        assert_eq!(reply.status, 403, "{app_id}");
        let identity = format!("spiffe://public/ns/default/{app_id}");
        assert!(reply.text().contains(&denial(&identity, "orders/1", "GET")), "{}", reply.text());
    }
    // In the namespace of its policy the same name may call; only ours finds apps of other namespaces on one machine.
    if Binary::find().unwrap().is_ours() {
        let caller = secured("elsewhere", &pair.sentry).environment("NAMESPACE", "other").start().await.unwrap();
        let reply = caller.get(&path(&format!("{called}.default"), "orders/1")).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "GET /orders/1".to_owned()));
    }
    assert_eq!(app.requests("/orders/1").len(), usize::from(Binary::find().unwrap().is_ours()));
}

#[tokio::test]
async fn grpc_services_have_names_too() {
    let (port, _app) = grpc_app().await;
    let rules = RULES.replace("/orders/*, httpVerb: [GET, POST]", "/dapr.proto.components.v1.InputBinding/Ping");
    let pair = Secured::start(port, "grpc", &rules).await;
    let called = pair.callee.app_id();
    let mut client = grpc_client(&pair.caller).await;
    for _ in 0..2 {
        client.ping(to(called, PingRequest::default())).await.unwrap();
        let messages = tonic::codegen::tokio_stream::iter([ReadRequest::default()]);
        let refused = match client.read(to(called, messages)).await {
            Ok(answers) => answers.into_inner().message().await.unwrap_err(),
            Err(refused) => refused,
        };
        let text = denial(&pair.identity(), "/dapr.proto.components.v1.InputBinding/Read", "NONE");
        assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, text.as_str()));
    }
    // Capitals count for gRPC applications.
    let status = invoke(&pair.caller, called, "reports", Verb::Get).await.unwrap_err();
    assert!(status.message().contains(&denial(&pair.identity(), "reports", "NONE")), "{status}");
}
