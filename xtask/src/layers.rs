//! `cargo xtask layers`: compares every dependency between crates of this workspace with the layer table.
//!
//! A crate says its layer in `[package.metadata.house] layer = "…"`. *Invariant:* a layer is served only by layers below
//! it; the front and the blocks never name an implementation of a component.

use std::collections::HashMap;

use anyhow::{Result, bail};

use crate::metadata::{Package, load};

/// Layer, and the layers its crates may import.
#[rustfmt::skip] // a table
const TABLE: &[(&str, &[&str])] = &[
    ("base",            &["base"]),
    ("contract",        &["base"]),
    ("conformance",     &["contract", "base"]),
    ("component",       &["contract", "base"]),
    ("catalog",         &["component", "contract"]),
    ("runtime",         &["contract", "base"]),
    ("building-blocks", &["runtime", "contract", "base"]),
    ("invocation",      &["runtime", "contract", "base"]),
    ("actors",          &["invocation", "runtime", "contract", "base"]),
    ("workflow",        &["actors", "base"]),
    ("api",             &["workflow", "actors", "invocation", "building-blocks", "runtime", "contract", "base"]),
    ("sidecar",         &["api", "workflow", "actors", "invocation", "building-blocks", "runtime", "contract", "base"]),
    ("control-plane",   &["base"]),
    ("cli",             &["base"]),
    ("dashboard",       &["base"]),
    ("pillion",         &["cli", "sidecar", "control-plane", "dashboard", "catalog", "base"]),
    ("example",         &[]),
    ("tool",            &["base"]),
];
/// Layers whose crates may import anything, because nothing but tests imports them.
const TEST_ONLY: &str = "test-only";
/// What a layer may import for its tests besides what it may import anyway.
#[rustfmt::skip] // a table
const FOR_TESTS: &[(&str, &[&str])] = &[
    ("component",       &["conformance"]),
    ("runtime",         &["component"]),
    ("building-blocks", &["component"]),
    ("invocation",      &["component"]),
    ("api",             &["component"]),
    ("sidecar",         &["component", "catalog"]),
];
/// A base crate imports only base crates further down this list's end: `proto` and `core` import none.
const BASE_ORDER: &[&str] = &[
    "pillion-http2",
    "pillion-http-client",
    "pillion-identity",
    "pillion-security",
    "pillion-telemetry",
    "pillion-resources",
    "pillion-proto",
    "pillion-core",
];

/// Runs the command.
///
/// # Errors
/// Lists every edge that is not in the table.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("usage: cargo xtask layers");
    }
    let packages: Vec<Package> = load()?.into_iter().filter(|package| package.source.is_none()).collect();
    let problems = check(&packages);
    if !problems.is_empty() {
        bail!("{} layer problem(s):\n{}", problems.len(), problems.join("\n"));
    }
    println!("layers: {} crates, every dependency between them is in the table", packages.len());
    Ok(())
}

/// One line per problem.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let by_name: HashMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut problems = Vec::new();
    for package in packages {
        let Some(layer) = package.layer.as_deref() else {
            problems.push(format!(
                "{}: add `[package.metadata.house]` with `layer = \"…\"` to its Cargo.toml",
                package.name
            ));
            continue;
        };
        if layer == TEST_ONLY {
            continue;
        }
        let Some(allowed) = row(TABLE, layer) else {
            let known: Vec<&str> = TABLE.iter().map(|(layer, _)| *layer).collect();
            problems.push(format!(
                "{}: unknown layer {layer:?}; expected one of {}, {TEST_ONLY}",
                package.name,
                known.join(", ")
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(target) = by_name.get(dependency.name.as_str()) else {
                continue; // not of this workspace
            };
            let Some(below) = target.layer.as_deref() else {
                continue; // reported at the target
            };
            let for_tests = dependency.dev
                && (below == TEST_ONLY || row(FOR_TESTS, layer).is_some_and(|more| more.contains(&below)));
            let sideways = layer == "base" && below == "base" && !downwards(&package.name, &target.name);
            if for_tests || (allowed.contains(&below) && !sideways) {
                continue;
            }
            let direction = if sideways || layer == below { "sideways" } else { "upward" };
            let kind = if dependency.dev { "dev-dependency" } else { "dependency" };
            problems.push(format!(
                "{} ({layer}) → {} ({below}): {direction} {kind}; {layer} may import {}",
                package.name,
                target.name,
                if allowed.is_empty() { "no crate of this workspace".to_owned() } else { allowed.join(", ") },
            ));
        }
    }
    problems
}

fn row<'a>(table: &'a [(&str, &'a [&'a str])], layer: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(name, _)| *name == layer).map(|(_, allowed)| *allowed)
}

/// Whether base crate `from` may import base crate `to`.
fn downwards(from: &str, to: &str) -> bool {
    let place = |name: &str| BASE_ORDER.iter().position(|known| *known == name);
    match (place(from), place(to)) {
        (Some(from), Some(to)) => from < to && from < BASE_ORDER.len() - 2, // proto and core import none
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(name: &str, layer: &str, dependencies: &[(&str, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            layer: Some(layer.to_owned()),
            dependencies: dependencies
                .iter()
                .map(|(name, dev)| Dependency { name: (*name).to_owned(), dev: *dev })
                .collect(),
            ..Package::default()
        }
    }

    fn house(changed: Package) -> Vec<String> {
        let mut crates = vec![
            package("pillion-core", "base", &[]),
            package("pillion-proto", "base", &[]),
            package("pillion-contract", "contract", &[("pillion-core", false)]),
            package("pillion-builtin", "component", &[("pillion-contract", false)]),
            package("pillion-runtime", "runtime", &[("pillion-contract", false)]),
            package("pillion-api", "api", &[("pillion-runtime", false)]),
            package("pillion-testkit", "test-only", &[("pillion-api", false)]),
        ];
        crates.retain(|known| known.name != changed.name);
        crates.push(changed);
        check(&crates)
    }

    #[test]
    fn downward_edges_and_foreign_crates_pass() {
        assert_eq!(
            house(package("pillion-runtime", "runtime", &[("pillion-core", false), ("tokio", false)])),
            Vec::<String>::new()
        );
        assert_eq!(house(package("pillion-resources", "base", &[("pillion-core", false)])), Vec::<String>::new());
    }

    #[test]
    fn upward_edge_is_named_with_what_is_allowed() {
        let problems = house(package("pillion-runtime", "runtime", &[("pillion-api", false)]));
        assert_eq!(
            problems,
            ["pillion-runtime (runtime) → pillion-api (api): upward dependency; runtime may import contract, base"]
        );
    }

    #[test]
    fn implementations_stay_unnamed_and_apart() {
        assert_eq!(house(package("pillion-api", "api", &[("pillion-builtin", false)])).len(), 1);
        assert!(house(package("pillion-redis", "component", &[("pillion-builtin", false)]))[0].contains("sideways"));
        assert!(house(package("pillion-core", "base", &[("pillion-proto", false)]))[0].contains("sideways"));
    }

    #[test]
    fn tests_may_reach_further_than_code() {
        assert!(
            house(package("pillion-runtime", "runtime", &[("pillion-builtin", true), ("pillion-testkit", true)]))
                .is_empty()
        );
        assert_eq!(house(package("pillion-runtime", "runtime", &[("pillion-testkit", false)])).len(), 1);
    }

    #[test]
    fn a_crate_without_or_with_a_wrong_layer_is_told() {
        let mut nameless = package("pillion-new", "base", &[]);
        nameless.layer = None;
        assert!(house(nameless)[0].contains("add `[package.metadata.house]`"));
        assert!(house(package("pillion-new", "attic", &[]))[0].contains("unknown layer \"attic\""));
    }

    #[test]
    fn this_workspace_keeps_its_layers() {
        let packages: Vec<Package> = load().unwrap().into_iter().filter(|package| package.source.is_none()).collect();
        assert!(packages.len() > 10);
        assert_eq!(check(&packages), Vec::<String>::new());
    }
}
