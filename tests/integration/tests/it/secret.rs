//! The secrets API over a local file and the environment.

use http::Method;
use pillion_testkit::{ResourceDir, Sidecar, SidecarOptions};
use serde_json::json;

use crate::fixture::unique;

async fn with_file(configuration: Option<&str>) -> (ResourceDir, ResourceDir, Sidecar) {
    let data =
        ResourceDir::new().unwrap().with("secrets.json", r#"{"one":"1","two":{"deep":"2"},"three":"3"}"#).unwrap();
    let data = data.with("config.yaml", configuration.unwrap_or_default()).unwrap();
    let component = format!(
        "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: mysecrets}}
spec:
  type: secretstores.local.file
  version: v1
  metadata:
  - {{name: secretsFile, value: '{}'}}
",
        data.path().join("secrets.json").display()
    );
    let dir = ResourceDir::new().unwrap().with("secrets.yaml", &component).unwrap();
    let mut options = SidecarOptions::new(&unique("secret")).resources(dir.path());
    if configuration.is_some() {
        options = options.configuration(&data.path().join("config.yaml"));
    }
    let sidecar = options.start().await.unwrap();
    (data, dir, sidecar)
}

#[tokio::test]
async fn one_and_all_are_read() {
    let (_data, _dir, sidecar) = with_file(None).await;
    assert_eq!(sidecar.get("/v1.0/secrets/mysecrets/one").await.unwrap().json(), json!({"one": "1"}));
    assert_eq!(sidecar.get("/v1.0/secrets/mysecrets/two:deep").await.unwrap().json(), json!({"two:deep": "2"}));
    let all = sidecar.get("/v1.0/secrets/mysecrets/bulk").await.unwrap().json();
    assert_eq!(all, json!({"one": {"one": "1"}, "two:deep": {"two:deep": "2"}, "three": {"three": "3"}}));
}

#[tokio::test]
async fn unknown_names_are_refused() {
    let (_data, _dir, sidecar) = with_file(None).await;
    let store = sidecar.get("/v1.0/secrets/other/one").await.unwrap();
    assert_eq!((store.status.as_u16(), store.error_code()), (401, "ERR_SECRET_STORE_NOT_FOUND".to_owned()));
    let key = sidecar.get("/v1.0/secrets/mysecrets/none").await.unwrap();
    assert_eq!((key.status.as_u16(), key.error_code()), (500, "ERR_SECRET_GET".to_owned()));
}

#[tokio::test]
async fn without_a_store_nothing_is_configured() {
    let sidecar = SidecarOptions::new(&unique("secret")).start().await.unwrap();
    let reply = sidecar.send(Method::GET, "/v1.0/secrets/any/one", &[], "").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_SECRET_STORES_NOT_CONFIGURED".to_owned()));
}

#[tokio::test]
async fn scopes_deny_one_and_filter_all() {
    let configuration = "
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: scoped}
spec:
  secrets:
    scopes:
    - {storeName: mysecrets, defaultAccess: allow, deniedSecrets: [three]}
";
    let (_data, _dir, sidecar) = with_file(Some(configuration)).await;
    let denied = sidecar.get("/v1.0/secrets/mysecrets/three").await.unwrap();
    assert_eq!((denied.status.as_u16(), denied.error_code()), (403, "ERR_PERMISSION_DENIED".to_owned()));
    let all = sidecar.get("/v1.0/secrets/mysecrets/bulk").await.unwrap().json();
    assert_eq!(all, json!({"one": {"one": "1"}, "two:deep": {"two:deep": "2"}}));
}

#[tokio::test]
async fn the_environment_is_a_store() {
    let component = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: env}
spec: {type: secretstores.local.env, version: v1}
";
    let dir = ResourceDir::new().unwrap().with("env.yaml", component).unwrap();
    let options = SidecarOptions::new(&unique("secret")).resources(dir.path()).environment("IT_SECRET", "from outside");
    let sidecar = options.start().await.unwrap();
    assert_eq!(sidecar.get("/v1.0/secrets/env/IT_SECRET").await.unwrap().json(), json!({"IT_SECRET": "from outside"}));
}
