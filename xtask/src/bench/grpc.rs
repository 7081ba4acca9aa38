//! The load driver for unary gRPC calls: one thread and a clock, a few HTTP/2 connections, a message built once.
//!
//! The paces are those of [`driver`](super::driver), with as many calls at a time as that has connections, so that the rows
//! of both can be compared. *Invariant:* every call that became due is counted once, as an answer or as an error.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use hdrhistogram::Histogram;
use http::Request;
use pillion_http2::client::SendRequest;
use rustix::time::{TimerfdClockId, TimerfdFlags};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;

use super::driver::{DRAIN, LONGEST, Outcome, Pace, arm, nanoseconds};
use super::socket::unpaced;

/// Connections the calls are spread over; clients of gRPC use one, several processes of an app use several.
const CONNECTIONS_MAX: usize = 4;
const WINDOW: u32 = 1 << 20;
/// Moments that have come and are not seen yet.
const MOMENTS_MAX: usize = 4096;

/// The call that is made again and again.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) address: SocketAddr,
    /// `/package.Service/Method`.
    pub(crate) path: &'static str,
    pub(crate) metadata: Vec<(&'static str, String)>,
    /// The encoded message.
    pub(crate) message: Vec<u8>,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Calls at a time.
    pub(crate) concurrency: usize,
    pub(crate) pace: Pace,
    /// Length of the measured part.
    pub(crate) duration: Duration,
    /// Sent before the measured part, answers not recorded.
    pub(crate) warm_up: Duration,
}

struct Run {
    backlog: VecDeque<Instant>,
    in_flight: usize,
    ended: bool,
    measure_from: Instant,
    measured_answers: u64,
    last_answer: Instant,
    outcome: Outcome,
}

impl Run {
    fn note_load(&mut self) {
        self.outcome.in_flight_max = self.outcome.in_flight_max.max(self.in_flight + self.backlog.len());
    }

    fn answered(&mut self, due: Instant, result: Result<(), String>) {
        let now = Instant::now();
        self.in_flight -= 1;
        if result.is_ok() {
            self.outcome.answers += 1;
        }
        if due < self.measure_from {
            return;
        }
        match result {
            Ok(()) => {
                self.measured_answers += 1;
                self.last_answer = now;
                self.outcome.latencies.saturating_record(nanoseconds(now - due));
            }
            Err(why) => {
                self.outcome.errors += 1;
                self.outcome.first_error.get_or_insert(why);
            }
        }
    }
}

/// Carries out `plan` on the calling thread.
///
/// # Errors
/// When a connection cannot be opened at the start, or the operating system refuses a timer. Errors of single calls are
/// counted in the outcome.
pub(crate) fn drive(call: &Call, plan: Plan) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the driver")?;
    LocalSet::new().block_on(&runtime, run(call, plan))
}

async fn run(call: &Call, plan: Plan) -> Result<Outcome> {
    let mut connections = Vec::new();
    for _ in 0..plan.concurrency.min(CONNECTIONS_MAX) {
        connections.push(open(call.address).await.with_context(|| format!("connecting to {}", call.address))?);
    }
    let start = Instant::now();
    let end = start + plan.warm_up + plan.duration;
    let state = Rc::new(RefCell::new(Run {
        backlog: VecDeque::new(),
        in_flight: 0,
        ended: false,
        measure_from: start + plan.warm_up,
        measured_answers: 0,
        last_answer: start,
        outcome: Outcome {
            latencies: Histogram::new_with_bounds(1, nanoseconds(LONGEST), 3)
                .context("creating the latency histogram")?,
            per_second: 0.0,
            errors: 0,
            first_error: None,
            answers: 0,
            in_flight_max: 0,
        },
    }));
    let due = Rc::new(Notify::new());
    let message = framed(&call.message);
    let mut workers = Vec::new();
    for number in 0..plan.concurrency {
        let sender = connections[number % connections.len()].clone();
        let worker = work(
            sender,
            call.clone(),
            message.clone(),
            state.clone(),
            due.clone(),
            (plan.pace == Pace::Closed).then_some(end),
        );
        workers.push(tokio::task::spawn_local(worker));
    }
    if let Pace::Rated(rate) = plan.pace {
        pace(rate, start, end, &state, &due).await?;
    } else {
        tokio::time::sleep_until(end.into()).await;
    }
    state.borrow_mut().ended = true;
    let all = async {
        for worker in workers {
            due.notify_waiters();
            let _ = worker.await; // a worker that panicked has shown its message
        }
    };
    let _ = tokio::time::timeout(DRAIN, all).await; // what is missing is counted next
    Ok(finish(&mut state.borrow_mut(), end))
}

/// Makes calls due, each at its own moment.
async fn pace(rate: f64, start: Instant, end: Instant, state: &RefCell<Run>, due: &Notify) -> Result<()> {
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)
        .context("creating the timer of the driver")?;
    let (moments, mut next) = mpsc::channel(MOMENTS_MAX);
    let clock = std::thread::spawn(move || tick(&timer, rate, start, end, &moments));
    while let Some(moment) = next.recv().await {
        let mut state = state.borrow_mut();
        state.backlog.push_back(moment);
        state.note_load();
        due.notify_one();
    }
    tokio::time::sleep_until(end.into()).await;
    clock.join().unwrap_or_else(|_| bail!("the clock of the driver panicked"))
}

/// Tells each moment when it has come. On a thread of its own: the timers of the runtime are too coarse for that.
fn tick(timer: &OwnedFd, rate: f64, start: Instant, end: Instant, moments: &mpsc::Sender<Instant>) -> Result<()> {
    for sequence in 0_u64.. {
        let moment = start + Duration::from_secs_f64(sequence as f64 / rate);
        if moment >= end {
            break;
        }
        let left = moment.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            arm(timer, left)?;
            rustix::io::read(timer, &mut [0; 8]).context("waiting for the timer")?;
        }
        if moments.blocking_send(moment).is_err() {
            break; // the run was given up
        }
    }
    Ok(())
}

/// Makes one call after the other: what is due, or, in a closed loop, until `end`.
async fn work(
    sender: SendRequest,
    call: Call,
    message: Bytes,
    state: Rc<RefCell<Run>>,
    due: Rc<Notify>,
    end: Option<Instant>,
) {
    loop {
        let moment = match end {
            Some(end) => Some(Instant::now()).filter(|now| *now < end),
            None => state.borrow_mut().backlog.pop_front(),
        };
        let Some(moment) = moment else {
            if end.is_some() || state.borrow().ended {
                return;
            }
            due.notified().await;
            continue;
        };
        {
            let mut state = state.borrow_mut();
            state.in_flight += 1;
            state.note_load();
        }
        let result = exchange(&sender, &call, message.clone()).await;
        state.borrow_mut().answered(moment, result);
    }
}

/// One call; the text says why it failed.
///
/// # Errors
/// The connection's error, an HTTP status other than 200, a gRPC status other than 0.
pub(crate) async fn exchange(sender: &SendRequest, call: &Call, message: Bytes) -> Result<(), String> {
    let mut request = Request::post(format!("http://{}{}", call.address, call.path))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in &call.metadata {
        request = request.header(*name, value);
    }
    let request = request.body(()).map_err(|error| error.to_string())?;
    let text = |error: pillion_http2::Error| error.to_string();
    let mut sender = sender.clone().ready().await.map_err(text)?;
    let (response, mut stream) = sender.send_request(request, false).map_err(text)?;
    stream.send_data(message, true).map_err(text)?;
    let (head, mut body) = response.await.map_err(text)?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(format!("HTTP status {}", head.status));
    }
    while let Some(data) = body.data().await {
        let length = data.map_err(text)?.len();
        let _ = body.flow_control().release_capacity(length); // fails only on a closed stream
    }
    let trailers = body.trailers().await.map_err(text)?.unwrap_or(head.headers);
    match trailers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        Some(code) => {
            let message = trailers.get("grpc-message").map(http::HeaderValue::as_bytes).unwrap_or_default();
            Err(format!("gRPC status {}: {}", String::from_utf8_lossy(code), String::from_utf8_lossy(message)))
        }
        None => Err("an answer without grpc-status".to_owned()),
    }
}

/// One call on a connection of its own.
///
/// # Errors
/// As [`exchange`], or when there is no answer in two seconds.
pub(crate) fn once(call: &Call) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let one = async {
            let sender = open(call.address).await?;
            exchange(&sender, call, framed(&call.message)).await.map_err(anyhow::Error::msg)
        };
        tokio::time::timeout(Duration::from_secs(2), one).await.context("no answer in 2 s")?
    })
}

/// Opens a connection to the server at `address`.
///
/// # Errors
/// When nobody listens, or what listens does not speak HTTP/2.
pub(crate) async fn open(address: SocketAddr) -> Result<SendRequest> {
    let stream = TcpStream::connect(address).await?;
    unpaced(&stream)?;
    let (sender, connection) = pillion_http2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(stream)
        .await?;
    tokio::task::spawn_local(async move {
        let _ = connection.await; // the calls on it get the error
    });
    Ok(sender)
}

/// A message with gRPC's prefix: not compressed, its length.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn finish(run: &mut Run, end: Instant) -> Outcome {
    let unanswered = run.in_flight + run.backlog.len();
    if unanswered > 0 {
        run.outcome.errors += unanswered as u64;
        run.outcome
            .first_error
            .get_or_insert_with(|| format!("{unanswered} calls not answered {DRAIN:?} after the end"));
    }
    let span = run.last_answer.max(end) - run.measure_from;
    Outcome {
        latencies: run.outcome.latencies.clone(),
        per_second: run.measured_answers as f64 / span.as_secs_f64(),
        errors: run.outcome.errors,
        first_error: run.outcome.first_error.take(),
        answers: run.outcome.answers,
        in_flight_max: run.outcome.in_flight_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::grpc_echo;

    /// The echo app on a thread of its own.
    fn echo() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || grpc_echo::serve_forever(listener));
        address
    }

    fn call(address: SocketAddr, path: &'static str) -> Call {
        Call { address, path, metadata: vec![("dapr-app-id", "callee".to_owned())], message: vec![7; 1000] }
    }

    #[test]
    fn every_due_call_is_answered_and_recorded_once() {
        let plan = Plan {
            concurrency: 6,
            pace: Pace::Rated(500.0),
            duration: Duration::from_millis(400),
            warm_up: Duration::from_millis(100),
        };
        let outcome = drive(&call(echo(), "/bench.Echo/Echo"), plan).unwrap();
        assert_eq!(outcome.errors, 0, "{:?}", outcome.first_error);
        assert_eq!((outcome.latencies.len(), outcome.answers), (200, 250));

        let outcome = drive(&call(echo(), "/bench.Echo/Echo"), Plan { pace: Pace::Closed, ..plan }).unwrap();
        assert_eq!(outcome.errors, 0, "{:?}", outcome.first_error);
        assert!(outcome.per_second > 100.0 && outcome.in_flight_max == 6);
    }

    #[test]
    fn a_status_is_an_error() {
        let plan = Plan {
            concurrency: 1,
            pace: Pace::Rated(100.0),
            duration: Duration::from_millis(50),
            warm_up: Duration::ZERO,
        };
        let outcome = drive(&call(echo(), "/dapr.proto.runtime.v1.AppCallback/OnInvoke"), plan).unwrap();
        assert_eq!((outcome.errors, outcome.latencies.len()), (5, 0));
        assert!(outcome.first_error.unwrap().contains("gRPC status 12"));
    }
}
