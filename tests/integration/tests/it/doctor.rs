//! What a sidecar says of parts that wait or do not work, and what `doctor` makes of it.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use pillion_testkit::{Answer, Binary, FakeApp, ResourceDir, Sidecar, SidecarOptions, eventually, reserve};
use serde_json::{Value, json};

use crate::fixture::{STATE, unique};

/// The parts on the board of a sidecar, when there are as many as wanted.
async fn parts(sidecar: &Sidecar, count: usize) -> Vec<Value> {
    let what = format!("{count} parts on the board");
    eventually(&what, Duration::from_secs(10), || async {
        let metadata = sidecar.get("/v1.0/metadata").await.ok()?.json();
        let parts = metadata["pillionDoctor"].as_array().cloned().unwrap_or_default();
        (parts.len() == count).then_some(parts)
    })
    .await
}

fn doctor(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Binary::find().unwrap().role_command("doctor");
    command.args(arguments).env("DAPR_RUNTIME_PATH", root).env("PATH", "").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[tokio::test]
async fn a_missing_app_is_explained_until_it_comes() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let id = unique("doctor");
    let port = reserve().unwrap();
    let app_port = port.port();
    port.release();
    let sidecar = SidecarOptions::new(&id)
        .app_port(app_port)
        .environment("DAPR_RUNTIME_PATH", &root.path().display().to_string())
        .spawn()
        .unwrap();
    let found = parts(&sidecar, 1).await;
    assert_eq!(
        (&found[0]["part"], &found[0]["state"], &found[0]["name"]),
        (&json!("app"), &json!("waiting"), &json!(id))
    );
    assert_eq!(found[0]["reason"], format!("the app to listen on 127.0.0.1:{app_port} (http)"));
    assert!(found[0]["since"].as_str().unwrap().ends_with('Z'), "{found:?}");
    assert!(found[0]["whatToDo"].as_str().unwrap().contains("--app-port"), "{found:?}");
    eventually("the error of a connect", Duration::from_secs(5), || async {
        let error = parts(&sidecar, 1).await[0]["lastError"].as_str().unwrap_or_default().to_owned();
        error.to_lowercase().contains("refused").then_some(())
    })
    .await;

    let output = doctor(root.path(), &["--app-id", &id, "-o", "json"]);
    let told: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let message = format!("waits for the app to listen on 127.0.0.1:{app_port} (http)");
    assert_eq!((&told["findings"][0]["message"], &told["findings"][0]["since"]), (&json!(message), &found[0]["since"]));

    let app = FakeApp::listen(app_port, |_, _| Answer::default()).await.unwrap();
    parts(&sidecar, 0).await;
    let metadata = sidecar.get("/v1.0/metadata").await.unwrap().json();
    assert!(metadata.get("pillionDoctor").is_none(), "the key is absent when all is well: {metadata}");
    let output = doctor(root.path(), &["--app-id", &id]);
    assert!(output.status.success() && text(&output).contains("is ready"), "{}", text(&output));
    drop(app);
    eventually("the app that is gone", Duration::from_secs(10), || async {
        let output = doctor(root.path(), &["--app-id", &id]);
        let told = text(&output).contains("does not take connections");
        (told && output.status.code() == Some(1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_did_not_start_is_explained() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    let app = FakeApp::start(|_, _| Answer::default()).await.unwrap();
    let dir = ResourceDir::new()
        .unwrap()
        .with("state.yaml", STATE)
        .unwrap()
        .with(
            "broken.yaml",
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: files}\nspec: {type: secretstores.local.file, version: v1, ignoreErrors: true, metadata: [{name: secretsFile, value: /nowhere/s.json}]}\n",
        )
        .unwrap()
        .with(
            "waiting.yaml",
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: second}\nspec: {type: state.in-memory, version: v1, metadata: [{name: a, secretKeyRef: {name: b}}]}\nauth: {secretStore: vault}\n",
        )
        .unwrap()
        .with(
            "subscription.yaml",
            "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {name: s}\nspec: {pubsubname: nobody, topic: t, routes: {default: /t}}\n",
        )
        .unwrap();
    let sidecar =
        SidecarOptions::new(&unique("doctor")).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    let found = parts(&sidecar, 3).await;
    let of = |kind: &str, name: &str| {
        let part = found.iter().find(|part| part["part"] == kind && part["name"] == name);
        part.unwrap_or_else(|| panic!("{kind} {name}: {found:#?}"))
    };
    let files = of("component", "files");
    assert_eq!(files["state"], "unhealthy");
    assert!(files["lastError"].as_str().unwrap().contains("/nowhere/s.json"), "{files}");
    assert!(files["whatToDo"].as_str().unwrap().contains("broken.yaml:1"), "{files}");
    let second = of("component", "second");
    assert!(second["state"] == "waiting" && second["reason"].as_str().unwrap().contains("\"vault\""), "{second}");
    let subscription = of("subscription", "nobody/t");
    assert_eq!(subscription["lastError"], "pubsub 'nobody' not found");
}

#[tokio::test]
async fn an_open_breaker_is_explained() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    let app = FakeApp::start(|_, _| Answer::status(http::StatusCode::INTERNAL_SERVER_ERROR)).await.unwrap();
    let target = unique("target");
    let callee = SidecarOptions::new(&target).app_port(app.port()).start().await.unwrap();
    let dir = ResourceDir::new()
        .unwrap()
        .with(
            "r.yaml",
            &format!("apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: r}}\nspec:\n  policies: {{circuitBreakers: {{fuse: {{timeout: 60s, trip: consecutiveFailures >= 2}}}}}}\n  targets: {{apps: {{{target}: {{circuitBreaker: fuse}}}}}}\n"),
        )
        .unwrap();
    let caller = SidecarOptions::new(&unique("doctor")).resources(dir.path()).start().await.unwrap();
    for _ in 0..3 {
        caller.get(&format!("/v1.0/invoke/{target}/method/x")).await.unwrap();
    }
    let found = parts(&caller, 1).await;
    assert_eq!((&found[0]["part"], &found[0]["state"]), (&json!("circuitBreaker"), &json!("unhealthy")));
    assert!(found[0]["whatToDo"].as_str().unwrap().contains(&target), "{found:?}");
    drop(callee);
}

#[tokio::test]
async fn an_unhealthy_app_is_explained() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    let app = FakeApp::start(|_, _| Answer::status(http::StatusCode::SERVICE_UNAVAILABLE)).await.unwrap();
    let sidecar = SidecarOptions::new(&unique("doctor"))
        .app_port(app.port())
        .flag("--enable-app-health-check")
        .flag("--app-health-probe-interval=1")
        .start()
        .await
        .unwrap();
    eventually("the status of a probe", Duration::from_secs(10), || async {
        let found = parts(&sidecar, 1).await;
        let told = found[0]["lastError"].as_str().unwrap_or_default().contains("503");
        (found[0]["part"] == "app" && found[0]["state"] == "unhealthy" && told).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_machine_is_looked_at() {
    if !Binary::find().unwrap().is_ours() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let components = root.path().join(".dapr/components");
    std::fs::create_dir_all(&components).unwrap();
    std::fs::write(components.join("a.yaml"), STATE).unwrap();
    let output = doctor(root.path(), &["all"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("can be written") && text(&output).contains("has no problems"), "{}", text(&output));
    std::fs::write(components.join("b.yaml"), STATE.replace("state.in-memory", "state.in-memroy")).unwrap();
    let output = doctor(root.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("b.yaml:5: spec.type: unknown component type"), "{}", text(&output));
    assert_eq!(doctor(root.path(), &["--app-id", "nobody"]).status.code(), Some(1));
}
