//! One file per instance in `<runtime directory>/run`, written by the command that started it and removed at its end.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::proc;

/// What is known of an instance. Numbers of 0 and empty texts = not known or not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    pub(crate) app_id: String,
    pub(crate) http_port: u16,
    pub(crate) grpc_port: u16,
    pub(crate) app_port: u16,
    pub(crate) metrics_enabled: bool,
    pub(crate) command: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) daprd_pid: u32,
    /// See [`proc::start_ticks`].
    pub(crate) daprd_start: u64,
    pub(crate) cli_pid: u32,
    pub(crate) cli_start: u64,
    pub(crate) app_pid: u32,
    pub(crate) app_start: u64,
    /// Bytes.
    pub(crate) max_request_body_size: u64,
    /// Bytes.
    pub(crate) http_read_buffer_size: u64,
    pub(crate) unix_domain_socket: Option<PathBuf>,
    pub(crate) run_template_path: String,
    pub(crate) run_template_name: String,
    pub(crate) app_log_path: String,
    pub(crate) daprd_log_path: String,
}

impl Record {
    pub(crate) fn sidecar_alive(&self) -> bool {
        proc::alive(self.daprd_pid, self.daprd_start)
    }

    pub(crate) fn command_alive(&self) -> bool {
        proc::alive(self.cli_pid, self.cli_start)
    }

    pub(crate) fn app_alive(&self) -> bool {
        proc::alive(self.app_pid, self.app_start)
    }
}

/// The file of one instance; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct RecordFile {
    path: PathBuf,
}

impl RecordFile {
    /// `number` tells the instances of one command apart.
    pub(crate) fn new(directory: &Path, number: usize) -> Self {
        Self { path: directory.join(format!("{}-{number}.json", std::process::id())) }
    }

    /// Writes the file anew; a reader sees the old or the new content.
    ///
    /// # Errors
    /// When the runtime directory cannot be written.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let write = || -> std::io::Result<()> {
            if let Some(directory) = self.path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let temporary = self.path.with_extension("tmp");
            std::fs::write(&temporary, serde_json::to_vec(record)?)?;
            std::fs::rename(&temporary, &self.path)
        };
        write().with_context(|| format!("cannot write the record {}", self.path.display()))
    }
}

impl Drop for RecordFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // a stale record is removed by the next reader
    }
}

/// All records of living commands and sidecars; those of dead ones are removed.
pub(crate) fn read_all(directory: &Path) -> Vec<Record> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let files =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut records = Vec::new();
    for path in files {
        let Some(record) = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
        else {
            continue;
        };
        if record.sidecar_alive() || record.command_alive() {
            records.push(record);
        } else {
            let _ = std::fs::remove_file(&path); // somebody else was quicker
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_living_are_read_and_those_of_the_dead_removed() {
        let directory = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let living =
            Record { app_id: "cart".into(), cli_pid: own, cli_start: proc::start_ticks(own), ..Record::default() };
        let dead = Record { app_id: "gone".into(), cli_pid: own, cli_start: 1, ..Record::default() };
        let (first, second) = (RecordFile::new(directory.path(), 0), RecordFile::new(directory.path(), 1));
        first.write(&living).unwrap();
        second.write(&dead).unwrap();
        assert_eq!(read_all(directory.path()), [living]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(first);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
