//! Resources that come, change and go on disk while the sidecar runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use pillion_testkit::{Answer, Binary, FakeApp, ResourceDir, Sidecar, SidecarOptions, eventually, request};
use serde_json::{Value, json};

use crate::fixture::{PUBSUB, STATE, unique};

/// In effect within this time; the tests print what it took.
const LIMIT: Duration = Duration::from_secs(10);

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
}

async fn metadata(sidecar: &Sidecar) -> Value {
    sidecar.get("/v1.0/metadata").await.unwrap().json()
}

/// The names in a list of the metadata, sorted.
async fn names(sidecar: &Sidecar, list: &str) -> Vec<String> {
    let metadata = metadata(sidecar).await;
    let items = metadata[list].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> =
        items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

async fn wait_for_names(sidecar: &Sidecar, list: &str, wanted: &[&str]) {
    let started = Instant::now();
    eventually(&format!("{list} = {wanted:?}"), LIMIT, || async {
        (names(sidecar, list).await == wanted).then_some(())
    })
    .await;
    println!("{list} = {wanted:?} after {} ms", started.elapsed().as_millis());
}

fn store(name: &str, metadata: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec: {{type: state.in-memory, version: v1, metadata: [{metadata}]}}\n"
    )
}

#[tokio::test]
async fn components_come_change_and_go() {
    let dir = ResourceDir::new().unwrap();
    let sidecar = SidecarOptions::new(&unique("reload")).resources(dir.path()).start().await.unwrap();
    assert_eq!(names(&sidecar, "components").await, [""; 0]);
    write(dir.path(), "a.yaml", STATE);
    wait_for_names(&sidecar, "components", &["mystore"]).await;
    let save = json!([{"key": "k", "value": 1}]).to_string();
    assert_eq!(sidecar.post("/v1.0/state/mystore", &save).await.unwrap().status, StatusCode::NO_CONTENT);
    // The same values in other words are no change: what is stored stays.
    write(dir.path(), "a.yaml", &format!("# a remark\n{STATE}"));
    write(dir.path(), "b.yaml", &store("other", ""));
    wait_for_names(&sidecar, "components", &["mystore", "other"]).await;
    assert_eq!(sidecar.get("/v1.0/state/mystore/k").await.unwrap().text(), "1");
    // Another value is a change: keys have another prefix then.
    write(dir.path(), "b.yaml", &store("other", "{name: keyPrefix, value: name}"));
    sidecar.wait_for_log("Component updated: other (state.in-memory/v1)").await;
    assert_eq!(sidecar.get("/v1.0/state/mystore/k").await.unwrap().text(), "1");
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    wait_for_names(&sidecar, "components", &["other"]).await;
    assert_eq!(sidecar.get("/v1.0/state/mystore/k").await.unwrap().status, StatusCode::BAD_REQUEST);
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn a_workflow_access_policy_with_mistakes_is_not_in_effect() {
    let policy = |name: &str, operation: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: WorkflowAccessPolicy\nmetadata: {{name: {name}}}\nspec: {{rules: [{{callers: [{{appID: a}}], workflows: [{{name: w, operations: [{operation}]}}]}}]}}\n"
        )
    };
    let dir = ResourceDir::new().unwrap();
    write(dir.path(), "good.yaml", &policy("good", "get"));
    write(dir.path(), "bad.yaml", &policy("bad", "fly"));
    let sidecar = SidecarOptions::new(&unique("policy")).resources(dir.path()).start().await.unwrap();
    let refused = async |name: &str| {
        sidecar.wait_for_log(&format!("WorkflowAccessPolicy \\\"{name}\\\" failed validation, skipping")).await;
    };
    refused("bad").await;
    assert_eq!(names(&sidecar, "workflowAccessPolicies").await, ["good"]);
    write(dir.path(), "newer.yaml", &policy("newer", "swim"));
    refused("newer").await;
    // What was in effect before stays.
    write(dir.path(), "good.yaml", &policy("good", "crawl"));
    refused("good").await;
    write(dir.path(), "bad.yaml", &policy("bad", "purge"));
    wait_for_names(&sidecar, "workflowAccessPolicies", &["bad", "good"]).await;
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn editors_and_config_maps_are_followed() {
    let dir = ResourceDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    // As Kubernetes mounts a config map.
    fs::create_dir(at("..1")).unwrap();
    write(&at("..1"), "map.yaml", &store("one", ""));
    symlink("..1", at("..data")).unwrap();
    symlink("..data/map.yaml", at("map.yaml")).unwrap();
    write(dir.path(), "edited.yaml", &store("edited", ""));
    let sidecar = SidecarOptions::new(&unique("reload")).resources(dir.path()).start().await.unwrap();
    assert_eq!(names(&sidecar, "components").await, ["edited", "one"]);
    // An editor writes beside and renames over it.
    write(dir.path(), ".edited.yaml.tmp", &store("edited-again", ""));
    fs::rename(at(".edited.yaml.tmp"), at("edited.yaml")).unwrap();
    wait_for_names(&sidecar, "components", &["edited-again", "one"]).await;
    for (version, name) in [("..2", "two"), ("..3", "three")] {
        fs::create_dir(at(version)).unwrap();
        write(&at(version), "map.yaml", &store(name, ""));
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        wait_for_names(&sidecar, "components", &["edited-again", name]).await;
    }
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn a_half_written_file_changes_nothing() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original closes what a broken file no longer names
    }
    let dir = ResourceDir::new().unwrap().with("a.yaml", &format!("{STATE}---\n{}", store("second", ""))).unwrap();
    let sidecar = SidecarOptions::new(&unique("reload")).resources(dir.path()).start().await.unwrap();
    let save = json!([{"key": "k", "value": 1}]).to_string();
    sidecar.post("/v1.0/state/mystore", &save).await.unwrap();
    let half = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: mys\n";
    for _ in 0..3 {
        write(dir.path(), "a.yaml", half);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    sidecar.wait_for_log("what was loaded from it before stays in effect").await;
    assert_eq!(names(&sidecar, "components").await, ["mystore", "second"]);
    assert_eq!(sidecar.get("/v1.0/state/mystore/k").await.unwrap().text(), "1");
    assert_eq!(sidecar.log().matches("stays in effect").count(), 1, "{}", sidecar.log());
    let doctor = metadata(&sidecar).await["pillionDoctor"].clone();
    assert!(doctor.to_string().contains("stays in effect"), "{doctor}");
    // Emptied for a moment, as by `>`, and then written.
    write(dir.path(), "a.yaml", "");
    tokio::time::sleep(Duration::from_millis(150)).await;
    write(dir.path(), "a.yaml", &format!("{STATE}---\n{}", store("third", "")));
    wait_for_names(&sidecar, "components", &["mystore", "third"]).await;
    assert_eq!(sidecar.get("/v1.0/state/mystore/k").await.unwrap().text(), "1", "it was never closed");
    // Emptied for good.
    write(dir.path(), "a.yaml", "");
    wait_for_names(&sidecar, "components", &[]).await;
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn subscriptions_come_change_and_go() {
    let app = FakeApp::start(|_, _| Answer::default()).await.unwrap();
    let dir = ResourceDir::new().unwrap().with("bus.yaml", PUBSUB).unwrap();
    let options = SidecarOptions::new(&unique("reload")).resources(dir.path()).app_port(app.port());
    let sidecar = options.start().await.unwrap();
    let subscription = |path: &str| {
        format!(
            "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {{name: sub}}\nspec: {{pubsubname: mypub, topic: t, routes: {{default: {path}}}}}\n"
        )
    };
    let topics = || async { metadata(&sidecar).await["subscriptions"].as_array().map_or(0, Vec::len) };
    let publish = || async {
        assert_eq!(sidecar.post("/v1.0/publish/mypub/t", "{}").await.unwrap().status, StatusCode::NO_CONTENT);
    };
    write(dir.path(), "sub.yaml", &subscription("/one"));
    eventually("one subscription", LIMIT, || async { (topics().await == 1).then_some(()) }).await;
    publish().await;
    app.wait_for("/one", 1).await;
    write(dir.path(), "sub.yaml", &subscription("/two"));
    sidecar.wait_for_log("Received Subscription UPDATED event: sub").await;
    eventually("the new route", LIMIT, || async {
        publish().await;
        (!app.requests("/two").is_empty()).then_some(())
    })
    .await;
    fs::remove_file(dir.path().join("sub.yaml")).unwrap();
    eventually("no subscription", LIMIT, || async { (topics().await == 0).then_some(()) }).await;
    let before = app.requests("/two").len();
    publish().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(app.requests("/two").len(), before);
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn the_app_is_asked_for_topics_when_the_first_broker_comes() {
    let app = FakeApp::start(|request, _| match request.path.as_str() {
        "/dapr/subscribe" => Answer::json(&json!([{"pubsubname": "mypub", "topic": "t", "route": "/asked"}])),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let dir = ResourceDir::new().unwrap();
    let options = SidecarOptions::new(&unique("reload")).resources(dir.path()).app_port(app.port());
    let sidecar = options.start().await.unwrap();
    write(dir.path(), "bus.yaml", PUBSUB);
    eventually("a message", LIMIT, || async {
        sidecar.post("/v1.0/publish/mypub/t", "{}").await.unwrap();
        (!app.requests("/asked").is_empty()).then_some(())
    })
    .await;
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn endpoints_policies_and_other_kinds_come_change_and_go() {
    let backend = FakeApp::start(|request, _| Answer::text(request.header("x-key").to_owned())).await.unwrap();
    let dir = ResourceDir::new().unwrap();
    let sidecar = SidecarOptions::new(&unique("reload")).resources(dir.path()).start().await.unwrap();
    let endpoint = |key: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {{name: shop}}\nspec: {{baseUrl: 'http://127.0.0.1:{}', headers: [{{name: x-key, value: {key}}}]}}\n",
            backend.port()
        )
    };
    let path = "/v1.0/invoke/shop/method/hello";
    assert_ne!(sidecar.get(path).await.unwrap().status, StatusCode::OK);
    write(dir.path(), "e.yaml", &endpoint("one"));
    wait_for_names(&sidecar, "httpEndpoints", &["shop"]).await;
    assert_eq!(sidecar.get(path).await.unwrap().text(), "one");
    write(dir.path(), "e.yaml", &endpoint("two"));
    eventually("the new header", LIMIT, || async { (sidecar.get(path).await.unwrap().text() == "two").then_some(()) })
        .await;
    fs::remove_file(dir.path().join("e.yaml")).unwrap();
    wait_for_names(&sidecar, "httpEndpoints", &[]).await;
    assert_ne!(sidecar.get(path).await.unwrap().status, StatusCode::OK);

    let resiliency = |name: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: {name}}}\nspec: {{policies: {{timeouts: {{t: 5s}}}}, targets: {{}}}}\n"
        )
    };
    write(dir.path(), "r.yaml", &resiliency("mine"));
    wait_for_names(&sidecar, "resiliencies", &["mine"]).await;
    write(dir.path(), "r.yaml", &resiliency("other"));
    wait_for_names(&sidecar, "resiliencies", &["other"]).await;
    fs::remove_file(dir.path().join("r.yaml")).unwrap();
    wait_for_names(&sidecar, "resiliencies", &[]).await;

    write(
        dir.path(),
        "m.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: MCPServer\nmetadata: {name: tools}\nspec: {ignoreErrors: true, endpoint: {streamableHTTP: {url: 'http://127.0.0.1:1/mcp'}}}\n",
    );
    wait_for_names(&sidecar, "mcpServers", &["tools"]).await;
    fs::remove_file(dir.path().join("m.yaml")).unwrap();
    wait_for_names(&sidecar, "mcpServers", &[]).await;
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn a_timeout_takes_effect_at_the_next_call() {
    let app = FakeApp::start(|request, _| match request.path.as_str() {
        "/slow" => Answer::text("done").after(Duration::from_millis(700)),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let dir = ResourceDir::new().unwrap();
    let id = unique("reload");
    let sidecar = SidecarOptions::new(&id).resources(dir.path()).app_port(app.port()).start().await.unwrap();
    let path = format!("/v1.0/invoke/{id}/method/slow");
    assert_eq!(sidecar.get(&path).await.unwrap().text(), "done");
    write(
        dir.path(),
        "r.yaml",
        &format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: r}}\nspec: {{policies: {{timeouts: {{t: 100ms}}}}, targets: {{apps: {{{id}: {{timeout: t}}}}}}}}\n"
        ),
    );
    wait_for_names(&sidecar, "resiliencies", &["r"]).await;
    assert_ne!(sidecar.get(&path).await.unwrap().status, StatusCode::OK);
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn without_the_feature_nothing_is_followed_until_a_hangup() {
    let (dir, other) = (ResourceDir::new().unwrap(), ResourceDir::new().unwrap());
    let configuration = other.path().join("config.yaml");
    fs::write(
        &configuration,
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec: {features: [{name: HotReload, enabled: false}]}\n",
    )
    .unwrap();
    let options = SidecarOptions::new(&unique("reload")).resources(dir.path()).configuration(&configuration);
    let sidecar = options.start().await.unwrap();
    let pid = sidecar.pid();
    write(dir.path(), "a.yaml", STATE);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(names(&sidecar, "components").await, [""; 0]);
    sidecar.hang_up();
    wait_for_names(&sidecar, "components", &["mystore"]).await;
    assert_eq!(sidecar.pid(), pid);
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn a_hangup_finishes_what_is_under_way_on_the_same_ports() {
    let app = FakeApp::start(|request, _| match request.path.as_str() {
        "/slow" => Answer::text("done").after(Duration::from_secs(2)),
        _ => Answer::text("quick"),
    });
    let app = app.await.unwrap();
    let id = unique("reload");
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).start().await.unwrap();
    let (port, path) = (sidecar.http, format!("/v1.0/invoke/{id}/method/slow"));
    let call = tokio::spawn(async move { request(port, Method::GET, &path, &[], "").await });
    app.wait_for("/slow", 1).await;
    sidecar.hang_up();
    sidecar.wait_for_log("Received signal 'hangup'").await;
    let quick = format!("/v1.0/invoke/{id}/method/quick");
    eventually("a call", LIMIT, || async { (sidecar.get(&quick).await.ok()?.text() == "quick").then_some(()) }).await;
    assert_eq!(call.await.unwrap().unwrap().text(), "done");
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_leaves_everything_as_it_was() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original ends
    }
    let other = ResourceDir::new().unwrap();
    let configuration = other.path().join("config.yaml");
    let text = |rate: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{tracing: {{samplingRate: \"{rate}\"}}}}\n"
        )
    };
    fs::write(&configuration, text("0")).unwrap();
    let sidecar = SidecarOptions::new(&unique("reload")).configuration(&configuration).start().await.unwrap();
    fs::write(&configuration, "kind: [").unwrap();
    sidecar.wait_for_log("the Configuration: it stays as it was").await;
    sidecar.hang_up();
    sidecar.wait_for_log("Reload failed, everything stays in effect").await;
    assert_eq!(sidecar.get("/v1.0/healthz").await.unwrap().status, StatusCode::NO_CONTENT);
    fs::write(&configuration, text("1")).unwrap();
    sidecar.wait_for_log("triggering SIGHUP reload").await;
    sidecar.wait_for_log("AlwaysOnSampler").await;
    sidecar.wait_for_log("the runtime before has ended").await;
    assert_eq!(sidecar.get("/v1.0/healthz").await.unwrap().status, StatusCode::NO_CONTENT);
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn what_failed_is_tried_again_once_in_a_while() {
    let dir = ResourceDir::new().unwrap();
    let secrets = dir.path().join("secrets.json");
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: vault}}\nspec: {{type: secretstores.local.file, version: v1, ignoreErrors: true, metadata: [{{name: secretsFile, value: '{}'}}]}}\n",
        secrets.display()
    );
    write(dir.path(), "vault.yaml", &text);
    let options = SidecarOptions::new(&unique("reload")).resources(dir.path());
    let sidecar = options.flag("--hot-reload-reconcile-interval=500ms").start().await.unwrap();
    assert_eq!(names(&sidecar, "components").await, [""; 0]);
    fs::write(&secrets, r#"{"a": "b"}"#).unwrap();
    wait_for_names(&sidecar, "components", &["vault"]).await;
    sidecar.wait_for_log("Running scheduled Component reconcile").await;
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn a_rotated_secret_makes_the_component_anew_at_the_next_check() {
    if !Binary::find().unwrap().is_ours() {
        return; // the original reads the file of secrets once
    }
    let (dir, other) = (ResourceDir::new().unwrap(), ResourceDir::new().unwrap());
    let secrets = other.path().join("secrets.json");
    fs::write(&secrets, r#"{"a": "one"}"#).unwrap();
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: vault}}\nspec: {{type: secretstores.local.file, version: v1, metadata: [{{name: secretsFile, value: '{}'}}]}}\n---\n{}auth: {{secretStore: vault}}\n",
        secrets.display(),
        store("mystore", "{name: a, secretKeyRef: {name: a, key: a}}")
    );
    write(dir.path(), "all.yaml", &text);
    let options = SidecarOptions::new(&unique("reload")).resources(dir.path());
    let sidecar =
        options.flag("--hot-reload-reconcile-interval=500ms").flag("--log-level=debug").start().await.unwrap();
    let save = json!([{"key": "k", "value": 1}]).to_string();
    sidecar.post("/v1.0/state/mystore", &save).await.unwrap();
    sidecar.wait_for_log("Running scheduled Component reconcile").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(sidecar.get("/v1.0/state/mystore/k").await.unwrap().text(), "1", "what did not change goes on");
    fs::write(&secrets, r#"{"a": "two"}"#).unwrap();
    sidecar.wait_for_log("Closing existing Component to reload: mystore (state.in-memory/v1)").await;
    eventually("the new one", LIMIT, || async {
        (sidecar.get("/v1.0/state/mystore/k").await.unwrap().status == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
    fs::remove_file(&secrets).unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(names(&sidecar, "components").await, ["mystore", "vault"]);
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_made_again_is_followed() {
    let root = ResourceDir::new().unwrap();
    let dir = root.path().join("resources");
    fs::create_dir(&dir).unwrap();
    write(&dir, "a.yaml", &store("one", ""));
    let sidecar = SidecarOptions::new(&unique("reload")).resources(&dir).start().await.unwrap();
    fs::remove_dir_all(&dir).unwrap();
    if Binary::find().unwrap().is_ours() {
        sidecar.wait_for_log("they stay as they were").await;
        assert_eq!(names(&sidecar, "components").await, ["one"]);
        fs::create_dir(&dir).unwrap();
        write(&dir, "b.yaml", &store("two", ""));
        wait_for_names(&sidecar, "components", &["two"]).await;
        // Another directory in its place.
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        write(&other, "c.yaml", &store("three", ""));
        fs::rename(&dir, root.path().join("away")).unwrap();
        fs::rename(&other, &dir).unwrap();
        wait_for_names(&sidecar, "components", &["three"]).await;
        sidecar.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_component_that_fails_ends_the_sidecar_as_at_its_start() {
    let dir = ResourceDir::new().unwrap().with("a.yaml", STATE).unwrap();
    let mut sidecar = SidecarOptions::new(&unique("reload")).resources(dir.path()).start().await.unwrap();
    write(
        dir.path(),
        "a.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: mystore}\nspec: {type: secretstores.local.file, version: v1}\n",
    );
    let status = sidecar.wait_for_exit(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", sidecar.log());
    let log = sidecar.log();
    assert!(log.contains("Error processing component, daprd will exit gracefully: process component mystore"), "{log}");
    assert!(log.contains("Fatal error from runtime: process component mystore error"), "{log}");
}
