//! Where the output of the applications of a run file and of their sidecars goes.

use std::path::PathBuf;

use anyhow::Result;
use time::OffsetDateTime;
use time::macros::format_description;

use super::super::file::{App, Destination};
use crate::console::Console;
use crate::forward::Sink;

/// Sinks and files of one application. *Source:* names, places and defaults of the original.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    id: String,
    pub(super) directory: PathBuf,
    stamp: String,
    daprd: Destination,
    app: Destination,
}

/// The moment of the start, as it stands in the names of log files.
pub(super) fn stamp() -> String {
    let now = OffsetDateTime::now_local().unwrap_or_else(|_| OffsetDateTime::now_utc());
    now.format(format_description!("[year][month][day][hour][minute][second]")).unwrap_or_default()
}

impl Logs {
    pub(super) fn of(app: &App, stamp: &str) -> Self {
        Self {
            id: app.id.clone(),
            directory: app.directory.join(".dapr").join("logs"),
            stamp: stamp.to_owned(),
            daprd: app.shared.daprd_log.unwrap_or(Destination::File),
            app: app.shared.app_log.unwrap_or(Destination::FileAndConsole),
        }
    }

    /// Whether anything is written to the directory.
    pub(super) fn to_files(&self) -> bool {
        self.daprd.to_file() || self.app.to_file()
    }

    pub(super) fn of_sidecar(&self, console: &Console) -> Result<Sink> {
        self.sink(console, self.daprd, "DAPRD", "daprd")
    }

    pub(super) fn of_app(&self, console: &Console) -> Result<Sink> {
        self.sink(console, self.app, "APP", "app")
    }

    fn sink(&self, console: &Console, destination: Destination, word: &str, name: &str) -> Result<Sink> {
        let prefix = format!("== {word} - {} == ", self.id);
        let file = self.directory.join(format!("{}_{name}_{}.log", self.id, self.stamp));
        Sink::new(
            destination.to_console().then_some((console, prefix.as_str())),
            destination.to_file().then_some(file.as_path()),
        )
    }
}
