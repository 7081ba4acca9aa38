//! Marks of a process that others on the machine can check: is the one that wrote this still running?
//!
//! *Job:* let components that meet through files notice a `kill -9` at once. *Invariant:* a reused pid never looks alive.

use std::fs;

use serde::{Deserialize, Serialize};

/// Which process of which boot; small enough to store beside what the process owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMark {
    /// Process id.
    pub pid: u32,
    /// When it started, in ticks since boot; 0 where the system does not tell.
    pub started: u64,
    /// The boot it happened in; empty where the system does not tell.
    pub boot: String,
}

impl ProcessMark {
    /// The mark of this process.
    pub fn current() -> Self {
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default();
        let pid = std::process::id();
        Self { pid, started: start_time(pid).unwrap_or_default(), boot }
    }

    /// Whether the marked process runs now, as seen by the process that `own` marks.
    pub fn is_alive(&self, own: &Self) -> bool {
        if self == own {
            return true;
        }
        if !self.boot.is_empty() && !own.boot.is_empty() && self.boot != own.boot {
            return false;
        }
        match start_time(self.pid) {
            Some(started) => self.started == 0 || self.started == started,
            // With a start time of our own there is a /proc to believe, without one only the kernel knows.
            None => own.started == 0 && exists(self.pid),
        }
    }
}

/// Field 22 of `/proc/<pid>/stat`; `None` when there is no such process, it is a zombie, or there is no `/proc`.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold anything, so count from the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_living_from_the_dead() {
        let own = ProcessMark::current();
        assert!(own.started > 0 && own.is_alive(&own));
        assert!(exists(own.pid) && !exists(u32::MAX));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mark = ProcessMark { pid: child.id(), started: start_time(child.id()).unwrap(), ..own.clone() };
        assert!(mark.is_alive(&own));
        let reused = ProcessMark { started: mark.started + 1, ..mark.clone() };
        let rebooted = ProcessMark { boot: "another".into(), ..mark.clone() };
        assert!(!reused.is_alive(&own) && !rebooted.is_alive(&own));
        child.kill().unwrap();
        while start_time(child.id()).is_some() {
            std::thread::yield_now(); // until it is at least a zombie
        }
        assert!(!mark.is_alive(&own), "a zombie serves nobody");
        child.wait().unwrap();
        assert!(!mark.is_alive(&own));
    }
}
