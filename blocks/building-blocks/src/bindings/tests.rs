//! Operations, events and what becomes of them while bindings stop and are replaced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pillion_contract::{
    BindingDelivery, BindingEvent, BindingReply, BindingRequest, BindingResponse, ComponentError, ErrorKind,
    InputBinding, Metadata, OutputBinding, ReplyHandle,
};
use pillion_core::log::Logger;
use pillion_proto::common::v1::StateItem;
use pillion_proto::runtime::v1::BindingEventResponse;
use pillion_resources::types::{ComponentPolicyNames, PolicyNames, Resiliency, RetrySpec};
use pillion_runtime::app_channel::{AppChannel, AppHealth, HttpChannel, HttpChannelOptions};
use pillion_runtime::resiliency::Policies;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::Followers;
use super::*;
use crate::state::StateStores;

fn policies() -> Arc<Policies> {
    Arc::new(Policies::none(&Logger::silent()))
}

/// An output binding that keeps what it is asked and fails as often as told.
#[derive(Default)]
struct Outside {
    operations: Vec<String>,
    asked: Mutex<Vec<BindingRequest>>,
    failures: AtomicUsize,
}

impl Outside {
    fn new(failures: usize) -> Arc<Self> {
        let operations = vec!["create".to_owned(), "delete".to_owned()];
        Arc::new(Self { operations, failures: failures.into(), ..Self::default() })
    }

    fn data(&self) -> Vec<Bytes> {
        self.asked.lock().iter().map(|request| request.data.clone()).collect()
    }
}

#[async_trait]
impl OutputBinding for Outside {
    fn operations(&self) -> &[String] {
        &self.operations
    }

    async fn invoke(&self, request: &BindingRequest) -> Result<Option<BindingResponse>, ComponentError> {
        self.asked.lock().push(request.clone());
        let left = self.failures.load(Ordering::Relaxed);
        if left > 0 {
            self.failures.store(left - 1, Ordering::Relaxed);
            let told = BTreeMap::from([("code".to_owned(), "7".to_owned())]);
            return Err(ComponentError::new(ErrorKind::Unavailable, "it is down").with_metadata(told));
        }
        if request.operation == "delete" {
            return Ok(None);
        }
        Ok(Some(BindingResponse { data: request.data.clone(), ..BindingResponse::default() }))
    }
}

fn context(component_type: &str) -> pillion_contract::InitContext {
    pillion_contract::InitContext {
        name: "store".into(),
        component_type: component_type.into(),
        version: "v1".into(),
        metadata: Metadata::default(),
        app_id: "app".into(),
        namespace: "default".into(),
        data_dir: std::path::PathBuf::new(),
        log: Logger::silent(),
        cancel: tokio_util::sync::CancellationToken::new(),
    }
}

fn request(operation: &str) -> BindingRequest {
    BindingRequest { operation: operation.into(), data: "x".into(), ..BindingRequest::default() }
}

#[tokio::test]
async fn operations_are_checked_and_told() {
    let outputs = OutputBindings::new(policies());
    let outside = Outside::new(0);
    assert!(outputs.add("out", outside.clone()).is_none());
    assert_eq!(outputs.invoke("out", request("create")).await.unwrap().unwrap().data, "x");
    assert!(outputs.invoke("out", request("delete")).await.unwrap().is_none());
    for (name, operation, text) in [
        ("out", "", "operation field is missing from request"),
        ("out", "list", "binding out does not support operation list. supported operations:create delete"),
        ("none", "create", "couldn't find output binding none"),
    ] {
        let failure = outputs.invoke(name, request(operation)).await.unwrap_err();
        assert_eq!(failure.error.message, format!("error invoking output binding {name}: {text}"));
        assert_eq!(failure.error.spec.code, "ERR_INVOKE_OUTPUT_BINDING");
    }
    outside.failures.store(1, Ordering::Relaxed);
    let failure = outputs.invoke("out", request("create")).await.unwrap_err();
    assert_eq!(failure.error.message, "error invoking output binding out: it is down");
    assert_eq!(failure.metadata["code"], "7");
    let retired = outputs.add("out", Outside::new(0)).unwrap();
    retired.unused().await;
    assert!(outputs.remove("out").is_some() && outputs.remove("out").is_none());
}

/// A resource that names this retry policy for the component in both directions.
fn retries(name: &str, retry: RetrySpec) -> Arc<Policies> {
    let names = PolicyNames { retry: "r".into(), ..PolicyNames::default() };
    let resource = Resiliency {
        retries: BTreeMap::from([("r".to_owned(), retry)]),
        components: BTreeMap::from([(
            name.to_owned(),
            ComponentPolicyNames { inbound: names.clone(), outbound: names },
        )]),
        ..Resiliency::default()
    };
    Arc::new(Policies::compile(&[resource], &Logger::silent()))
}

fn two_retries() -> RetrySpec {
    RetrySpec { policy: "constant".into(), duration: "1ms".into(), max_retries: Some(2), ..RetrySpec::default() }
}

#[tokio::test]
async fn operations_run_under_the_outbound_policy() {
    let outputs = OutputBindings::new(retries("out", two_retries()));
    let outside = Outside::new(2);
    outputs.add("out", outside.clone());
    outputs.invoke("out", request("create")).await.unwrap();
    assert_eq!(outside.data().len(), 3);
    outside.failures.store(5, Ordering::Relaxed);
    outputs.invoke("out", request("create")).await.unwrap_err();
    assert_eq!(outside.data().len(), 6);
}

/// A source whose events the test gives.
#[derive(Default)]
struct Source(Mutex<Vec<mpsc::Sender<BindingDelivery>>>);

#[async_trait]
impl InputBinding for Source {
    async fn read(&self) -> Result<mpsc::Receiver<BindingDelivery>, ComponentError> {
        let (sender, receiver) = mpsc::channel(8);
        self.0.lock().push(sender);
        Ok(receiver)
    }
}

impl Source {
    fn reads(&self) -> usize {
        self.0.lock().len()
    }

    fn is_open(&self) -> bool {
        self.0.lock().last().is_some_and(|sender| !sender.is_closed())
    }

    async fn event(&self, data: &'static str) -> oneshot::Receiver<BindingReply> {
        let (reply, answer) = ReplyHandle::new();
        let sender = self.0.lock().last().unwrap().clone();
        let event = BindingEvent { data: data.into(), ..BindingEvent::default() };
        let _ = sender.send(BindingDelivery { event, reply }).await; // a closed source gives no answer
        answer
    }
}

/// An app that answers with the data, or holds events whose data is `slow` until the test lets them go.
#[derive(Default)]
struct App {
    held: Mutex<Vec<oneshot::Sender<()>>>,
    routes: Mutex<Vec<String>>,
}

#[async_trait]
impl EventSink for App {
    async fn deliver(&self, name: &str, route: &str, event: BindingEvent) -> BindingReply {
        self.routes.lock().push(format!("{name} {route}"));
        if event.data == "slow" {
            let (release, held) = oneshot::channel();
            self.held.lock().push(release);
            let _ = held.await; // released either way
        }
        if event.data == "bad" { Err("no".to_owned()) } else { Ok(event.data) }
    }
}

impl App {
    async fn is_holding(&self) {
        while self.held.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    fn release(&self) {
        self.held.lock().drain(..).for_each(|held| {
            let _ = held.send(()); // the test may have given the event up
        });
    }
}

fn settings(route: &str) -> InputSettings {
    InputSettings { route: route.to_owned(), is_wanted: true }
}

/// An app nobody needs to ask.
fn unasked() -> Arc<AppBindings> {
    Arc::new(AppBindings::new(channel(1), Duration::from_secs(1)))
}

fn channel(port: u16) -> AppChannel {
    let options = HttpChannelOptions::on_port(port);
    AppChannel::Http(Arc::new(HttpChannel::new(&options, AppHealth::new(true)).unwrap()))
}

async fn started() -> (Arc<InputBindings>, Arc<Source>, Arc<App>) {
    let inputs = Arc::new(InputBindings::new(&Logger::silent()));
    let (source, app) = (Arc::new(Source::default()), Arc::new(App::default()));
    inputs.add("in", source.clone(), settings("/events")).await;
    assert_eq!(source.reads(), 0, "nothing is read before the app is there");
    inputs.start(app.clone(), unasked()).await;
    (inputs, source, app)
}

#[tokio::test(start_paused = true)]
async fn events_are_answered_with_what_the_app_says() {
    let (inputs, source, app) = started().await;
    assert_eq!(source.event("a").await.await.unwrap(), Ok("a".into()));
    assert_eq!(source.event("bad").await.await.unwrap(), Err("no".to_owned()));
    assert_eq!(*app.routes.lock(), ["in /events", "in /events"]);
    let slow = source.event("slow").await;
    assert_eq!(source.event("b").await.await.unwrap(), Ok("b".into()), "side by side");
    app.release();
    assert_eq!(slow.await.unwrap(), Ok("slow".into()));
    let begin = Instant::now();
    inputs.stop(Duration::from_secs(5)).await;
    assert!(!source.is_open() && begin.elapsed() < Duration::from_secs(1));
    inputs.start(app, unasked()).await;
    assert_eq!((source.reads(), source.event("c").await.await.unwrap()), (2, Ok("c".into())));
}

#[tokio::test(start_paused = true)]
async fn while_it_stops_events_are_refused_and_the_last_answer_gets_there() {
    let (inputs, source, app) = started().await;
    let slow = source.event("slow").await;
    app.is_holding().await;
    let stopping = tokio::spawn({
        let inputs = inputs.clone();
        async move { inputs.stop(Duration::from_secs(60)).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(source.event("a").await.await.unwrap(), Err("input binding is closed".to_owned()));
    app.release();
    assert_eq!(slow.await.unwrap(), Ok("slow".into()));
    assert_eq!(source.event("a").await.await.unwrap(), Err("input binding is closed".to_owned()));
    assert!(source.is_open());
    stopping.await.unwrap();
    assert!(!source.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_stop_has_a_limit() {
    let (inputs, source, app) = started().await;
    let slow = source.event("slow").await;
    app.is_holding().await;
    inputs.stop(Duration::from_secs(2)).await;
    assert!(slow.await.is_err() && !source.is_open(), "the event is given back unanswered");
}

#[tokio::test(start_paused = true)]
async fn closed_for_good_its_sources_end_after_the_last_answer() {
    let (inputs, source, app) = started().await;
    let slow = source.event("slow").await;
    app.is_holding().await;
    inputs.close();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(source.event("a").await.await.unwrap(), Err("input binding is closed".to_owned()));
    app.release();
    assert_eq!(slow.await.unwrap(), Ok("slow".into()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!source.is_open());
    inputs.stop(Duration::from_secs(1)).await;
    inputs.start(app, unasked()).await;
    assert_eq!(source.reads(), 1, "nothing is opened any more");
    inputs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_replaced_binding_is_closed_after_its_last_answer() {
    let (inputs, source, app) = started().await;
    let slow = source.event("slow").await;
    app.is_holding().await;
    let other = Arc::new(Source::default());
    let retired = inputs.add("in", other.clone(), settings("/other")).await.unwrap();
    assert_eq!(other.event("a").await.await.unwrap(), Ok("a".into()), "the new one works at once");
    assert_eq!(source.event("a").await.await.unwrap(), Err("input binding is closed".to_owned()));
    assert!(tokio::time::timeout(Duration::from_secs(9), retired.unused()).await.is_err());
    app.release();
    assert_eq!(slow.await.unwrap(), Ok("slow".into()));
    retired.unused().await;
    assert!(!source.is_open());
    let removed = inputs.remove("in").await.unwrap();
    removed.unused().await;
    assert!(!other.is_open() && inputs.remove("in").await.is_none());
}

#[test]
fn fields_say_where_events_go_and_whether_to_ask() {
    for (field, route, is_wanted) in [
        (vec![], "in", false),
        (vec![("route", ""), ("direction", "output")], "in", false),
        (vec![("route", "/a?b=1"), ("direction", "output, Input")], "/a?b=1", true),
    ] {
        let settings = InputSettings::of("in", &Metadata::new(field));
        assert_eq!((settings.route.as_str(), settings.is_wanted), (route, is_wanted));
    }
    assert!(has_direction(None, "input") && has_direction(Some("INPUT"), "input"));
    assert!(!has_direction(Some("input"), "output") && !has_direction(Some(""), "input"));
}

/// A server that answers each connection's first request with the next of these statuses.
async fn web(statuses: &'static [u16]) -> (u16, Arc<Mutex<Vec<String>>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            seen.lock().push(String::from_utf8_lossy(&request[..length]).into_owned());
            let answer = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, asked)
}

fn sink(port: u16, policies: Arc<Policies>) -> AppSink {
    let outputs = Arc::new(OutputBindings::new(policies.clone()));
    let states = Arc::new(StateStores::new("app", None, policies.clone()));
    AppSink::new(AppSinkParts {
        channel: channel(port),
        policies,
        outputs,
        states,
        tracer: Default::default(),
        metrics: pillion_telemetry::metrics::Metrics::off(),
        log: Logger::silent(),
    })
}

#[tokio::test]
async fn an_http_app_is_asked_and_gets_events() {
    let (port, asked) = web(&[405, 204, 404]).await;
    let app = AppBindings::new(channel(port), Duration::from_secs(5));
    assert_eq!(app.wants("in", "/a/b").await, Ok(true));
    assert_eq!(app.wants("in", "in").await, Ok(true));
    assert_eq!(app.wants("in", "in").await, Ok(false));
    assert!(asked.lock()[0].starts_with("OPTIONS /a/b HTTP/1.1\r\n"), "{asked:?}");
    let (port, asked) = web(&[200]).await;
    let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned()), ("bad name".to_owned(), "v".to_owned())]);
    let event = BindingEvent { data: "{}".into(), metadata, ..BindingEvent::default() };
    assert_eq!(sink(port, policies()).deliver("in", "/a?b=1", event).await, Ok("ok".into()));
    let asked = asked.lock()[0].clone();
    assert!(asked.starts_with("POST /a?b=1 HTTP/1.1\r\n") && asked.ends_with("\r\n\r\n{}"), "{asked}");
    assert!(asked.contains("\r\nk: v\r\n") && asked.contains("\r\ncontent-type: application/json\r\n"), "{asked}");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = AppBindings::new(channel(silent.local_addr().unwrap().port()), Duration::from_millis(50));
    let problem = app.wants("in", "in").await.unwrap_err();
    assert!(problem.contains("no answer within 50ms; see --app-binding-options-timeout"), "{problem}");
}

#[tokio::test]
async fn only_200_ends_retries_and_every_2xx_is_well() {
    let event = || BindingEvent { data: "{}".into(), ..BindingEvent::default() };
    for (statuses, reply) in [
        ([500, 503, 200].as_slice(), Ok("ok".into())),
        ([204, 202, 201].as_slice(), Ok("ok".into())),
        (
            [500, 500, 404].as_slice(),
            Err("fails to send binding event to http app channel, status code: 404 body: ok".to_owned()),
        ),
    ] {
        let (port, asked) = web(statuses).await;
        assert_eq!(sink(port, retries("in", two_retries())).deliver("in", "in", event()).await, reply);
        assert_eq!(asked.lock().len(), 3);
    }
    let problem = sink(1, policies()).deliver("in", "in", event()).await.unwrap_err();
    assert!(problem.starts_with("error invoking app: "), "{problem}");
}

#[tokio::test]
async fn an_answer_saves_states_and_asks_other_bindings() {
    let policies = policies();
    let states = Arc::new(StateStores::new("app", None, policies.clone()));
    let store = pillion_builtin::state_in_memory::create(context("state.in-memory")).await.unwrap();
    let outputs = Arc::new(OutputBindings::new(policies));
    let followers = Followers { outputs: outputs.clone(), states: states.clone(), log: Logger::silent() };
    states.add("store", store, &Metadata::default(), &[]).unwrap();
    let (first, second, third) = (Outside::new(0), Outside::new(1), Outside::new(0));
    for (name, outside) in [("a", &first), ("b", &second), ("c", &third)] {
        outputs.add(name, outside.clone());
    }
    let item = StateItem { key: "k".into(), value: "v".into(), ..StateItem::default() };
    let answer = BindingEventResponse {
        store_name: "store".into(),
        states: vec![item],
        to: vec!["a".into(), "b".into(), "c".into()],
        data: "{\"b\": 1, \"a\": 2}".into(),
        ..BindingEventResponse::default()
    };
    followers.follow(answer.clone()).await;
    let found = states.get("store", "k", Default::default(), BTreeMap::new()).await.unwrap().unwrap();
    assert_eq!(found.data, "v");
    let data = Bytes::from("{\"a\":2,\"b\":1}");
    assert_eq!((first.data(), second.data(), third.data()), (vec![data.clone()], vec![data.clone()], vec![]));
    assert_eq!(first.asked.lock()[0].operation, "create");
    second.failures.store(1, Ordering::Relaxed);
    followers.follow(BindingEventResponse { concurrency: 1, data: "no JSON".into(), ..answer }).await;
    assert_eq!(third.data(), [Bytes::from("null")], "side by side nobody waits for another");
}
