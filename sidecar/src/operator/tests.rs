use serde_json::{Value, json};

use super::*;

fn loaded(kind: Kind, object: &Value) -> Loaded {
    let document = Document::read(kind, object.to_string().as_bytes()).unwrap();
    load_texts([(document.origin(kind), document.text)], &LoadOptions::default())
}

/// As Go writes a Component: every field, set or not.
fn component(value: &Value, reference: &Value, store: &str) -> Value {
    json!({
        "metadata": {"name": "store", "namespace": "shop", "creationTimestamp": null, "resourceVersion": "7"},
        "spec": {
            "type": "state.in-memory", "version": "v1", "ignoreErrors": false, "initTimeout": "",
            "metadata": [{"name": "password", "value": value, "secretKeyRef": reference}],
        },
        "auth": {"secretStore": store},
    })
}

#[test]
fn objects_are_read_as_manifests() {
    let loaded = loaded(Kind::Component, &component(&json!("open"), &json!({"name": "", "key": ""}), ""));
    assert_eq!(loaded.findings, []);
    let component = &loaded.components[0];
    assert_eq!((component.name.as_str(), component.namespace.as_deref()), ("store", Some("shop")));
    assert_eq!(component.metadata[0].value.as_deref(), Some("open"));
    assert_eq!(component.metadata[0].secret_key_ref, None);
    assert_eq!(component.origin.file, PathBuf::from("kubernetes/Component/store"));
}

#[test]
fn secrets_of_the_cluster_come_with_the_object() {
    let reference = json!({"name": "db", "key": "password"});
    for store in ["", "kubernetes"] {
        let loaded = loaded(Kind::Component, &component(&json!("c2VjcmV0"), &reference, store));
        assert_eq!(loaded.components[0].metadata[0].value.as_deref(), Some("secret"));
        assert_eq!(loaded.components[0].metadata[0].secret_key_ref, None);
    }
    let loaded = loaded(Kind::Component, &component(&Value::Null, &reference, "vault"));
    assert_eq!(loaded.components[0].metadata[0].secret_key_ref, Some(("db".to_owned(), "password".to_owned())));
    // The operator has not found it: told as such at the start of the component, which waits for no store.
    let missing = self::loaded(Kind::Component, &component(&Value::Null, &reference, "kubernetes"));
    assert_eq!(missing.components[0].secret_store, None);
    assert!(missing.components[0].metadata[0].secret_key_ref.is_some());
    let text = component(&json!("not base64!"), &reference, "").to_string();
    let problem = Document::read(Kind::Component, text.as_bytes()).unwrap_err();
    assert!(problem.contains("secret \"db\""), "{problem}");
}

#[test]
fn certificates_of_an_endpoint_may_be_secrets() {
    let endpoint = json!({
        "metadata": {"name": "shop"},
        "spec": {"baseUrl": "https://h", "clientTLS": {"rootCA": {"value": "cGVt", "secretKeyRef": {"name": "ca", "key": "tls.ca"}}}},
        "auth": {"secretStore": ""},
    });
    let loaded = loaded(Kind::HttpEndpoint, &endpoint);
    assert_eq!(loaded.http_endpoints[0].client_tls[0].value.as_deref(), Some("pem"));
}

#[test]
fn a_change_that_changes_nothing_is_none() {
    let read = |version: &str| {
        let mut object = component(&json!("open"), &json!({"name": ""}), "");
        object["metadata"]["resourceVersion"] = version.into();
        object["status"] = json!({"seen": version});
        Document::read(Kind::Component, object.to_string().as_bytes()).unwrap()
    };
    assert_eq!(read("7"), read("8"));
}

#[test]
fn what_is_no_object_is_refused() {
    for (text, part) in [("[]", "object"), ("{}", "metadata.name"), ("{", "EOF")] {
        let problem = Document::read(Kind::Component, text.as_bytes()).unwrap_err();
        assert!(problem.contains(part), "{text}: {problem}");
    }
}

#[test]
fn the_configuration_is_laid_over_the_defaults() {
    let object = json!({
        "metadata": {"name": "mine"},
        "spec": {"nameResolution": {"component": "mdns", "version": "", "configuration": null}, "features": null},
    });
    let document = Document::read(Kind::Configuration, object.to_string().as_bytes()).unwrap();
    let (configuration, findings) = read_configuration(&document.origin(Kind::Configuration), &document.text).unwrap();
    assert_eq!(findings, []);
    assert_eq!(configuration.name, "mine");
    assert_eq!(configuration.access_control.default_action, "allow");
    assert_eq!(configuration.name_resolution.map(|resolution| resolution.component), Some("mdns".to_owned()));
}
