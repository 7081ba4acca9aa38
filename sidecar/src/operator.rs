//! The operator of a Kubernetes cluster, which gives a sidecar there its Configuration and resources.
//!
//! *Job:* keep a copy of what the operator lists, follow its streams of changes, and give the copy in the form of manifests.
//! *Neighbours:* [`client`] makes the calls, [`document`] turns objects into manifests, [`streams`] follows changes; the start of
//! the sidecar and [`crate::reload`] read from here instead of from disk. *Invariant:* what a call cannot give stays as it was.
//! *Source:* `pkg/operator/client`, `pkg/internal/loader/kubernetes` and `pkg/runtime/hotreload/loader/operator` of the original.

mod client;
mod document;
mod streams;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pillion_core::log::Logger;
use pillion_identity::Identity;
use pillion_proto::operator::v1::ResourceEventType;
use pillion_resources::types::Configuration;
use pillion_resources::{Finding, LoadOptions, Loaded, load_texts, read_configuration};
use tokio::sync::Notify;

use crate::environment::Environment;
use crate::options::Options;
use client::Client;
use document::Document;
pub(crate) use streams::Streams;

const SCOPE: &str = "dapr.runtime.operator";
const DEFAULT_NAMESPACE: &str = "default";

/// A Configuration with what was found in it, or why it cannot be used.
pub(crate) type ReadConfiguration = Result<(Configuration, Vec<Finding>), Vec<Finding>>;

/// What the operator is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Component,
    Subscription,
    Resiliency,
    HttpEndpoint,
    McpServer,
    WorkflowAccessPolicy,
    Configuration,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Component,
        Self::Subscription,
        Self::Resiliency,
        Self::HttpEndpoint,
        Self::McpServer,
        Self::WorkflowAccessPolicy,
        Self::Configuration,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Component => "Component",
            Self::Subscription => "Subscription",
            Self::Resiliency => "Resiliency",
            Self::HttpEndpoint => "HTTPEndpoint",
            Self::McpServer => "MCPServer",
            Self::WorkflowAccessPolicy => "WorkflowAccessPolicy",
            Self::Configuration => "Configuration",
        }
    }

    /// What its absence at the start means. *Source:* the original starts without policies, and not without the others.
    fn is_optional(self) -> bool {
        matches!(self, Self::Resiliency)
    }
}

/// What the operator last said.
#[derive(Default)]
struct Copied {
    documents: BTreeMap<Kind, Vec<Document>>,
    /// Changes that were taken, in all.
    changes: u64,
}

/// The operator, and what it last said.
pub(crate) struct Operator {
    client: Client,
    /// Name of the Configuration; `None` = the defaults.
    configuration: Option<String>,
    copy: Mutex<Copied>,
    /// Told when [`Self::copy`] differs from what was read.
    changed: Notify,
    log: Logger,
}

impl Operator {
    /// Connects; waits a while for an operator that is not there yet.
    ///
    /// # Errors
    /// When it cannot be reached in time, or when it is not the operator of this control plane.
    pub(crate) async fn connect(
        options: &Options,
        environment: &Environment,
        identity: &Identity,
        log: &Logger,
    ) -> Result<Arc<Self>, String> {
        log.info("Initializing the operator client");
        let namespace = environment.non_empty("NAMESPACE").unwrap_or(DEFAULT_NAMESPACE);
        let log = log.scope(SCOPE);
        let client = Client::connect(options, namespace, identity.tls(), &log).await?;
        let mut names = options.configurations.iter().map(|name| name.display().to_string());
        let configuration = names.next();
        if names.next().is_some() {
            log.warn("Multiple configurations are not supported in Kubernetes mode; only the first one will be loaded");
        }
        let copy = Mutex::default();
        Ok(Arc::new(Self { client, configuration, copy, changed: Notify::new(), log }))
    }

    /// Asks for the Configuration that `--config` names.
    ///
    /// # Errors
    /// It is not there, or cannot be used.
    pub(crate) async fn first_configuration(&self, log: &Logger) -> Result<Configuration, String> {
        let Some(name) = &self.configuration else {
            log.info("loading default configuration");
            return Ok(read_configuration(&PathBuf::new(), "{}").map(|(read, _)| read).unwrap_or_default());
        };
        log.info(format_args!("Loading Kubernetes config resource: {name}"));
        let failed = |problem: String| format!("error loading configuration: {problem}");
        self.list(Kind::Configuration).await.map_err(failed)?;
        let Some(read) = self.configuration() else {
            return Err(failed(format!("configuration {name} not found")));
        };
        let (configuration, findings) = read.map_err(|findings| failed(texts(&findings).join("\n")))?;
        findings.iter().for_each(|finding| log.warn(finding));
        Ok(configuration)
    }

    /// Asks for all resources.
    ///
    /// # Errors
    /// The first kind that cannot be had.
    pub(crate) async fn first_resources(&self, options: &LoadOptions) -> Result<Loaded, String> {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Configuration) {
            if let Err(problem) = self.list(kind).await {
                if !kind.is_optional() {
                    return Err(problem);
                }
                self.log.error(format_args!("{problem}; the sidecar starts without them"));
            }
        }
        Ok(self.resources(options))
    }

    /// Asks for everything again. What cannot be had stays as it was.
    pub(crate) async fn refresh(&self) {
        for kind in Kind::ALL {
            if kind == Kind::Configuration && self.configuration.is_none() {
                continue;
            }
            if let Err(problem) = self.list(kind).await {
                self.log.warn(format_args!("{problem}; these stay as they were"));
            }
        }
    }

    /// The Configuration as the operator last said it; `None` when it never did.
    pub(crate) fn configuration(&self) -> Option<ReadConfiguration> {
        let copy = self.copy.lock();
        let document = copy.documents.get(&Kind::Configuration)?.first()?;
        Some(read_configuration(&document.origin(Kind::Configuration), &document.text))
    }

    /// The resources as the operator last said them.
    pub(crate) fn resources(&self, options: &LoadOptions) -> Loaded {
        let copy = self.copy.lock();
        let resources = copy.documents.iter().filter(|(kind, _)| **kind != Kind::Configuration);
        let texts: Vec<(PathBuf, String)> = resources
            .flat_map(|(kind, documents)| {
                documents.iter().map(|document| (document.origin(*kind), document.text.clone()))
            })
            .collect();
        drop(copy);
        load_texts(texts, options)
    }

    /// Asks for all of one kind and keeps the answer.
    async fn list(&self, kind: Kind) -> Result<(), String> {
        loop {
            let changes = self.copy.lock().changes;
            let documents = self.ask(kind).await?;
            let mut copy = self.copy.lock();
            if copy.changes != changes {
                continue; // the answer may be older than the change
            }
            let before = copy.documents.insert(kind, documents.clone());
            if before.unwrap_or_default() != documents {
                self.changed.notify_one();
            }
            return Ok(());
        }
    }

    async fn ask(&self, kind: Kind) -> Result<Vec<Document>, String> {
        let listed = match (kind, &self.configuration) {
            (Kind::Configuration, Some(name)) => self.client.configuration(name).await.map(|object| vec![object]),
            (Kind::Configuration, None) => return Ok(Vec::new()),
            _ => self.client.list(kind).await,
        };
        let objects = listed.map_err(|status| match kind {
            Kind::Configuration => client::text(&status),
            _ => format!("the operator gives no {} resources: {}", kind.name(), client::text(&status)),
        })?;
        let mut documents: Vec<Document> = Vec::with_capacity(objects.len());
        for object in objects.iter().filter(|object| !object.is_empty()) {
            match Document::read(kind, object) {
                Ok(document) => {
                    documents.retain(|other| other.name != document.name);
                    documents.push(document);
                }
                Err(problem) => self.log.error(format_args!("error deserializing {}: {problem}", kind.name())),
            }
        }
        Ok(documents)
    }

    /// Takes one change of a stream.
    fn take(&self, kind: Kind, event: i32, object: &[u8]) {
        let document = match Document::read(kind, object) {
            Ok(document) => document,
            Err(problem) => {
                self.log.error(format_args!("error deserializing {}: {problem}", kind.name()));
                return;
            }
        };
        let is_deleted = event == i32::from(ResourceEventType::Deleted);
        if kind == Kind::Configuration && (is_deleted || self.configuration.as_ref() != Some(&document.name)) {
            return; // that of another app; or ours, which stays in effect until there is another
        }
        self.log.debug(format_args!("{} {} changed", kind.name(), document.name));
        let mut copy = self.copy.lock();
        copy.changes += 1;
        let documents = copy.documents.entry(kind).or_default();
        let place = documents.iter().position(|other| other.name == document.name);
        match (is_deleted, place) {
            (true, Some(place)) => drop(documents.remove(place)),
            (true, None) => return,
            (false, Some(place)) if documents[place] == document => {
                let (kind, name) = (kind.name(), document.name);
                self.log.debug(format_args!("{kind} update skipped: no changes detected: {name}"));
                return;
            }
            (false, Some(place)) => documents[place] = document,
            (false, None) => documents.push(document),
        }
        drop(copy);
        self.changed.notify_one();
    }
}

fn texts(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
#[path = "operator/tests.rs"]
mod tests;
