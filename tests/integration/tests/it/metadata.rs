//! `/v1.0/metadata`.

use http::Method;
use pillion_testkit::{Answer, FakeApp, ResourceDir, SidecarOptions};
use serde_json::json;

use crate::fixture::{STATE, unique};

#[tokio::test]
async fn lists_what_was_loaded() {
    let app = FakeApp::start(|_, _| Answer::default()).await.unwrap();
    let id = unique("metadata");
    let dir = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap();
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert_eq!(metadata["id"], json!(id));
    assert_eq!(metadata["components"][0]["name"], "mystore");
    assert_eq!(metadata["components"][0]["type"], "state.in-memory");
    assert_eq!(metadata["components"][0]["version"], "v1");
    let capabilities = metadata["components"][0]["capabilities"].as_array().unwrap();
    for capability in ["ETAG", "TRANSACTIONAL", "TTL", "ACTOR"] {
        assert!(capabilities.contains(&json!(capability)), "{capability}: {capabilities:?}");
    }
    assert_eq!(metadata["appConnectionProperties"]["port"], json!(app.port()));
    assert_eq!(metadata["appConnectionProperties"]["protocol"], "http");
    assert!(metadata["runtimeVersion"].as_str().unwrap().starts_with("1.18"), "{}", metadata["runtimeVersion"]);
}

#[tokio::test]
async fn keeps_labels_that_are_put() {
    let sidecar = SidecarOptions::new(&unique("metadata")).start().await.unwrap();
    let put = sidecar.send(Method::PUT, "/v1.0/metadata/colour", &[], "dark blue").await.unwrap();
    assert_eq!(put.status, 204);
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert_eq!(metadata["extended"]["colour"], "dark blue");
    assert_eq!(metadata["extended"]["daprRuntimeVersion"], metadata["runtimeVersion"]);
}
