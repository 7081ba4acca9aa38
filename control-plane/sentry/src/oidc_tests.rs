//! OIDC answers for hosts, prefixes and forwarded hosts.

use std::sync::Arc;
use std::time::Duration;

use pillion_security::TrustDomain;
use serde_json::Value as Json;

use super::*;
use crate::authority::{Authority, Settings};
use crate::bundle::{CertificateBundle, TokenBundle};
use crate::options::TokenOptions;
use crate::store::Material;

fn authority() -> SharedAuthority {
    let tokens =
        TokenOptions { issuer: None, algorithm: "RS256".to_owned(), key_id: None, ttl: Duration::from_secs(60) };
    let settings = Settings {
        trust_domain: TrustDomain::public(),
        namespace: "default".to_owned(),
        workload_ttl: Duration::from_secs(60),
        clock_skew: Duration::from_secs(60),
        tokens: Some(tokens),
    };
    let mut material = Material::default();
    CertificateBundle::generate(&settings.trust_domain, "default", settings.clock_skew).unwrap().write(&mut material);
    TokenBundle::generate().unwrap().write(&mut material);
    SharedAuthority::new(Authority::new(Arc::new(settings), &material).unwrap().unwrap())
}

fn options() -> OidcOptions {
    OidcOptions {
        port: 0,
        listen_address: String::new(),
        tls: None,
        jwks_uri: None,
        path_prefix: None,
        allowed_hosts: Vec::new(),
    }
}

fn ask(oidc: &Oidc, path: &str, host: &str, forwarded: &str) -> (StatusCode, Json) {
    let answer = oidc.respond(Asked { method: &Method::GET, path, host, forwarded });
    (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
}

#[test]
fn answers_follow_the_options() {
    let authority = authority();
    let oidc = |options: OidcOptions, issuer: Option<&str>| {
        Oidc::new(options, issuer.map(str::to_owned), authority.clone(), &Logger::silent())
    };
    // Nothing set: everything from the host that was asked; a forwarded host is not believed.
    let plain = oidc(options(), None);
    let (status, document) = ask(&plain, DISCOVERY, "a:1", "evil.example");
    assert_eq!((status, &document["issuer"]), (StatusCode::OK, &json!("http://a:1")));
    assert_eq!(document["jwks_uri"], "http://a:1/jwks.json");
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["RS256"]));
    assert_eq!(ask(&plain, KEYS, "a:1", "").1["keys"][0]["use"], "sig");
    assert_eq!(ask(&plain, "/authorize", "a:1", "").0, StatusCode::NOT_FOUND);
    let post = plain.respond(Asked { method: &Method::POST, path: KEYS, host: "a", forwarded: "" });
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    // Hosts by name.
    let listed = oidc(OidcOptions { allowed_hosts: vec!["a".into(), "b:2".into()], ..options() }, None);
    assert_eq!(ask(&listed, KEYS, "a:99", "").0, StatusCode::OK);
    assert_eq!(ask(&listed, KEYS, "b", "").0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&listed, KEYS, "a", "c").0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&listed, DISCOVERY, "c", "a").1["issuer"], "http://a");
    // Any host: a forwarded one is still not believed.
    let any = oidc(OidcOptions { allowed_hosts: vec!["*".into()], ..options() }, None);
    assert_eq!(ask(&any, DISCOVERY, "a", "evil").1["issuer"], "http://a");
    // A prefix, an issuer, a place for the keys.
    let prefixed = oidc(OidcOptions { path_prefix: Some("/auth/".into()), ..options() }, Some("https://i/auth"));
    assert_eq!(ask(&prefixed, DISCOVERY, "a", "").0, StatusCode::NOT_FOUND);
    let (_, document) = ask(&prefixed, "/auth/.well-known/openid-configuration", "a", "");
    assert_eq!(document["issuer"], "https://i/auth");
    assert_eq!(document["jwks_uri"], "https://i/auth/jwks.json");
    let elsewhere = oidc(OidcOptions { jwks_uri: Some("https://k/x".into()), ..options() }, None);
    assert_eq!(ask(&elsewhere, DISCOVERY, "a", "").1["jwks_uri"], "https://k/x");
}
