//! The load: publishes, calls and state, each judged at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use pillion_testkit::request;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::world::{Member, World, locked};

/// Pause of each worker between two calls.
const PAUSE: Duration = Duration::from_millis(25);
/// The app refuses nothing for so long that a call could take this long.
const CALL_LIMIT: Duration = Duration::from_secs(20);
const KEYS: u64 = 50;

/// What the load has done, shared with the oracle.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) acknowledged: std::sync::Mutex<Vec<u64>>,
    pub(super) violations: std::sync::Mutex<Vec<String>>,
    pub(super) publishes: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) states: AtomicU64,
    /// Failures while what they needed was away.
    pub(super) excused: AtomicU64,
    next: AtomicU64,
    paused: AtomicBool,
}

impl Tally {
    pub(super) fn violation(&self, text: String) {
        println!("VIOLATION {text}");
        locked(&self.violations).push(text);
    }
}

/// The workers. Each takes its lock for one call, so that a pause begins when all locks can be had.
pub(super) struct Load {
    tally: Arc<Tally>,
    gates: Vec<Arc<Mutex<()>>>,
    workers: JoinSet<()>,
}

impl Load {
    pub(super) fn start(world: &Arc<World>, tally: &Arc<Tally>) -> Self {
        tally.paused.store(true, Ordering::Relaxed);
        let (mut gates, mut workers) = (Vec::new(), JoinSet::new());
        for worker in 0..6 {
            let gate = Arc::new(Mutex::new(()));
            gates.push(gate.clone());
            let (world, tally) = (world.clone(), tally.clone());
            workers.spawn(async move {
                let mut stored = vec![(0, 0); KEYS as usize];
                for turn in 0u64.. {
                    tokio::time::sleep(PAUSE).await;
                    if tally.paused.load(Ordering::Relaxed) {
                        continue;
                    }
                    let _running = gate.lock().await;
                    match worker {
                        0 | 1 => publish(&world, &tally, turn).await,
                        2..5 => invoke(&world, &tally, worker, turn).await,
                        _ => state(&world, &tally, turn, &mut stored).await,
                    }
                }
            });
        }
        Self { tally: tally.clone(), gates, workers }
    }

    pub(super) fn go_on(&self) {
        self.tally.paused.store(false, Ordering::Relaxed);
    }

    /// No more calls; waits for those under way.
    pub(super) async fn pause(&self) {
        self.tally.paused.store(true, Ordering::Relaxed);
        for gate in &self.gates {
            drop(gate.lock().await);
        }
    }

    pub(super) fn stop(mut self) {
        self.workers.abort_all();
    }
}

/// The answer's status and text, or why there was none.
async fn call(member: &Member, method: Method, path: &str, body: String) -> Result<(u16, String), String> {
    let headers = [("content-type", "application/json")];
    let call = request(member.port(), method, path, &headers, body);
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(Ok(reply)) => Ok((reply.status.as_u16(), reply.text())),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err(format!("no answer within {CALL_LIMIT:?}")),
    }
}

/// A failed call is a violation, unless one it needs was away meanwhile.
fn judge(tally: &Tally, begin: Instant, needed: &[&Member], what: &str, outcome: &Result<(u16, String), String>) {
    if needed.iter().any(|member| member.away.excuse(begin)) {
        tally.excused.fetch_add(1, Ordering::Relaxed);
    } else {
        let took = begin.elapsed().as_millis();
        tally.violation(format!("{what} failed after {took} ms though nothing it needs was away: {outcome:?}"));
    }
}

async fn publish(world: &World, tally: &Tally, turn: u64) {
    let number = tally.next.fetch_add(1, Ordering::Relaxed);
    let member = &world.members[(turn % 3) as usize];
    let begin = Instant::now();
    tally.publishes.fetch_add(1, Ordering::Relaxed);
    let body = format!("{{\"number\":{number}}}");
    let outcome = call(member, Method::POST, "/v1.0/publish/bus/orders", body).await;
    match &outcome {
        Ok((204, _)) => locked(&tally.acknowledged).push(number),
        _ => judge(tally, begin, &[member], &format!("publish through {}", member.name), &outcome),
    }
}

async fn invoke(world: &World, tally: &Tally, worker: u64, turn: u64) {
    let from = ((worker + turn) % 3) as usize;
    let to = (from + 1 + (turn / 3 % 2) as usize) % 3;
    let (caller, callee) = (&world.members[from], &world.members[to]);
    let begin = Instant::now();
    tally.calls.fetch_add(1, Ordering::Relaxed);
    let body = format!("{worker}/{turn}");
    let path = format!("/v1.0/invoke/{}/method/echo", callee.app_id);
    let outcome = call(caller, Method::POST, &path, body.clone()).await;
    match &outcome {
        Ok((200, text)) if *text == body => {}
        _ => judge(tally, begin, &[caller, callee], &format!("call {} to {}", caller.name, callee.name), &outcome),
    }
}

/// Saves and reads back; `stored` holds for each key what is certain and what was tried last.
async fn state(world: &World, tally: &Tally, turn: u64, stored: &mut [(u64, u64)]) {
    let member = &world.members[0];
    let key = turn % KEYS;
    let slot = &mut stored[key as usize];
    let begin = Instant::now();
    tally.states.fetch_add(1, Ordering::Relaxed);
    if (turn / KEYS).is_multiple_of(2) {
        slot.1 = turn + 1;
        let body = format!("[{{\"key\":\"k{key}\",\"value\":{}}}]", turn + 1);
        let outcome = call(member, Method::POST, "/v1.0/state/store", body).await;
        match &outcome {
            Ok((204, _)) => slot.0 = turn + 1,
            _ => judge(tally, begin, &[member], "saving state", &outcome),
        }
        return;
    }
    let outcome = call(member, Method::GET, &format!("/v1.0/state/store/k{key}"), String::new()).await;
    match &outcome {
        Ok((200 | 204, text)) => {
            let value = text.parse().unwrap_or(0);
            if value != slot.0 && value != slot.1 {
                tally.violation(format!("state k{key} is {value}; acknowledged was {}, tried last {}", slot.0, slot.1));
            }
        }
        _ => judge(tally, begin, &[member], "reading state", &outcome),
    }
}
