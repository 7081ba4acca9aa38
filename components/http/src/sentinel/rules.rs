//! Sentinel's rules as they stand in the metadata: JSON arrays with its field names and numbers for names.
//!
//! *Source:* sentinel-golang 1.0.4, `core/*/rule.go`; a rule that is not valid is told and left out, as there.

use pillion_contract::{ComponentError, ErrorKind, InitContext};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Limits the rate of a resource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FlowRule {
    pub(super) resource: String,
    /// 0 direct, 1 warm up, 2 by memory.
    pub(super) token_calculate_strategy: i32,
    /// 0 reject, 1 throttle.
    pub(super) control_behavior: i32,
    pub(super) threshold: f64,
    /// 0 this resource, 1 `ref_resource`.
    pub(super) relation_strategy: i32,
    pub(super) ref_resource: String,
    pub(super) max_queueing_time_ms: u32,
    pub(super) warm_up_period_sec: u32,
    pub(super) warm_up_cold_factor: u32,
    pub(super) stat_interval_in_ms: u32,
    pub(super) low_mem_usage_threshold: i64,
    pub(super) high_mem_usage_threshold: i64,
    pub(super) mem_low_water_mark_bytes: i64,
    pub(super) mem_high_water_mark_bytes: i64,
}

/// Stops calling a resource that is slow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BreakerRule {
    pub(super) resource: String,
    /// 0 share of slow requests, 1 share of errors, 2 number of errors.
    pub(super) strategy: u32,
    pub(super) retry_timeout_ms: u32,
    pub(super) min_request_amount: u64,
    pub(super) stat_interval_ms: u32,
    pub(super) stat_sliding_window_bucket_count: u32,
    pub(super) max_allowed_rt_ms: u64,
    pub(super) threshold: f64,
    pub(super) probe_num: u64,
}

/// Limits what is under way at a resource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IsolationRule {
    pub(super) resource: String,
    pub(super) metric_type: i32,
    pub(super) threshold: u32,
}

/// Limits by parameters of a call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HotSpotRule {
    pub(super) resource: String,
}

/// Limits all that comes in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SystemRule {
    /// 0 load, 1 average time, 2 concurrency, 3 rate, 4 CPU usage.
    pub(super) metric_type: u32,
    pub(super) trigger_count: f64,
    /// 1 = only when more is under way than was finished lately.
    pub(super) strategy: i32,
}

pub(super) const WARM_UP: i32 = 1;
pub(super) const BY_MEMORY: i32 = 2;
pub(super) const THROTTLE: i32 = 1;
pub(super) const ASSOCIATED: i32 = 1;
pub(super) const LOAD: u32 = 0;
pub(super) const AVERAGE_TIME: u32 = 1;
pub(super) const CONCURRENCY: u32 = 2;
pub(super) const RATE: u32 = 3;
pub(super) const CPU_USAGE: u32 = 4;

/// All rules of a component.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) flow: Vec<FlowRule>,
    pub(super) breakers: Vec<BreakerRule>,
    pub(super) isolation: Vec<IsolationRule>,
    pub(super) system: Vec<SystemRule>,
}

impl Rules {
    /// Reads the metadata.
    ///
    /// # Errors
    /// `InvalidRequest` that names the field whose text is not an array of rules.
    pub(super) fn read(context: &InitContext) -> Result<Self, ComponentError> {
        let flow = read(context, "flowRules", "flow", flow)?;
        let isolation = read(context, "isolationRules", "isolation", isolation)?;
        let breakers = read(context, "circuitBreakerRules", "circuit breaker", breaker)?;
        let hot_spots: Vec<HotSpotRule> = read(context, "hotSpotParamRules", "hotspot param", |_| Ok(()))?;
        let system = read(context, "systemRules", "system", system)?;
        let note = |what: &str, resource: &str| {
            context.log.warn(format_args!(
                "middleware.http.sentinel {}: the {what} rule of {resource:?} has no effect, as in Dapr: {}",
                context.name, "HTTP requests come to Sentinel without parameters and without errors"
            ));
        };
        hot_spots.iter().for_each(|rule| note("hot spot", &rule.resource));
        let (breakers, never): (Vec<BreakerRule>, _) = breakers.into_iter().partition(|rule| rule.strategy == 0);
        never.iter().for_each(|rule| note("error circuit breaker", &rule.resource));
        Ok(Self { flow, breakers, isolation, system })
    }
}

fn read<R: DeserializeOwned + std::fmt::Debug>(
    context: &InitContext,
    field: &str,
    words: &str,
    check: fn(&R) -> Result<(), &'static str>,
) -> Result<Vec<R>, ComponentError> {
    let Some(text) = context.metadata.get(field).filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let mut rules: Vec<R> = serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "fail to load sentinel {words} rules '{text}': metadata field {field:?} is not a JSON array of rules"
        );
        ComponentError::caused(ErrorKind::InvalidRequest, message, error)
    })?;
    rules.retain(|rule| match check(rule) {
        Ok(()) => true,
        Err(problem) => {
            context.log.warn(format_args!(
                "middleware.http.sentinel {}: {field}: this rule is ignored: {problem}: {rule:?}",
                context.name
            ));
            false
        }
    });
    Ok(rules)
}

fn flow(rule: &FlowRule) -> Result<(), &'static str> {
    let memory = rule.token_calculate_strategy == BY_MEMORY;
    let problems = [
        (rule.resource.is_empty(), "empty resource"),
        (rule.threshold < 0.0, "negative threshold"),
        (!(0..=BY_MEMORY).contains(&rule.token_calculate_strategy), "tokenCalculateStrategy must be 0, 1 or 2"),
        (!(0..=THROTTLE).contains(&rule.control_behavior), "controlBehavior must be 0 or 1"),
        (!(0..=ASSOCIATED).contains(&rule.relation_strategy), "relationStrategy must be 0 or 1"),
        (
            rule.relation_strategy == ASSOCIATED && rule.ref_resource.is_empty(),
            "refResource must be set when relationStrategy is 1",
        ),
        (
            rule.token_calculate_strategy == WARM_UP && rule.warm_up_period_sec == 0,
            "warmUpPeriodSec must be greater than 0",
        ),
        (
            rule.token_calculate_strategy == WARM_UP && rule.warm_up_cold_factor == 1,
            "warmUpColdFactor must be greater than 1",
        ),
        (
            memory
                && (rule.high_mem_usage_threshold <= 0
                    || rule.high_mem_usage_threshold >= rule.low_mem_usage_threshold),
            "highMemUsageThreshold must be greater than 0 and less than lowMemUsageThreshold",
        ),
        (
            memory
                && (rule.mem_low_water_mark_bytes <= 0
                    || rule.mem_low_water_mark_bytes >= rule.mem_high_water_mark_bytes),
            "memLowWaterMarkBytes must be greater than 0 and less than memHighWaterMarkBytes",
        ),
    ];
    first(&problems)
}

fn breaker(rule: &BreakerRule) -> Result<(), &'static str> {
    let problems = [
        (rule.resource.is_empty(), "empty resource"),
        (rule.stat_interval_ms == 0, "statIntervalMs must be greater than 0"),
        (rule.retry_timeout_ms == 0, "retryTimeoutMs must be greater than 0"),
        (rule.threshold < 0.0, "negative threshold"),
        (rule.strategy > 2, "strategy must be 0, 1 or 2"),
        (rule.strategy < 2 && rule.threshold > 1.0, "the threshold of a ratio must be between 0 and 1"),
    ];
    first(&problems)
}

fn isolation(rule: &IsolationRule) -> Result<(), &'static str> {
    let problems = [
        (rule.resource.is_empty(), "empty resource"),
        (rule.metric_type != 0, "metricType must be 0"),
        (rule.threshold == 0, "threshold must be greater than 0"),
    ];
    first(&problems)
}

fn system(rule: &SystemRule) -> Result<(), &'static str> {
    let problems = [
        (rule.trigger_count < 0.0, "negative triggerCount"),
        (rule.metric_type > CPU_USAGE, "metricType must be between 0 and 4"),
        (rule.metric_type == CPU_USAGE && rule.trigger_count > 1.0, "a CPU usage must be between 0 and 1"),
    ];
    first(&problems)
}

fn first(problems: &[(bool, &'static str)]) -> Result<(), &'static str> {
    problems.iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |(_, problem)| Err(problem))
}
