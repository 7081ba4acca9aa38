//! Reads the resource directories of a standalone sidecar.
//!
//! *Source:* the disk loaders of the original: files in name order, no sub-directories, namespace before duplicates before scopes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::finding::{Finding, Severity};
use crate::manifest::{self, Manifest, Other, finding};
use crate::rules;
use crate::types::{Component, HttpEndpoint, Origin, OtherResource, Resiliency, Subscription};
use crate::yaml::split;

/// Whose resources are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// App id that `scopes` are compared with; `None` = accept every scope.
    pub app_id: Option<String>,
    /// Value of NAMESPACE; `None` or empty = namespaces of manifests are ignored.
    pub namespace: Option<String>,
    /// Component types that exist, for example `state.in-memory`; empty = types are not checked.
    pub known_types: Vec<String>,
}

/// What the directories hold for this app.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Components in load order, each name once.
    pub components: Vec<Component>,
    /// Subscriptions in load order; names may repeat.
    pub subscriptions: Vec<Subscription>,
    /// Resiliencies in load order; names may repeat, later policies override.
    pub resiliencies: Vec<Resiliency>,
    /// HTTP endpoints in load order, each name once.
    pub http_endpoints: Vec<HttpEndpoint>,
    /// Accepted manifests of other kinds, and Configurations, which are not used from here.
    pub others: Vec<OtherResource>,
    /// Every problem, in the order of files and lines.
    pub findings: Vec<Finding>,
    /// Duplicate definitions in load order, in the wire text; not empty = startup must fail. See [`Loaded::duplicates_of`].
    pub duplicates: Vec<String>,
    /// Directories that cannot be listed, in the wire text (`open x: no such file or directory`); not empty = startup must fail.
    pub unreadable: Vec<String>,
}

impl Loaded {
    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// The duplicates of one kind, joined with line ends; `None` when there are none.
    ///
    /// *Source:* text of `failed to load components: …`.
    pub fn duplicates_of(&self, kind: &str) -> Option<String> {
        let prefix = format!("duplicate definition of {kind} ");
        let texts: Vec<&str> =
            self.duplicates.iter().filter(|text| text.starts_with(&prefix)).map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    }
}

/// Loads every manifest of the directories that is meant for this app.
///
/// Good documents of a bad file still load. Problems are findings, never a panic or an early return.
pub fn load_directories(paths: &[PathBuf], options: &LoadOptions) -> Loaded {
    let mut loader = Loader::new(options, false);
    for path in paths {
        loader.directory(path);
    }
    loader.finish()
}

/// Loads manifests that are no files, such as those of a Kubernetes operator; each path only names its text in messages.
///
/// The same rules hold as for files: see [`load_directories`].
pub fn load_texts(texts: impl IntoIterator<Item = (PathBuf, String)>, options: &LoadOptions) -> Loaded {
    let mut loader = Loader::new(options, false);
    for (name, text) in texts {
        loader.text(&name, &text);
    }
    loader.finish()
}

pub(crate) struct Loader<'a> {
    options: &'a LoadOptions,
    /// Only looking: a Configuration is welcome.
    validating: bool,
    /// Accepted names by kind and name, with the name for messages.
    names: HashMap<(&'static str, String), (String, Origin)>,
    references: Vec<rules::PolicyReference>,
    loaded: Loaded,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(options: &'a LoadOptions, validating: bool) -> Self {
        Loader { options, validating, names: HashMap::new(), references: Vec::new(), loaded: Loaded::default() }
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.loaded.findings.push(finding);
    }

    /// What was loaded, after the checks that need all of it.
    pub(crate) fn finish(mut self) -> Loaded {
        rules::unknown_policies(&self.loaded.resiliencies, &self.references, &mut self.loaded.findings);
        self.loaded
    }

    fn directory(&mut self, directory: &Path) {
        match yaml_files(directory) {
            Ok(listing) => {
                self.loaded.findings.extend(listing.findings);
                for file in listing.files {
                    self.file(&file);
                }
            }
            Err(error) => {
                let text = go_text(&error);
                let suggestion = "create it or correct --resources-path";
                self.loaded.findings.push(finding(
                    Severity::Error,
                    directory,
                    0,
                    "",
                    format!("cannot list the directory: {text}"),
                    suggestion,
                ));
                self.loaded.unreadable.push(format!("open {}: {text}", directory.display()));
            }
        }
    }

    fn file(&mut self, file: &Path) {
        let text = match read_text(file) {
            Ok(text) => text,
            Err(problem) => return self.loaded.findings.push(*problem),
        };
        self.text(file, &text);
    }

    pub(crate) fn text(&mut self, file: &Path, text: &str) {
        let known_types: Vec<&str> = self.options.known_types.iter().map(String::as_str).collect();
        let findings_before = self.loaded.findings.len();
        let (mut documents, mut first) = (0, true);
        for chunk in split(text).into_iter().filter(|chunk| !chunk.is_blank()) {
            documents += 1;
            let manifest = manifest::read(file, chunk, &known_types, &mut self.loaded.findings);
            if let Some(manifest) = manifest {
                self.accept(manifest, first);
            }
            first = false;
        }
        if documents == 0 && self.loaded.findings.len() == findings_before {
            let message = "the file holds no document; nothing was loaded";
            self.loaded.findings.push(finding(
                Severity::Warning,
                file,
                0,
                "",
                message,
                "delete it or write a manifest into it",
            ));
        }
    }

    fn accept(&mut self, manifest: Manifest, first_of_file: bool) {
        match manifest {
            Manifest::Component(component) => {
                let log_name = log_name(&component);
                let meta = Meta {
                    kind: "Component",
                    name: &component.name,
                    log_name,
                    namespace: component.namespace.as_deref(),
                    scopes: &component.scopes,
                    origin: &component.origin,
                };
                if self.admit(&meta) {
                    self.loaded.components.push(component);
                }
            }
            Manifest::HttpEndpoint(endpoint) => {
                let log_name = format!("{} ({})", endpoint.name, endpoint.base_url);
                let meta = Meta {
                    kind: "HTTPEndpoint",
                    name: &endpoint.name,
                    log_name,
                    namespace: endpoint.namespace.as_deref(),
                    scopes: &endpoint.scopes,
                    origin: &endpoint.origin,
                };
                if self.admit(&meta) {
                    self.loaded.http_endpoints.push(endpoint);
                }
            }
            Manifest::Other(other) => {
                let kind = if other.kind == "MCPServer" { "MCPServer" } else { "WorkflowAccessPolicy" };
                let meta = Meta {
                    kind,
                    name: &other.name,
                    log_name: other.log_name.clone(),
                    namespace: other.namespace.as_deref(),
                    scopes: &other.scopes,
                    origin: &other.origin,
                };
                if self.admit(&meta) && !other.is_refused {
                    self.loaded.others.push(resource(other));
                }
            }
            Manifest::Subscription(subscription) => {
                if self.in_namespace(subscription.namespace.as_deref()) && self.in_scope(&subscription.scopes) {
                    self.loaded.subscriptions.push(subscription);
                }
            }
            Manifest::Resiliency(resiliency, references) => {
                self.accept_resiliency(resiliency, references, first_of_file)
            }
            Manifest::Configuration(_) if self.validating => {}
            Manifest::Configuration(other) => {
                let origin = other.origin.clone();
                if self.in_namespace(other.namespace.as_deref()) && self.in_scope(&other.scopes) {
                    self.loaded.others.push(resource(other));
                }
                let message = "a Configuration is not read from the resources; nothing was loaded";
                self.loaded.findings.push(finding(
                    Severity::Warning,
                    &origin.file,
                    origin.line,
                    "kind",
                    message,
                    "pass the file with --config",
                ));
            }
        }
    }

    /// Resiliency: only the first document of a file, any namespace, names may repeat.
    fn accept_resiliency(
        &mut self,
        resiliency: Resiliency,
        references: Vec<rules::PolicyReference>,
        first_of_file: bool,
    ) {
        if !first_of_file {
            let message = "only the first document of a file is read as Resiliency; this one was not loaded";
            let origin = &resiliency.origin;
            self.loaded.findings.push(finding(
                Severity::Warning,
                &origin.file,
                origin.line,
                "kind",
                message,
                "move it to a file of its own",
            ));
        } else if self.in_scope(&resiliency.scopes) {
            self.references.extend(references);
            self.loaded.resiliencies.push(resiliency);
        }
    }

    /// Namespace, then duplicates, then scopes; only accepted names are remembered.
    fn admit(&mut self, meta: &Meta<'_>) -> bool {
        if !self.in_namespace(meta.namespace) {
            return false;
        }
        let key = (meta.kind, meta.name.to_owned());
        if let Some((existing, place)) = self.names.get(&key) {
            let text = format!("duplicate definition of {} name {} with existing {existing}", meta.kind, meta.log_name);
            let suggestion = format!("rename one of them; the other is at {}:{}", place.file.display(), place.line);
            self.loaded.findings.push(finding(
                Severity::Error,
                &meta.origin.file,
                meta.origin.line,
                "metadata.name",
                text.clone(),
                suggestion,
            ));
            self.loaded.duplicates.push(text);
            return false;
        }
        if !self.in_scope(meta.scopes) {
            return false;
        }
        self.names.insert(key, (meta.log_name.clone(), meta.origin.clone()));
        true
    }

    fn in_namespace(&self, namespace: Option<&str>) -> bool {
        match (self.options.namespace.as_deref().filter(|own| !own.is_empty()), namespace) {
            (Some(own), Some(namespace)) => own == namespace,
            _ => true,
        }
    }

    fn in_scope(&self, scopes: &[String]) -> bool {
        let Some(app_id) = &self.options.app_id else { return true };
        scopes.is_empty() || scopes.contains(app_id)
    }
}

fn resource(other: Other) -> OtherResource {
    let Other { kind, name, document, origin, .. } = other;
    OtherResource { kind, name, document, origin }
}

/// What decides whether a manifest is accepted.
struct Meta<'a> {
    kind: &'static str,
    name: &'a str,
    log_name: String,
    namespace: Option<&'a str>,
    scopes: &'a [String],
    origin: &'a Origin,
}

/// `name (type/version)`, or `name (type)` without a version.
fn log_name(component: &Component) -> String {
    let Component { name, component_type, version, .. } = component;
    if version.is_empty() {
        format!("{name} ({component_type})")
    } else {
        format!("{name} ({component_type}/{version})")
    }
}

/// Files of a directory that are read, and what is said about the others.
pub(crate) struct Listing {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) findings: Vec<Finding>,
}

/// `*.yaml` and `*.yml` of a directory by name; sub-directories are left alone.
pub(crate) fn yaml_files(directory: &Path) -> io::Result<Listing> {
    let mut listing = Listing { files: Vec::new(), findings: Vec::new() };
    let mut paths =
        std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
        let is_yaml = extension == "yaml" || extension == "yml";
        // A link to a directory counts as a file there: opening it is what fails.
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        if is_yaml {
            listing.files.push(path);
        } else {
            let message = "not a YAML file; it was not loaded";
            listing.findings.push(finding(
                Severity::Warning,
                &path,
                0,
                "",
                message,
                "name it .yaml or .yml if it is a manifest",
            ));
        }
    }
    Ok(listing)
}

/// Text of a file, without a byte order mark.
pub(crate) fn read_text(file: &Path) -> Result<String, Box<Finding>> {
    let bytes = std::fs::read(file).map_err(|error| {
        let message = format!("cannot read the file: {}", go_text(&error));
        Box::new(finding(Severity::Error, file, 0, "", message, "check that it exists and may be read"))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        Box::new(finding(Severity::Error, file, line, "", "not UTF-8 text", "save the file as UTF-8"))
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// The operating system's words without Rust's `(os error N)`, in Go's lower case.
pub(crate) fn go_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests;
