//! Child processes that never outlive this command, even when it is killed with SIGKILL.
//!
//! Two nets: [`child`] asks the kernel for a SIGTERM when the parent dies, then becomes the command; [`guard`] is one small process
//! that waits for the end of this one and then ends whole process groups, for children of children. Each child leads a process
//! group of its own, so that it and its descendants are signalled together and a terminal's Ctrl-C reaches only this command.

pub(crate) mod child;
pub(crate) mod guard;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::instances::proc;

/// Name by which this executable is started again as a helper of the command.
const OWN_NAME: &str = "dapr";

/// Pause between looks at a process group that was asked to end.
const POLL: Duration = Duration::from_millis(10);

/// A command to start.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// File, or a name to look for in `PATH`.
    pub(crate) program: OsString,
    /// What the process is called.
    pub(crate) arg0: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// `None` = that of this process.
    pub(crate) directory: Option<PathBuf>,
    /// Added to the environment of this process.
    pub(crate) variables: Vec<(String, OsString)>,
    /// Reads our standard input; otherwise it is empty.
    pub(crate) inherit_input: bool,
}

/// Starts children and keeps the guard informed.
#[derive(Debug)]
pub(crate) struct Launcher {
    executable: PathBuf,
    guard: guard::Guard,
}

impl Launcher {
    /// Starts the guard.
    ///
    /// # Errors
    /// When this executable cannot be found or started again.
    pub(crate) fn start() -> Result<Self> {
        let executable = std::env::current_exe().context("cannot find the file of this program")?;
        let guard = guard::Guard::start(&executable, OWN_NAME).context("cannot start the guard process")?;
        Ok(Self { executable, guard })
    }

    /// Starts a child in a process group of its own, with piped output.
    ///
    /// # Errors
    /// When this executable cannot be started again. A command that does not exist ends with code 127 instead.
    pub(crate) fn spawn(&self, spec: &Spec) -> Result<Process> {
        let mut command = Command::new(&self.executable);
        command
            .arg0(OWN_NAME)
            .args(child::arguments(std::process::id(), spec))
            .envs(spec.variables.iter().map(|(name, value)| (name, value)))
            .stdin(if spec.inherit_input { Stdio::inherit() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(directory) = &spec.directory {
            command.current_dir(directory);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", spec.program.display()))?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .context("the child has ended before it began")?;
        self.guard.add(group);
        Ok(Process { child, group, ended: None, group_gone: false })
    }

    /// Tells the guard that nothing is left of an ended process, whose number may be given to another one.
    pub(crate) fn forget(&self, process: &Process) {
        if process.group_gone {
            self.guard.remove(process.group);
        }
    }

    /// Ends the guard; children are no longer watched over.
    pub(crate) fn finish(self) {
        self.guard.finish();
    }
}

/// A running child and its process group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Pid,
    ended: Option<ExitStatus>,
    /// The group was empty when the child had ended: its number is no longer ours.
    group_gone: bool,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// The pipes; each can be taken once.
    pub(crate) fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits until the child itself has ended; its descendants may go on. Cancel safe.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let status = self.child.wait().await.unwrap_or_default(); // fails only when it was waited for elsewhere
        self.ended = Some(status);
        self.group_gone = !group_alive(self.group);
        status
    }

    /// Signals the child and its descendants.
    pub(crate) fn signal(&self, signal: Signal) {
        if !self.group_gone {
            signal_group(self.group, signal);
        }
    }

    /// Asks the group to end, and kills it after `patience`.
    pub(crate) async fn stop(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(patience, self.gone()).await; // what is left is killed
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Waits until the child and all of its group have ended. Cancel safe.
    async fn gone(&mut self) {
        self.wait().await;
        while !self.group_gone {
            tokio::time::sleep(POLL).await;
            self.group_gone = !group_alive(self.group);
        }
    }
}

pub(crate) fn signal_group(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal); // it has ended already
}

/// Whether a process of the group runs. One that has ended and waits to be noticed by its parent does not: in a container,
/// that parent may be one that never looks.
pub(crate) fn group_alive(group: Pid) -> bool {
    test_kill_process_group(group).is_ok() && proc::group_runs(group.as_raw_nonzero().get())
}

/// How a process ended, in words: `exited with code 3`, `was killed by signal 9`.
pub(crate) fn describe_end(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Code of a child whose command could not be started. *Source:* what shells return.
pub(crate) const CANNOT_START: u8 = 127;
