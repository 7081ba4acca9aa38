//! Loading resource files at start.

use std::time::Duration;

use pillion_testkit::{ResourceDir, SidecarOptions};

use crate::fixture::{STATE, unique};

/// Starts a sidecar that must refuse `files`, and returns its log.
async fn refused(files: &[(&str, &str)]) -> String {
    let mut dir = ResourceDir::new().unwrap();
    for (name, text) in files {
        dir = dir.with(name, text).unwrap();
    }
    let mut sidecar = SidecarOptions::new(&unique("res")).resources(dir.path()).spawn().unwrap();
    let status = sidecar.wait_for_exit(Duration::from_secs(20)).await;
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{}", sidecar.log());
    sidecar.log()
}

#[tokio::test]
async fn a_name_given_twice_is_refused() {
    let log = refused(&[("a.yaml", STATE), ("b.yaml", STATE)]).await;
    assert!(log.contains("mystore"), "{log}");
}

#[tokio::test]
async fn an_unknown_component_type_is_refused() {
    let log = refused(&[("a.yaml", &STATE.replace("in-memory", "no-such"))]).await;
    assert!(log.contains("state.no-such"), "{log}");
}

#[tokio::test]
async fn an_unknown_type_with_ignored_errors_is_left_out() {
    let text = STATE.replace("in-memory, version: v1", "no-such, version: v1, ignoreErrors: true");
    let dir = ResourceDir::new().unwrap().with("a.yaml", &text).unwrap();
    let sidecar = SidecarOptions::new(&unique("res")).resources(dir.path()).start().await.unwrap();
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert!(metadata["components"].as_array().is_none_or(Vec::is_empty), "{metadata}");
}

#[tokio::test]
async fn scopes_choose_the_applications() {
    let id = unique("res");
    let mine = format!("{STATE}scopes: [{id}]\n");
    let other = format!("{}scopes: [another-app]\n", STATE.replace("mystore", "theirs"));
    let dir = ResourceDir::new().unwrap().with("mine.yaml", &mine).unwrap().with("other.yaml", &other).unwrap();
    let sidecar = SidecarOptions::new(&id).resources(dir.path()).start().await.unwrap();
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    let names: Vec<_> = metadata["components"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["mystore"]);
}

#[tokio::test]
async fn files_of_other_kinds_of_text_are_passed_over() {
    let dir = ResourceDir::new().unwrap().with("state.yml", STATE).unwrap().with("README.md", "{ not yaml").unwrap();
    let sidecar = SidecarOptions::new(&unique("res")).resources(dir.path()).start().await.unwrap();
    assert_eq!(sidecar.post("/v1.0/state/mystore", "[]").await.unwrap().status, 204);
}

#[tokio::test]
async fn a_missing_secret_is_refused() {
    let env = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: env}
spec: {type: secretstores.local.env, version: v1}
";
    let store = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mystore}
auth: {secretStore: no-such-store}
spec:
  type: state.in-memory
  version: v1
  metadata:
  - name: anything
    secretKeyRef: {name: NO_SUCH_SECRET, key: NO_SUCH_SECRET}
";
    let dir = ResourceDir::new().unwrap().with("env.yaml", env).unwrap().with("state.yaml", store).unwrap();
    let sidecar = SidecarOptions::new(&unique("res")).resources(dir.path()).spawn().unwrap();
    sidecar.wait_for_log("no-such-store").await;
}
