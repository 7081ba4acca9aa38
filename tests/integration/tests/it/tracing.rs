//! Spans, trace context and baggage, as collectors, callers and applications see them.

use std::time::Duration;

use http::{Method, StatusCode};
use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::common::v1::{HttpExtension, InvokeRequest};
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_proto::runtime::v1::{GetStateRequest, InvokeServiceRequest};
use pillion_testkit::{Answer, FakeApp, OtlpCollector, ResourceDir, Sidecar, SidecarOptions, eventually};
use serde_json::{Value, json};
use tonic::Code;

use crate::fixture::{PUBSUB, STATE, unique};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn configuration(tracing: &str) -> ResourceDir {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: t}}\nspec:\n  tracing: {tracing}\n"
    );
    ResourceDir::new().unwrap().with("config.yaml", &text).unwrap()
}

fn to_collector(rate: &str, collector: &OtlpCollector) -> ResourceDir {
    configuration(&format!(
        "{{samplingRate: \"{rate}\", otel: {{endpointAddress: \"{}\", protocol: grpc, isSecure: false, headers: [\"x-key=k\"]}}}}",
        collector.address()
    ))
}

fn options(id: &str, configuration: &ResourceDir) -> SidecarOptions {
    SidecarOptions::new(id).configuration(&configuration.path().join("config.yaml"))
}

async fn app() -> FakeApp {
    let answer = |request: &pillion_testkit::Recorded, _| match request.path.as_str() {
        "/missing" => Answer::status(StatusCode::NOT_FOUND),
        _ => Answer::text("here"),
    };
    FakeApp::start(answer).await.unwrap()
}

/// The ids of a `traceparent`.
fn ids(parent: &str) -> (&str, &str) {
    let mut parts = parent.split('-').skip(1);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

async fn invoke(sidecar: &Sidecar, target: &str, method: &str, headers: &[(&str, &str)]) -> pillion_testkit::Reply {
    let path = format!("/v1.0/invoke/{target}/method/{method}");
    sidecar.send(Method::POST, &path, headers, "x").await.unwrap()
}

#[tokio::test]
async fn a_call_between_two_applications_is_one_trace_in_zipkin() {
    let zipkin = FakeApp::start(|_, _| Answer::status(StatusCode::ACCEPTED)).await.unwrap();
    let tracing = configuration(&format!(
        "{{samplingRate: \"1\", zipkin: {{endpointAddress: \"http://127.0.0.1:{}/api/v2/spans\"}}}}",
        zipkin.port()
    ));
    let app = app().await;
    let (caller_id, callee_id) = (unique("caller"), unique("callee"));
    let callee = options(&callee_id, &tracing).app_port(app.port()).start().await.unwrap();
    let caller = options(&caller_id, &tracing).start().await.unwrap();
    // The first call goes over gRPC, later ones of two Pillions over plain HTTP.
    for round in 0..2 {
        let method = format!("round{round}");
        let reply = invoke(&caller, &callee_id, &method, &[("traceparent", PARENT), ("dapr-note", "n")]).await;
        assert_eq!(reply.status, 200);
        let name = format!("CallLocal/{callee_id}/{method}");
        let find = |kind: &str| {
            let spans = zipkin.requests("/api/v2/spans").into_iter().flat_map(|request| match request.json() {
                Value::Array(spans) => spans,
                other => panic!("{other}"),
            });
            spans.into_iter().find(|span| span["name"] == name.as_str() && span["kind"] == kind)
        };
        let client = eventually("the caller's span", Duration::from_secs(10), || async { find("CLIENT") }).await;
        let server = eventually("the callee's span", Duration::from_secs(10), || async { find("SERVER") }).await;
        assert_eq!((&client["traceId"], &client["parentId"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
        assert_eq!((&server["traceId"], &server["parentId"]), (&json!(TRACE), &client["id"]));
        assert_eq!(client["localEndpoint"]["serviceName"], caller_id.as_str());
        assert_eq!(client["remoteEndpoint"]["serviceName"], callee_id.as_str());
        assert_eq!(server["localEndpoint"]["serviceName"], callee_id.as_str());
        let path = format!("/v1.0/invoke/{callee_id}/method/{method}");
        for (tag, value) in [
            ("dapr.protocol", "http"),
            ("dapr.api", &format!("POST {path}")),
            ("dapr.status_code", "200"),
            ("http.request.method", "POST"),
            ("url.full", &path),
            ("rpc.service", "ServiceInvocation"),
            ("net.peer.name", &callee_id),
            ("dapr-note", "n"),
        ] {
            assert_eq!(client["tags"][tag], value, "{tag}: {client}");
        }
        assert_eq!(server["tags"]["dapr.invoke_method"], method.as_str());
        assert_eq!(server["tags"]["rpc.service"], "ServiceInvocation");
        // The application is below the callee's span, the caller sees its own.
        let seen = app.wait_for(&format!("/{method}"), 1).await[0].header("traceparent").to_owned();
        assert_eq!(ids(&seen), (TRACE, server["id"].as_str().unwrap()));
        assert_eq!(ids(reply.header("traceparent")), (TRACE, client["id"].as_str().unwrap()));
    }
    drop(callee);
}

#[tokio::test]
async fn spans_go_to_an_otlp_collector_with_names_attributes_and_failures() {
    let collector = OtlpCollector::start().await.unwrap();
    let tracing = to_collector("1", &collector);
    let (app, id) = (app().await, unique("app"));
    let resources = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap();
    let sidecar = options(&id, &tracing)
        .app_port(app.port())
        .resources(resources.path())
        .environment("OTEL_SERVICE_NAME", "named")
        .environment("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=prod")
        .start()
        .await
        .unwrap();
    invoke(&sidecar, &id, "missing", &[]).await;
    let span = collector.wait_for("named", &format!("CallLocal/{id}/missing")).await;
    assert_eq!((span.kind, span.parent.as_str(), span.scope.as_str()), (3, "", "dapr-diagnostics"));
    assert_eq!(span.failure.as_deref(), Some("Code(404): Not Found"));
    assert_eq!(span.resource["service.namespace"], "prod");
    assert_eq!(span.headers["x-key"], "k");

    let path = "/v1.0/state/mystore/some%20key";
    assert_eq!(sidecar.get(path).await.unwrap().status, 204);
    let span = collector.wait_for("named", "/v1.0/state/mystore/some key").await;
    for (name, value) in [
        ("db.system", "state"),
        ("db.name", "mystore"),
        ("db.statement", "GET /v1.0/state/mystore/some key"),
        ("url.full", path),
    ] {
        assert_eq!(span.attributes[name], value, "{name}");
    }

    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap();
    let get = GetStateRequest { store_name: "mystore".to_owned(), key: "a".to_owned(), ..GetStateRequest::default() };
    let mut request = tonic::Request::new(get);
    request.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
    let reply = client.get_state(request).await.unwrap();
    let binary = reply.metadata().get_bin("grpc-trace-bin").unwrap().to_bytes().unwrap();
    let span = collector.wait_for("named", "/dapr.proto.runtime.v1.Dapr/GetState").await;
    assert_eq!((span.trace.as_str(), span.parent.as_str(), span.kind), (TRACE, "00f067aa0ba902b7", 3));
    assert_eq!(binary[19..27].iter().map(|byte| format!("{byte:02x}")).collect::<String>(), span.id);
    assert_eq!((span.attributes["rpc.service"].as_str(), span.attributes["db.name"].as_str()), ("Dapr", "mystore"));
    assert_eq!(span.failure, None);

    let unknown = GetStateRequest { store_name: "none".to_owned(), key: "a".to_owned(), ..GetStateRequest::default() };
    let refused = client.get_state(unknown).await.unwrap_err();
    eventually("the failed span", Duration::from_secs(10), || async {
        collector.spans().into_iter().find(|span| span.failure.as_deref() == Some(refused.message()))
    })
    .await;

    let call = InvokeServiceRequest { id: id.clone(), message: Some(by_get("bygrpc")) };
    client.invoke_service(call).await.unwrap();
    let span = collector.wait_for("named", &format!("CallLocal/{id}/bygrpc")).await;
    assert_eq!(span.attributes["net.peer.name"], id);
    assert_eq!(ids(app.wait_for("/bygrpc", 1).await[0].header("traceparent")).1, span.id);
}

#[tokio::test]
async fn an_event_carries_the_trace_of_its_publisher_to_its_delivery() {
    let collector = OtlpCollector::start().await.unwrap();
    let tracing = to_collector("1", &collector);
    let app = FakeApp::start(|request, _| match request.path.as_str() {
        "/dapr/subscribe" => Answer::json(&json!([{"pubsubname": "mypub", "topic": "a", "route": "/a"}])),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let resources = ResourceDir::new().unwrap().with("pubsub.yaml", PUBSUB).unwrap();
    let id = unique("pubsub");
    let sidecar = options(&id, &tracing).app_port(app.port()).resources(resources.path()).start().await.unwrap();
    sidecar.send(Method::POST, "/v1.0/publish/mypub/a", &[("traceparent", PARENT)], "x").await.unwrap();
    let published = collector.wait_for(&id, "/v1.0/publish/mypub/a").await;
    assert_eq!(published.attributes["messaging.destination.name"], "a");
    let delivered = collector.wait_for(&id, "pubsub/a").await;
    assert_eq!((delivered.trace.as_str(), &delivered.parent, delivered.kind), (TRACE, &published.id, 3));
    let request = &app.wait_for("/a", 1).await[0];
    assert_eq!(ids(request.json()["traceparent"].as_str().unwrap()), (TRACE, published.id.as_str()));
    assert_eq!(ids(request.header("traceparent")), (TRACE, delivered.id.as_str()));

    let entries = json!([{"entryId": "1", "event": "x", "contentType": "text/plain"}]).to_string();
    let headers = [("content-type", "application/json"), ("traceparent", PARENT)];
    let reply = sidecar.send(Method::POST, "/v1.0/publish/bulk/mypub/a", &headers, entries).await.unwrap();
    assert_eq!(reply.status, 204);
    let entry = eventually("the entry's span", Duration::from_secs(10), || async {
        collector.spans().into_iter().find(|span| span.kind == 4)
    })
    .await;
    assert_eq!(entry.name, "/v1.0/publish/bulk/mypub/a");
    let request = &app.wait_for("/a", 2).await[1];
    assert_eq!(ids(request.json()["traceparent"].as_str().unwrap()).1, entry.id);
}

#[tokio::test]
async fn the_caller_decides_else_the_rate() {
    let collector = OtlpCollector::start().await.unwrap();
    let (app, id) = (app().await, unique("app"));
    let rare = to_collector("0.000000001", &collector);
    let sidecar = options(&id, &rare).app_port(app.port()).start().await.unwrap();
    let reply = invoke(&sidecar, &id, "unsampled", &[("traceparent", UNSAMPLED)]).await;
    assert!(reply.header("traceparent").ends_with("-00"));
    let (trace, span) = ids(reply.header("traceparent"));
    assert_eq!(trace, TRACE);
    assert_ne!(span, ids(UNSAMPLED).1, "a span id of its own, though nothing is recorded");
    assert_eq!(app.wait_for("/unsampled", 1).await[0].header("traceparent"), reply.header("traceparent"));
    let fresh = invoke(&sidecar, &id, "fresh", &[]).await;
    assert!(fresh.header("traceparent").ends_with("-00") && ids(fresh.header("traceparent")).0.len() == 32);
    invoke(&sidecar, &id, "sampled", &[("traceparent", PARENT), ("tracestate", "a=1")]).await;
    collector.wait_for(&id, &format!("CallLocal/{id}/sampled")).await;
    assert_eq!(collector.spans().len(), 1, "{:?}", collector.spans());
    assert_eq!(app.wait_for("/sampled", 1).await[0].header("tracestate"), "a=1");
}

#[tokio::test]
async fn without_tracing_contexts_pass_unchanged() {
    for tracing in ["{samplingRate: \"0\"}", "{}"] {
        let off = configuration(tracing);
        let (app, id) = (app().await, unique("app"));
        let sidecar = options(&id, &off).app_port(app.port()).start().await.unwrap();
        let reply = invoke(&sidecar, &id, "x", &[("traceparent", PARENT)]).await;
        assert_eq!(app.wait_for("/x", 1).await[0].header("traceparent"), PARENT, "{tracing}");
        let echoed = if tracing == "{}" { PARENT } else { "" };
        assert_eq!(reply.header("traceparent"), echoed, "{tracing}");
    }
}

#[tokio::test]
async fn baggage_is_passed_on_and_echoed_or_refused() {
    let (app, id) = (app().await, unique("app"));
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).start().await.unwrap();
    let reply = invoke(&sidecar, &id, "x", &[("baggage", "key1=value1,key2=value2")]).await;
    assert_eq!(reply.header("baggage"), "key1=value1,key2=value2");
    assert_eq!(app.wait_for("/x", 1).await[0].header("baggage"), "key1=value1,key2=value2");
    let refused = invoke(&sidecar, &id, "y", &[("baggage", "nonsense")]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().starts_with("invalid baggage header: "), "{}", refused.text());
    assert!(app.requests("/y").is_empty());

    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap();
    let request = |baggage: &str| {
        let message = Some(by_get("z"));
        let mut request = tonic::Request::new(InvokeServiceRequest { id: id.clone(), message });
        request.metadata_mut().insert("baggage", baggage.parse().unwrap());
        request
    };
    let reply = client.invoke_service(request("a=1")).await.unwrap();
    assert_eq!(reply.metadata().get("baggage").unwrap(), "a=1");
    assert_eq!(app.wait_for("/z", 1).await[0].header("baggage"), "a=1");
    let refused = client.invoke_service(request("nonsense")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_protocol_that_is_none_stops_the_start() {
    let wrong = configuration("{samplingRate: \"1\", otel: {endpointAddress: \"c:1\", protocol: tcp}}");
    let mut sidecar = options(&unique("app"), &wrong).spawn().unwrap();
    assert!(sidecar.wait_for_exit(Duration::from_secs(10)).await.is_some_and(|status| !status.success()));
}

fn by_get(method: &str) -> InvokeRequest {
    let extension = HttpExtension { verb: Verb::Get.into(), ..HttpExtension::default() };
    InvokeRequest { method: method.to_owned(), http_extension: Some(extension), ..InvokeRequest::default() }
}
