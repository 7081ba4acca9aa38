//! The exposition, with the literal text a scraper gets.

use std::time::Duration;

use super::table::ROWS_MAX;
use super::text::go_float;
use super::*;

fn metrics() -> (MetricsOptions, Metrics) {
    let mut options = MetricsOptions::new("app", "default");
    options.latency_buckets = vec![5.0, 0.0, 50.0];
    options.record_error_codes = true;
    let metrics = Metrics::new(&options);
    (options, metrics)
}

/// The lines about one metric, without its help.
fn lines(metrics: &Metrics, name: &str) -> String {
    let text = metrics.text();
    let about = |line: &&str| line.starts_with(name) || line.starts_with(&format!("# TYPE {name} "));
    text.lines().filter(about).map(|line| format!("{line}\n")).collect()
}

#[test]
fn nothing_is_shown_before_it_is_recorded() {
    assert_eq!(metrics().1.text(), "");
    assert_eq!(Metrics::off().text(), "");
    assert!(Metrics::off().http().is_none());
}

#[test]
fn server_calls_are_counted_and_timed() {
    let (_, metrics) = metrics();
    let http = metrics.http().unwrap();
    http.served("GET", "/v1.0/state/store/a", 200, (0, 1500), Duration::from_micros(4900));
    http.served("BREW", "/v1.0/state/store/b", 200, (0, 1024), Duration::from_millis(5));
    let expected = "\
# TYPE dapr_http_server_latency histogram
dapr_http_server_latency_bucket{app_id=\"app\",method=\"GET\",path=\"/v1.0/state/store\",status=\"200\",le=\"5\"} 1
dapr_http_server_latency_bucket{app_id=\"app\",method=\"GET\",path=\"/v1.0/state/store\",status=\"200\",le=\"50\"} 1
dapr_http_server_latency_bucket{app_id=\"app\",method=\"GET\",path=\"/v1.0/state/store\",status=\"200\",le=\"+Inf\"} 1
dapr_http_server_latency_sum{app_id=\"app\",method=\"GET\",path=\"/v1.0/state/store\",status=\"200\"} 4
dapr_http_server_latency_count{app_id=\"app\",method=\"GET\",path=\"/v1.0/state/store\",status=\"200\"} 1
dapr_http_server_latency_bucket{app_id=\"app\",method=\"UNKNOWN\",path=\"/v1.0/state/store\",status=\"200\",le=\"5\"} 0
dapr_http_server_latency_bucket{app_id=\"app\",method=\"UNKNOWN\",path=\"/v1.0/state/store\",status=\"200\",le=\"50\"} 1
dapr_http_server_latency_bucket{app_id=\"app\",method=\"UNKNOWN\",path=\"/v1.0/state/store\",status=\"200\",le=\"+Inf\"} 1
dapr_http_server_latency_sum{app_id=\"app\",method=\"UNKNOWN\",path=\"/v1.0/state/store\",status=\"200\"} 5
dapr_http_server_latency_count{app_id=\"app\",method=\"UNKNOWN\",path=\"/v1.0/state/store\",status=\"200\"} 1
";
    assert_eq!(lines(&metrics, "dapr_http_server_latency"), expected);
    let sizes = lines(&metrics, "dapr_http_server_response_bytes");
    assert!(sizes.contains("{app_id=\"app\",le=\"1024\"} 0\n"), "{sizes}");
    assert!(sizes.contains("{app_id=\"app\",le=\"2048\"} 2\n"), "{sizes}");
    assert!(sizes.contains("{app_id=\"app\",le=\"1.048576e+06\"} 2\n"), "{sizes}");
    assert!(sizes.ends_with("dapr_http_server_response_bytes_sum{app_id=\"app\"} 2524\ndapr_http_server_response_bytes_count{app_id=\"app\"} 2\n"), "{sizes}");
    let help = "# HELP dapr_http_server_request_count Requests of the HTTP API.\n# TYPE dapr_http_server_request_count counter\n";
    assert!(metrics.text().contains(help));
}

#[test]
fn low_cardinality_has_one_series_and_no_responses() {
    let (mut options, _) = metrics();
    options.increased_cardinality = false;
    options.exclude_verbs = true;
    let metrics = Metrics::new(&options);
    for number in 0..10_000 {
        metrics.http().unwrap().served("GET", &format!("/x/{number}"), 404, (0, 0), Duration::ZERO);
    }
    let expected = "\
# TYPE dapr_http_server_request_count counter
dapr_http_server_request_count{app_id=\"app\",method=\"\",path=\"\",status=\"404\"} 10000
";
    assert_eq!(lines(&metrics, "dapr_http_server_request_count"), expected);
    assert_eq!(lines(&metrics, "dapr_http_server_response_count"), "");
}

#[test]
fn a_full_table_merges_paths() {
    let (_, metrics) = metrics();
    for number in 0..ROWS_MAX + 7 {
        metrics.http().unwrap().served("GET", &format!("/x/{number}"), 200, (0, 0), Duration::ZERO);
    }
    let text = lines(&metrics, "dapr_http_server_request_count");
    assert_eq!(text.lines().count(), ROWS_MAX + 2);
    assert!(text.contains("method=\"GET\",path=\"\",status=\"200\"} 7\n"));
}

#[test]
fn what_cannot_be_a_label_is_not_counted() {
    let (_, metrics) = metrics();
    let http = metrics.http().unwrap();
    http.served("GET", "/ä", 200, (0, 0), Duration::ZERO);
    http.served("GET", &format!("/{}", "a".repeat(255)), 200, (0, 0), Duration::ZERO);
    http.served("GET", "/\"\\", 200, (0, 0), Duration::ZERO);
    let expected = "\
# TYPE dapr_http_server_request_count counter
dapr_http_server_request_count{app_id=\"app\",method=\"GET\",path=\"/\\\"\\\\\",status=\"200\"} 1
";
    assert_eq!(lines(&metrics, "dapr_http_server_request_count"), expected);
}

#[test]
fn calls_of_the_app_keep_the_fraction_of_a_millisecond() {
    let (_, metrics) = metrics();
    let http = metrics.http().unwrap();
    http.asking("POST", "orders", 3);
    http.asked("POST", "orders", None, Duration::from_micros(1250));
    http.probed(Some(200), Duration::from_micros(500));
    let text = metrics.text();
    for line in [
        "dapr_http_client_sent_bytes_sum{app_id=\"app\",method=\"POST\",path=\"/orders\",status=\"\"} 3",
        "dapr_http_client_completed_count{app_id=\"app\",method=\"POST\",path=\"/orders\",status=\"500\"} 1",
        "dapr_http_client_roundtrip_latency_sum{app_id=\"app\",method=\"POST\",path=\"/orders\",status=\"500\"} 1.25",
        "dapr_http_client_received_bytes_count{app_id=\"app\"} 1",
        "dapr_http_healthprobes_completed_count{app_id=\"app\",status=\"200\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in:\n{text}");
    }
}

#[test]
fn grpc_calls_are_told_by_method_and_status() {
    let (_, metrics) = metrics();
    let grpc = metrics.grpc().unwrap();
    grpc.served("/dapr.proto.runtime.v1.Dapr/GetState", 0, (20, 30), Duration::from_millis(7));
    grpc.streamed("/a.B/C", 14, Duration::ZERO);
    grpc.asked("/dapr.proto.runtime.v1.AppCallback/OnInvoke", 1, (5, 0), Duration::ZERO);
    grpc.probed(12, Duration::ZERO);
    let text = metrics.text();
    for line in [
        "dapr_grpc_io_server_completed_rpcs{app_id=\"app\",grpc_server_method=\"/a.B/C\",grpc_server_status=\"Unavailable\"} 1",
        "dapr_grpc_io_server_completed_rpcs{app_id=\"app\",grpc_server_method=\"/dapr.proto.runtime.v1.Dapr/GetState\",grpc_server_status=\"OK\"} 1",
        "dapr_grpc_io_server_server_latency_sum{app_id=\"app\",grpc_server_method=\"/dapr.proto.runtime.v1.Dapr/GetState\",grpc_server_status=\"OK\"} 7",
        "dapr_grpc_io_server_received_bytes_per_rpc_sum{app_id=\"app\",grpc_server_method=\"/dapr.proto.runtime.v1.Dapr/GetState\"} 20",
        "dapr_grpc_io_server_sent_bytes_per_rpc_sum{app_id=\"app\",grpc_server_method=\"/dapr.proto.runtime.v1.Dapr/GetState\"} 30",
        "dapr_grpc_io_client_completed_rpcs{app_id=\"app\",grpc_client_method=\"/dapr.proto.runtime.v1.AppCallback/OnInvoke\",grpc_client_status=\"Canceled\"} 1",
        "dapr_grpc_io_healthprobes_completed_count{app_id=\"app\",grpc_client_status=\"Unimplemented\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in:\n{text}");
    }
}

#[test]
fn components_have_a_namespace() {
    let (_, metrics) = metrics();
    let component = metrics.component().unwrap();
    component.state("store", "get", true, Duration::from_millis(1));
    component.secret("vault", "bulk_get", false, Duration::ZERO);
    component.published("bus", "orders", true, Duration::from_millis(1));
    component.delivered("bus", "orders", Ingress::Refused, Duration::ZERO);
    component.bulk_delivered("orders", [3, 0, 1], Duration::from_millis(1));
    let text = metrics.text();
    for line in [
        "dapr_component_state_count{app_id=\"app\",component=\"store\",namespace=\"default\",operation=\"get\",success=\"true\"} 1",
        "dapr_component_secret_count{app_id=\"app\",component=\"vault\",namespace=\"default\",operation=\"bulk_get\",success=\"false\"} 1",
        "dapr_component_pubsub_egress_count{app_id=\"app\",component=\"bus\",namespace=\"default\",success=\"true\",topic=\"orders\"} 1",
        "dapr_component_pubsub_ingress_count{app_id=\"app\",component=\"bus\",namespace=\"default\",process_status=\"drop\",status=\"success\",topic=\"orders\"} 1",
        "dapr_component_pubsub_ingress_bulk_count{app_id=\"app\",component=\"pubsubName\",namespace=\"default\",process_status=\"\",topic=\"orders\"} 1",
        "dapr_component_pubsub_ingress_bulk_event_count{app_id=\"app\",component=\"pubsubName\",namespace=\"default\",process_status=\"SUCCESS\",topic=\"orders\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in:\n{text}");
    }
    assert!(!text.contains("dapr_component_secret_latencies"), "no time, no latency");
}

#[test]
fn the_runtime_counts_components_calls_and_errors() {
    let (_, metrics) = metrics();
    let service = metrics.service().unwrap();
    service.component_initialized("state.redis");
    service.component_failed("state.redis", "init", "store");
    service.request_sent("other", CallKind::Unary);
    service.response_received("other", 404, CallKind::Unary, Duration::from_millis(2));
    service.response_received("other", -1, CallKind::Streaming, Duration::from_millis(2));
    service.request_received("unknown");
    service.response_sent("unknown", 0);
    service.access_decided(AccessDecision::AllowedByDefault, ("", "", ""));
    service.access_decided(AccessDecision::BlockedByApp, ("caller", "public", "default"));
    metrics.error_code().unwrap().record("DAPR_PUBSUB_NOT_FOUND", "pubsub");
    let text = metrics.text();
    for line in [
        "dapr_runtime_component_init_total{app_id=\"app\",component=\"state.redis\"} 1",
        "dapr_runtime_component_init_fail_total{app_id=\"app\",component=\"state.redis\",componentName=\"store\",reason=\"init\"} 1",
        "dapr_runtime_service_invocation_req_sent_total{app_id=\"app\",dst_app_id=\"other\",type=\"unary\"} 1",
        "dapr_runtime_service_invocation_res_recv_total{app_id=\"app\",src_app_id=\"other\",status=\"404\",type=\"unary\"} 1",
        "dapr_runtime_service_invocation_res_recv_total{app_id=\"app\",src_app_id=\"other\",status=\"-1\",type=\"streaming\"} 1",
        "dapr_runtime_service_invocation_res_recv_latency_ms_count{app_id=\"app\",src_app_id=\"other\",status=\"404\"} 1",
        "dapr_runtime_service_invocation_req_recv_total{app_id=\"app\",src_app_id=\"unknown\"} 1",
        "dapr_runtime_service_invocation_res_sent_total{app_id=\"app\",dst_app_id=\"unknown\",status=\"0\"} 1",
        "dapr_runtime_acl_global_policy_action_allowed_total{app_id=\"\",namespace=\"\",trustDomain=\"\"} 1",
        "dapr_runtime_acl_app_policy_action_blocked_total{app_id=\"caller\",namespace=\"default\",trustDomain=\"public\"} 1",
        "dapr_error_code_total{app_id=\"app\",category=\"pubsub\",error_code=\"DAPR_PUBSUB_NOT_FOUND\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in:\n{text}");
    }
}

#[test]
fn a_breaker_has_one_series_for_each_state() {
    let (_, metrics) = metrics();
    let resiliency = metrics.resiliency().unwrap();
    resiliency.loaded("rules", "default");
    let target =
        Target { resiliency: "rules", namespace: "default", flow_direction: "outbound", target: "Statestore_orders" };
    let policy = resiliency.policy(&target, true, true, true);
    policy.applied(Some("closed"));
    policy.retried();
    policy.changed("open");
    policy.applied(Some("open"));
    let series = |status: &str, value: &str| {
        format!(
            "{{app_id=\"app\",flow_direction=\"outbound\",name=\"rules\",namespace=\"default\",policy=\"circuitbreaker\",status=\"{status}\",target=\"Statestore_orders\"}} {value}\n"
        )
    };
    let expected = format!(
        "# TYPE dapr_resiliency_cb_state gauge\n{}",
        [("closed", "0"), ("half-open", "0"), ("open", "1"), ("unknown", "0")]
            .map(|(status, value)| format!("dapr_resiliency_cb_state{}", series(status, value)))
            .concat()
    );
    assert_eq!(lines(&metrics, "dapr_resiliency_cb_state"), expected);
    let text = metrics.text();
    assert!(text.contains(&format!("dapr_resiliency_count{}", series("closed", "1"))), "{text}");
    assert!(text.contains(&format!("dapr_resiliency_activations_total{}", series("open", "1"))), "{text}");
    assert!(text.contains("dapr_resiliency_activations_total{app_id=\"app\",flow_direction=\"outbound\",name=\"rules\",namespace=\"default\",policy=\"retry\",status=\"\",target=\"Statestore_orders\"} 1\n"));
    assert!(text.contains("dapr_resiliency_loaded{app_id=\"app\",name=\"rules\",namespace=\"default\"} 1\n"));
}

#[test]
fn rules_rewrite_labels() {
    let (mut options, _) = metrics();
    let pattern = [("/orders/{id}".to_owned(), "/orders/[0-9]+".to_owned())];
    options.rules.add("http/server/request_count", "path", &pattern).unwrap();
    assert!(options.rules.add("dapr_x", "path", &[(String::new(), "(".to_owned())]).is_err());
    let metrics = Metrics::new(&options);
    metrics.http().unwrap().served("GET", "/orders/12", 200, (0, 0), Duration::ZERO);
    metrics.http().unwrap().served("GET", "/orders/13", 200, (0, 0), Duration::ZERO);
    assert!(metrics.text().contains("path=\"/orders/{id}\",status=\"200\"} 2\n"), "{}", metrics.text());
}

#[test]
fn numbers_look_as_go_prints_them() {
    for (value, text) in [
        (0.0, "0"),
        (1.0, "1"),
        (0.25, "0.25"),
        (100_000.0, "100000"),
        (1_000_000.0, "1e+06"),
        (1_048_576.0, "1.048576e+06"),
        (4_294_967_296.0, "4.294967296e+09"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-3.5, "-3.5"),
    ] {
        assert_eq!(go_float(value), text);
    }
    assert_eq!(Decimal::new(i32::MIN).as_str(), "-2147483648");
    assert_eq!(Decimal::new(0).as_str(), "0");
}
