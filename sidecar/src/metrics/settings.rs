//! From the Configuration to the metrics of a sidecar. *Source:* spec resources.md, `spec.metrics` with its older name
//! `spec.metric`; what the newer one sets is used instead of the same field of the older one.

use pillion_core::log::Logger;
use pillion_telemetry::metrics::{Metrics, MetricsOptions, Rules};
use serde_json::Value;

/// Metrics as `spec`, the merged spec of the Configuration, wants them.
///
/// # Errors
/// A rule whose pattern is no regular expression, by name.
pub(crate) fn metrics(app_id: &str, namespace: &str, spec: &Value, log: &Logger) -> Result<Metrics, String> {
    let field = |name: &str| field(spec, name);
    if field("enabled").as_bool() == Some(false) {
        return Ok(Metrics::off());
    }
    let fields = ["enabled", "recordErrorCodes", "http", "latencyDistributionBuckets", "rules"];
    let given: Vec<String> = fields
        .into_iter()
        .filter(|name| !field(name).is_null())
        .map(|name| format!("\"{name}\":{}", field(name)))
        .collect();
    log.info(format_args!("metric spec: {{{}}}", given.join(",")));
    let http = field("http");
    let list = |value: &'static str| http[value].as_array().into_iter().flatten();
    let mut options = MetricsOptions::new(app_id, namespace);
    options.increased_cardinality = increased_cardinality(spec);
    options.exclude_verbs = http["excludeVerbs"].as_bool().unwrap_or(false);
    options.path_matching = list("pathMatching").filter_map(Value::as_str).map(str::to_owned).collect();
    options.record_error_codes = field("recordErrorCodes").as_bool().unwrap_or(false);
    let buckets = field("latencyDistributionBuckets").as_array().into_iter().flatten();
    options.latency_buckets = buckets.filter_map(Value::as_f64).collect();
    options.rules = rules(field("rules"))?;
    Ok(Metrics::new(&options))
}

/// `http.increasedCardinality`, whether or not there are metrics: names in the API log follow it too.
pub(crate) fn increased_cardinality(spec: &Value) -> bool {
    field(spec, "http")["increasedCardinality"].as_bool().unwrap_or(true)
}

fn field<'a>(spec: &'a Value, name: &str) -> &'a Value {
    let newer = &spec["metrics"][name];
    if newer.is_null() { &spec["metric"][name] } else { newer }
}

fn rules(list: &Value) -> Result<Rules, String> {
    let mut rules = Rules::default();
    for rule in list.as_array().into_iter().flatten() {
        let metric = rule["name"].as_str().unwrap_or_default();
        for label in rule["labels"].as_array().into_iter().flatten() {
            let patterns: Vec<(String, String)> = label["regex"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(replacement, pattern)| Some((replacement.clone(), pattern.as_str()?.to_owned())))
                .collect();
            let name = label["name"].as_str().unwrap_or_default();
            rules.add(metric, name, &patterns).map_err(|problem| format!("spec.metrics.rules: {problem}"))?;
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn served(spec: &Value) -> String {
        let metrics = metrics("app", "default", spec, &Logger::silent()).unwrap();
        if let Some(http) = metrics.http() {
            http.served("GET", "/v1.0/invoke/a/method/orders/7", 200, (0, 0), Duration::ZERO);
        }
        metrics.text()
    }

    #[test]
    fn fields_take_effect() {
        let count = |path: &str, method: &str| {
            format!(
                "dapr_http_server_request_count{{app_id=\"app\",method=\"{method}\",path=\"{path}\",status=\"200\"}} 1\n"
            )
        };
        for (spec, expected) in [
            (json!({"metric": {"enabled": true}}), count("/v1.0/invoke/a/method/orders/7", "GET")),
            (json!({"metrics": {"http": {"increasedCardinality": false}}}), count("", "GET")),
            (json!({"metrics": {"http": {"excludeVerbs": true}}}), count("/v1.0/invoke/a/method/orders/7", "")),
            (
                json!({"metric": {"http": {"increasedCardinality": false, "pathMatching": ["/orders/{id}"]}}}),
                count("/v1.0/invoke/{app_id}/method/orders/{id}", "GET"),
            ),
            (
                json!({"metrics": {"rules": [{"name": "dapr_http_server_request_count", "labels":
                    [{"name": "path", "regex": {"/orders": "/.*orders/.*"}}]}]}}),
                count("/orders", "GET"),
            ),
        ] {
            let text = served(&spec);
            assert!(text.contains(&expected), "{spec}: {text}");
        }
        let text = served(&json!({"metrics": {"latencyDistributionBuckets": [5, 50]}}));
        assert!(text.contains("le=\"50\"} 1\n") && !text.contains("le=\"10\""), "{text}");
    }

    #[test]
    fn the_newer_name_wins_and_off_is_off() {
        assert_eq!(served(&json!({"metric": {"enabled": true}, "metrics": {"enabled": false}})), "");
        assert_ne!(served(&json!({"metric": {"enabled": false}, "metrics": {"enabled": true}})), "");
        let bad = json!({"metrics": {"rules": [{"name": "x", "labels": [{"name": "y", "regex": {"z": "("}}]}]}});
        assert!(
            metrics("app", "default", &bad, &Logger::silent())
                .unwrap_err()
                .starts_with("spec.metrics.rules: failed to compile regex for rule x/y/z")
        );
    }
}
