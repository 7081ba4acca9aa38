//! Manifests of every kind whose text says a number, for `bench reload`: each edition differs from the one before in value.
//!
//! *Neighbours:* `reload` decides when they are written. *Invariant:* a file is written beside its place and renamed over it, so that a
//! reader sees one edition or the other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Name of the component whose type alternates, so that the metadata tell its edition.
pub(crate) const PROBE: &str = "probe";

/// The resource directory and Configuration of one sidecar.
pub(crate) struct Manifests {
    pub(crate) resources: PathBuf,
    pub(crate) configuration: PathBuf,
    /// The app the Resiliency and the HTTPEndpoint are about.
    target: String,
    database: PathBuf,
}

impl Manifests {
    /// Makes the directory below `directory` and writes edition 0 of everything.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub(crate) fn new(directory: &Path, target: &str) -> Result<Self> {
        let resources = directory.join("resources");
        fs::create_dir_all(&resources).with_context(|| format!("creating {}", resources.display()))?;
        let manifests = Self {
            resources,
            configuration: directory.join("config.yaml"),
            target: target.to_owned(),
            database: directory.join("state.db"),
        };
        manifests.write_resources(0)?;
        manifests.write_configuration(0)?;
        Ok(manifests)
    }

    /// Writes edition `number` of three components, a subscription, policies and an endpoint.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub(crate) fn write_resources(&self, number: usize) -> Result<()> {
        let path = |name: &str| self.resources.join(name);
        let edition = format!("  - name: edition\n    value: \"{number}\"\n");
        let database = format!("{edition}  - name: connectionString\n    value: \"{}\"\n", self.database.display());
        replace(&path("memory.yaml"), &component("memory", "state.in-memory", &edition))?;
        replace(&path("sqlite.yaml"), &component("sqlite", "state.sqlite", &database))?;
        replace(&path("bus.yaml"), &component("bus", "pubsub.in-memory", &edition))?;
        replace(
            &path("subscription.yaml"),
            &manifest(
                "v2alpha1",
                "Subscription",
                "orders",
                &format!("  pubsubname: bus\n  topic: orders\n  routes:\n    default: /orders/{number}\n"),
            ),
        )?;
        replace(
            &path("resiliency.yaml"),
            &manifest(
                "v1alpha1",
                "Resiliency",
                "policies",
                &format!(
                    "  policies:\n    timeouts:\n      general: {}s\n  targets:\n    apps:\n      {}:\n        timeout: general\n",
                    10 + number % 10,
                    self.target
                ),
            ),
        )?;
        replace(
            &path("endpoint.yaml"),
            &manifest("v1alpha1", "HTTPEndpoint", "outside", &format!("  baseUrl: http://127.0.0.1:1/{number}\n")),
        )
    }

    /// Writes edition `number` of the Configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_configuration(&self, number: usize) -> Result<()> {
        let spec = format!("  tracing:\n    samplingRate: \"0.00000{}\"\n", 1 + number % 9);
        replace(&self.configuration, &manifest("v1alpha1", "Configuration", "bench", &spec))
    }

    /// Writes `count` components whose type alternates with `number`; gives that type.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub(crate) fn write_probes(&self, count: usize, number: usize) -> Result<&'static str> {
        let kind = ["state.in-memory", "pubsub.in-memory"][number % 2];
        for index in 0..count {
            let name = format!("{PROBE}-{index}");
            replace(&self.resources.join(format!("{name}.yaml")), &component(&name, kind, ""))?;
        }
        Ok(kind)
    }
}

fn component(name: &str, kind: &str, items: &str) -> String {
    let metadata = if items.is_empty() { "  metadata: []\n".to_owned() } else { format!("  metadata:\n{items}") };
    manifest("v1alpha1", "Component", name, &format!("  type: {kind}\n  version: v1\n{metadata}"))
}

fn manifest(version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: dapr.io/{version}\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

/// Writes `text` beside `path` and renames it over.
fn replace(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text).with_context(|| format!("writing {}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("renaming to {}", path.display()))
}
