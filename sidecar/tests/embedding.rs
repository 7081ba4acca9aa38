//! A sidecar is a value: several live in one process, and stopping one leaves nothing behind.

use std::time::Duration;

use http::Method;
use pillion_contract::{ComponentError, ErrorKind, Registry};
use pillion_core::log::Logger;
use pillion_sidecar::{Command, End, Environment, Sidecar, StartError};
use pillion_testkit::{Answer, FakeApp, eventually, request, reserve};

struct Ports {
    http: u16,
    grpc: u16,
    internal: u16,
}

/// A sidecar with ports of its own whose data lies in `data`.
async fn start(app_id: &str, data: &std::path::Path, more: &[String]) -> Result<(Sidecar, Ports), StartError> {
    let mut registry = Registry::default();
    pillion_builtin::register(&mut registry);
    start_with(registry, app_id, data, more).await
}

/// A sidecar with these component types.
async fn start_with(
    registry: Registry,
    app_id: &str,
    data: &std::path::Path,
    more: &[String],
) -> Result<(Sidecar, Ports), StartError> {
    let [http, grpc, internal, metrics] = [reserve(), reserve(), reserve(), reserve()].map(Result::unwrap);
    let ports = Ports { http: http.port(), grpc: grpc.port(), internal: internal.port() };
    let mut arguments = vec![
        format!("--app-id={app_id}"),
        format!("--dapr-http-port={}", http.port()),
        format!("--dapr-grpc-port={}", grpc.port()),
        format!("--dapr-internal-grpc-port={}", internal.port()),
        format!("--metrics-port={}", metrics.port()),
        "--dapr-listen-addresses=127.0.0.1".to_owned(),
    ];
    arguments.extend_from_slice(more);
    [http, grpc, internal, metrics].into_iter().for_each(pillion_testkit::Reserved::release);
    let environment = Environment::default().with("DAPR_RUNTIME_PATH", &data.to_string_lossy());
    let Ok(Command::Run(options)) = Command::parse(&arguments, &environment) else { panic!("{arguments:?}") };
    let sidecar = Sidecar::start(*options, environment, registry, Logger::silent()).await?;
    Ok((sidecar, ports))
}

#[tokio::test]
async fn two_sidecars_of_one_process_call_each_other_and_end_without_a_trace() {
    let data = tempfile::tempdir().unwrap();
    let app = FakeApp::start(|_, _| Answer::text("pong")).await.unwrap();
    let (caller, ports) = start("caller", data.path(), &[]).await.unwrap();
    let (callee, callee_ports) = start("callee", data.path(), &[format!("--app-port={}", app.port())]).await.unwrap();
    eventually("the callee to be ready", Duration::from_secs(10), || async { callee.is_ready().then_some(()) }).await;

    let reply = request(ports.http, Method::GET, "/v1.0/invoke/callee/method/ping", &[], "").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "pong"));
    let by_header = request(ports.http, Method::POST, "/ping", &[("dapr-app-id", "callee")], "x").await.unwrap();
    assert_eq!(by_header.text(), "pong");

    callee.stop().await.unwrap();
    let gone = request(ports.http, Method::GET, "/v1.0/invoke/callee/method/ping", &[], "").await.unwrap();
    assert_eq!(gone.status.as_u16(), 500, "{}", gone.text());
    caller.stop().await.unwrap();
    for port in [ports.http, ports.grpc, callee_ports.http, callee_ports.grpc] {
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
    let announced: Vec<_> = files(data.path());
    assert!(announced.is_empty(), "{announced:?}");
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

/// Two Pillions carry calls without gRPC once the called one has offered it; nobody else gets anything on that port.
#[tokio::test]
async fn the_internal_port_takes_plain_calls_of_sidecars_only() {
    let data = tempfile::tempdir().unwrap();
    let app = FakeApp::start(|seen, _| {
        Answer::text(format!("{} {} {}", seen.method, seen.path, seen.header("dapr-caller-app-id")))
    });
    let app = app.await.unwrap();
    let (caller, ports) = start("asks", data.path(), &[]).await.unwrap();
    let (callee, callee_ports) = start("answers", data.path(), &[format!("--app-port={}", app.port())]).await.unwrap();
    eventually("the callee to be ready", Duration::from_secs(10), || async { callee.is_ready().then_some(()) }).await;

    for _ in 0..3 {
        let reply = request(ports.http, Method::PUT, "/v1.0/invoke/answers/method/a%20b/c", &[], "x").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "PUT /a%20b/c asks"));
    }
    let plain = request(callee_ports.internal, Method::PUT, "/a%20b/c", &[("pillion-direct", "1")], "x").await.unwrap();
    assert_eq!((plain.status.as_u16(), plain.text().as_str()), (200, "PUT /a%20b/c "));
    let stranger = request(callee_ports.internal, Method::GET, "/a", &[], "").await.unwrap();
    assert_eq!(stranger.status.as_u16(), 404, "{}", stranger.text());
    assert!(stranger.text().contains("calls between sidecars"), "{}", stranger.text());
    assert_eq!(app.requests("/a").len(), 0, "what has no mark does not reach the app");

    for sidecar in [caller, callee] {
        sidecar.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_port_is_told_with_its_flag() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let Err(error) = start("blocked", data.path(), &[format!("--dapr-http-port={port}")]).await else {
        panic!("started")
    };
    let text = error.to_string();
    for part in
        ["failed to start HTTP server", "could not listen on any endpoint", &port.to_string(), "--dapr-http-port"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_strict_sandbox_holds_for_every_webassembly_component() {
    let data = tempfile::tempdir().unwrap();
    let manifest = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: guest}\n\
        spec: {type: middleware.http.wasm, version: v1, ignoreErrors: true, metadata: [{name: STRICTSANDBOX, value: 'no'}]}\n";
    std::fs::write(data.path().join("guest.yaml"), manifest).unwrap();
    for (strict, expected) in [(true, "true"), (false, "no")] {
        let settings = tempfile::tempdir().unwrap();
        let file = settings.path().join("c.yaml");
        let text = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{wasm: {{strictSandbox: {strict}}}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut registry = Registry::default();
        pillion_builtin::register(&mut registry);
        let (seen, told) = std::sync::mpsc::channel();
        registry.register_middleware("middleware.http.wasm", move |context| {
            let _ = seen.send(context.metadata.get("strictSandbox").map(str::to_owned));
            async { Err(ComponentError::new(ErrorKind::InvalidRequest, "not a guest")) }
        });
        let more = [format!("--resources-path={}", data.path().display()), format!("--config={}", file.display())];
        let (sidecar, _) = start_with(registry, "guarded", data.path(), &more).await.unwrap();
        assert_eq!(told.try_recv().unwrap().as_deref(), Some(expected));
        sidecar.stop().await.unwrap();
    }
}

#[tokio::test]
async fn the_shutdown_api_only_asks() {
    let data = tempfile::tempdir().unwrap();
    let (sidecar, ports) = start("asked", data.path(), &[]).await.unwrap();
    assert_eq!(request(ports.http, Method::POST, "/v1.0/shutdown", &[], "").await.unwrap().status.as_u16(), 204);
    assert_eq!(sidecar.ended().await, End::Requested);
    assert_eq!(request(ports.http, Method::GET, "/v1.0/healthz", &[], "").await.unwrap().status.as_u16(), 204);
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn work_that_outlives_its_time_is_an_error_of_stop() {
    let data = tempfile::tempdir().unwrap();
    let app = FakeApp::start(|request, _| match request.path.as_str() {
        "/slow" => Answer::text("late").after(Duration::from_secs(30)),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let more = [format!("--app-port={}", app.port()), "--dapr-graceful-shutdown-seconds=1".to_owned()];
    let (sidecar, ports) = start("slow", data.path(), &more).await.unwrap();
    eventually("readiness", Duration::from_secs(10), || async { sidecar.is_ready().then_some(()) }).await;
    let call = tokio::spawn(request(ports.http, Method::GET, "/v1.0/invoke/slow/method/slow", &[], ""));
    app.wait_for("/slow", 1).await;
    let error = sidecar.stop().await.unwrap_err();
    assert!(error.to_string().contains("Graceful shutdown timeout exceeded"), "{error}");
    call.abort();
}
