use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pillion_building_blocks::bindings::{InputBindings, OutputBindings};
use pillion_building_blocks::pubsub::PubSubs;
use pillion_building_blocks::secrets::SecretStores;
use pillion_building_blocks::state::StateStores;
use pillion_contract::Registry;
use pillion_core::board::Board;
use pillion_resources::{LoadOptions, load_directories};
use pillion_runtime::resiliency::Policies;
use pillion_telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::components::Blocks;
use crate::environment::Environment;

fn host(has_actors: bool) -> ComponentHost {
    let log = Logger::silent();
    let mut registry = Registry::default();
    pillion_builtin::register(&mut registry);
    let policies = Arc::new(Policies::none(&log));
    let blocks = Blocks {
        state: Arc::new(StateStores::new("app", None, policies.clone())),
        secrets: Arc::new(SecretStores::new([], policies.clone())),
        pubsub: Arc::new(PubSubs::new("app", "default", policies.clone())),
        outputs: Arc::new(OutputBindings::new(policies)),
        inputs: Arc::new(InputBindings::new(&log)),
    };
    ComponentHost {
        registry,
        blocks,
        environment: Environment::default(),
        app_id: "app".to_owned(),
        namespace: "default".to_owned(),
        data_dir: PathBuf::new(),
        has_actors,
        strict_sandbox: false,
        metrics: Metrics::off(),
        board: Board::default(),
        log,
        cancel: CancellationToken::new(),
        loaded: Mutex::default(),
        idle: Mutex::default(),
        pipelines: Mutex::default(),
        subscriptions: OnceLock::new(),
        closers: TaskTracker::new(),
    }
}

/// A directory of manifests, written as `name type extra-yaml` each.
struct Resources(tempfile::TempDir);

impl Resources {
    fn of(manifests: &[(&str, &str, &str)]) -> Self {
        let resources = Self(tempfile::tempdir().unwrap());
        resources.write(manifests);
        resources
    }

    fn write(&self, manifests: &[(&str, &str, &str)]) {
        let text: Vec<String> = manifests
            .iter()
            .map(|(name, kind, extra)| {
                format!("apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: {kind}\n  version: v1\n{extra}\n")
            })
            .collect();
        std::fs::write(self.0.path().join("all.yaml"), text.join("---\n")).unwrap();
    }

    fn components(&self) -> Vec<Component> {
        load_directories(&[self.0.path().to_owned()], &LoadOptions::default()).components
    }

    async fn apply(&self, host: &ComponentHost) -> Vec<(String, String)> {
        host.reload(&self.components(), &[], false).await.unwrap();
        let mut list: Vec<(String, String)> =
            host.list().into_iter().map(|info| (info.name, info.component_type)).collect();
        list.sort();
        list
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
}

#[tokio::test]
async fn components_come_change_and_go() {
    let host = host(false);
    let resources = Resources::of(&[("a", "state.in-memory", ""), ("b", "pubsub.in-memory", "")]);
    assert_eq!(resources.apply(&host).await, pairs(&[("a", "state.in-memory"), ("b", "pubsub.in-memory")]));
    let store = host.blocks.state.component("a").unwrap();
    // Other lines and scopes are no change.
    resources.write(&[("b", "pubsub.in-memory", ""), ("a", "state.in-memory", "scopes: [app]")]);
    resources.apply(&host).await;
    assert!(Arc::ptr_eq(&store, &host.blocks.state.component("a").unwrap()));
    // A value is, and so is another block under the same name.
    resources.write(&[("a", "state.in-memory", "  metadata: [{name: x, value: y}]"), ("b", "state.in-memory", "")]);
    assert_eq!(resources.apply(&host).await, pairs(&[("a", "state.in-memory"), ("b", "state.in-memory")]));
    assert!(!Arc::ptr_eq(&store, &host.blocks.state.component("a").unwrap()));
    assert!(!host.blocks.pubsub.contains("b"));
    resources.write(&[]);
    assert_eq!(resources.apply(&host).await, []);
    assert!(host.blocks.state.component("a").is_none());
    host.close().await;
}

fn secrets_file(directory: &Path, name: &str, value: &str) -> String {
    let file = directory.join(name);
    std::fs::write(&file, format!(r#"{{"password": "{value}"}}"#)).unwrap();
    format!("  metadata: [{{name: secretsFile, value: {}}}]", file.display())
}

#[tokio::test]
async fn secrets_that_come_or_turn_reach_those_that_take_them() {
    let host = host(false);
    let directory = tempfile::tempdir().unwrap();
    let store = "  metadata: [{name: x, secretKeyRef: {name: password}}]\nauth: {secretStore: vault}";
    let resources = Resources::of(&[("a", "state.in-memory", store)]);
    assert_eq!(resources.apply(&host).await, [], "it waits");
    let old = secrets_file(directory.path(), "old.json", "one");
    resources.write(&[("a", "state.in-memory", store), ("vault", "secretstores.local.file", &old)]);
    assert_eq!(resources.apply(&host).await.len(), 2);
    let first = host.blocks.state.component("a").unwrap();
    // The same secret from another file, then another secret.
    let same = secrets_file(directory.path(), "same.json", "one");
    resources.write(&[("a", "state.in-memory", store), ("vault", "secretstores.local.file", &same)]);
    resources.apply(&host).await;
    assert!(Arc::ptr_eq(&first, &host.blocks.state.component("a").unwrap()));
    let new = secrets_file(directory.path(), "new.json", "two");
    resources.write(&[("a", "state.in-memory", store), ("vault", "secretstores.local.file", &new)]);
    resources.apply(&host).await;
    let second = host.blocks.state.component("a").unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    // Without the store it goes on with what it has.
    resources.write(&[("a", "state.in-memory", store)]);
    assert_eq!(resources.apply(&host).await, pairs(&[("a", "state.in-memory")]));
    assert!(Arc::ptr_eq(&second, &host.blocks.state.component("a").unwrap()));
}

#[tokio::test]
async fn failures_end_the_sidecar_unless_they_are_to_be_ignored() {
    let host = host(false);
    let resources = Resources::of(&[("a", "state.in-memory", "")]);
    resources.apply(&host).await;
    let broken = "  ignoreErrors: true\n  metadata: [{name: secretsFile, value: /nowhere}]";
    resources.write(&[("a", "secretstores.local.file", broken)]);
    assert_eq!(resources.apply(&host).await, [], "what it was is not what the resources say");
    assert!(host.blocks.state.component("a").is_none());
    let known = host.idle.lock().clone();
    assert_eq!(known.keys().collect::<Vec<_>>(), ["a"]);
    resources.write(&[("a", "secretstores.local.file", "  metadata: [{name: secretsFile, value: /nowhere}]")]);
    let problem = host.reload(&resources.components(), &[], false).await.unwrap_err();
    assert!(problem.starts_with("process component a error: [INIT_COMPONENT_FAILURE]"), "{problem}");
    // A type that is denied does not come in.
    resources.write(&[("b", "state.in-memory", "")]);
    host.reload(&resources.components(), &["state.in-memory".to_owned()], false).await.unwrap();
    assert!(host.list().is_empty());
}

#[tokio::test]
async fn one_store_keeps_the_state_of_actors() {
    let host = host(true);
    let marked = "  metadata: [{name: actorStateStore, value: \"true\"}]";
    let resources = Resources::of(&[("a", "state.in-memory", marked)]);
    resources.apply(&host).await;
    resources.write(&[("a", "state.in-memory", marked), ("b", "state.in-memory", marked)]);
    assert_eq!(resources.apply(&host).await, pairs(&[("a", "state.in-memory")]));
    resources.write(&[("b", "state.in-memory", marked)]);
    assert_eq!(resources.apply(&host).await, pairs(&[("b", "state.in-memory")]), "the place is free");
    assert_eq!(*host.idle.lock(), BTreeMap::new());
}
