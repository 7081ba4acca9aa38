//! The load driver: one thread, one epoll, N connections, a request built once.
//!
//! Two paces. *Rated* (open loop): request *k* is due at `start + k / rate`, whatever the server does; its latency runs
//! from the due time, so a stall shows in every request it delayed (no coordinated omission). *Closed*: each
//! connection sends the next request when the last one is answered, which finds the saturation throughput.
//!
//! *Invariant:* every request that became due is counted once, as an answer or as an error.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::event::epoll;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::http1::{Parsed, parse};
use super::socket::unpaced;

/// Longest time a request may be outstanding after the end of the run; then it counts as an error.
pub(super) const DRAIN: Duration = Duration::from_secs(3);
/// Longest latency the histogram can hold; longer ones are recorded as this.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// Room for each read.
const READ_BYTES: usize = 16 * 1024;
const TIMER_TOKEN: u64 = u64::MAX;

/// Where the load goes.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Open loop, requests per second over all connections.
    Rated(f64),
    /// Closed loop.
    Closed,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) endpoint: Endpoint,
    /// Raw bytes of the request, sent unchanged each time.
    pub(crate) request: Vec<u8>,
    pub(crate) connections: usize,
    /// False: every request opens its own connection.
    pub(crate) keep_alive: bool,
    pub(crate) pace: Pace,
    /// Length of the measured part.
    pub(crate) duration: Duration,
    /// Sent before the measured part, answers not recorded.
    pub(crate) warm_up: Duration,
}

/// What a run saw.
pub(crate) struct Outcome {
    /// Latencies of measured 2xx answers, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Measured 2xx answers per second of the measured part.
    pub(crate) per_second: f64,
    /// Measured requests without a 2xx answer.
    pub(crate) errors: u64,
    /// Text of the first error.
    pub(crate) first_error: Option<String>,
    /// All answers, warm-up included: the divisor for CPU time.
    pub(crate) answers: u64,
    /// Most requests that were due and not answered at one moment.
    pub(crate) in_flight_max: usize,
}

/// One connection and the request on it.
struct Connection {
    socket: Option<OwnedFd>,
    received: Vec<u8>,
    sent: usize,
    due: Option<Instant>,
}

struct Run<'a> {
    plan: &'a Plan,
    poll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    backlog: VecDeque<Instant>,
    measure_from: Instant,
    end: Instant,
    outcome: Outcome,
    measured_answers: u64,
    last_answer: Instant,
}

/// Carries out `plan` on the calling thread.
///
/// # Errors
/// When a connection cannot be opened at the start, or the operating system refuses a poll or a timer. Errors of
/// single requests are counted in the outcome.
pub(crate) fn drive(plan: &Plan) -> Result<Outcome> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating the epoll of the driver")?;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
        .context("creating the timer of the driver")?;
    epoll::add(&poll, &timer, epoll::EventData::new_u64(TIMER_TOKEN), epoll::EventFlags::IN)?;
    let start = Instant::now();
    let mut run = Run {
        plan,
        poll,
        connections: Vec::new(),
        idle: (0..plan.connections).collect(),
        backlog: VecDeque::new(),
        measure_from: start + plan.warm_up,
        end: start + plan.warm_up + plan.duration,
        outcome: Outcome {
            latencies: Histogram::new_with_bounds(1, nanoseconds(LONGEST), 3)
                .context("creating the latency histogram")?,
            per_second: 0.0,
            errors: 0,
            first_error: None,
            answers: 0,
            in_flight_max: 0,
        },
        measured_answers: 0,
        last_answer: start,
    };
    for _ in 0..plan.connections {
        run.connections.push(Connection { socket: None, received: Vec::with_capacity(8192), sent: 0, due: None });
    }
    if plan.keep_alive {
        for index in 0..plan.connections {
            run.open(index).with_context(|| format!("connecting to {:?}", plan.endpoint))?;
        }
    }
    run.steer(&timer, Instant::now())?;
    Ok(run.finish())
}

impl Run<'_> {
    /// The loop: send what is due, wait, take answers.
    fn steer(&mut self, timer: &OwnedFd, start: Instant) -> Result<()> {
        let mut sequence: u64 = 0;
        let mut armed = None;
        let mut events = Vec::with_capacity(64);
        loop {
            let now = Instant::now();
            let next = match self.plan.pace {
                Pace::Closed => {
                    if now < self.end {
                        self.backlog.extend(self.idle.iter().map(|_| now));
                    }
                    self.end
                }
                Pace::Rated(rate) => loop {
                    let due = start + Duration::from_secs_f64(sequence as f64 / rate);
                    if due > now || due >= self.end {
                        break due.min(self.end);
                    }
                    self.backlog.push_back(due);
                    sequence += 1;
                },
            };
            self.send_backlog();
            let in_flight = self.connections.len() - self.idle.len() + self.backlog.len();
            self.outcome.in_flight_max = self.outcome.in_flight_max.max(in_flight);
            if now >= self.end && (in_flight == 0 || now >= self.end + DRAIN) {
                return Ok(());
            }
            let wake = if now >= self.end { self.end + DRAIN } else { next };
            if armed != Some(wake) {
                arm(timer, wake.saturating_duration_since(now))?;
                armed = Some(wake);
            }
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for answers"),
            }
            for event in &events {
                match event.data.u64() {
                    TIMER_TOKEN => {
                        let mut ticks = [0; 8];
                        let _ = rustix::io::read(timer, &mut ticks); // WouldBlock when re-armed meanwhile
                        armed = None;
                    }
                    index => self.ready(usize::try_from(index).unwrap_or(usize::MAX)),
                }
            }
        }
    }

    /// Opens the connection `index`.
    fn open(&mut self, index: usize) -> io::Result<()> {
        let socket: OwnedFd = match &self.plan.endpoint {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                unpaced(&stream)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
        };
        epoll::add(&self.poll, &socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        let connection = &mut self.connections[index];
        connection.received.clear();
        connection.socket = Some(socket);
        Ok(())
    }

    /// Puts waiting requests on idle connections, longest idle first.
    fn send_backlog(&mut self) {
        while !self.backlog.is_empty() && !self.idle.is_empty() {
            let (Some(index), Some(due)) = (self.idle.pop_front(), self.backlog.pop_front()) else {
                return; // not reached: both were seen to hold something
            };
            self.connections[index].due = Some(due);
            self.connections[index].sent = 0;
            if self.connections[index].socket.is_none()
                && let Err(error) = self.open(index)
            {
                self.failed(index, &format!("connecting: {error}"));
                continue;
            }
            self.write(index);
        }
    }

    /// Writes what is left of the request.
    fn write(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(socket) = &connection.socket else {
            return;
        };
        let left = &self.plan.request[connection.sent..];
        match rustix::io::write(socket, left) {
            Ok(count) if count == left.len() => connection.sent += count,
            Ok(count) => {
                connection.sent += count;
                self.want_write(index, true);
            }
            Err(rustix::io::Errno::AGAIN) => self.want_write(index, true),
            Err(error) => self.failed(index, &format!("sending: {error}")),
        }
    }

    fn want_write(&mut self, index: usize, wanted: bool) {
        let flags = if wanted { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        if let Some(socket) = &self.connections[index].socket
            && let Err(error) = epoll::modify(&self.poll, socket, epoll::EventData::new_u64(index as u64), flags)
        {
            self.failed(index, &format!("polling: {error}"));
        }
    }

    /// A connection can be read or written.
    fn ready(&mut self, index: usize) {
        if self.connections.get(index).is_none_or(|connection| connection.socket.is_none()) {
            return;
        }
        let sent = self.connections[index].sent;
        if self.connections[index].due.is_some() && sent < self.plan.request.len() {
            self.want_write(index, false);
            self.write(index);
        }
        let connection = &mut self.connections[index];
        let Some(socket) = &connection.socket else {
            return;
        };
        connection.received.reserve(READ_BYTES);
        match rustix::io::read(socket, rustix::buffer::spare_capacity(&mut connection.received)) {
            Ok(0) if connection.due.is_none() => connection.socket = None, // idle connection closed: reopened on use
            Ok(0) => self.failed(index, "connection closed before the answer was complete"),
            Ok(_) => self.answer(index),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => self.failed(index, &format!("receiving: {error}")),
        }
    }

    /// Takes a complete answer off a connection.
    fn answer(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let message = match parse(&connection.received, true) {
            Parsed::Partial => return,
            Parsed::Broken(why) => return self.failed(index, why),
            Parsed::Complete(message) => message,
        };
        let (status, close, wire_bytes) = (message.status, message.close, message.wire_bytes);
        let is_good = (200..300).contains(&status);
        let refused = (!is_good).then(|| format!("status {status}: {}", String::from_utf8_lossy(&message.body)));
        let Some(due) = connection.due.take() else {
            return self.failed(index, "answer without a request");
        };
        connection.received.drain(..wire_bytes);
        if close || !self.plan.keep_alive {
            connection.socket = None;
        }
        let now = Instant::now();
        self.outcome.answers += 1;
        self.idle.push_back(index);
        if due >= self.measure_from {
            match refused {
                Some(refused) => {
                    self.outcome.errors += 1;
                    self.outcome.first_error.get_or_insert(refused);
                }
                None => {
                    self.measured_answers += 1;
                    self.last_answer = now;
                    self.outcome.latencies.saturating_record(nanoseconds(now - due));
                }
            }
        }
    }

    /// Gives up on the request of a connection, and on the connection.
    fn failed(&mut self, index: usize, why: &str) {
        let connection = &mut self.connections[index];
        connection.socket = None;
        connection.received.clear();
        if let Some(due) = connection.due.take() {
            self.idle.push_back(index);
            if due >= self.measure_from {
                self.outcome.errors += 1;
                self.outcome.first_error.get_or_insert_with(|| why.to_owned());
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let unanswered = self.connections.len() - self.idle.len() + self.backlog.len();
        if unanswered > 0 {
            self.outcome.errors += unanswered as u64;
            self.outcome
                .first_error
                .get_or_insert_with(|| format!("{unanswered} requests not answered {DRAIN:?} after the end"));
        }
        let span = self.last_answer.max(self.end) - self.measure_from;
        self.outcome.per_second = self.measured_answers as f64 / span.as_secs_f64();
        self.outcome
    }
}

/// Sets the one-shot timer; zero would disarm it, so it rings at least a nanosecond from now.
pub(super) fn arm(timer: &OwnedFd, after: Duration) -> Result<()> {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let value = Timespec {
        tv_sec: i64::try_from(after.as_secs()).context("timer beyond the calendar")?,
        tv_nsec: i64::from(after.subsec_nanos()).max(1),
    };
    let setting = Itimerspec { it_interval: zero, it_value: value };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &setting).context("setting the timer")?;
    Ok(())
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
