//! Every kind of resource changes under a constant load of invocations and publishes: no call fails, no message is lost.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use pillion_testkit::{Answer, Binary, FakeApp, ResourceDir, Sidecar, SidecarOptions, eventually};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::fixture::unique;

const LIMIT: Duration = Duration::from_secs(20);

/// A client that keeps its connection, as SDKs do, and opens another one when the server says that it closes.
struct Client {
    port: u16,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Connections made, by all clients.
    connected: Arc<AtomicU64>,
}

impl Client {
    async fn connect(port: u16) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn post(&mut self, path: &str, body: &str) -> Result<StatusCode, String> {
        let open = match self.connection.take() {
            Some(mut open) => open.ready().await.is_ok().then_some(open),
            None => None,
        };
        let mut open = match open {
            Some(open) => open,
            None => {
                self.connected.fetch_add(1, Ordering::Relaxed);
                Self::connect(self.port).await
            }
        };
        let request = Request::post(path)
            .header(HOST, "127.0.0.1")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_owned()))
            .unwrap();
        let response = open.send_request(request).await.map_err(|error| error.to_string())?;
        let closes =
            response.headers().get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        let status = response.status();
        response.into_body().collect().await.map_err(|error| error.to_string())?;
        if !closes {
            self.connection = Some(open);
        }
        Ok(status)
    }
}

/// Calls that go on until stopped.
struct Load {
    stop: Arc<AtomicBool>,
    invoked: Arc<AtomicU64>,
    published: Arc<AtomicU64>,
    connected: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<(Vec<String>, Vec<Duration>)>>,
}

impl Load {
    fn start(sidecar: &Sidecar, invoke: &str, publish: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let [invoked, published, connected] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for (path, wanted, count, pause) in [
            (invoke, StatusCode::OK, &invoked, 1),
            (invoke, StatusCode::OK, &invoked, 7),
            (publish, StatusCode::NO_CONTENT, &published, 2),
        ] {
            let (stop, count, path) = (stop.clone(), count.clone(), path.to_owned());
            let mut client = Client { port: sidecar.http, connection: None, connected: connected.clone() };
            tasks.push(tokio::spawn(async move {
                let (mut failures, mut times) = (Vec::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    match client.post(&path, "{}").await {
                        Ok(status) if status == wanted => drop(count.fetch_add(1, Ordering::Relaxed)),
                        other => failures.push(format!("{path}: {other:?}")),
                    }
                    times.push(started.elapsed());
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                (failures, times)
            }));
        }
        Self { stop, invoked, published, connected, tasks }
    }

    /// Ends the load; calls made and published, all of which succeeded.
    async fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut failures, mut times) = (Vec::new(), Vec::new());
        for task in self.tasks {
            let (failed, took) = task.await.unwrap();
            failures.extend(failed);
            times.extend(took);
        }
        times.sort();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        println!("{} calls, p50 {:?}, p99 {:?}, longest {:?}", times.len(), at(0.5), at(0.99), times.last());
        assert_eq!(failures, Vec::<String>::new());
        (self.invoked.load(Ordering::Relaxed), self.published.load(Ordering::Relaxed))
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    let beside = directory.join(format!(".{name}.tmp"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, directory.join(name)).unwrap();
}

async fn metadata(sidecar: &Sidecar) -> Value {
    sidecar.get("/v1.0/metadata").await.unwrap().json()
}

fn component(name: &str, kind: &str, metadata: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec: {{type: {kind}, version: v1, metadata: [{metadata}]}}\n"
    )
}

fn subscription(name: &str, topic: &str, path: &str) -> String {
    format!(
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {{name: {name}}}\nspec: {{pubsubname: bus, topic: {topic}, routes: {{default: {path}}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_and_no_message_is_lost_while_every_kind_changes() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original restarts for some kinds, and closes a component before it starts the new one
    }
    let got = Arc::new(AtomicU64::new(0));
    let counted = got.clone();
    let app = FakeApp::unrecorded(0, move |request, _| {
        if request.path.starts_with("/got") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        Answer::text("ok")
    });
    let app = app.await.unwrap();
    let (dir, data) = (ResourceDir::new().unwrap(), ResourceDir::new().unwrap());
    let at = dir.path();
    write(at, "bus.yaml", &component("bus", "pubsub.in-memory", ""));
    write(at, "sub.yaml", &subscription("sub", "t", "/got"));
    let configuration = data.path().join("config.yaml");
    let rate = |rate: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{tracing: {{samplingRate: \"{rate}\"}}, appHttpPipeline: {{handlers: [{{name: alias, type: middleware.http.routeralias}}]}}}}\n"
        )
    };
    fs::write(&configuration, rate("0")).unwrap();
    let id = unique("load");
    let options = SidecarOptions::new(&id).app_port(app.port()).resources(at).configuration(&configuration);
    let sidecar = options.start().await.unwrap();
    let invoke = format!("/v1.0/invoke/{id}/method/m");
    let load = Load::start(&sidecar, &invoke, "/v1.0/publish/bus/t");
    let pause = || tokio::time::sleep(Duration::from_millis(150));

    for round in 0..3 {
        let value = format!("{{name: round, value: \"{round}\"}}");
        // A store, a middleware, an endpoint, a policy and an unrelated subscription come ...
        write(at, "store.yaml", &component("store", "state.in-memory", &value));
        write(at, "alias.yaml", &component("alias", "middleware.http.routeralias", "{name: routes, value: '{}'}"));
        write(
            at,
            "endpoint.yaml",
            "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: e}\nspec: {baseUrl: 'http://127.0.0.1:1'}\n",
        );
        write(
            at,
            "policy.yaml",
            &format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: r{round}}}\nspec: {{policies: {{timeouts: {{t: 5s}}, circuitBreakers: {{c: {{trip: consecutiveFailures > 5}}}}}}, targets: {{apps: {{{id}: {{timeout: t, circuitBreaker: c}}}}}}}}\n"
            ),
        );
        write(at, "other.yaml", &subscription("other", "elsewhere", "/other"));
        eventually("all are there", LIMIT, || async {
            let metadata = metadata(&sidecar).await;
            let count = |list: &str| metadata[list].as_array().map_or(0, Vec::len);
            let found = [count("components"), count("httpEndpoints"), count("resiliencies"), count("subscriptions")];
            (found == [3, 1, 1, 2]).then_some(())
        })
        .await;
        // ... the bus and the route of what is published change ...
        write(at, "bus.yaml", &component("bus", "pubsub.in-memory", &value));
        pause().await;
        write(at, "sub.yaml", &subscription("sub", "t", &format!("/got/{round}")));
        pause().await;
        // ... and all but the bus go.
        for name in ["store.yaml", "alias.yaml", "endpoint.yaml", "policy.yaml", "other.yaml"] {
            fs::remove_file(at.join(name)).unwrap();
        }
        eventually("all are gone", LIMIT, || async {
            let metadata = metadata(&sidecar).await;
            (metadata["components"].as_array()?.len() == 1 && metadata["httpEndpoints"].is_null()).then_some(())
        })
        .await;
    }
    pause().await;
    let (invoked, published) = load.end().await;
    eventually("every message", LIMIT, || async { (got.load(Ordering::Relaxed) >= published).then_some(()) }).await;
    println!("{invoked} invocations, {published} published, {} delivered", got.load(Ordering::Relaxed));
    assert_eq!(got.load(Ordering::Relaxed), published);
    sidecar.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_the_configuration_changes() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original closes its ports meanwhile
    }
    let app = FakeApp::unrecorded(0, |_, _| Answer::text("ok")).await.unwrap();
    let dir = ResourceDir::new().unwrap().with("bus.yaml", &component("bus", "pubsub.in-memory", "")).unwrap();
    let other = ResourceDir::new().unwrap();
    let configuration = other.path().join("config.yaml");
    let rate = |rate: u32| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{tracing: {{samplingRate: \"0.{rate}\"}}}}\n"
        )
    };
    fs::write(&configuration, rate(1)).unwrap();
    let id = unique("load");
    let options = SidecarOptions::new(&id).app_port(app.port()).resources(dir.path()).configuration(&configuration);
    let sidecar = options.start().await.unwrap();
    let load = Load::start(&sidecar, &format!("/v1.0/invoke/{id}/method/m"), "/v1.0/publish/bus/t");
    for round in 2..5 {
        let started = Instant::now();
        write(other.path(), "config.yaml", &rate(round));
        let done = format!("TraceIDRatioBased{{0.{round}}}");
        eventually(&done, LIMIT, || async { sidecar.log().contains(&done).then_some(()) }).await;
        println!("the Configuration is in effect after {} ms", started.elapsed().as_millis());
        eventually("the one before has ended", LIMIT, || async {
            (sidecar.log().matches("the runtime before has ended").count() == round as usize - 1).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    sidecar.hang_up();
    eventually("the one before has ended", LIMIT, || async {
        (sidecar.log().matches("the runtime before has ended").count() == 4).then_some(())
    })
    .await;
    let connected = load.connected.clone();
    load.end().await;
    assert_eq!(connected.load(Ordering::Relaxed), 3, "each client has the connection it began with");
    sidecar.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_another_sidecar_fails_while_the_configuration_changes() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original closes its ports meanwhile
    }
    let app = FakeApp::unrecorded(0, |_, _| Answer::text("ok")).await.unwrap();
    let dir = ResourceDir::new().unwrap().with("bus.yaml", &component("bus", "pubsub.in-memory", "")).unwrap();
    let (caller, callee) = (unique("load"), unique("load"));
    let callee_sidecar = SidecarOptions::new(&callee).app_port(app.port()).start().await.unwrap();
    let caller_sidecar = SidecarOptions::new(&caller).resources(dir.path()).start().await.unwrap();
    let path = format!("/v1.0/invoke/{callee}/method/m");
    assert_eq!(caller_sidecar.post(&path, "{}").await.unwrap().status, StatusCode::OK);
    let load = Load::start(&caller_sidecar, &path, "/v1.0/publish/bus/t");
    for sidecar in [&callee_sidecar, &caller_sidecar] {
        for round in 1..=3 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            sidecar.hang_up();
            eventually("the one before has ended", LIMIT, || async {
                (sidecar.log().matches("the runtime before has ended").count() == round).then_some(())
            })
            .await;
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    load.end().await;
    caller_sidecar.stop().await.unwrap();
    callee_sidecar.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_components_are_reloaded_quickly() {
    let dir = ResourceDir::new().unwrap();
    let sidecar = SidecarOptions::new(&unique("many")).resources(dir.path()).start().await.unwrap();
    for (step, count) in [("come", 100), ("change", 100), ("go", 0)] {
        let started = Instant::now();
        for index in 0..100 {
            let name = format!("c{index}.yaml");
            if count == 0 {
                fs::remove_file(dir.path().join(name)).unwrap();
            } else {
                let value = format!("{{name: step, value: {step}}}");
                write(dir.path(), &name, &component(&format!("c{index}"), "state.in-memory", &value));
            }
        }
        let written = started.elapsed();
        let lines = if step == "change" { 200 } else { 100 };
        eventually("all of them", LIMIT, || async {
            let found = metadata(&sidecar).await["components"].as_array().map_or(0, Vec::len);
            let updated = sidecar.log().matches("Component updated: ").count();
            (found == count && (count == 0 || updated >= lines)).then_some(())
        })
        .await;
        println!("100 components {step}: written in {written:?}, in effect after {:?}", started.elapsed());
    }
    let quiet = json!({"idle": idle_share(&sidecar).await});
    println!("share of a core when idle: {quiet}");
    sidecar.stop().await.unwrap();
}

/// Processor time of the sidecar over some idle seconds, as a share of one core.
async fn idle_share(sidecar: &Sidecar) -> f64 {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/schedstat", sidecar.pid())).unwrap_or_default();
        stat.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default()
    };
    let before = ticks();
    let seconds = 3.0;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    (ticks() - before) / 1e9 / seconds
}
