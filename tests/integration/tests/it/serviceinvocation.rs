//! Calls from one application to another, to itself, and to the outside.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use pillion_testkit::{Answer, Binary, FakeApp, Recorded, ResourceDir, Sidecar, SidecarOptions, chunked};
use serde_json::json;

use crate::fixture::unique;

/// Two sidecars; only the callee has an application.
struct Pair {
    app: FakeApp,
    caller: Sidecar,
    callee: Sidecar,
}

impl Pair {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(flags: &[&str]) -> Self {
        let app = FakeApp::start(|request, _| respond(request)).await.unwrap();
        let callee = SidecarOptions::new(&unique("callee")).app_port(app.port());
        let callee = flags.iter().fold(callee, |options, flag| options.flag(flag)).start().await.unwrap();
        let caller = SidecarOptions::new(&unique("caller"));
        let caller = flags.iter().fold(caller, |options, flag| options.flag(flag)).start().await.unwrap();
        Self { app, caller, callee }
    }

    fn path(&self, method: &str) -> String {
        format!("/v1.0/invoke/{}/method/{method}", self.callee.app_id())
    }
}

fn respond(request: &Recorded) -> Answer {
    match request.path.as_str() {
        "/echo" => Answer::text(request.body.clone()).with_header("content-type", request.header("content-type")),
        "/teapot" => Answer::text("short and stout").with_status(StatusCode::IM_A_TEAPOT).with_header("x-kind", "pot"),
        "/die" => Answer::hang_up(),
        "/redirect" => Answer::status(StatusCode::FOUND).with_header("location", "/elsewhere"),
        _ => Answer::text("here"),
    }
}

#[tokio::test]
async fn every_form_of_address_reaches_the_application() {
    let pair = Pair::start().await;
    let id = pair.callee.app_id().to_owned();
    let named = pair.caller.get(&pair.path("named/by/path?a=1&b=2")).await.unwrap();
    assert_eq!((named.status.as_u16(), named.text()), (200, "here".to_owned()));
    let seen = &pair.app.requests("/named/by/path")[0];
    assert_eq!((seen.method.as_str(), seen.query.as_str()), ("GET", "a=1&b=2"));

    let headed = pair.caller.send(Method::GET, "/named/by/header", &[("dapr-app-id", &id)], "").await.unwrap();
    assert_eq!(headed.status, 200);
    assert!(pair.app.requests("/named/by/header")[0].headers.get("dapr-app-id").is_none());
}

#[tokio::test]
async fn basic_authentication_names_the_application() {
    let app = FakeApp::start(|_, _| Answer::text("here")).await.unwrap();
    // base64 of "dapr-app-id:basic-auth-callee"
    let sidecar = SidecarOptions::new("basic-auth-callee").app_port(app.port()).start().await.unwrap();
    let header = [("authorization", "Basic ZGFwci1hcHAtaWQ6YmFzaWMtYXV0aC1jYWxsZWU=")];
    assert_eq!(sidecar.send(Method::GET, "/by/authorization", &header, "").await.unwrap().text(), "here");
    assert_eq!(app.requests("/by/authorization").len(), 1);
}

#[tokio::test]
async fn every_verb_and_the_body_arrive() {
    let pair = Pair::start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let headers = [("content-type", "application/x-mine")];
        let reply = pair.caller.send(method.clone(), &pair.path("echo"), &headers, "payload").await.unwrap();
        assert_eq!(
            (reply.text().as_str(), reply.header("content-type")),
            ("payload", "application/x-mine"),
            "{method}"
        );
        assert_eq!(pair.app.requests("/echo").last().unwrap().method, method);
    }
    let head = pair.caller.send(Method::HEAD, &pair.path("x"), &[], "").await.unwrap();
    assert_eq!((head.status.as_u16(), head.text()), (200, String::new()));
}

#[tokio::test]
async fn the_answer_of_the_application_is_the_answer() {
    let pair = Pair::start().await;
    let teapot = pair.caller.get(&pair.path("teapot")).await.unwrap();
    assert_eq!(
        (teapot.status.as_u16(), teapot.text().as_str(), teapot.header("x-kind")),
        (418, "short and stout", "pot")
    );
    let redirect = pair.caller.get(&pair.path("redirect")).await.unwrap();
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (302, "/elsewhere"));
    assert!(pair.app.requests("/elsewhere").is_empty());
}

#[tokio::test]
async fn the_application_learns_who_calls() {
    let pair = Pair::start().await;
    let forged =
        [("dapr-caller-app-id", "somebody-else"), ("x-mine", "kept"), ("connection", "x-hop"), ("x-hop", "dropped")];
    pair.caller.send(Method::GET, &pair.path("who"), &forged, "").await.unwrap();
    let seen = &pair.app.requests("/who")[0];
    let callers: Vec<_> =
        seen.headers.get_all("dapr-caller-app-id").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(callers.contains(&pair.caller.app_id()), "{callers:?}");
    if Binary::find().unwrap().is_ours() {
        // The original lets the forged value through beside its own, in any order.
        assert_eq!(callers.len(), 1, "{callers:?}");
    }
    assert_eq!(seen.header("dapr-callee-app-id"), pair.callee.app_id());
    assert_eq!(seen.header("x-mine"), "kept");
    assert!(seen.headers.get("x-hop").is_none());
}

#[tokio::test]
async fn a_chunked_body_and_a_large_one_arrive_whole() {
    let pair = Pair::start().await;
    let chunks: Vec<_> = (0..64_u8).map(|n| Bytes::from(vec![n; 8192])).collect();
    let reply = chunked(pair.caller.http, Method::POST, &pair.path("echo"), &[], chunks.clone()).await.unwrap();
    assert!(reply.body == chunks.concat(), "{} bytes, status {}", reply.body.len(), reply.status);
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    let reply = pair.caller.send(Method::POST, &pair.path("echo"), &[], large.clone()).await.unwrap();
    assert!(reply.body == large, "{} bytes, status {}", reply.body.len(), reply.status);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let pair = Pair::with(&["--max-body-size=64Ki"]).await;
    let reply = pair.caller.send(Method::POST, &pair.path("echo"), &[], vec![b'x'; 100 * 1024]).await;
    // The sidecar may answer or break the connection while the body still comes; it may not let the body through.
    assert!(reply.as_ref().map_or(true, |reply| reply.status.as_u16() >= 400), "{reply:?}");
    assert!(pair.app.requests("/echo").iter().all(|request| request.body.len() <= 64 * 1024));
    let small = pair.caller.send(Method::POST, &pair.path("echo"), &[], "small").await.unwrap();
    assert_eq!(small.text(), "small");
}

#[tokio::test]
async fn encoded_characters_of_a_path_arrive() {
    let pair = Pair::start().await;
    assert_eq!(pair.caller.get(&pair.path("a%20b/c")).await.unwrap().status, 200);
    assert_eq!(pair.app.requests("/a%20b/c").len(), 1);
    let climbing = pair.caller.get(&pair.path("x/%2e%2e/y")).await.unwrap();
    assert_eq!(climbing.status, 200);
    assert_eq!(pair.app.requests("/y").len(), 1);
    for bad in ["a%23b", "a%00b", "a%0ab"] {
        let reply = pair.caller.get(&pair.path(bad)).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_DIRECT_INVOKE".to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn an_application_that_hangs_up_is_an_error() {
    let pair = Pair::start().await;
    let reply = pair.caller.send(Method::POST, &pair.path("die"), &[], "x").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_DIRECT_INVOKE".to_owned()));
    assert_eq!(pair.caller.get(&pair.path("after")).await.unwrap().text(), "here");
}

#[tokio::test]
async fn nobody_of_that_name_is_an_error() {
    let sidecar = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let reply = sidecar.get(&format!("/v1.0/invoke/{}/method/x", unique("nobody"))).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_DIRECT_INVOKE".to_owned()));
    let unnamed = sidecar.get("/no/such/route").await.unwrap();
    assert_eq!((unnamed.status.as_u16(), unnamed.error_code()), (404, "ERR_DIRECT_INVOKE".to_owned()));
}

#[tokio::test]
async fn a_callee_that_was_killed_can_come_back() {
    let mut pair = Pair::start().await;
    assert_eq!(pair.caller.get(&pair.path("x")).await.unwrap().text(), "here");
    let id = pair.callee.app_id().to_owned();
    pair.callee.kill();
    let _again = SidecarOptions::new(&id).app_port(pair.app.port()).start().await.unwrap();
    let path = pair.path("x");
    pillion_testkit::eventually("the callee to be reached again", Duration::from_secs(20), || async {
        (pair.caller.get(&path).await.unwrap().status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn addresses_outside_are_called() {
    let outside = FakeApp::start(|request, _| Answer::json(&json!({"h": request.header("x-set")}))).await.unwrap();
    let endpoint = format!(
        "
apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {{name: partner}}
spec:
  baseUrl: http://127.0.0.1:{}
  headers:
  - {{name: x-set, value: by-endpoint}}
",
        outside.port()
    );
    let dir = ResourceDir::new().unwrap().with("endpoint.yaml", &endpoint).unwrap();
    let sidecar = SidecarOptions::new(&unique("caller")).resources(dir.path()).start().await.unwrap();
    let named = sidecar.get("/v1.0/invoke/partner/method/a/b?q=1").await.unwrap();
    assert_eq!(named.json(), json!({"h": "by-endpoint"}));
    assert_eq!(outside.requests("/a/b")[0].query, "q=1");
    let full = format!("/v1.0/invoke/http://127.0.0.1:{}/method/direct", outside.port());
    assert_eq!(sidecar.get(&full).await.unwrap().status, 200);
    assert_eq!(outside.requests("/direct").len(), 1);
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert_eq!(metadata["httpEndpoints"], json!([{"name": "partner"}]));
}

/// Connections that other sidecars made to the Unix socket of a process.
fn shortcuts_to(process: u32) -> usize {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let connected = sockets.lines().filter_map(|line| {
        // Num RefCount Protocol Flags Type St Inode Path; state 3 is connected.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let named = fields.get(7)?.starts_with("@pillion/internal/") && fields[5] == "03";
        named.then(|| fields[6].to_owned())
    });
    connected.filter(|inode| inodes.contains(inode)).count()
}

#[tokio::test]
async fn sidecars_of_one_machine_take_the_shorter_way() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    let pair = Pair::start().await;
    for body in ["first, over gRPC", "second", "third", "fourth", "fifth", "sixth", "seventh"] {
        let answer = pair.caller.post(&pair.path("echo"), body).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, body));
    }
    // Each event loop of the caller has its own; which loop a call is on depends on its connection.
    let loops = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let connections = shortcuts_to(pair.callee.pid());
    assert!((1..=loops).contains(&connections), "{connections} connections for calls one after another, {loops} loops");
    let requests = pair.app.requests("/echo");
    let seen: Vec<_> = requests.iter().map(|request| request.header("x-forwarded-for")).collect();
    assert!(seen.iter().all(|address| *address == seen[0]), "the app sees no difference: {seen:?}");
}
