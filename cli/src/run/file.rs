//! The run file (`dapr.yaml`): which applications run together, with what settings.
//!
//! *Job:* read it once into typed values with resolved paths, and tell every problem with its line. *Neighbours:* `keys` reads the
//! settings that `common` and an application share, `values` single values; `multi` runs what is read and `validate` only looks
//! at the findings. *Invariant:* a path that is named in the file exists once there is no error.

mod keys;
mod values;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pillion_resources::{Entry, Finding, Node, Value, read_document};

pub(crate) use keys::{Destination, Shared};
use values::{Reader, known_key};

use crate::ports::Wanted;

/// Name of a run file in a directory that is given in its place.
pub(crate) const FILE_NAME: &str = "dapr.yaml";

/// What a run file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RunFile {
    pub(crate) name: String,
    pub(crate) apps: Vec<App>,
}

/// One entry of `apps`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct App {
    pub(crate) id: String,
    /// `appDirPath`: working directory of the command.
    pub(crate) directory: PathBuf,
    pub(crate) wanted: Wanted,
    pub(crate) app_channel_address: String,
    pub(crate) unix_domain_socket: Option<PathBuf>,
    pub(crate) command: Vec<String>,
    /// Its own settings over those of `common`; resources and configuration also from its `.dapr` directory.
    pub(crate) shared: Shared,
}

/// Reads the text of a run file. `directory` is what its paths are relative to, `home` what `~/` means.
///
/// The value is complete when no finding is an error.
pub(crate) fn read(file: &Path, text: &str, directory: &Path, home: Option<&Path>) -> (RunFile, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut run_file = RunFile::default();
    match read_document(file, text) {
        Ok((root, warnings)) => {
            findings.extend(warnings);
            let mut reader = Reader::new(file, directory, home, &mut findings);
            match root {
                Some(root) => root_map(&mut reader, &root, &mut run_file),
                None => reader.error(0, "", "the file is empty; expected a run file with version and apps", ""),
            }
        }
        Err(finding) => findings.push(*finding),
    }
    findings.sort_by_key(|finding| finding.line);
    (run_file, findings)
}

/// Whether a document looks like a run file and not like a manifest.
pub(crate) fn is_run_file(root: &Node) -> bool {
    let Value::Map(entries) = &root.value else {
        return false;
    };
    let has = |key: &str| entries.iter().any(|entry| entry.key == key);
    has("apps") && !has("kind")
}

const ROOT_KEYS: [&str; 4] = ["version", "name", "common", "apps"];

fn root_map(reader: &mut Reader<'_>, root: &Node, run_file: &mut RunFile) {
    let Some(entries) = reader.map(root, "") else {
        return;
    };
    for entry in entries.iter().filter(|entry| !ROOT_KEYS.contains(&entry.key.as_str())) {
        reader.unknown(entry, "", &ROOT_KEYS);
    }
    let find = |key: &str| entries.iter().find(|entry| entry.key == key && !entry.value.is_null());
    match find("version") {
        Some(entry) if reader.int(entry, "version").is_some_and(|version| version != 1) => {
            reader.error(entry.line, "version", format!("expected 1, found {}", entry.value.describe()), "");
        }
        Some(_) => {}
        None => reader.error(root.line, "version", "the version is missing; expected 1", "add the line version: 1"),
    }
    if let Some(entry) = find("name") {
        run_file.name = reader.text(entry, "name").unwrap_or_default();
    }
    let mut common = Shared::default();
    if let Some(entry) = find("common")
        && let Some(entries) = reader.map(&entry.value, "common")
    {
        for entry in entries {
            if !common.take(reader, entry, &format!("common.{}", entry.key)) {
                reader.unknown(entry, "common", &keys::NAMES);
            }
        }
    }
    match find("apps").map(|entry| (entry.line, &entry.value.value)) {
        Some((_, Value::List(nodes))) if !nodes.is_empty() => run_file.apps = apps(reader, nodes, &common),
        Some((line, _)) => reader.error(line, "apps", "expected a list with at least one application", ""),
        None => reader.error(
            root.line,
            "apps",
            "no applications are given; expected a list",
            "add apps: with one entry for each",
        ),
    }
}

fn apps(reader: &mut Reader<'_>, nodes: &[Node], common: &Shared) -> Vec<App> {
    let mut ids = BTreeSet::new();
    let mut apps = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let place = format!("apps[{number}]");
        let Some(entries) = reader.map(node, &place) else {
            continue;
        };
        if let Some(app) = read_app(reader, node.line, entries, &place, common) {
            if !ids.insert(app.id.clone()) {
                let message = format!("a second application with the id {:?}; expected each id once", app.id);
                reader.error(node.line, &format!("{place}.appID"), message, "give one of them another appID");
            }
            apps.push(app);
        }
    }
    apps
}

/// Keys of an application beside those it shares with `common`; the last three have a meaning in Kubernetes only.
const APP_KEYS: [&str; 14] = [
    "appDirPath",
    "appID",
    "appPort",
    "daprHTTPPort",
    "daprGRPCPort",
    "daprInternalGRPCPort",
    "metricsPort",
    "profilePort",
    "appChannelAddress",
    "unixDomainSocket",
    "command",
    "containerImage",
    "containerImagePullPolicy",
    "createService",
];

fn read_app(reader: &mut Reader<'_>, line: usize, entries: &[Entry], place: &str, common: &Shared) -> Option<App> {
    let entry = entries.iter().find(|entry| entry.key == "appDirPath" && !entry.value.is_null());
    let found = match entry {
        Some(entry) => reader.directory(entry, &format!("{place}.appDirPath")),
        None => {
            let message = "the directory of the application is missing; expected appDirPath";
            reader.error(line, place, message, "add appDirPath, relative to the run file");
            None
        }
    };
    // Without it the other settings are read all the same, to tell what is wrong with them.
    let (is_there, directory) = (found.is_some(), found.unwrap_or_default());
    let base = reader.base().to_owned();
    reader.set_base(&directory);
    let mut app = App {
        id: directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        directory,
        ..App::default()
    };
    for entry in entries {
        let path = format!("{place}.{}", entry.key);
        if !app.take(reader, entry, &path) && !app.shared.take(reader, entry, &path) {
            let all: Vec<&str> = APP_KEYS.iter().chain(&keys::NAMES).copied().collect();
            reader.unknown(entry, place, &all);
        }
    }
    reader.set_base(&base);
    app.add_own_directory();
    app.shared.complete(common);
    is_there.then_some(app)
}

impl App {
    fn take(&mut self, reader: &mut Reader<'_>, entry: &Entry, path: &str) -> bool {
        let Some(key) = known_key(&entry.key, &APP_KEYS) else {
            return false;
        };
        if entry.value.is_null() {
            return true;
        }
        let wanted = &mut self.wanted;
        match key {
            "appID" => {
                if let Some(id) = reader.text(entry, path).filter(|id| !id.is_empty()) {
                    self.id = id;
                }
            }
            "appPort" => wanted.app = reader.port(entry, path),
            "daprHTTPPort" => wanted.http = reader.port(entry, path),
            "daprGRPCPort" => wanted.grpc = reader.port(entry, path),
            "daprInternalGRPCPort" => wanted.internal_grpc = reader.port(entry, path),
            "metricsPort" => wanted.metrics = reader.port(entry, path),
            "profilePort" => wanted.profile = reader.port(entry, path),
            "appChannelAddress" => self.app_channel_address = reader.text(entry, path).unwrap_or_default(),
            "unixDomainSocket" => self.unix_domain_socket = reader.path(entry, path),
            "command" => self.command = reader.command(entry, path),
            _ => {} // read before, or for Kubernetes only
        }
        true
    }

    /// *Source:* the directories an application may bring along, which come before what `common` says.
    fn add_own_directory(&mut self) {
        let own = self.directory.join(".dapr");
        let (resources, config) = (own.join("resources"), own.join("config.yaml"));
        if self.shared.resources.is_empty() && resources.is_dir() {
            self.shared.resources.push(resources);
        }
        if self.shared.config.is_none() && config.is_file() {
            self.shared.config = Some(config);
        }
    }
}

#[cfg(test)]
mod tests;
