//! `cargo metadata` as this crate reads it: packages, their licences and sources, and who depends on whom.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The root of the repository. What cargo says now counts: with a build directory that clones share, the path compiled in may be
/// another clone's.
///
/// # Errors
/// When this crate has no parent directory.
pub(crate) fn root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let parent = Path::new(&own).parent();
    parent.map(Path::to_path_buf).context("xtask has no parent directory")
}

/// One package of the dependency graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX expression; empty when the manifest names none.
    pub(crate) license: String,
    /// `registry+…` or `git+…`; `None` for a crate of this workspace.
    pub(crate) source: Option<String>,
    /// `[package.metadata.house] layer`.
    pub(crate) layer: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One declared dependency.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only for tests.
    pub(crate) dev: bool,
}

/// All packages of the lock file.
///
/// # Errors
/// When cargo fails or answers something else than expected.
pub(crate) fn load() -> Result<Vec<Package>> {
    parse(&ask(&[])?)
}

/// Where builds go.
///
/// # Errors
/// When cargo fails or answers something else than expected.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = ask(&["--no-deps"])?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?.into())
}

/// The cargo that runs this, or the one in the path.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn ask(options: &[&str]) -> Result<Value> {
    let output = Command::new(cargo())
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(options)
        .current_dir(root()?)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("reading cargo metadata")
}

/// Reads the JSON of `cargo metadata`, format version 1.
///
/// # Errors
/// When a field is missing.
pub(crate) fn parse(metadata: &Value) -> Result<Vec<Package>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    packages.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let dependencies = value["dependencies"].as_array().context("a package has no dependencies field")?;
    Ok(Package {
        name: text("name").context("a package has no name")?,
        version: text("version").unwrap_or_default(),
        license: text("license").unwrap_or_default(),
        source: text("source"),
        layer: value["metadata"]["house"]["layer"].as_str().map(str::to_owned),
        dependencies: dependencies
            .iter()
            .filter_map(|dependency| {
                Some(Dependency {
                    name: dependency["name"].as_str()?.to_owned(),
                    dev: dependency["kind"].as_str() == Some("dev"),
                })
            })
            .collect(),
    })
}
