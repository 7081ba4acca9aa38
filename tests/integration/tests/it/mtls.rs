//! Mutual TLS between sidecars, with identities of our sentry. Ours only: the role sentry of the binary is needed.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pillion_proto::components::v1::{PingRequest, ReadRequest};
use pillion_testkit::{Answer, Binary, FakeApp, Sidecar, SidecarOptions, chunked, eventually, reserve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codegen::tokio_stream::{self, StreamExt as _};

use crate::fixture::unique;
use crate::grpc_proxy::{app as grpc_app, client as grpc_client, to};
use crate::sentry::{Sentry, foreign_authority, write_authority};

/// More than any step of a test takes; what is waited for comes much sooner.
const LIMIT: Duration = Duration::from_secs(30);

async fn sentry() -> Sentry {
    Sentry::start(tempfile::tempdir().unwrap(), &[]).await
}

/// A sidecar that asks `sentry` for its identity and follows its file of roots.
fn secured(app_id: &str, sentry: &Sentry) -> SidecarOptions {
    SidecarOptions::new(app_id)
        .flag("--enable-mtls")
        .flag(&format!("--sentry-address=127.0.0.1:{}", sentry.port))
        .environment("DAPR_TRUST_ANCHORS_FILE", sentry.roots().to_str().unwrap())
}

/// The same with the roots in a variable, as a sidecar of Dapr takes them.
fn secured_by_variable(app_id: &str, sentry: &Sentry) -> SidecarOptions {
    SidecarOptions::new(app_id)
        .flag("--enable-mtls")
        .flag(&format!("--sentry-address=127.0.0.1:{}", sentry.port))
        .environment("DAPR_TRUST_ANCHORS", &std::fs::read_to_string(sentry.roots()).unwrap())
}

async fn echo() -> FakeApp {
    FakeApp::start(|request, _| Answer::text(request.body.clone())).await.unwrap()
}

fn path(callee: &str) -> String {
    format!("/v1.0/invoke/{callee}/method/echo")
}

async fn post(caller: &Sidecar, callee: &str, body: &str) -> (u16, String) {
    let reply = caller.post(&path(callee), body).await.unwrap();
    (reply.status.as_u16(), reply.text())
}

#[tokio::test]
async fn http_calls_go_over_mutual_tls() {
    let (sentry, app) = (sentry().await, echo().await);
    let (calling, called) = (unique("caller"), unique("callee"));
    let callee = secured(&called, &sentry).app_port(app.port()).start().await.unwrap();
    let caller = secured_by_variable(&calling, &sentry).start().await.unwrap();
    // The first call goes over gRPC; the next ones over the plain connections it was offered.
    for body in ["one", "two", "three", ""] {
        assert_eq!(post(&caller, &called, body).await, (200, body.to_owned()));
    }
    let large = "x".repeat(300_000);
    assert_eq!(post(&caller, &called, &large).await, (200, large.clone()));
    let parts: Vec<Bytes> = (0..50).map(|_| Bytes::from(vec![b'y'; 10_000])).collect();
    let reply = chunked(caller.http, Method::POST, &path(&called), &[], parts).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 500_000));
    let log = callee.log();
    assert!(log.contains(&format!("spiffe://public/ns/default/{called}")), "{log}");
    assert!(!log.contains("mTLS is disabled"), "{log}");
}

#[tokio::test]
async fn grpc_calls_go_over_mutual_tls() {
    let (sentry, (port, _app)) = (sentry().await, grpc_app().await);
    let (calling, called) = (unique("caller"), unique("callee"));
    let callee = secured(&called, &sentry).app_port(port).app_protocol("grpc").start().await.unwrap();
    let caller = secured(&calling, &sentry).start().await.unwrap();
    let mut client = grpc_client(&caller).await;
    client.ping(to(&called, PingRequest::default())).await.unwrap();
    let messages: Vec<_> = (0..20)
        .map(|number: u8| ReadRequest { response_data: vec![number; 5000].into(), ..ReadRequest::default() })
        .collect();
    let mut answers = client.read(to(&called, tokio_stream::iter(messages))).await.unwrap().into_inner();
    for number in 0..20 {
        assert_eq!(answers.next().await.unwrap().unwrap().data, vec![number; 5000]);
    }
    assert!(answers.next().await.is_none());
    drop(callee);
}

#[tokio::test]
async fn plain_clients_are_refused() {
    let (sentry, app) = (sentry().await, echo().await);
    let called = unique("callee");
    let callee = secured(&called, &sentry).app_port(app.port()).start().await.unwrap();
    // By hand: the beginning of HTTP/2, and a call as plain Pillions make them.
    for first in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /echo HTTP/1.1\r\nhost: x\r\npillion-direct: 1\r\n\r\n"] {
        let mut stream = TcpStream::connect(("127.0.0.1", callee.internal)).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it is closed");
        assert!(answer.len() < 16 && !answer.starts_with(b"HTTP"), "only an alert of TLS: {answer:?}");
    }
    let plain = SidecarOptions::new(&unique("plain")).start().await.unwrap();
    let (status, text) = post(&plain, &called, "x").await;
    assert_eq!(status, 500, "{text}");
    assert!(app.requests("/echo").is_empty());
    // And the other way round.
    let open = unique("open");
    let _open = SidecarOptions::new(&open).app_port(app.port()).start().await.unwrap();
    let (status, text) = post(&callee, &open, "x").await;
    assert!(status == 500 && text.contains("TLS"), "{status} {text}");
    assert!(app.requests("/echo").is_empty());
}

#[tokio::test]
async fn strangers_and_false_names_are_refused() {
    let (ours, theirs, app) = (sentry().await, sentry().await, echo().await);
    let (called, renamed) = (unique("callee"), unique("renamed"));
    let _callee = secured(&called, &ours).app_port(app.port()).start().await.unwrap();
    let stranger = secured(&unique("stranger"), &theirs).start().await.unwrap();
    let (status, text) = post(&stranger, &called, "x").await;
    assert!(status == 500 && text.contains("not trusted"), "{status} {text}");
    // A sidecar under a name that its certificate does not have.
    let _renamed = secured(&renamed, &ours)
        .environment("SENTRY_LOCAL_IDENTITY", "somebody-else")
        .app_port(app.port())
        .start()
        .await
        .unwrap();
    let caller = secured(&unique("caller"), &ours).start().await.unwrap();
    let (status, text) = post(&caller, &renamed, "x").await;
    assert!(status == 500 && text.contains("somebody-else") && text.contains(&renamed), "{status} {text}");
    assert!(app.requests("/echo").is_empty());
    assert_eq!(post(&caller, &called, "x").await.0, 200);
}

#[tokio::test]
async fn a_sidecar_waits_for_the_sentry_it_was_told_of() {
    let sentry = sentry().await;
    let roots = tempfile::tempdir().unwrap();
    let file = roots.path().join("ca.crt");
    std::fs::copy(sentry.roots(), &file).unwrap();
    let port = sentry.port;
    let address = format!("127.0.0.1:{port}");
    let directory = sentry.stop_for_restart().await;
    let options = SidecarOptions::new(&unique("waits"))
        .flag("--enable-mtls")
        .flag(&format!("--sentry-address={address}"))
        .environment("DAPR_TRUST_ANCHORS_FILE", file.to_str().unwrap());
    let mut sidecar = options.spawn().unwrap();
    sidecar.wait_for_log("Waiting for an identity from sentry").await;
    let log = sidecar.log();
    assert!(log.contains(&address) && log.contains("--sentry-address"), "{log}");
    assert!(TcpStream::connect(("127.0.0.1", sidecar.http)).await.is_err(), "nothing is served before");

    // One that expects another control plane goes on waiting when sentry is there.
    let mut other = options.clone().flag("--control-plane-trust-domain=elsewhere").spawn().unwrap();
    let _sentry = Sentry::start(directory, &[&format!("-port={port}")]).await;
    sidecar.wait_until_ready().await;
    other.wait_for_log("expected spiffe://elsewhere/ns/default/dapr-sentry").await;
    assert!(other.log().contains("--control-plane-trust-domain"));
    other.interrupt();
    assert_eq!(other.wait_for_exit(LIMIT).await.and_then(|status| status.code()), Some(0));
}

#[tokio::test]
async fn what_cannot_be_used_ends_the_start_with_a_reason() {
    let sentry = sentry().await;
    let address = format!("--sentry-address=127.0.0.1:{}", sentry.port);
    let roots = std::fs::read_to_string(sentry.roots()).unwrap();
    let base = || SidecarOptions::new(&unique("bad")).flag("--enable-mtls");
    for (options, reason) in [
        (base().flag(&address), "trust anchors are required"),
        (base().environment("DAPR_TRUST_ANCHORS", &roots), "--sentry-address"),
        (base().flag(&address).environment("DAPR_TRUST_ANCHORS", "junk"), "failed to decode trust anchors"),
        (
            base()
                .flag(&address)
                .environment("DAPR_TRUST_ANCHORS", &roots)
                .environment("DAPR_SENTRY_TOKEN_FILE", "/none"),
            "failed to read token at path '/none'",
        ),
    ] {
        let mut sidecar = options.spawn().unwrap();
        let status = sidecar.wait_for_exit(LIMIT).await.and_then(|status| status.code());
        assert_eq!(status, Some(1), "{reason}");
        let log = sidecar.log();
        assert!(log.contains("Fatal error from runtime: ") && log.contains(reason), "{log}");
    }
}

/// Calls without a pause until told to stop; counts calls, and keeps what went wrong.
async fn load(caller: &Sidecar, callee: &str, stop: &AtomicBool, calls: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        calls.fetch_add(1, Ordering::Relaxed);
        let answer = post(caller, callee, "x").await;
        if answer.0 != 200 {
            failures.push(format!("{answer:?}"));
        }
    }
    failures
}

/// Waits until a sidecar has told `times` times that it trusts so many roots.
async fn trusts(sidecar: &Sidecar, roots: usize, times: usize) {
    let line = format!("now trusting {roots} root(s)");
    let wanted = format!("{line:?} {times} times in the log of {}", sidecar.app_id());
    eventually(&wanted, LIMIT, || async { (sidecar.log().matches(&line).count() >= times).then_some(()) }).await;
}

#[tokio::test]
async fn roots_are_exchanged_twice_under_load_without_a_failed_call() {
    let authorities = [foreign_authority(), foreign_authority(), foreign_authority()];
    let directory = tempfile::tempdir().unwrap();
    let (root, issuer, key) = &authorities[0];
    write_authority(directory.path(), root, issuer, key);
    let settings = directory.path().join("sentry.yaml");
    let spec = "{mtls: {workloadCertTTL: 4s, allowedClockSkew: 1s}}";
    std::fs::write(&settings, format!("kind: Configuration\nmetadata: {{name: c}}\nspec: {spec}\n")).unwrap();
    let sentry = Sentry::start(directory, &[&format!("-config={}", settings.display())]).await;
    let (app, called) = (echo().await, unique("callee"));
    let callee = secured(&called, &sentry).app_port(app.port()).start().await.unwrap();
    let caller = secured(&unique("caller"), &sentry).start().await.unwrap();
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let work = async {
        // A sidecar that comes now makes new handshakes with the material of this moment.
        let newcomer = async || {
            let sidecar = secured(&unique("newcomer"), &sentry).start().await.unwrap();
            for body in ["a", "b"] {
                assert_eq!(post(&sidecar, &called, body).await, (200, body.to_owned()));
            }
        };
        newcomer().await;
        let roots = sentry.roots();
        let place = roots.parent().unwrap();
        for (exchange, pair) in authorities.windows(2).enumerate() {
            let [(old_root, old_issuer, old_key), (new_root, new_issuer, new_key)] = pair else { unreachable!() };
            let both = format!("{old_root}{new_root}");
            write_authority(place, &both, old_issuer, old_key);
            for sidecar in [&callee, &caller] {
                trusts(sidecar, 2, exchange + 1).await;
            }
            newcomer().await;
            write_authority(place, &both, new_issuer, new_key);
            newcomer().await;
            tokio::time::sleep(Duration::from_secs(5)).await; // everybody has renewed
            newcomer().await;
            write_authority(place, new_root, new_issuer, new_key);
            for sidecar in [&callee, &caller] {
                trusts(sidecar, 1, exchange + 1).await;
            }
            newcomer().await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (failures, ()) = tokio::join!(load(&caller, &called, &stop, &calls), work);
    assert_eq!(failures, Vec::<String>::new());
    assert!(calls.load(Ordering::Relaxed) > 50);
    eventually("a renewal is in the log", LIMIT, || async {
        callee.log().contains("Successfully renewed workload identity").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_command_line_starts_a_sentry_for_its_sidecars() {
    let home = tempfile::tempdir().unwrap();
    let ports = [(); 3].map(|()| reserve().unwrap());
    let [calling, called, app_port] = [0, 1, 2].map(|index: usize| ports[index].port());
    ports.into_iter().for_each(pillion_testkit::Reserved::release);
    let (caller, callee) = (unique("caller"), unique("callee"));
    // One application answers for both: it only has to be there.
    let app = FakeApp::listen(app_port, |request, _| Answer::text(request.body.clone())).await.unwrap();
    let file = home.path().join("dapr.yaml");
    let text = format!(
        "version: 1\napps:\n  - {{appDirPath: ., appID: {callee}, appPort: {app_port}, daprHTTPPort: {called}, command: [sleep, '60']}}\n  - \
         {{appDirPath: ., appID: {caller}, daprHTTPPort: {calling}, command: [sleep, '60']}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut run = Binary::find().unwrap().role_command("run");
    run.args(["--mtls", "--runtime-path", home.path().to_str().unwrap(), "-f", file.to_str().unwrap()]);
    run.env("DAPR_TRUST_ANCHORS", "of somebody else").env_remove("NAMESPACE");
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let target = path(&callee);
    let answer = eventually("the call arrives", LIMIT, || async {
        let reply = pillion_testkit::request(calling, Method::POST, &target, &[], "hello").await.ok()?;
        (reply.status == 200).then(|| reply.text())
    })
    .await;
    assert_eq!(answer, "hello");
    let roots = home.path().join(".dapr/data/sentry/ca.crt");
    assert!(roots.is_file());
    // Only those who have an identity of this authority get through.
    let plain = SidecarOptions::new(&unique("plain")).start().await.unwrap();
    assert_eq!(post(&plain, &callee, "x").await.0, 500);
    assert_eq!(app.requests("/echo").iter().filter(|request| request.body == "x").count(), 0);
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    tokio::task::spawn_blocking(move || run.wait().unwrap()).await.unwrap();
}
