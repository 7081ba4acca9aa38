//! Ends process groups after the death of the command that started them.
//!
//! The guard reads a pipe whose only writer is the command: `+ 123` adds a group, `- 123` removes it, `.` means a normal end. When the pipe closes
//! without it, the command was killed, and the groups get SIGTERM, six seconds, SIGKILL.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{group_alive, signal_group};

/// First argument that selects this role.
pub(crate) const ROLE: &str = "__guard";

/// Time between SIGTERM and SIGKILL. *Source:* the grace period of the original's `stop`; a sidecar gives its own calls as much.
const PATIENCE: Duration = Duration::from_secs(6);

/// The command's end of the pipe.
#[derive(Debug)]
pub(super) struct Guard {
    child: Mutex<Child>,
}

impl Guard {
    pub(super) fn start(executable: &Path, name: &str) -> std::io::Result<Self> {
        let child = Command::new(executable)
            .arg0(name)
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()?;
        Ok(Self { child: Mutex::new(child) })
    }

    pub(super) fn add(&self, group: Pid) {
        self.tell(&format!("+ {}\n", group.as_raw_nonzero()));
    }

    pub(super) fn remove(&self, group: Pid) {
        self.tell(&format!("- {}\n", group.as_raw_nonzero()));
    }

    /// Ends the guard and waits for it.
    pub(super) fn finish(self) {
        self.tell(".\n");
        let mut child = self.child.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        let _ = child.wait(); // its code says nothing
    }

    fn tell(&self, line: &str) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = child.stdin.as_mut() {
            let _ = pipe.write_all(line.as_bytes()); // without the guard, the kernel's signal is still there
        }
    }
}

/// The guard process itself.
pub(crate) fn run() -> ExitCode {
    let mut groups: BTreeSet<i32> = BTreeSet::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("+", group)) => groups.extend(group.parse::<i32>().ok()),
            Some((_, group)) => groups.retain(|known| group.parse() != Ok(*known)),
            None => return ExitCode::SUCCESS,
        }
    }
    end(&groups.into_iter().filter_map(Pid::from_raw).collect::<Vec<_>>());
    ExitCode::SUCCESS
}

fn end(groups: &[Pid]) {
    groups.iter().for_each(|group| signal_group(*group, Signal::TERM));
    let deadline = Instant::now() + PATIENCE;
    while groups.iter().any(|group| group_alive(*group)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    groups.iter().for_each(|group| signal_group(*group, Signal::KILL));
}
