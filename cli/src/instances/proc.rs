//! The process table of Linux. Elsewhere it is empty, and only records tell of instances.

use std::path::Path;

/// Clock ticks per second in `/proc/<pid>/stat`: the kernel's fixed unit towards programs.
const TICKS_PER_SECOND: u64 = 100;

/// A process that is a sidecar.
#[derive(Clone, Debug)]
pub(crate) struct Sidecar {
    pub(crate) id: u32,
    /// The command line, program included.
    pub(crate) arguments: Vec<String>,
    /// Start in seconds since 1970.
    pub(crate) started_unix: i64,
}

/// The sidecars whose environment leads to the runtime directory `root/.dapr`.
pub(crate) fn sidecars(root: &Path) -> Vec<Sidecar> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let boot = boot_time();
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| sidecar(id, root, boot)).collect()
}

fn sidecar(id: u32, root: &Path, boot: i64) -> Option<Sidecar> {
    let arguments = texts(&std::fs::read(format!("/proc/{id}/cmdline")).ok()?);
    if !is_sidecar(&arguments) {
        return None;
    }
    let environment = texts(&std::fs::read(format!("/proc/{id}/environ")).ok()?);
    if !same_place(&environment, root) {
        return None;
    }
    let seconds = i64::try_from(start_ticks(id) / TICKS_PER_SECOND).ok()?;
    Some(Sidecar { id, arguments, started_unix: boot + seconds })
}

/// `daprd …`, or our program with `daprd` as its first argument.
fn is_sidecar(arguments: &[String]) -> bool {
    let mut arguments = arguments.iter().map(String::as_str);
    match arguments.next().map(file_name) {
        Some("daprd") => true,
        Some("pillion") => arguments.next() == Some("daprd"),
        _ => false,
    }
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn same_place(environment: &[String], root: &Path) -> bool {
    let variable = |name: &str| {
        let value = environment.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        value.filter(|value| !value.is_empty())
    };
    match variable("DAPR_RUNTIME_PATH").or_else(|| variable("HOME")) {
        Some(place) => {
            let real = |path: &Path| std::fs::canonicalize(path).ok();
            Path::new(place) == root || real(Path::new(place)).is_some_and(|place| real(root) == Some(place))
        }
        None => false,
    }
}

fn texts(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// Start of a process in clock ticks since boot: with the process ID, it names a process for good. 0 = no such process,
/// or one that has ended and was not yet waited for.
pub(crate) fn start_ticks(id: u32) -> u64 {
    let Some(fields) = stat_fields(id) else {
        return 0;
    };
    let mut fields = fields.split(' ');
    if fields.next() == Some("Z") {
        return 0;
    }
    fields.nth(18).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// The fields of `/proc/<pid>/stat` from the state on.
fn stat_fields(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field, the name in parentheses, may hold spaces and parentheses itself.
    stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

/// Whether a process of this group has not ended. Without a process table, it is taken for running.
pub(crate) fn group_runs(group: i32) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return true;
    };
    let mut ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).peekable();
    if ids.peek().is_none() {
        return true;
    }
    ids.any(|id| {
        let Some(fields) = stat_fields(id) else {
            return false;
        };
        let mut fields = fields.split(' ');
        let ended = fields.next().is_none_or(|state| state == "Z" || state == "X");
        !ended && fields.nth(1).and_then(|number| number.parse::<i32>().ok()) == Some(group)
    })
}

fn boot_time() -> i64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0)
}

/// Whether the very process of these numbers is still there. `start` 0 = not known, the process ID must do.
pub(crate) fn alive(id: u32, start: u64) -> bool {
    if id == 0 {
        return false;
    }
    if cfg!(target_os = "linux") {
        let ticks = start_ticks(id);
        return ticks != 0 && (start == 0 || ticks == start);
    }
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    id.is_some_and(|id| rustix::process::test_kill_process(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_is_not_it() {
        let id = std::process::id();
        let start = start_ticks(id);
        assert!(start > 0 && alive(id, start) && alive(id, 0));
        assert!(!alive(id, start + 1) && !alive(0, 0));
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let started = boot_time() + i64::try_from(start / TICKS_PER_SECOND).unwrap();
        assert!((now - 600..=now + 2).contains(&started), "{started} and {now}");
    }

    #[test]
    fn a_sidecar_is_known_by_its_command_line() {
        let is = |line: &str| is_sidecar(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(is("daprd --app-id a") && is("/bin/daprd") && is("/bin/pillion daprd --app-id a"));
        assert!(!is("pillion list") && !is("pillion") && !is("node daprd"));
    }

    #[test]
    fn the_environment_decides_where_a_process_belongs() {
        let environment = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert!(same_place(&environment(&["HOME=/h", "DAPR_RUNTIME_PATH=/r"]), Path::new("/r")));
        assert!(!same_place(&environment(&["HOME=/h", "DAPR_RUNTIME_PATH=/r"]), Path::new("/h")));
        assert!(same_place(&environment(&["HOME=/h", "DAPR_RUNTIME_PATH="]), Path::new("/h")));
    }
}
