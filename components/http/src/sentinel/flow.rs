//! Flow rules: how many requests may pass in an interval, and how fast after another.
//!
//! *Source:* sentinel-golang `core/flow/tc_*.go`.

use std::time::Duration;

use super::rules::{ASSOCIATED, BY_MEMORY, FlowRule, THROTTLE, WARM_UP};
use super::window::{Window, float};

/// Interval of the statistics every resource has.
const INTERVAL_MS: u64 = 1000;
const BUCKET_MS: u64 = 500;
/// Longest interval that is divided into buckets of half a second.
const DIVIDED_MS_MAX: u64 = 10_000;
const COLD_FACTOR: u32 = 3;

/// What a rule says about a request.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Pass,
    Block,
    /// Pass after this time.
    Wait(Duration),
}

/// A rule with its state.
pub(super) struct Flow {
    rule: FlowRule,
    warm_up: Option<WarmUp>,
    /// Throttling: when the last one passed, in nanoseconds since the start.
    last_passed: i128,
}

/// *Source:* Sentinel's token bucket that drains while a resource warms up.
struct WarmUp {
    cold_factor: f64,
    warning: f64,
    most: f64,
    slope: f64,
    stored: f64,
    filled_ms: u64,
}

impl Flow {
    pub(super) fn new(rule: FlowRule) -> Self {
        let warm_up = (rule.token_calculate_strategy == WARM_UP).then(|| WarmUp::new(&rule));
        Self { rule, warm_up, last_passed: i128::MIN / 2 }
    }

    /// The resource whose traffic counts.
    pub(super) fn counted(&self) -> &str {
        if self.rule.relation_strategy == ASSOCIATED { &self.rule.ref_resource } else { &self.rule.resource }
    }

    /// Interval and number of buckets of the statistics it reads.
    pub(super) fn statistics(&self) -> (u64, u64) {
        match u64::from(self.rule.stat_interval_in_ms) {
            0 => (INTERVAL_MS, INTERVAL_MS / BUCKET_MS),
            interval if interval <= DIVIDED_MS_MAX && interval.is_multiple_of(BUCKET_MS) => {
                (interval, interval / BUCKET_MS)
            }
            interval => (interval, 1),
        }
    }

    /// Decides on one more request. `memory` is the process's resident memory, when it is known.
    pub(super) fn check(&mut self, counted: &Window, now_ms: u64, now_nanos: i128, memory: Option<u64>) -> Verdict {
        let threshold = match &mut self.warm_up {
            Some(warm_up) => warm_up.allowed(self.rule.threshold, counted.previous_per_second(now_ms), now_ms),
            None if self.rule.token_calculate_strategy == BY_MEMORY => self.by_memory(memory),
            None => self.rule.threshold,
        };
        if self.rule.control_behavior == THROTTLE {
            return self.throttle(threshold, now_nanos);
        }
        let passed = float(counted.sum(now_ms, |counts| counts.passed));
        if passed + 1.0 > threshold { Verdict::Block } else { Verdict::Pass }
    }

    #[expect(clippy::cast_possible_truncation, reason = "an interval of nanoseconds fits by far")]
    fn throttle(&mut self, threshold: f64, now: i128) -> Verdict {
        if threshold < 1.0 {
            return Verdict::Block;
        }
        let interval_ms = if self.rule.stat_interval_in_ms == 0 { 1000 } else { self.rule.stat_interval_in_ms };
        let interval = (f64::from(interval_ms) * 1_000_000.0 / threshold).ceil() as i128;
        let expected = self.last_passed + interval;
        if expected <= now {
            self.last_passed = now;
            return Verdict::Pass;
        }
        let wait = expected - now;
        if wait > i128::from(self.rule.max_queueing_time_ms) * 1_000_000 {
            return Verdict::Block;
        }
        self.last_passed = expected;
        Verdict::Wait(Duration::from_nanos(u64::try_from(wait).unwrap_or_default()))
    }

    fn by_memory(&self, memory: Option<u64>) -> f64 {
        let float = |number: i64| float(u64::try_from(number).unwrap_or_default());
        let (low, high) = (float(self.rule.low_mem_usage_threshold), float(self.rule.high_mem_usage_threshold));
        let (from, to) = (float(self.rule.mem_low_water_mark_bytes), float(self.rule.mem_high_water_mark_bytes));
        let used = memory.map_or(from, super::window::float).clamp(from, to);
        low + (high - low) * (used - from) / (to - from)
    }
}

impl WarmUp {
    fn new(rule: &FlowRule) -> Self {
        let factor = if rule.warm_up_cold_factor <= 1 { COLD_FACTOR } else { rule.warm_up_cold_factor };
        let (factor, period) = (f64::from(factor), f64::from(rule.warm_up_period_sec));
        let warning = (period * rule.threshold / (factor - 1.0)).floor();
        let most = warning + (2.0 * period * rule.threshold / (1.0 + factor)).floor();
        let slope = (factor - 1.0) / rule.threshold / (most - warning);
        Self { cold_factor: factor, warning, most, slope, stored: 0.0, filled_ms: 0 }
    }

    fn allowed(&mut self, threshold: f64, passed_per_second: f64, now_ms: u64) -> f64 {
        self.fill(threshold, passed_per_second, now_ms - now_ms % 1000);
        let above = self.stored - self.warning;
        if above >= 0.0 { (1.0 / (above * self.slope + 1.0 / threshold)).next_up() } else { threshold }
    }

    fn fill(&mut self, threshold: f64, passed_per_second: f64, second_ms: u64) {
        if second_ms <= self.filled_ms {
            return;
        }
        let is_cold = self.stored > self.warning && passed_per_second < (threshold / self.cold_factor).floor();
        if self.stored < self.warning || is_cold {
            self.stored += (float(second_ms - self.filled_ms) * threshold / 1000.0).floor();
        }
        self.stored = (self.stored.min(self.most) - passed_per_second.floor()).max(0.0);
        self.filled_ms = second_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(json: &str) -> Flow {
        Flow::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn throttled_requests_wait_their_turn() {
        let mut flow = flow(r#"{"resource":"r","threshold":10,"controlBehavior":1,"maxQueueingTimeMs":150}"#);
        let window = Window::new(1000, 2);
        let mut check = |at_ms: i128| flow.check(&window, 0, at_ms * 1_000_000, None);
        assert_eq!(check(1000), Verdict::Pass);
        assert_eq!(check(1000), Verdict::Wait(Duration::from_millis(100)));
        assert_eq!(check(1000), Verdict::Block);
        assert_eq!(check(1050), Verdict::Wait(Duration::from_millis(150)));
        assert_eq!(check(1400), Verdict::Pass);
    }

    #[test]
    fn a_cold_resource_lets_less_through() {
        let mut flow = flow(r#"{"resource":"r","threshold":90,"tokenCalculateStrategy":1,"warmUpPeriodSec":10}"#);
        let mut window = Window::new(1000, 2);
        let mut now_ms = 1_700_000_000_000u64;
        let mut passed_in = Vec::new();
        for _ in 0..40 {
            let mut passed = 0;
            for _ in 0..200 {
                if flow.check(&window, now_ms, 0, None) == Verdict::Pass {
                    window.at(now_ms).passed += 1;
                    passed += 1;
                }
                now_ms += 5;
            }
            passed_in.push(passed);
        }
        assert!((25..50).contains(&passed_in[0]), "{passed_in:?}");
        assert!(passed_in[39] >= 80, "{passed_in:?}");
    }

    #[test]
    fn memory_lowers_the_threshold() {
        let flow = flow(
            r#"{"resource":"r","tokenCalculateStrategy":2,"lowMemUsageThreshold":100,"highMemUsageThreshold":50,
                "memLowWaterMarkBytes":1000,"memHighWaterMarkBytes":2000}"#,
        );
        for (memory, threshold) in [(None, 100.0), (Some(10), 100.0), (Some(1500), 75.0), (Some(9000), 50.0)] {
            assert!((flow.by_memory(memory) - threshold).abs() < 1e-9, "{memory:?}");
        }
    }
}
