//! Circuit breakers: refuse calls to a target that keeps failing, let a few through after a while to see.
//!
//! *Source:* the state machine of `sony/gobreaker` as spec internals.md §8.2 describes it: counts belong to a generation,
//! an answer of an older generation is ignored. *Invariant:* a call that was let in is always answered, even when its
//! future is dropped; otherwise a half-open breaker could never leave that state.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cel::{Context, Env, Program, Value};
use parking_lot::Mutex;
use pillion_core::duration;
use pillion_core::log::Logger;
use pillion_resources::types::CircuitBreakerSpec;
use tokio::time::Instant;

/// `timeout` of a policy that does not say. *Source:* spec resources.md §4.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Consecutive failures a policy without `trip` endures. *Source:* spec resources.md §4.
const DEFAULT_TOLERANCE: u32 = 5;

/// Where a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// At most `maxRequests` calls pass, as a probe.
    HalfOpen,
}

impl BreakerState {
    /// The word of the log and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happened in the present generation; the variables of a `trip` expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerCounts {
    /// Calls let in.
    pub requests: u32,
    /// Answers without error.
    pub total_successes: u32,
    /// Answers with an error.
    pub total_failures: u32,
    /// Successes since the last failure.
    pub consecutive_successes: u32,
    /// Failures since the last success.
    pub consecutive_failures: u32,
}

/// Why a breaker refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The breaker is open.
    Open,
    /// The breaker is half-open and its probes are under way.
    TooManyRequests,
}

/// A circuit breaker policy, compiled; breakers are made of it.
pub(super) struct BreakerTemplate {
    pub(super) name: String,
    /// What it was compiled from.
    spec: CircuitBreakerSpec,
    max_requests: u32,
    interval: Duration,
    timeout: Duration,
    trip: Option<Trip>,
}

struct Trip {
    environment: Arc<Env>,
    program: Program,
}

impl BreakerTemplate {
    /// Compiles a policy.
    ///
    /// # Errors
    /// A text that names the field and what was expected.
    pub(super) fn compile(name: &str, spec: &CircuitBreakerSpec, environment: &Arc<Env>) -> Result<Self, String> {
        let parse = |field: &str, text: &str| {
            if text.is_empty() {
                Ok(Duration::ZERO)
            } else {
                duration::parse_policy(text).map_err(|error| format!("{field}: {error}"))
            }
        };
        let timeout = parse("timeout", &spec.timeout)?;
        let trip = if spec.trip.is_empty() {
            None
        } else {
            let program = environment
                .compile(&spec.trip)
                .map_err(|error| format!("trip: {:?} is not an expression over requests, totalSuccesses, totalFailures, consecutiveSuccesses and consecutiveFailures: {error}", spec.trip))?;
            Some(Trip { environment: environment.clone(), program })
        };
        Ok(Self {
            name: name.to_owned(),
            spec: spec.clone(),
            max_requests: spec.max_requests.max(1),
            interval: parse("interval", &spec.interval)?,
            timeout: if timeout.is_zero() { DEFAULT_TIMEOUT } else { timeout },
            trip,
        })
    }

    fn trips(&self, counts: &BreakerCounts) -> bool {
        let Some(trip) = &self.trip else { return counts.consecutive_failures > DEFAULT_TOLERANCE };
        let mut context = Context::with_env(trip.environment.clone());
        for (name, value) in [
            ("requests", counts.requests),
            ("totalSuccesses", counts.total_successes),
            ("totalFailures", counts.total_failures),
            ("consecutiveSuccesses", counts.consecutive_successes),
            ("consecutiveFailures", counts.consecutive_failures),
        ] {
            context.add_variable_from_value(name, Value::Int(i64::from(value)));
        }
        // An expression that fails or is not boolean does not trip, as in the original.
        matches!(trip.program.execute(&context), Ok(Value::Bool(true)))
    }
}

struct Inner {
    state: BreakerState,
    generation: u64,
    counts: BreakerCounts,
    expiry: Option<Instant>,
    /// When it left the closed state.
    tripped: Option<SystemTime>,
}

/// One circuit breaker.
pub struct Breaker {
    name: String,
    template: Arc<BreakerTemplate>,
    log: Logger,
    inner: Mutex<Inner>,
}

impl Breaker {
    pub(super) fn new(name: String, template: Arc<BreakerTemplate>, log: Logger) -> Arc<Self> {
        let expiry = (!template.interval.is_zero()).then(|| Instant::now() + template.interval);
        let inner = Inner {
            state: BreakerState::Closed,
            generation: 0,
            counts: BreakerCounts::default(),
            expiry,
            tripped: None,
        };
        Arc::new(Self { name, template, log, inner: Mutex::new(inner) })
    }

    /// The name in the log: `<policy>-<component>`, or the endpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was made of a policy of this name and these values.
    pub(super) fn is_of(&self, template: &BreakerTemplate) -> bool {
        self.template.name == template.name && self.template.spec == template.spec
    }

    /// State and counts at this moment.
    pub fn snapshot(&self) -> (BreakerState, BreakerCounts) {
        let mut inner = self.inner.lock();
        self.advance(&mut inner, Instant::now());
        (inner.state, inner.counts)
    }

    /// When it left the closed state; `None` while it is closed.
    pub fn tripped(&self) -> Option<SystemTime> {
        self.inner.lock().tripped
    }

    /// Asks to make a call; the permit must be told how it went.
    ///
    /// # Errors
    /// [`Refused`]; retrying at once is of no use.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Permit, Refused> {
        let mut inner = self.inner.lock();
        self.advance(&mut inner, Instant::now());
        match inner.state {
            BreakerState::Open => return Err(Refused::Open),
            BreakerState::HalfOpen if inner.counts.requests >= self.template.max_requests => {
                return Err(Refused::TooManyRequests);
            }
            BreakerState::HalfOpen | BreakerState::Closed => {}
        }
        inner.counts.requests += 1;
        Ok(Permit { breaker: self.clone(), generation: inner.generation, answered: false })
    }

    fn leave(&self, generation: u64, success: bool) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        self.advance(&mut inner, now);
        if inner.generation != generation {
            return;
        }
        match (inner.state, success) {
            (BreakerState::Open, _) => {}
            (BreakerState::Closed, true) => inner.counts.succeeded(),
            (BreakerState::HalfOpen, true) => {
                inner.counts.succeeded();
                if inner.counts.consecutive_successes >= self.template.max_requests {
                    self.change(&mut inner, BreakerState::Closed, now);
                }
            }
            (BreakerState::Closed, false) => {
                inner.counts.failed();
                if self.template.trips(&inner.counts) {
                    self.change(&mut inner, BreakerState::Open, now);
                }
            }
            (BreakerState::HalfOpen, false) => self.change(&mut inner, BreakerState::Open, now),
        }
    }

    fn advance(&self, inner: &mut Inner, now: Instant) {
        if inner.expiry.is_none_or(|expiry| expiry >= now) {
            return;
        }
        match inner.state {
            BreakerState::Closed => self.new_generation(inner, now),
            BreakerState::Open => self.change(inner, BreakerState::HalfOpen, now),
            BreakerState::HalfOpen => {}
        }
    }

    fn change(&self, inner: &mut Inner, state: BreakerState, now: Instant) {
        let before = inner.state;
        inner.state = state;
        inner.tripped = match state {
            BreakerState::Closed => None,
            BreakerState::Open | BreakerState::HalfOpen => inner.tripped.or_else(|| Some(SystemTime::now())),
        };
        self.new_generation(inner, now);
        self.log.info(format_args!("Circuit breaker {:?} changed state from {before} to {state}", self.name));
    }

    fn new_generation(&self, inner: &mut Inner, now: Instant) {
        inner.generation += 1;
        inner.counts = BreakerCounts::default();
        inner.expiry = match inner.state {
            BreakerState::Closed => (!self.template.interval.is_zero()).then(|| now + self.template.interval),
            BreakerState::Open => Some(now + self.template.timeout),
            BreakerState::HalfOpen => None,
        };
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Breaker({:?})", self.name)
    }
}

impl BreakerCounts {
    fn succeeded(&mut self) {
        self.total_successes += 1;
        self.consecutive_successes += 1;
        self.consecutive_failures = 0;
    }

    fn failed(&mut self) {
        self.total_failures += 1;
        self.consecutive_failures += 1;
        self.consecutive_successes = 0;
    }
}

/// A call a breaker let in; dropped unanswered it counts as failed.
pub(super) struct Permit {
    breaker: Arc<Breaker>,
    generation: u64,
    answered: bool,
}

impl Permit {
    pub(super) fn answer(mut self, success: bool) {
        self.answered = true;
        self.breaker.leave(self.generation, success);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.answered {
            self.breaker.leave(self.generation, false);
        }
    }
}
