//! Compares what is in effect with what the resources say now, by value.
//!
//! *Invariant:* pure: nothing here waits, reads or logs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pillion_resources::types::{HttpEndpoint, Origin, OtherResource, Resiliency, Subscription};
use pillion_resources::{Loaded, Severity};

/// Puts back what files with mistakes gave before and do not give now.
pub(super) fn keep_broken(before: &Loaded, now: &mut Loaded) {
    let errors = now.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let broken: BTreeSet<PathBuf> = errors.map(|finding| finding.file.clone()).collect();
    if broken.is_empty() {
        return;
    }
    keep(&before.components, &mut now.components, &broken, |item| (&item.origin, &item.name));
    keep(&before.http_endpoints, &mut now.http_endpoints, &broken, |item| (&item.origin, &item.name));
    keep(&before.subscriptions, &mut now.subscriptions, &broken, |item| (&item.origin, &item.name));
    keep(&before.resiliencies, &mut now.resiliencies, &broken, |item| (&item.origin, &item.name));
    for kind in ["MCPServer", "WorkflowAccessPolicy", "Configuration"] {
        let of_kind = |others: &[OtherResource]| -> Vec<OtherResource> {
            others.iter().filter(|other| other.kind == kind).cloned().collect()
        };
        let mut present = of_kind(&now.others);
        keep(&of_kind(&before.others), &mut present, &broken, |item| (&item.origin, &item.name));
        now.others.retain(|other| other.kind != kind);
        now.others.append(&mut present);
    }
}

fn keep<T: Clone>(before: &[T], now: &mut Vec<T>, broken: &BTreeSet<PathBuf>, key: impl Fn(&T) -> (&Origin, &String)) {
    for item in before {
        let (origin, name) = key(item);
        if broken.contains(&origin.file) && !now.iter().any(|other| key(other).1 == name) {
            now.push(item.clone());
        }
    }
}

/// Whether a file that gave something before has no byte now, as one that is about to be written.
pub(super) fn emptied(before: &Loaded, now: &Loaded) -> bool {
    let files: BTreeSet<&Path> = origins(before).map(|origin| origin.file.as_path()).collect();
    let still: BTreeSet<&Path> = origins(now).map(|origin| origin.file.as_path()).collect();
    files.difference(&still).any(|file| std::fs::metadata(file).is_ok_and(|metadata| metadata.len() == 0))
}

fn origins(loaded: &Loaded) -> impl Iterator<Item = &Origin> {
    let components = loaded.components.iter().map(|item| &item.origin);
    let endpoints = loaded.http_endpoints.iter().map(|item| &item.origin);
    let subscriptions = loaded.subscriptions.iter().map(|item| &item.origin);
    let resiliencies = loaded.resiliencies.iter().map(|item| &item.origin);
    let others = loaded.others.iter().map(|item| &item.origin);
    components.chain(endpoints).chain(subscriptions).chain(resiliencies).chain(others)
}

/// What does not change stays where it is; what changed or came follows. *Source:* as the original lists them.
pub(super) fn in_order(before: &[Subscription], now: Vec<Subscription>) -> Vec<Subscription> {
    let mut left = now;
    let mut ordered = Vec::with_capacity(left.len());
    for old in before {
        if let Some(index) = left.iter().position(|new| subscription(new) == subscription(old)) {
            ordered.push(left.remove(index));
        }
    }
    ordered.append(&mut left);
    ordered
}

pub(super) fn same_subscriptions(before: &[Subscription], now: &[Subscription]) -> bool {
    before.iter().map(subscription).eq(now.iter().map(subscription))
}

pub(super) fn same_resiliencies(before: &[Resiliency], now: &[Resiliency]) -> bool {
    before.iter().map(resiliency).eq(now.iter().map(resiliency))
}

pub(super) fn same_endpoints(before: &[HttpEndpoint], now: &[HttpEndpoint]) -> bool {
    before.iter().map(endpoint).eq(now.iter().map(endpoint))
}

// A manifest without what does not change its effect.

fn subscription(item: &Subscription) -> Subscription {
    Subscription { namespace: None, scopes: Vec::new(), origin: Origin::default(), ..item.clone() }
}

fn resiliency(item: &Resiliency) -> Resiliency {
    Resiliency { scopes: Vec::new(), origin: Origin::default(), ..item.clone() }
}

fn endpoint(item: &HttpEndpoint) -> HttpEndpoint {
    let mut item = HttpEndpoint { namespace: None, scopes: Vec::new(), origin: Origin::default(), ..item.clone() };
    item.headers.iter_mut().chain(&mut item.client_tls).for_each(|item| item.line = 0);
    item
}

/// A line for each resource that came, changed or went, apart from components, which tell of themselves.
pub(super) fn events(before: &Loaded, now: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    let list = |loaded: &Loaded| -> Vec<Told> {
        let subscriptions = loaded.subscriptions.iter().map(|item| Told {
            kind: "Subscription",
            name: item.name.clone(),
            value: format!("{:?}", subscription(item)),
        });
        let resiliencies = loaded.resiliencies.iter().map(|item| Told {
            kind: "Resiliency",
            name: item.name.clone(),
            value: format!("{:?}", resiliency(item)),
        });
        let endpoints = loaded.http_endpoints.iter().map(|item| Told {
            kind: "HTTPEndpoint",
            name: item.name.clone(),
            value: format!("{:?}", endpoint(item)),
        });
        let others = loaded.others.iter().map(|item| Told {
            kind: match item.kind.as_str() {
                "MCPServer" => "MCPServer",
                "Configuration" => "Configuration",
                _ => "WorkflowAccessPolicy",
            },
            name: item.name.clone(),
            value: item.document.to_string(),
        });
        subscriptions.chain(resiliencies).chain(endpoints).chain(others).collect()
    };
    let (before, now) = (list(before), list(now));
    let same_name = |one: &Told, other: &Told| one.kind == other.kind && one.name == other.name;
    for old in before.iter().filter(|old| !now.iter().any(|new| same_name(old, new))) {
        lines.push(format!("Received {} DELETED event: {}", old.kind, old.name));
    }
    for new in &now {
        let same: Vec<&Told> = before.iter().filter(|old| same_name(old, new)).collect();
        if same.is_empty() {
            lines.push(format!("Received {} CREATED event: {}", new.kind, new.name));
        } else if !same.iter().any(|old| old.value == new.value) {
            lines.push(format!("Received {} UPDATED event: {}", new.kind, new.name));
        }
    }
    lines
}

struct Told {
    kind: &'static str,
    name: String,
    value: String,
}

#[cfg(test)]
mod tests;
