//! Retry policies: how long to wait, how often, and which status codes are worth it.
//!
//! *Source:* spec internals.md §8.1-8.2; waiting times follow `cenkalti/backoff`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use pillion_core::duration;
use pillion_resources::types::RetrySpec;
use tokio::time::Instant;

const DEFAULT_DURATION: Duration = Duration::from_secs(5);
const INITIAL_INTERVAL: Duration = Duration::from_millis(500);
const MULTIPLIER: f64 = 1.5;
const JITTER: f64 = 0.5;
const DEFAULT_MAX_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_MAX_ELAPSED: Duration = Duration::from_secs(15 * 60);
const HTTP_CODES: CodeRange = CodeRange { start: 100, end: 599 };
const GRPC_CODES: CodeRange = CodeRange { start: 0, end: 16 };

/// A compiled retry policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Retry {
    wait: Wait,
    /// `None` = no limit.
    pub(super) retries_max: Option<u64>,
    http: Option<Vec<CodeRange>>,
    grpc: Option<Vec<CodeRange>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Constant(Duration),
    Exponential { interval_max: Duration, elapsed_max: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CodeRange {
    start: i32,
    end: i32,
}

impl CodeRange {
    fn contains(self, code: i32) -> bool {
        (self.start..=self.end).contains(&code)
    }
}

impl Retry {
    /// Compiles a policy.
    ///
    /// # Errors
    /// A text that names the field and what was expected.
    pub(super) fn compile(spec: &RetrySpec) -> Result<Self, String> {
        let parse = |field: &str, text: &str, default: Duration| {
            if text.is_empty() {
                Ok(default)
            } else {
                duration::parse_policy(text).map_err(|error| format!("{field}: {error}"))
            }
        };
        let interval = parse("duration", &spec.duration, DEFAULT_DURATION)?;
        let interval_max = parse("maxInterval", &spec.max_interval, DEFAULT_MAX_INTERVAL)?;
        let wait = match spec.policy.to_ascii_lowercase().as_str() {
            "" | "constant" => Wait::Constant(interval),
            "exponential" => Wait::Exponential { interval_max, elapsed_max: DEFAULT_MAX_ELAPSED },
            _ => return Err(format!("unexpected back off policy type: {}", spec.policy)),
        };
        Ok(Self {
            wait,
            retries_max: spec.max_retries.and_then(|number| u64::try_from(number).ok()),
            http: parse_codes(&spec.http_status_codes, HTTP_CODES)?,
            grpc: parse_codes(&spec.grpc_status_codes, GRPC_CODES)?,
        })
    }

    pub(super) fn constant(interval: Duration, retries_max: u64) -> Self {
        Self { wait: Wait::Constant(interval), retries_max: Some(retries_max), http: None, grpc: None }
    }

    pub(super) fn exponential(interval_max: Duration, elapsed_max: Duration, retries_max: u64) -> Self {
        Self {
            wait: Wait::Exponential { interval_max, elapsed_max },
            retries_max: Some(retries_max),
            http: None,
            grpc: None,
        }
    }

    /// Whether an error with this status code (100 and above: HTTP, else gRPC) is worth another attempt.
    pub(super) fn matches(&self, code: i32) -> bool {
        let list = if GRPC_CODES.contains(code) {
            &self.grpc
        } else if HTTP_CODES.contains(code) {
            &self.http
        } else {
            return false;
        };
        list.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(code)))
    }

    pub(super) fn start(&self) -> BackOff<'_> {
        BackOff { retry: self, started: Instant::now(), retries: 0, interval: INITIAL_INTERVAL }
    }
}

/// The waiting times of one operation.
pub(super) struct BackOff<'a> {
    retry: &'a Retry,
    started: Instant,
    retries: u64,
    interval: Duration,
}

impl BackOff<'_> {
    /// How long to wait before the next attempt; `None` = give up.
    pub(super) fn next_wait(&mut self) -> Option<Duration> {
        if self.retry.retries_max.is_some_and(|limit| self.retries >= limit) {
            return None;
        }
        self.retries += 1;
        match self.retry.wait {
            Wait::Constant(interval) => Some(interval),
            Wait::Exponential { interval_max, elapsed_max } => {
                let wait = jitter(self.interval);
                self.interval = interval_max.min(self.interval.mul_f64(MULTIPLIER));
                (elapsed_max.is_zero() || self.started.elapsed() + wait <= elapsed_max).then_some(wait)
            }
        }
    }
}

fn jitter(interval: Duration) -> Duration {
    // A fresh hasher is keyed with randomness of the operating system: enough to spread retries, and no state is kept.
    let unit = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * unit)
}

fn parse_codes(text: &str, valid: CodeRange) -> Result<Option<Vec<CodeRange>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| parse_range(part, valid))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn parse_range(part: &str, valid: CodeRange) -> Result<CodeRange, String> {
    let mut pieces = part.split('-');
    let (first, last) = (pieces.next().unwrap_or_default(), pieces.next());
    if pieces.next().is_some() {
        return Err(format!("invalid pattern {part}, more than one '-' exists"));
    }
    let number = |side: &str, code: &str| -> Result<i32, String> {
        let parsed = code
            .parse::<i32>()
            .map_err(|_| format!("failed to parse {side} code {code} from pattern {part} to int"))?;
        if valid.contains(parsed) {
            Ok(parsed)
        } else {
            Err(format!(
                "invalid pattern {part}, {side} code {parsed} is not valid (expected {} to {})",
                valid.start, valid.end
            ))
        }
    };
    let start = number("start", first)?;
    let end = last.map_or(Ok(start), |code| number("end", code))?;
    if end < start {
        return Err(format!("invalid pattern {part}, start value should not bigger than end value"));
    }
    Ok(CodeRange { start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_codes(http: &str, grpc: &str) -> Result<Retry, String> {
        Retry::compile(&RetrySpec {
            http_status_codes: http.into(),
            grpc_status_codes: grpc.into(),
            ..RetrySpec::default()
        })
    }

    #[test]
    fn code_lists_match_their_own_protocol_only() {
        let retry = with_codes("429,500-502", "").unwrap();
        for (code, expected) in
            [(429, true), (501, true), (503, false), (14, true), (600, false), (50, false), (-1, false)]
        {
            assert_eq!(retry.matches(code), expected, "{code}");
        }
    }

    #[test]
    fn wrong_code_lists_are_refused() {
        for (http, grpc) in
            [("99", ""), ("600", ""), ("500-400", ""), ("5-6-7", ""), ("500, 501", ""), ("", "17"), ("x", "")]
        {
            assert!(with_codes(http, grpc).is_err(), "{http:?} {grpc:?}");
        }
        assert!(with_codes("500,,501,", "0-16").is_ok());
    }

    #[test]
    fn defaults_are_constant_five_seconds_for_ever() {
        let retry = Retry::compile(&RetrySpec::default()).unwrap();
        let mut waits = retry.start();
        for _ in 0..1000 {
            assert_eq!(waits.next_wait(), Some(DEFAULT_DURATION));
        }
        let none = Retry::compile(&RetrySpec { max_retries: Some(0), ..RetrySpec::default() }).unwrap();
        assert_eq!(none.start().next_wait(), None);
        assert!(Retry::compile(&RetrySpec { policy: "linear".into(), ..RetrySpec::default() }).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn exponential_waits_grow_within_their_jitter_and_end() {
        let spec = RetrySpec { policy: "Exponential".into(), max_interval: "2s".into(), ..RetrySpec::default() };
        let retry = Retry::compile(&spec).unwrap();
        let mut waits = retry.start();
        for expected in [500.0, 750.0, 1125.0, 1687.5, 2000.0, 2000.0] {
            let wait = waits.next_wait().unwrap().as_secs_f64() * 1000.0;
            assert!((expected * 0.5..=expected * 1.5).contains(&wait), "{wait} for {expected}");
        }
        tokio::time::advance(DEFAULT_MAX_ELAPSED).await;
        assert_eq!(waits.next_wait(), None);
    }
}
