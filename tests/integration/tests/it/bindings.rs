//! Bindings: operations of the app, events for it, and what becomes of events while the app or the sidecar stops.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use pillion_proto::runtime::v1::BindingEventResponse;
use pillion_proto::runtime::v1::InvokeBindingRequest;
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_testkit::{
    Answer, Binary, FakeApp, GrpcApp, PluggableKind, PluggableServer, ResourceDir, Sidecar, SidecarOptions, eventually,
};
use serde_json::json;

use crate::fixture::{STATE, unique};

const LIMIT: Duration = Duration::from_secs(20);

/// A component; `metadata` are its fields as name and value.
fn component(name: &str, kind: &str, metadata: &[(&str, &str)]) -> String {
    let fields: Vec<String> =
        metadata.iter().map(|(name, value)| format!("  - {{name: {name}, value: {value:?}}}\n")).collect();
    let (fields, heading) = (fields.concat(), if metadata.is_empty() { "" } else { "  metadata:\n" });
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: {kind}\n  version: v1\n{heading}{fields}"
    )
}

fn clock(name: &str, every: &str, more: &[(&str, &str)]) -> String {
    component(name, "bindings.cron", &[&[("schedule", every)], more].concat())
}

fn resources(texts: &[String]) -> ResourceDir {
    ResourceDir::new().unwrap().with("all.yaml", &texts.join("---\n")).unwrap()
}

async fn invoke(sidecar: &Sidecar, name: &str, body: &str) -> pillion_testkit::Reply {
    sidecar.post(&format!("/v1.0/bindings/{name}"), body).await.unwrap()
}

#[tokio::test]
async fn files_are_made_read_listed_and_removed() {
    let files = tempfile::tempdir().unwrap();
    let root = files.path().display().to_string();
    let dir = resources(&[component("files", "bindings.localstorage", &[("rootPath", &root)])]);
    let sidecar = SidecarOptions::new(&unique("binding")).resources(dir.path()).start().await.unwrap();
    let ask = |operation: &str, name: &str, data: &str| {
        json!({"operation": operation, "data": data, "metadata": {"fileName": name}}).to_string()
    };
    let made = invoke(&sidecar, "files", &ask("create", "a/b.txt", "hello you")).await;
    assert_eq!((made.status, made.json()), (StatusCode::OK, json!({"fileName": "a/b.txt"})));
    assert_eq!(made.header("content-type"), "application/json");
    assert_eq!(fs::read_to_string(files.path().join("a/b.txt")).unwrap(), "hello you");
    assert_eq!(invoke(&sidecar, "files", &ask("get", "a/b.txt", "")).await.text(), "hello you");
    let listed = invoke(&sidecar, "files", &ask("list", "", "")).await.json();
    assert!(listed[0].as_str().unwrap().ends_with("/a/b.txt"), "{listed}");
    let removed = invoke(&sidecar, "files", &ask("delete", "a/b.txt", "")).await;
    assert_eq!((removed.status, removed.text()), (StatusCode::NO_CONTENT, String::new()));
    let outside = invoke(&sidecar, "files", &ask("get", "../../etc/passwd", "")).await;
    assert!(outside.text().contains("file not found: "), "{}", outside.text());
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert_eq!(metadata["components"][0]["capabilities"], json!(["OUTPUT_BINDING"]));
}

#[tokio::test]
async fn what_cannot_be_asked_is_told() {
    let files = tempfile::tempdir().unwrap();
    let root = files.path().display().to_string();
    let dir = resources(&[component("files", "bindings.localstorage", &[("rootPath", &root)])]);
    let sidecar = SidecarOptions::new(&unique("binding")).resources(dir.path()).start().await.unwrap();
    for (name, body, status, code, message) in [
        ("files", "{", 400, "ERR_MALFORMED_REQUEST", "failed deserializing HTTP body: unexpected EOF"),
        ("files", "", 400, "ERR_MALFORMED_REQUEST", "failed deserializing HTTP body: EOF"),
        (
            "files",
            "{}",
            500,
            "ERR_INVOKE_OUTPUT_BINDING",
            "error invoking output binding files: operation field is missing from request",
        ),
        (
            "files",
            r#"{"operation":"move"}"#,
            500,
            "ERR_INVOKE_OUTPUT_BINDING",
            "error invoking output binding files: binding files does not support operation move. supported operations:create get list delete",
        ),
        (
            "none",
            r#"{"operation":"create"}"#,
            500,
            "ERR_INVOKE_OUTPUT_BINDING",
            "error invoking output binding none: couldn't find output binding none",
        ),
    ] {
        let reply = invoke(&sidecar, name, body).await;
        assert_eq!((reply.status.as_u16(), reply.error_code()), (status, code.to_owned()), "{body}");
        assert_eq!(reply.json()["message"], message, "{body}");
    }
}

#[tokio::test]
async fn an_http_server_is_asked_and_its_status_told() {
    let server = FakeApp::start(|request, _| match request.path.as_str() {
        "/base/lost" => Answer::text("nothing here").with_status(StatusCode::NOT_FOUND),
        _ => Answer::json(&json!({"took": request.json()})).with_header("x-mine", "yes"),
    });
    let server = server.await.unwrap();
    let url = format!("http://127.0.0.1:{}/base", server.port());
    let dir = resources(&[component("web", "bindings.http", &[("url", &url)])]);
    let sidecar = SidecarOptions::new(&unique("binding")).resources(dir.path()).start().await.unwrap();
    let body = r#"{"operation":"create","data":{"n": 1.5, "m": [ ]},"metadata":{"path":"orders","X-Key":"k"}}"#;
    let baggage = [("baggage", "a=1,b=2")];
    let reply = sidecar.send(Method::PUT, "/v1.0/bindings/web", &baggage, body).await.unwrap();
    assert_eq!(reply.text(), r#"{"took":{"m":[],"n":1.5}}"#);
    assert_eq!((reply.header("metadata.statuscode"), reply.header("metadata.x-mine")), ("200", "yes"));
    let asked = server.wait_for("/base/orders", 1).await.remove(0);
    assert_eq!((asked.method.as_str(), asked.header("x-key"), asked.header("baggage")), ("POST", "k", "a=1,b=2"));
    assert!(!asked.header("traceparent").is_empty());
    let lost = invoke(&sidecar, "web", r#"{"operation":"get","metadata":{"path":"lost"}}"#).await;
    assert_eq!((lost.status.as_u16(), lost.header("metadata.statuscode")), (500, "404"));
    assert_eq!(lost.json()["message"], "error invoking output binding web: received status code 404");
    let kept = r#"{"operation":"get","metadata":{"path":"lost","errorIfNot2XX":"false"}}"#;
    assert_eq!(invoke(&sidecar, "web", kept).await.text(), "nothing here");

    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", sidecar.grpc)).await.unwrap();
    let ask = |path: &str| InvokeBindingRequest {
        name: "web".into(),
        operation: "post".into(),
        data: "[1]".into(),
        metadata: [("path".to_owned(), path.to_owned())].into(),
    };
    let answer = client.invoke_binding(ask("orders")).await.unwrap();
    assert_eq!(answer.metadata().get("metadata.statuscode").unwrap(), "200");
    assert_eq!(answer.get_ref().data, r#"{"took":[1]}"#);
    assert_eq!(answer.get_ref().metadata["Content-Type"], "application/json");
    let status = client.invoke_binding(ask("lost")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal);
    assert_eq!(status.metadata().get("metadata.statuscode").unwrap(), "404");
}

#[tokio::test]
async fn only_bindings_the_app_takes_give_events() {
    let app = FakeApp::start(|request, _| match (request.method.as_str(), request.path.as_str()) {
        ("OPTIONS", "/asked" | "/own/route") => Answer::status(StatusCode::NO_CONTENT),
        ("OPTIONS", _) => Answer::status(StatusCode::NOT_FOUND),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let dir = resources(&[
        clock("asked", "@every 100ms", &[]),
        clock("refused", "@every 100ms", &[]),
        clock("routed", "@every 100ms", &[("route", "/own/route")]),
        clock("unasked", "* * * * * *", &[("direction", "input")]),
    ]);
    let sidecar =
        SidecarOptions::new(&unique("binding")).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    sidecar.wait_for_log("app has not subscribed to binding refused.").await;
    for path in ["/asked", "/own/route", "/unasked"] {
        let posts = eventually(path, LIMIT, || async {
            let all = app.requests(path);
            let posts: Vec<_> = all.into_iter().filter(|request| request.method == Method::POST).collect();
            (posts.len() >= 2).then_some(posts)
        })
        .await;
        assert!(posts[0].body.is_empty() && posts[0].header("content-type") == "application/json");
        assert!(posts[0].header("readtimeutc").ends_with(" +0000 UTC"), "{:?}", posts[0].headers);
    }
    assert!(app.requests("/unasked").iter().all(|request| request.method == Method::POST));
    assert!(app.requests("/refused").iter().all(|request| request.method == Method::OPTIONS));
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert_eq!(metadata["components"][0]["capabilities"], json!(["INPUT_BINDING"]));
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn events_stop_while_the_app_is_unwell() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = is_well.clone();
    let app = FakeApp::start(move |request, _| match request.path.as_str() {
        "/healthz" if !well.load(Ordering::Relaxed) => Answer::status(StatusCode::SERVICE_UNAVAILABLE),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let dir = resources(&[clock("tick", "@every 100ms", &[("direction", "input")])]);
    let options = SidecarOptions::new(&unique("binding")).app_port(app.port()).resources(dir.path());
    let options = options.flag("--enable-app-health-check").flag("--app-health-probe-interval=1");
    let sidecar = options.flag("--app-health-threshold=1").start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(app.requests("/tick").is_empty());
    for round in 0..2 {
        is_well.store(true, Ordering::Relaxed);
        let before = app.requests("/tick").len();
        app.wait_for("/tick", before + 3).await;
        is_well.store(false, Ordering::Relaxed);
        eventually("silence", LIMIT, || async {
            let before = app.requests("/tick").len();
            tokio::time::sleep(Duration::from_millis(700)).await;
            (app.requests("/tick").len() == before).then_some(())
        })
        .await;
        println!("round {round}: {} events", app.requests("/tick").len());
    }
    sidecar.stop().await.unwrap();
}

struct Plugged {
    component: PluggableServer,
    dir: ResourceDir,
    sidecar: Sidecar,
    _sockets: tempfile::TempDir,
}

async fn plugged(kinds: &[PluggableKind], app: &GrpcApp, extra: &[String], flags: &[&str]) -> Plugged {
    let sockets = tempfile::tempdir().unwrap();
    let component = PluggableServer::start(sockets.path(), "mine", kinds).unwrap();
    let mut texts = extra.to_vec();
    texts.push(component_of_socket());
    let dir = resources(&texts);
    let mut options = SidecarOptions::new(&unique("binding")).app_port(app.port()).app_protocol("grpc");
    options = options.resources(dir.path());
    options = options.environment("DAPR_COMPONENTS_SOCKETS_FOLDER", &sockets.path().display().to_string());
    for flag in flags {
        options = options.flag(flag);
    }
    let sidecar = options.start().await.unwrap();
    Plugged { component, dir, sidecar, _sockets: sockets }
}

fn component_of_socket() -> String {
    component("plug", "bindings.mine", &[])
}

/// The answer to the event of this id.
async fn reply(component: &PluggableServer, id: &str) -> Result<String, String> {
    let reply =
        eventually(id, LIMIT, || async { component.replies().into_iter().find(|reply| reply.message_id == id) });
    let reply = reply.await;
    match reply.response_error {
        None => Ok(String::from_utf8_lossy(&reply.response_data).into_owned()),
        Some(error) => Err(error.message),
    }
}

#[tokio::test]
async fn an_answer_of_a_grpc_app_reaches_the_component_states_and_bindings() {
    let item = pillion_proto::common::v1::StateItem { key: "k".into(), value: "7".into(), ..Default::default() };
    let answer = BindingEventResponse {
        store_name: "mystore".into(),
        states: vec![item],
        to: vec!["files".into()],
        data: r#""written""#.into(),
        ..Default::default()
    };
    let app = GrpcApp::with_bindings(&["plug"], answer, Duration::ZERO).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let root = files.path().display().to_string();
    let extra = [STATE.to_owned(), component("files", "bindings.localstorage", &[("rootPath", &root)])];
    let kinds = [PluggableKind::InputBinding, PluggableKind::OutputBinding];
    let plugged = plugged(&kinds, &app, &extra, &[]).await;
    eventually("the stream", LIMIT, || async { (plugged.component.sources() == 1).then_some(()) }).await;
    plugged.component.event("one", "data").await;
    assert_eq!(reply(&plugged.component, "one").await, Ok(r#""written""#.to_owned()));
    let event = app.binding_events().remove(0);
    assert_eq!((event.name.as_str(), event.data.as_ref()), ("plug", b"data".as_slice()));
    assert_eq!(event.metadata["kind"], "test");
    if Binary::find().unwrap().is_ours() {
        // The original takes no notice of the states.
        assert_eq!(plugged.sidecar.get("/v1.0/state/mystore/k").await.unwrap().text(), "7");
    }
    let file = fs::read_dir(files.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "written");
    let echoed = invoke(&plugged.sidecar, "plug", r#"{"operation":"create","data":[1],"metadata":{"a":"b"}}"#).await;
    assert_eq!((echoed.text().as_str(), echoed.header("metadata.a")), ("[1]", "b"));
    let metadata = plugged.sidecar.get("/v1.0/metadata").await.unwrap().json();
    let components = metadata["components"].as_array().unwrap();
    let plug = components.iter().find(|component| component["name"] == "plug").unwrap();
    assert_eq!(plug["capabilities"], json!(["INPUT_BINDING", "OUTPUT_BINDING"]));
    plugged.sidecar.stop().await.unwrap();
}

fn slow_answer() -> BindingEventResponse {
    BindingEventResponse { data: "late".into(), ..Default::default() }
}

#[tokio::test]
async fn an_event_the_app_works_on_is_answered_before_the_end() {
    let app = GrpcApp::with_bindings(&["plug"], slow_answer(), Duration::from_secs(2)).await.unwrap();
    let plugged = plugged(&[PluggableKind::InputBinding], &app, &[], &[]).await;
    eventually("the stream", LIMIT, || async { (plugged.component.sources() == 1).then_some(()) }).await;
    plugged.component.event("first", "x").await;
    eventually("the event", LIMIT, || async { app.binding_events().first().map(drop) }).await;
    plugged.sidecar.interrupt();
    plugged.sidecar.wait_for_log("Dapr is shutting down").await;
    plugged.component.event("second", "x").await;
    assert_eq!(reply(&plugged.component, "second").await, Err("input binding is closed".to_owned()));
    assert_eq!(reply(&plugged.component, "first").await, Ok("late".to_owned()));
    let mut sidecar = plugged.sidecar;
    assert_eq!(sidecar.wait_for_exit(LIMIT).await.unwrap().code(), Some(0), "{}", sidecar.log());
}

#[tokio::test]
async fn a_blocked_shutdown_takes_no_events_and_serves_calls() {
    let app = GrpcApp::with_bindings(&["plug"], slow_answer(), Duration::ZERO).await.unwrap();
    let plugged = plugged(&[PluggableKind::InputBinding], &app, &[], &["--dapr-block-shutdown-duration=4s"]).await;
    eventually("the stream", LIMIT, || async { (plugged.component.sources() == 1).then_some(()) }).await;
    plugged.component.event("first", "x").await;
    assert_eq!(reply(&plugged.component, "first").await, Ok("late".to_owned()));
    let begin = Instant::now();
    plugged.sidecar.interrupt();
    plugged.sidecar.wait_for_log("Blocking graceful shutdown for 4s").await;
    eventually("the end of the stream", LIMIT, || async { (plugged.component.sources() == 0).then_some(()) }).await;
    let path = format!("/v1.0/invoke/{}/method/echo", plugged.sidecar.app_id());
    assert_eq!(plugged.sidecar.post(&path, "{}").await.unwrap().status, StatusCode::OK);
    let mut sidecar = plugged.sidecar;
    assert_eq!(sidecar.wait_for_exit(LIMIT).await.unwrap().code(), Some(0), "{}", sidecar.log());
    assert!(begin.elapsed() >= Duration::from_secs(4));
    assert_eq!(app.binding_events().len(), 1);
}

#[tokio::test]
async fn a_removed_component_closes_after_its_last_answer() {
    let app = GrpcApp::with_bindings(&["plug"], slow_answer(), Duration::from_secs(2)).await.unwrap();
    let plugged = plugged(&[PluggableKind::InputBinding], &app, &[], &[]).await;
    eventually("the stream", LIMIT, || async { (plugged.component.sources() == 1).then_some(()) }).await;
    plugged.component.event("first", "x").await;
    eventually("the event", LIMIT, || async { app.binding_events().first().map(drop) }).await;
    fs::write(plugged.dir.path().join("all.yaml"), STATE).unwrap();
    let mut number = 0;
    let refused = eventually("a refusal", LIMIT, || {
        number += 1;
        let (component, id) = (&plugged.component, format!("probe-{number}"));
        async move {
            component.event(&id, "x").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            component.replies().into_iter().find_map(|reply| reply.response_error)
        }
    });
    assert_eq!(refused.await.message, "input binding is closed");
    assert_eq!(reply(&plugged.component, "first").await, Ok("late".to_owned()));
    eventually("the end of the stream", LIMIT, || async { (plugged.component.sources() == 0).then_some(()) }).await;
    fs::write(plugged.dir.path().join("all.yaml"), component_of_socket()).unwrap();
    eventually("the stream", LIMIT, || async { (plugged.component.sources() == 1).then_some(()) }).await;
    plugged.component.event("third", "x").await;
    assert_eq!(reply(&plugged.component, "third").await, Ok("late".to_owned()));
    plugged.sidecar.stop().await.unwrap();
}

fn write(directory: &Path, text: &str) {
    fs::write(directory.join("all.yaml"), text).unwrap();
}

#[tokio::test]
async fn bindings_come_change_and_go_on_disk() {
    let app = FakeApp::start(|_, _| Answer::default()).await.unwrap();
    let dir = ResourceDir::new().unwrap();
    let sidecar =
        SidecarOptions::new(&unique("binding")).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    write(dir.path(), &clock("tick", "@every 100ms", &[("route", "/one")]));
    app.wait_for("/one", 3).await;
    write(dir.path(), &clock("tick", "@every 100ms", &[("route", "/two")]));
    app.wait_for("/two", 3).await;
    let before = app.requests("/one").len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(app.requests("/one").len(), before, "the old one has ended");
    write(dir.path(), "");
    eventually("silence", LIMIT, || async {
        let before = app.requests("/two").len();
        tokio::time::sleep(Duration::from_millis(700)).await;
        (app.requests("/two").len() == before).then_some(())
    })
    .await;
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn events_and_operations_are_counted() {
    let app = FakeApp::start(|request, before| match request.path.as_str() {
        "/tick" if before % 2 == 1 => Answer::status(StatusCode::INTERNAL_SERVER_ERROR),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let url = format!("http://127.0.0.1:{}", app.port());
    let dir = resources(&[
        clock("tick", "@every 100ms", &[("direction", "input")]),
        component("web", "bindings.http", &[("url", &url)]),
    ]);
    let sidecar =
        SidecarOptions::new(&unique("binding")).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    invoke(&sidecar, "web", r#"{"operation":"get"}"#).await;
    invoke(&sidecar, "web", r#"{"operation":"steal"}"#).await;
    app.wait_for("/tick", 4).await;
    let wanted = [
        r#"dapr_component_input_binding_count{app_id="ID",component="tick",namespace="",success="true"}"#,
        r#"dapr_component_input_binding_count{app_id="ID",component="tick",namespace="",success="false"}"#,
        r#"dapr_component_output_binding_count{app_id="ID",component="web",namespace="",operation="get",success="true"} 1"#,
        r#"dapr_component_output_binding_count{app_id="ID",component="web",namespace="",operation="steal",success="false"} 1"#,
    ];
    eventually("the metrics", LIMIT, || async {
        let text = pillion_testkit::request(sidecar.metrics, Method::GET, "/metrics", &[], "").await.unwrap().text();
        let missing = wanted.iter().find(|line| !text.contains(&line.replace("ID", sidecar.app_id())));
        missing.is_none().then_some(())
    })
    .await;
    sidecar.stop().await.unwrap();
}
