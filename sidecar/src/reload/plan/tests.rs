use std::fs;
use std::path::Path;

use pillion_resources::{LoadOptions, load_directories};

use super::*;

fn component(name: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec: {{type: state.in-memory, version: v1}}\n"
    )
}

fn subscription_text(name: &str, topic: &str) -> String {
    format!(
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {{name: {name}}}\nspec: {{pubsubname: p, topic: {topic}, routes: {{default: /{topic}}}}}\n"
    )
}

fn load(directory: &Path) -> Loaded {
    load_directories(&[directory.to_owned()], &LoadOptions::default())
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.components.iter().map(|component| component.name.as_str()).collect()
}

#[test]
fn a_file_with_mistakes_keeps_what_it_gave_and_gives_what_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("a.yaml", &format!("{}---\n{}", component("one"), component("two")));
    write("b.yaml", &component("three"));
    let before = load(directory.path());
    // Half of the first document, and a new one behind it.
    write("a.yaml", &format!("apiVersion: dapr.io/v1alpha1\nkind: Compo\n  metadata: [\n---\n{}", component("four")));
    fs::remove_file(directory.path().join("b.yaml")).unwrap();
    let mut now = load(directory.path());
    assert_eq!(names(&now), ["four"]);
    keep_broken(&before, &mut now);
    assert_eq!(names(&now), ["four", "one", "two"], "a file that is gone keeps nothing");
    // Once it is right, it says everything.
    write("a.yaml", &component("two"));
    let mut right = load(directory.path());
    keep_broken(&now, &mut right);
    assert_eq!(names(&right), ["two"]);
}

#[test]
fn a_file_without_a_byte_may_be_about_to_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, component("one")).unwrap();
    let before = load(directory.path());
    assert!(!emptied(&before, &load(directory.path())));
    fs::write(&file, "").unwrap();
    assert!(emptied(&before, &load(directory.path())));
    fs::remove_file(&file).unwrap();
    assert!(!emptied(&before, &load(directory.path())));
}

#[test]
fn subscriptions_that_changed_follow_those_that_did_not() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("a.yaml", &format!("{}---\n{}", subscription_text("s1", "a"), subscription_text("s2", "b")));
    let before = load(directory.path());
    write("0.yaml", "# moved down\n");
    write("a.yaml", &format!("\n\n{}---\n{}", subscription_text("s1", "c"), subscription_text("s2", "b")));
    let now = load(directory.path());
    let ordered = in_order(&before.subscriptions, now.subscriptions.clone());
    let topics: Vec<&str> = ordered.iter().map(|subscription| subscription.topic.as_str()).collect();
    assert_eq!(topics, ["b", "c"]);
    assert!(!same_subscriptions(&before.subscriptions, &ordered));
    assert_eq!(events(&before, &now), ["Received Subscription UPDATED event: s1"]);
    // Other lines, the same values.
    write("a.yaml", &format!("# a remark\n{}---\n{}", subscription_text("s1", "a"), subscription_text("s2", "b")));
    let same = load(directory.path());
    assert!(same_subscriptions(&before.subscriptions, &in_order(&before.subscriptions, same.subscriptions.clone())));
    assert_eq!(events(&before, &same), Vec::<String>::new());
}

#[test]
fn kinds_without_a_block_are_told_too() {
    let directory = tempfile::tempdir().unwrap();
    let before = load(directory.path());
    fs::write(
        directory.path().join("c.yaml"),
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec: {tracing: {samplingRate: \"1\"}}\n---\n\
         apiVersion: dapr.io/v1alpha1\nkind: MCPServer\nmetadata: {name: m}\nspec: {endpoint: {sse: {url: http://h/x}}}\n",
    )
    .unwrap();
    let now = load(directory.path());
    assert_eq!(
        events(&before, &now),
        ["Received Configuration CREATED event: c", "Received MCPServer CREATED event: m"]
    );
    assert_eq!(
        events(&now, &before),
        ["Received Configuration DELETED event: c", "Received MCPServer DELETED event: m"]
    );
}
