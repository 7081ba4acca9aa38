//! Faults around a sidecar that other modules do not have: what it says of them, and that nothing is lost.
//!
//! *Neighbours:* an unknown app and one that hangs up are in `serviceinvocation`, a late one in `startup`, bodies over the limit in
//! `errors::limits`, double names in `resources`, broken events and unknown brokers in `errors::http`.

use std::collections::BTreeSet;
use std::time::Duration;

use pillion_testkit::{Answer, Binary, FakeApp, Recorded, ResourceDir, Sidecar, SidecarOptions, eventually};
use serde_json::{Value, json};

use crate::fixture::{STATE, unique};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_taken_port_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    for flag in ["--dapr-http-port", "--dapr-grpc-port", "--dapr-internal-grpc-port", "--metrics-port"] {
        let options = SidecarOptions::new(&unique("taken")).flag(&format!("{flag}={number}"));
        let mut sidecar = options.spawn().unwrap();
        let status = sidecar.wait_for_exit(LIMIT).await;
        let log = sidecar.log();
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{flag}: {log}");
        assert!(log.contains("level=fatal"), "{flag}: {log}");
        if Binary::find().unwrap().is_ours() {
            assert!(log.contains(&number.to_string()) && log.contains(&format!("choose another {flag}")), "{log}");
        }
    }
}

/// The file of the document that began this project: a bare retry, which loads nothing.
const BARE_RETRY: &str = "retryForever:\n  policy: constant\n  duration: 5s\n  maxRetries: 5\n";

#[tokio::test]
async fn what_does_not_load_is_told_and_the_rest_is_there() {
    let dir = ResourceDir::new().unwrap();
    let dir =
        dir.with("state.yaml", STATE).unwrap().with("broken.yaml", "kind: Component\nmetadata: {name: [x\n").unwrap();
    let dir = dir.with("resiliency.yaml", BARE_RETRY).unwrap();
    let sidecar = SidecarOptions::new(&unique("broken")).resources(dir.path()).start().await.unwrap();
    assert_eq!(sidecar.post("/v1.0/state/mystore", "[]").await.unwrap().status, 204);
    let log = sidecar.log();
    assert!(log.contains("broken.yaml"), "{log}");
    if Binary::find().unwrap().is_ours() {
        assert!(log.contains("broken.yaml:3: not valid YAML"), "{log}");
        let why = "resiliency.yaml:1: no kind; nothing was loaded; did you mean spec.policies.retries?";
        assert!(log.lines().any(|line| line.contains("level=warning") && line.contains(why)), "{log}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_in_its_store_ends_the_start() {
    let text = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: env}
spec: {type: secretstores.local.env, version: v1}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mystore}
auth: {secretStore: env}
spec:
  type: state.in-memory
  version: v1
  metadata:
  - name: anything
    secretKeyRef: {name: NO_SUCH_SECRET_ANYWHERE, key: NO_SUCH_SECRET_ANYWHERE}
";
    if !Binary::find().unwrap().is_ours() {
        return; // the original goes on with an empty value
    }
    let dir = ResourceDir::new().unwrap().with("all.yaml", text).unwrap();
    let mut sidecar = SidecarOptions::new(&unique("secret")).resources(dir.path()).spawn().unwrap();
    let status = sidecar.wait_for_exit(LIMIT).await;
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{}", sidecar.log());
    let log = sidecar.log();
    assert!(["NO_SUCH_SECRET_ANYWHERE", "mystore", "anything"].iter().all(|word| log.contains(word)), "{log}");
}

/// A durable broker in `root`, which several sidecars share.
fn durable(root: &std::path::Path, more: &str) -> ResourceDir {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: mypub}}\nspec:\n  type: pubsub.embedded\n  \
         version: v1\n  metadata:\n  - {{name: directory, value: \"{}\"}}\n",
        root.display()
    );
    ResourceDir::new().unwrap().with("pubsub.yaml", &text).unwrap().with("more.yaml", more).unwrap()
}

async fn subscriber(
    id: &str,
    resources: &ResourceDir,
    subscriptions: Value,
    handler: fn(&Recorded) -> Answer,
) -> (FakeApp, Sidecar) {
    let app = FakeApp::start(move |request, _| match request.path.as_str() {
        "/dapr/subscribe" => Answer::json(&subscriptions),
        _ => handler(request),
    });
    let app = app.await.unwrap();
    let sidecar = SidecarOptions::new(id).app_port(app.port()).resources(resources.path()).start().await.unwrap();
    (app, sidecar)
}

async fn publish(sidecar: &Sidecar, body: &Value) {
    let reply = sidecar.post("/v1.0/publish/mypub/tenants", &body.to_string()).await.unwrap();
    assert_eq!(reply.status, 204, "{}", reply.text());
}

fn numbers(app: &FakeApp, path: &str) -> BTreeSet<u64> {
    app.requests(path).iter().filter_map(|request| request.json()["data"].as_u64()).collect()
}

#[tokio::test]
async fn nothing_is_lost_when_app_and_sidecar_are_killed() {
    if !Binary::find().unwrap().is_ours() {
        return; // the broker is ours
    }
    let root = tempfile::tempdir().unwrap();
    let resources = durable(root.path(), "");
    let topics = json!([{"pubsubname": "mypub", "topic": "tenants", "route": "/sms"}]);
    let id = unique("sms");
    let publisher = SidecarOptions::new(&unique("publisher")).resources(resources.path()).start().await.unwrap();
    // The first app takes some, then answers nothing any more, as one that is killed at its work.
    let (app, mut sidecar) =
        subscriber(&id, &resources, topics.clone(), |request| match request.json()["data"].as_u64() {
            Some(number) if number >= 10 => Answer::hang_up(),
            _ => Answer::default(),
        })
        .await;
    for number in 0..20 {
        publish(&publisher, &json!(number)).await;
    }
    app.wait_for("/sms", 11).await;
    sidecar.kill();
    let taken = (0..10).collect::<BTreeSet<u64>>();
    drop(app);
    for number in 20..30 {
        publish(&publisher, &json!(number)).await; // nobody is there
    }
    let (app, _sidecar) = subscriber(&id, &resources, topics, |_| Answer::default()).await;
    let missing = || async {
        let came: BTreeSet<u64> = numbers(&app, "/sms").union(&taken).copied().collect();
        (came == (0..30).collect()).then_some(())
    };
    eventually("what was under way and what came later", LIMIT, missing).await;
}

#[tokio::test]
async fn poison_ends_in_the_dead_letter_topic() {
    if !Binary::find().unwrap().is_ours() {
        return; // the broker is ours
    }
    let root = tempfile::tempdir().unwrap();
    let policy = "
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: few}
spec:
  policies: {retries: {few: {policy: constant, duration: 10ms, maxRetries: 2}}}
  targets: {components: {mypub: {inbound: {retry: few}}}}
";
    let resources = durable(root.path(), policy);
    let topics = json!([
        {"pubsubname": "mypub", "topic": "tenants", "route": "/sms", "deadLetterTopic": "tenants-dead"},
        {"pubsubname": "mypub", "topic": "tenants-dead", "route": "/dead"},
    ]);
    let (app, sidecar) = subscriber(&unique("sms"), &resources, topics, |request| {
        match (request.path.as_str(), request.json()["data"].as_str()) {
            ("/sms", Some("poison")) => Answer::status(http::StatusCode::INTERNAL_SERVER_ERROR),
            _ => Answer::default(),
        }
    })
    .await;
    for word in ["good", "poison", "better"] {
        publish(&sidecar, &json!(word)).await;
    }
    let dead = app.wait_for("/dead", 1).await;
    assert_eq!(dead[0].json()["data"], "poison");
    app.wait_for("/sms", 5).await; // the good ones once each, the poison three times
    let of = |word: &str| app.requests("/sms").iter().filter(|request| request.json()["data"] == word).count();
    assert_eq!((of("good"), of("poison"), of("better"), app.requests("/dead").len()), (1, 3, 1, 1));
}
