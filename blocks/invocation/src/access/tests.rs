//! What a caller that is denied gets, and what the metrics tell.

use pillion_resources::AccessPolicy;
use pillion_telemetry::metrics::MetricsOptions;

use super::*;

fn deny_all() -> AccessControlSpec {
    AccessControlSpec { default_action: "deny".into(), trust_domain: "public".into(), policies: None }
}

#[test]
fn a_denial_names_identity_operation_and_verb() {
    let access =
        |is_http| AccessControl::compile(&deny_all(), is_http, Metrics::off(), Logger::silent()).unwrap().unwrap();
    let caller = SpiffeId::parse("spiffe://public/ns/default/caller").unwrap();
    let text = "access control policy has denied access to id: ";
    for (is_http, peer, asked, end) in [
        (true, Some(&caller), Asked::Method(Some("GET")), "spiffe://public/ns/default/caller operation: a/b verb: GET"),
        (true, None, Asked::Method(None), " operation: a/b verb: NONE"),
        (false, None, Asked::Method(Some("PUT")), " operation: a/b verb: NONE"),
        (false, Some(&caller), Asked::Service, "spiffe://public/ns/default/caller operation: a/b verb: NONE"),
    ] {
        let error = access(is_http).check(peer, "a/b", asked).unwrap_err();
        assert_eq!((error.code, error.message), (GrpcCode::PermissionDenied, format!("{text}{end}")));
    }
}

#[test]
fn rules_that_allow_everything_cost_nothing() {
    let allow = AccessControlSpec { default_action: "allow".into(), ..deny_all() };
    let compiled =
        |spec: &AccessControlSpec, metrics| AccessControl::compile(spec, true, metrics, Logger::silent()).unwrap();
    assert!(compiled(&allow, Metrics::off()).is_none());
    assert!(compiled(&deny_all(), Metrics::off()).is_some());
    let metrics = Metrics::new(&MetricsOptions::new("app", ""));
    let counting = compiled(&allow, metrics.clone()).expect("the original counts these calls too");
    counting.check(None, "x", Asked::Service).unwrap();
    let line = "dapr_runtime_acl_global_policy_action_allowed_total{app_id=\"\",namespace=\"\",trustDomain=\"\"} 1";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[test]
fn an_incomplete_policy_cannot_be_used() {
    let spec = AccessControlSpec { policies: Some(vec![AccessPolicy::default()]), ..deny_all() };
    assert!(AccessControl::compile(&spec, true, Metrics::off(), Logger::silent()).is_err());
}
