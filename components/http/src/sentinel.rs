//! `middleware.http.sentinel`: flow control, isolation, circuit breaking and system protection by Sentinel's rules.
//!
//! A resource is `VERB:/path`; a request that a rule stops gets 429. *Source:* components-contrib `middleware/http/sentinel` with
//! sentinel-golang 1.0.4: system rules first, then flow, isolation and breakers. Differences: the CPU usage of a system rule is
//! the share that its documentation says (the original compares percent with it), and no metric files are written (`logDir`).
//! *Invariant:* only resources with rules take memory; whatever passed completes, also when its caller goes away.

mod breaker;
mod flow;
mod machine;
mod rules;
mod window;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use pillion_contract::{
    ComponentError, HttpBody, HttpBodyError, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next,
};
use tokio::time::Instant;

use self::breaker::{Breaker, Passing};
use self::flow::{Flow, Verdict};
use self::machine::Readings;
use self::rules::{AVERAGE_TIME, BY_MEMORY, CONCURRENCY, CPU_USAGE, LOAD, RATE, Rules, SystemRule};
use self::window::{Window, float};
use crate::{form, respond};

/// Statistics of every resource and of all that comes in.
const INTERVAL_MS: u64 = 1000;
const BUCKETS: u64 = 2;
/// The shortest time when nothing completed. *Source:* Sentinel's `DefaultStatisticMaxRt`.
const MILLISECONDS_MIN_DEFAULT: u64 = 60_000;
const PAGE_BYTES: u64 = 4096;

struct Sentinel(Arc<Guard>);

struct Guard {
    clock: Clock,
    by_name: HashMap<String, usize>,
    system: Vec<SystemRule>,
    state: Mutex<State>,
    readings: Arc<Mutex<Readings>>,
}

struct State {
    resources: Vec<Resource>,
    inbound: Node,
}

/// What passed and is under way.
struct Node {
    window: Window,
    concurrency: u64,
}

/// A resource with rules, or one that a rule of another one counts.
struct Resource {
    node: Node,
    /// Statistics of rules with an interval of their own.
    windows: Vec<Window>,
    flows: Vec<BoundFlow>,
    isolation: Vec<u64>,
    breakers: Vec<Breaker>,
}

/// A flow rule and the statistics it reads.
struct BoundFlow {
    flow: Flow,
    resource: usize,
    /// In `windows` of the resource; `None` = its node's.
    window: Option<usize>,
}

/// Time since 1970 that stands still in tests with the runtime's clock.
struct Clock {
    start: Instant,
    start_since_epoch: Duration,
}

/// Makes the middleware.
///
/// # Errors
/// `InvalidRequest` that names the field whose text is not an array of rules.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let rules = Rules::read(&context)?;
    let by_machine = rules.flow.iter().any(|rule| rule.token_calculate_strategy == BY_MEMORY)
        || rules.system.iter().any(|rule| matches!(rule.metric_type, LOAD | CPU_USAGE));
    let guard = Arc::new(Guard::new(rules));
    if by_machine {
        let (readings, cancel) = (guard.readings.clone(), context.cancel.clone());
        tokio::spawn(async move { cancel.run_until_cancelled(machine::watch(readings, PAGE_BYTES)).await });
    }
    Ok(Arc::new(Sentinel(guard)))
}

#[async_trait]
impl HttpMiddleware for Sentinel {
    async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse {
        let name = format!("{}:{}", request.method(), form::decode_path(request.uri().path()));
        let Some(passed) = self.0.clone().enter(&name).await else {
            return respond::status(StatusCode::TOO_MANY_REQUESTS);
        };
        let (parts, body) = next.run(request).await.into_parts();
        if body.is_end_stream() {
            return HttpResponse::from_parts(parts, body);
        }
        HttpResponse::from_parts(parts, Guarded { body, _passed: passed }.boxed())
    }
}

impl Guard {
    fn new(rules: Rules) -> Self {
        let mut by_name = HashMap::new();
        let mut resources: Vec<Resource> = Vec::new();
        let mut index_of = |name: &str, resources: &mut Vec<Resource>| {
            *by_name.entry(name.to_owned()).or_insert_with(|| {
                resources.push(Resource::default());
                resources.len() - 1
            })
        };
        for rule in rules.flow {
            let own = index_of(&rule.resource, &mut resources);
            let flow = Flow::new(rule);
            let resource = index_of(flow.counted(), &mut resources);
            let (interval, count) = flow.statistics();
            let window = resources[resource].window_of(interval, count);
            resources[own].flows.push(BoundFlow { flow, resource, window });
        }
        for rule in rules.isolation {
            let own = index_of(&rule.resource, &mut resources);
            resources[own].isolation.push(u64::from(rule.threshold));
        }
        for rule in rules.breakers {
            let own = index_of(&rule.resource, &mut resources);
            resources[own].breakers.push(Breaker::new(rule));
        }
        Self {
            clock: Clock::new(),
            by_name,
            system: rules.system,
            state: Mutex::new(State { resources, inbound: Node::default() }),
            readings: Arc::default(),
        }
    }

    /// Asks all rules; `None` when one stops the request.
    async fn enter(self: Arc<Self>, name: &str) -> Option<Passed> {
        let index = self.by_name.get(name).copied();
        if !self.system_allows() {
            return None;
        }
        let flows = index.map_or(0, |index| self.state.lock().resources[index].flows.len());
        for flow in 0..flows {
            match self.flow(index?, flow) {
                Verdict::Pass => {}
                Verdict::Block => return None,
                Verdict::Wait(time) => tokio::time::sleep(time).await,
            }
        }
        let now_ms = self.clock.milliseconds();
        let mut state = self.state.lock();
        if let Some(index) = index {
            let resource = &mut state.resources[index];
            if !resource.has_room() || !resource.breakers_allow(now_ms) {
                return None;
            }
            resource.node.passed(now_ms);
            resource.windows.iter_mut().for_each(|window| window.at(now_ms).passed += 1);
        }
        state.inbound.passed(now_ms);
        drop(state);
        Some(Passed { guard: self, index, since_ms: now_ms })
    }

    fn flow(&self, index: usize, flow: usize) -> Verdict {
        let memory = self.readings.lock().memory_bytes;
        let (now_ms, now_nanos) = (self.clock.milliseconds(), self.clock.nanoseconds());
        let mut state = self.state.lock();
        let bound = &state.resources[index].flows[flow];
        let counted = &state.resources[bound.resource];
        let window = bound.window.map_or(&counted.node.window, |window| &counted.windows[window]).clone();
        state.resources[index].flows[flow].flow.check(&window, now_ms, now_nanos, memory)
    }

    fn system_allows(&self) -> bool {
        if self.system.is_empty() {
            return true;
        }
        let readings = *self.readings.lock();
        let now_ms = self.clock.milliseconds();
        let state = self.state.lock();
        let inbound = &state.inbound;
        self.system.iter().all(|rule| {
            let limit = rule.trigger_count;
            let is_adaptive_and_calm = || rule.strategy == 1 && inbound.is_calm(now_ms);
            let within =
                |reading: Option<f64>| reading.is_none_or(|reading| reading <= limit) || is_adaptive_and_calm();
            match rule.metric_type {
                LOAD => within(readings.load),
                CPU_USAGE => within(readings.cpu),
                AVERAGE_TIME => inbound.average_milliseconds(now_ms) < limit,
                CONCURRENCY => float(inbound.concurrency) < limit,
                RATE => inbound.window.per_second(now_ms) < limit,
                _ => true,
            }
        })
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { window: Window::new(INTERVAL_MS, BUCKETS), concurrency: 0 }
    }
}

impl Node {
    fn passed(&mut self, now_ms: u64) {
        self.concurrency += 1;
        self.window.at(now_ms).passed += 1;
    }

    fn completed(&mut self, took_ms: u64, now_ms: u64) {
        self.concurrency = self.concurrency.saturating_sub(1);
        let counts = self.window.at(now_ms);
        counts.completed += 1;
        counts.milliseconds += took_ms;
        counts.milliseconds_min = Some(counts.milliseconds_min.map_or(took_ms, |least| least.min(took_ms)));
    }

    fn average_milliseconds(&self, now_ms: u64) -> f64 {
        match self.window.sum(now_ms, |counts| counts.completed) {
            0 => 0.0,
            completed => float(self.window.sum(now_ms, |counts| counts.milliseconds)) / float(completed),
        }
    }

    /// Whether no more is under way than was finished lately.
    fn is_calm(&self, now_ms: u64) -> bool {
        let least = self.window.milliseconds_min(now_ms).unwrap_or(MILLISECONDS_MIN_DEFAULT).max(1);
        let capacity = self.window.completed_per_second_max(now_ms) * float(least) / 1000.0;
        self.concurrency <= 1 || float(self.concurrency) <= capacity
    }
}

impl Default for Resource {
    fn default() -> Self {
        let (windows, flows) = (Vec::new(), Vec::new());
        Self { node: Node::default(), windows, flows, isolation: Vec::new(), breakers: Vec::new() }
    }
}

impl Resource {
    /// Where the statistics of a rule are; adds them when no other rule has the same.
    fn window_of(&mut self, interval_ms: u64, count: u64) -> Option<usize> {
        if self.node.window.is_like(interval_ms, count) {
            return None;
        }
        let found = self.windows.iter().position(|window| window.is_like(interval_ms, count));
        Some(found.unwrap_or_else(|| {
            self.windows.push(Window::new(interval_ms, count));
            self.windows.len() - 1
        }))
    }

    fn has_room(&self) -> bool {
        self.isolation.iter().all(|threshold| self.node.concurrency < *threshold)
    }

    fn breakers_allow(&mut self, now_ms: u64) -> bool {
        let mut probed = Vec::new();
        for index in 0..self.breakers.len() {
            match self.breakers[index].try_pass(now_ms) {
                Passing::Yes => {}
                Passing::AsProbe => probed.push(index),
                Passing::No => {
                    probed.into_iter().for_each(|index| self.breakers[index].take_back());
                    return false;
                }
            }
        }
        true
    }
}

impl Clock {
    fn new() -> Self {
        let start_since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_since_epoch }
    }

    fn nanoseconds(&self) -> i128 {
        i128::try_from((self.start_since_epoch + self.start.elapsed()).as_nanos()).unwrap_or(i128::MAX)
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from((self.start_since_epoch + self.start.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request under way.
struct Passed {
    guard: Arc<Guard>,
    index: Option<usize>,
    since_ms: u64,
}

impl Drop for Passed {
    fn drop(&mut self) {
        let now_ms = self.guard.clock.milliseconds();
        let took_ms = now_ms.saturating_sub(self.since_ms);
        let mut state = self.guard.state.lock();
        state.inbound.completed(took_ms, now_ms);
        if let Some(index) = self.index {
            let resource = &mut state.resources[index];
            resource.node.completed(took_ms, now_ms);
            resource.breakers.iter_mut().for_each(|breaker| breaker.completed(took_ms, now_ms));
        }
    }
}

/// A response body; the request is under way until its end.
struct Guarded {
    body: HttpBody,
    _passed: Passed,
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
