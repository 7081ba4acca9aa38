//! Running an operation under a policy: `retry(circuit breaker(timeout(operation)))`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pillion_contract::ComponentError;
use pillion_core::duration::format_go;
use pillion_core::log::{Level, Logger};
use pillion_telemetry::metrics::PolicyMetrics;

use super::breaker::{Breaker, BreakerState, Refused};
use super::retry::Retry;

/// What an error of an operation means for retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Worth another attempt.
    Retriable,
    /// Has a status code (100 and above: HTTP, else gRPC); the policy's `matching` decides.
    Status(i32),
    /// Never retried.
    Permanent,
}

/// An error of an operation under a policy.
pub trait Failure: fmt::Display {
    /// What it means for retries.
    fn class(&self) -> FailureClass;
}

impl Failure for ComponentError {
    fn class(&self) -> FailureClass {
        FailureClass::Retriable
    }
}

/// How an operation under a policy failed.
#[derive(Debug, PartialEq, Eq)]
pub enum PolicyError<E> {
    /// The last attempt's own error.
    Operation(E),
    /// The last attempt took longer than the policy's timeout.
    Timeout,
    /// The circuit breaker is open; nothing was tried.
    BreakerOpen,
    /// The circuit breaker is half-open and busy; nothing was tried.
    TooManyRequests,
}

impl<E> PolicyError<E> {
    /// Turns it into the operation's error type; `other` makes one of the text of a timeout or refusal.
    pub fn into_error(self, other: impl FnOnce(&'static str) -> E) -> E {
        match self {
            Self::Operation(error) => error,
            Self::Timeout => other(TIMEOUT_TEXT),
            Self::BreakerOpen => other(OPEN_TEXT),
            Self::TooManyRequests => other(TOO_MANY_TEXT),
        }
    }

    /// Whether a circuit breaker refused the call.
    pub fn is_breaker(&self) -> bool {
        matches!(self, Self::BreakerOpen | Self::TooManyRequests)
    }
}

/// What a call says that took longer than its timeout. Like the other two a wire text of the original; tools compare them.
pub const TIMEOUT_TEXT: &str = "context deadline exceeded";
const OPEN_TEXT: &str = "circuit breaker is open";
const TOO_MANY_TEXT: &str = "too many requests";

impl<E: fmt::Display> fmt::Display for PolicyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation(error) => write!(f, "{error}"),
            Self::Timeout => f.write_str(TIMEOUT_TEXT),
            Self::BreakerOpen => f.write_str(OPEN_TEXT),
            Self::TooManyRequests => f.write_str(TOO_MANY_TEXT),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for PolicyError<E> {}

/// The timeout, retries and circuit breaker of one target.
pub struct Policy {
    pub(super) name: String,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<Arc<Retry>>,
    pub(super) breaker: Option<Arc<Breaker>>,
    pub(super) metrics: Option<PolicyMetrics>,
    pub(super) log: Logger,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({})", self.name)
    }
}

impl Policy {
    /// The name in log lines, for example `component[statestore] output`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether running under it is the same as not.
    pub fn is_noop(&self) -> bool {
        self.timeout.is_none() && self.retry.is_none() && self.breaker.is_none()
    }

    /// Whether an operation may be attempted more than once; callers keep a request body only then.
    pub fn has_retries(&self) -> bool {
        self.retry.as_ref().is_some_and(|retry| retry.retries_max != Some(0))
    }

    /// How long one attempt may take; `None` = for ever.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The circuit breaker, when there is one.
    pub fn breaker(&self) -> Option<&Arc<Breaker>> {
        self.breaker.as_ref()
    }

    /// Runs an operation; it gets the number of the attempt, from 1. Dropping the future stops everything.
    ///
    /// # Errors
    /// The last attempt's, when no more are allowed or useful.
    pub async fn run<T, E, F, Fut>(&self, mut operation: F) -> Result<T, PolicyError<E>>
    where
        E: Failure,
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut timed_out = false;
        let Some(retry) = &self.retry else { return self.attempt(&mut timed_out, || operation(1)).await };
        let mut waits = retry.start();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.attempt(&mut timed_out, || operation(attempt)).await {
                Ok(value) => {
                    if attempt > 1 {
                        self.log.info(format_args!(
                            "Recovered processing operation {} after {attempt} attempts",
                            self.name
                        ));
                    }
                    return Ok(value);
                }
                Err(error) => error,
            };
            if !worth_retrying(retry, &error) {
                return Err(error);
            }
            let Some(wait) = waits.next_wait() else { return Err(error) };
            if attempt == 1 {
                if let Some(metrics) = &self.metrics {
                    metrics.retried();
                }
                self.log.warn(format_args!(
                    "Error processing operation {}. Retrying in {}…",
                    self.name,
                    format_go(wait)
                ));
                if self.log.enabled(Level::Debug) {
                    self.log.debug(format_args!("Error for operation {} was: {error}", self.name));
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt. `timed_out`: whether one of the operation was ended by the timeout, which counts once.
    async fn attempt<T, E, Fut>(
        &self,
        timed_out: &mut bool,
        operation: impl FnOnce() -> Fut,
    ) -> Result<T, PolicyError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        let before = self.watched_state();
        let result = self.guarded(operation).await;
        if let Some(metrics) = &self.metrics {
            if matches!(result, Err(PolicyError::Timeout)) && !std::mem::replace(timed_out, true) {
                metrics.timed_out();
            }
            let after = self.watched_state();
            if let Some(state) = after.filter(|_| after != before) {
                metrics.changed(state.name());
            }
        }
        result
    }

    /// The state of the breaker, where metrics are told of its changes.
    fn watched_state(&self) -> Option<BreakerState> {
        self.metrics.as_ref()?;
        self.breaker.as_ref().map(|breaker| breaker.snapshot().0)
    }

    /// Tells the metrics that an operation is about to run under the policy.
    pub(super) fn count(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.applied(self.watched_state().map(BreakerState::name));
        }
    }

    async fn guarded<T, E, Fut>(&self, operation: impl FnOnce() -> Fut) -> Result<T, PolicyError<E>>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        let permit = match self.breaker.as_ref().map(Breaker::enter).transpose() {
            Ok(permit) => permit,
            Err(Refused::Open) => return Err(PolicyError::BreakerOpen),
            Err(Refused::TooManyRequests) => return Err(PolicyError::TooManyRequests),
        };
        let result = match self.timeout {
            None => operation().await.map_err(PolicyError::Operation),
            Some(limit) => match tokio::time::timeout(limit, operation()).await {
                Ok(result) => result.map_err(PolicyError::Operation),
                Err(_elapsed) => Err(PolicyError::Timeout),
            },
        };
        if let Some(permit) = permit {
            permit.answer(result.is_ok());
        }
        result
    }
}

fn worth_retrying<E: Failure>(retry: &Retry, error: &PolicyError<E>) -> bool {
    match error {
        PolicyError::Operation(error) => match error.class() {
            FailureClass::Retriable => true,
            FailureClass::Status(code) => retry.matches(code),
            FailureClass::Permanent => false,
        },
        PolicyError::Timeout => true,
        PolicyError::BreakerOpen | PolicyError::TooManyRequests => false,
    }
}

/// Runs an operation under a policy, or plainly when there is none.
///
/// # Errors
/// As [`Policy::run`].
pub async fn run<T, E, F, Fut>(policy: Option<&Policy>, mut operation: F) -> Result<T, PolicyError<E>>
where
    E: Failure,
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    match policy {
        None => operation(1).await.map_err(PolicyError::Operation),
        Some(policy) => policy.run(operation).await,
    }
}
