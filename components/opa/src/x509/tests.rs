//! Certificates made by the security crate, and one whose object Go printed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pillion_security::issue::{self, Signer, Validity};
use pillion_security::{Certificate, PrivateKey, SpiffeId, TrustDomain};
use serde_json::{Value as Json, json};

use super::*;

/// Root, issuer, leaf.
fn chain() -> [Certificate; 3] {
    let validity =
        Validity { now: SystemTime::now(), ttl: Duration::from_secs(600), clock_skew: Duration::from_secs(60) };
    let [root_key, issuer_key, key] = std::array::from_fn(|_| PrivateKey::generate_p256().unwrap());
    let root = issue::root(&root_key, "public", validity).unwrap();
    let signer = Signer { certificate: &root, key: &root_key };
    let issuer = issue::issuer(&issuer_key.public_key_info(), "public", signer, validity).unwrap();
    let id = SpiffeId::new(TrustDomain::parse("public").unwrap(), "default", "app").unwrap();
    let signer = Signer { certificate: &issuer, key: &issuer_key };
    let leaf = issue::workload(&key.public_key_info(), &id, &["app.example".to_owned()], signer, validity).unwrap();
    [root, issuer, leaf]
}

fn pem_of(certificates: &[&Certificate]) -> String {
    certificates.iter().map(|certificate| certificate.to_pem()).collect()
}

fn json(value: Option<Value>) -> Json {
    serde_json::from_str(&value.unwrap().to_string()).unwrap()
}

#[test]
fn every_form_of_certificates() {
    let [root, issuer, leaf] = chain();
    let pem = pem_of(&[&leaf, &issuer]);
    let der = STANDARD.encode([leaf.der(), issuer.der()].concat());
    let forms = [pem.clone(), STANDARD.encode(&pem), der];
    for form in forms {
        let found = json(parse_certificates(&[form.as_str().into()]));
        assert_eq!(found.as_array().unwrap().len(), 2, "{form}");
        assert_eq!(found[0]["DNSNames"], json!(["app.example"]));
        assert_eq!(found[0]["URIStrings"], json!(["spiffe://public/ns/default/app"]));
        assert_eq!(found[0]["URIs"][0]["Host"], "public");
        assert_eq!(found[0]["URIs"][0]["Path"], "/ns/default/app");
        assert_eq!((&found[0]["IsCA"], &found[1]["IsCA"]), (&json!(false), &json!(true)));
        assert_eq!(found[0]["Raw"], STANDARD.encode(leaf.der()));
    }
    for wrong in ["", "no", "bm8=", "-----BEGIN CERTIFICATE-----"] {
        let found = parse_certificates(&[wrong.into()]);
        assert!(found.is_none() || found == Some(Value::new_array()), "{wrong}");
    }
    drop(root);
}

#[test]
fn chains() {
    let [root, issuer, leaf] = chain();
    let verified = |certificates: &[&Certificate]| json(parse_and_verify(&[pem_of(certificates).into()]));
    let good = verified(&[&root, &issuer, &leaf]);
    assert_eq!(good[0], true);
    let order: Vec<_> = good[1].as_array().unwrap().iter().map(|found| found["Raw"].clone()).collect();
    assert_eq!(order, [&leaf, &issuer, &root].map(|certificate| json!(STANDARD.encode(certificate.der()))));
    let [other_root, ..] = chain();
    for wrong in [&[&root, &leaf][..], &[&other_root, &issuer, &leaf], &[&leaf], &[&leaf, &issuer, &root]] {
        assert_eq!(verified(wrong), json!([false, []]));
    }
    assert_eq!(json(parse_and_verify(&["no".into()])), json!([false, []]));
    let nanoseconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let now = SystemTime::now();
    for (options, expected) in [
        (json!({}), Some(true)),
        (json!({"DNSName": "app.example"}), Some(true)),
        (json!({"DNSName": "other.example"}), Some(false)),
        (json!({"CurrentTime": nanoseconds(now)}), Some(true)),
        (json!({"CurrentTime": nanoseconds(now + Duration::from_secs(6000))}), Some(false)),
        (json!({"KeyUsages": ["KeyUsageClientAuth"]}), Some(true)),
        (json!({"KeyUsages": ["KeyUsageCodeSigning"]}), Some(false)),
        (json!({"KeyUsages": ["KeyUsageCodeSigning", "KeyUsageServerAuth"]}), Some(true)),
        (json!({"KeyUsages": ["KeyUsageAny"]}), Some(true)),
        (json!({"KeyUsages": ["other"]}), None),
        (json!({"other": 1}), None),
    ] {
        let arguments = [pem_of(&[&root, &issuer, &leaf]).into(), Value::from_json_str(&options.to_string()).unwrap()];
        let found = parse_and_verify_with_options(&arguments).map(|found| json(Some(found))[0] == true);
        assert_eq!(found, expected, "{options}");
    }
}

/// What Go 1.24's `encoding/json` prints of the certificates of `tests.pem`, with `URIStrings` as OPA adds it.
#[test]
fn the_form_is_that_of_go() {
    let expected: Json = serde_json::from_str(include_str!("tests.json")).unwrap();
    let found = json(parse_certificates(&[include_str!("tests.pem").into()]));
    for (found, expected) in found.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
        for (name, expected) in expected.as_object().unwrap() {
            assert_eq!(&found[name], expected, "{name}");
        }
        assert_eq!(found.as_object().unwrap().len(), expected.as_object().unwrap().len());
    }
}
