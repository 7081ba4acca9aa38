//! Names that refer to other resources, checked over a whole directory.

use crate::distance::did_you_mean;
use crate::finding::Finding;
use crate::finding::Severity::{Error, Warning};
use crate::load::Loaded;
use crate::manifest::finding;
use crate::types::{Component, Origin};

/// Two actor state stores, and names of pub/subs, secret stores and target components that nothing in the directory defines.
///
/// Unknown names are warnings, since the component may come from another directory or be registered while running.
pub(crate) fn references(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = Vec::new();
    actor_state_stores(&loaded.components, &mut findings);
    let of = |category: &str| -> Vec<&str> {
        let prefix = format!("{category}.");
        loaded
            .components
            .iter()
            .filter(|component| component.component_type.starts_with(&prefix))
            .map(|component| component.name.as_str())
            .collect()
    };
    let mut unknown = |origin: &Origin, field: &str, what: &str, name: &str, known: &[&str]| {
        if !name.is_empty() && !known.contains(&name) {
            let mut suggestion = did_you_mean(name, known.iter().copied());
            if suggestion.is_empty() {
                suggestion = "add it, or correct the name".to_owned();
            }
            let message = format!("there is no {what} named {name:?} in this directory");
            findings.push(finding(Warning, &origin.file, origin.line, field, message, suggestion));
        }
    };
    let pubsubs = of("pubsub");
    for subscription in &loaded.subscriptions {
        unknown(&subscription.origin, "spec.pubsubname", "pubsub component", &subscription.pubsub_name, &pubsubs);
    }
    let mut stores = of("secretstores");
    stores.push("kubernetes");
    let users = loaded.components.iter().map(|component| (&component.origin, &component.secret_store));
    for (origin, store) in
        users.chain(loaded.http_endpoints.iter().map(|endpoint| (&endpoint.origin, &endpoint.secret_store)))
    {
        unknown(origin, "auth.secretStore", "secret store component", store.as_deref().unwrap_or_default(), &stores);
    }
    let components: Vec<&str> = loaded.components.iter().map(|component| component.name.as_str()).collect();
    for resiliency in &loaded.resiliencies {
        for name in resiliency.components.keys() {
            unknown(&resiliency.origin, &format!("spec.targets.components.{name}"), "component", name, &components);
        }
    }
    findings
}

fn actor_state_stores(components: &[Component], findings: &mut Vec<Finding>) {
    let is_actor_store = |component: &&Component| {
        let mut items = component.metadata.iter();
        component.component_type.starts_with("state.")
            && items
                .any(|item| item.name.eq_ignore_ascii_case("actorStateStore") && item.value.as_deref() == Some("true"))
    };
    let share_an_app = |left: &Component, right: &Component| {
        left.scopes.is_empty() || right.scopes.is_empty() || left.scopes.iter().any(|app| right.scopes.contains(app))
    };
    let stores: Vec<&Component> = components.iter().filter(is_actor_store).collect();
    for (index, store) in stores.iter().enumerate() {
        if let Some(first) = stores.iter().take(index).find(|first| share_an_app(first, store)) {
            let message =
                format!("{} is a second actor state store besides {}; only one is allowed", store.name, first.name);
            let suggestion = "remove actorStateStore from one of them, or give them different scopes";
            findings.push(finding(Error, &store.origin.file, store.origin.line, "spec.metadata", message, suggestion));
        }
    }
}
