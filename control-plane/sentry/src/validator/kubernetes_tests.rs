//! Token reviews against a fake API server.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::kube::fake::FakeKube;

/// A token of a pod; nobody but the (fake) API server looks at its signature.
fn token(pod: &str) -> String {
    let claims = json!({"kubernetes.io": {"pod": {"name": pod}}}).to_string();
    format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims))
}

fn pod(namespace: &str, name: &str, annotations: Json) -> Json {
    json!({
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
        "spec": {"serviceAccountName": "account"},
    })
}

fn configuration(name: &str, trust_domain: &str) -> Json {
    json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"accessControl": {"trustDomain": trust_domain}}})
}

fn user(namespace: &str, account: &str) -> Json {
    json!({"authenticated": true, "user": {"username": format!("system:serviceaccount:{namespace}:{account}")}})
}

async fn validator() -> (Kubernetes, FakeKube) {
    let pods = [
        pod("ns", "plain", Json::Null),
        pod("ns", "shop", json!({"dapr.io/app-id": "shop", "dapr.io/config": "conf"})),
        pod("ns", "lost", json!({"dapr.io/app-id": "lost", "dapr.io/config": "missing"})),
        pod("ns", "fake", json!({"dapr.io/control-plane": "operator"})),
        pod("other", "shop", json!({"dapr.io/app-id": "thief"})),
        pod("system", "operator", json!({"dapr.io/control-plane": "operator"})),
        pod("system", "nonsense", json!({"dapr.io/control-plane": "kitchen"})),
        pod("system", "both", json!({"dapr.io/control-plane": "operator", "dapr.io/app-id": "x"})),
    ];
    let mut fake = FakeKube::default()
        .with("/api/v1/pods", json!({"items": pods}))
        .with("/apis/dapr.io/v1alpha1/configurations", json!({"items": [configuration("conf", "corp")]}));
    for name in ["plain", "shop", "lost", "fake", "absent"] {
        fake = fake.with_review(&token(name), user("ns", "account"));
    }
    for name in ["operator", "nonsense", "both"] {
        fake = fake.with_review(&token(name), user("system", "account"));
    }
    fake = fake
        .with_review("wrong", json!({"authenticated": false}))
        .with_review("told", json!({"error": "too old", "authenticated": true}))
        .with_review("elsewhere", json!({"authenticated": true, "audiences": ["vault"], "user": {"username": "alice"}}))
        .with_review("human", json!({"authenticated": true, "user": {"username": "alice"}}));
    let sentry = SpiffeId::parse("spiffe://cluster.local/ns/system/dapr-sentry").unwrap();
    (Kubernetes::new(fake.client().await, sentry, &Logger::silent()), fake)
}

fn request(token: &str, namespace: &str, id: &str) -> SignCertificateRequest {
    SignCertificateRequest {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        token: token.to_owned(),
        trust_domain: "asked.for".to_owned(),
        certificate_signing_request: "x".into(),
        ..SignCertificateRequest::default()
    }
}

#[tokio::test]
async fn pods_get_the_id_they_are_annotated_with() {
    let (validator, fake) = validator().await;
    for (name, namespace, id, trust_domain) in [
        ("plain", "ns", "plain", "public"),
        ("shop", "ns", "shop", "corp"),
        ("operator", "system", "dapr-operator", "cluster.local"),
    ] {
        let found = validator.validate(&request(&token(name), namespace, id)).await;
        assert_eq!(found.as_ref().map(TrustDomain::as_str), Ok(trust_domain), "{name}");
    }
    let audiences = fake.last_review()["audiences"].clone();
    assert_eq!(audiences, json!(["dapr.io/sentry", "spiffe://cluster.local/ns/system/dapr-sentry"]));
}

#[tokio::test]
async fn everybody_else_is_refused_with_a_reason() {
    let (validator, _) = validator().await;
    for (token, namespace, id, reason) in [
        (token("shop"), "ns", "thief", "app-id mismatch. expected: shop, received: thief"),
        (token("shop"), "other", "thief", "namespace mismatch"),
        (token("absent"), "ns", "absent", "failed to get pod of identity"),
        (token("lost"), "ns", "lost", "failed to get configuration"),
        (token("fake"), "ns", "dapr-operator", "control plane service in namespace 'ns' is not allowed"),
        (token("nonsense"), "system", "dapr-kitchen", "unknown control plane service"),
        (token("both"), "system", "x", "cannot have annotation"),
        ("wrong".to_owned(), "ns", "shop", "authentication failed"),
        ("told".to_owned(), "ns", "shop", "invalid token: too old"),
        ("elsewhere".to_owned(), "ns", "shop", "invalid token: it is for other audiences"),
        ("human".to_owned(), "ns", "shop", "not a properly structured service account token"),
        ("unknown".to_owned(), "ns", "shop", "token review failed"),
        (token("shop"), "ns", "", "app-id cannot be empty"),
    ] {
        let error = validator.validate(&request(&token, namespace, id)).await.unwrap_err();
        assert!(error.contains(reason), "{error:?} for {reason:?}");
    }
}
