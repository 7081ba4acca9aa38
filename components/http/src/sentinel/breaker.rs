//! Circuit breaker rules by the share of slow requests.
//!
//! *Source:* sentinel-golang `core/circuitbreaker/circuit_breaker.go`. The rules that count errors never open in the original,
//! because its middleware reports none, and are not here.

use super::rules::BreakerRule;
use super::window::{Window, float};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    HalfOpen,
    Open,
}

/// A rule with its state.
pub(super) struct Breaker {
    rule: BreakerRule,
    window: Window,
    state: State,
    retry_at_ms: u64,
    probes: u64,
}

/// Whether a request may pass a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passing {
    No,
    Yes,
    /// As the first after a pause; when another rule stops it, the breaker opens again.
    AsProbe,
}

impl Breaker {
    pub(super) fn new(rule: BreakerRule) -> Self {
        let (interval, count) = (rule.stat_interval_ms, rule.stat_sliding_window_bucket_count);
        let count = if count == 0 || interval % count != 0 { 1 } else { count };
        let window = Window::new(u64::from(interval), u64::from(count));
        Self { rule, window, state: State::Closed, retry_at_ms: 0, probes: 0 }
    }

    pub(super) fn try_pass(&mut self, now_ms: u64) -> Passing {
        match self.state {
            State::Closed => Passing::Yes,
            State::Open if now_ms >= self.retry_at_ms => {
                self.state = State::HalfOpen;
                Passing::AsProbe
            }
            State::HalfOpen if self.rule.probe_num > 0 => Passing::Yes,
            State::Open | State::HalfOpen => Passing::No,
        }
    }

    /// The probe was stopped by another rule.
    pub(super) fn take_back(&mut self) {
        self.state = State::Open;
    }

    pub(super) fn completed(&mut self, took_ms: u64, now_ms: u64) {
        let is_slow = took_ms > self.rule.max_allowed_rt_ms;
        let counts = self.window.at(now_ms);
        counts.completed += 1;
        counts.slow += u64::from(is_slow);
        match self.state {
            State::Open => {}
            State::HalfOpen if is_slow => self.open(now_ms),
            State::HalfOpen => {
                self.probes += 1;
                if self.probes >= self.rule.probe_num {
                    self.state = State::Closed;
                    self.probes = 0;
                    self.window.clear();
                }
            }
            State::Closed => {
                let completed = self.window.sum(now_ms, |counts| counts.completed);
                let slow = self.window.sum(now_ms, |counts| counts.slow);
                if completed >= self.rule.min_request_amount && float(slow) / float(completed) >= self.rule.threshold {
                    self.open(now_ms);
                }
            }
        }
    }

    fn open(&mut self, now_ms: u64) {
        self.state = State::Open;
        self.probes = 0;
        self.retry_at_ms = now_ms + u64::from(self.rule.retry_timeout_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_requests_open_it_and_quick_probes_close_it() {
        let rule = r#"{"resource":"r","retryTimeoutMs":1000,"minRequestAmount":4,"statIntervalMs":10000,
                       "maxAllowedRtMs":50,"threshold":0.5,"probeNum":2}"#;
        let mut breaker = Breaker::new(serde_json::from_str(rule).unwrap());
        for took in [10, 60, 10] {
            assert_eq!(breaker.try_pass(10_000), Passing::Yes);
            breaker.completed(took, 10_000);
        }
        assert_eq!(breaker.state, State::Closed);
        breaker.completed(60, 10_000);
        assert_eq!(breaker.try_pass(10_999), Passing::No);
        assert_eq!(breaker.try_pass(11_000), Passing::AsProbe);
        breaker.take_back();
        assert_eq!(breaker.try_pass(11_000), Passing::AsProbe);
        breaker.completed(60, 11_000);
        assert_eq!(breaker.try_pass(11_999), Passing::No);
        assert_eq!(breaker.try_pass(12_000), Passing::AsProbe);
        assert_eq!(breaker.try_pass(12_000), Passing::Yes);
        breaker.completed(10, 12_000);
        breaker.completed(10, 12_000);
        assert_eq!(breaker.state, State::Closed);
        breaker.completed(60, 12_000);
        assert_eq!(breaker.state, State::Closed, "what was before it closed does not count");
    }
}
