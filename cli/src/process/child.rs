//! The last step before a command runs: tied to the life of the parent, then replaced by the command.
//!
//! Started by [`Launcher::spawn`](super::Launcher::spawn) as `dapr __child <parent> <arg0> <program> <arguments…>`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::{CANNOT_START, Spec};

/// First argument that selects this role.
pub(crate) const ROLE: &str = "__child";

pub(super) fn arguments(parent: u32, spec: &Spec) -> Vec<OsString> {
    let mut arguments = vec![ROLE.into(), parent.to_string().into(), spec.arg0.clone(), spec.program.clone()];
    arguments.extend(spec.arguments.iter().cloned());
    arguments
}

/// Becomes the command; returns only when that fails.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [parent, arg0, program, rest @ ..] = arguments else {
        crate::console::error("dapr: __child is started by dapr run only\n");
        return ExitCode::from(CANNOT_START);
    };
    if !tied_to(parent) {
        return ExitCode::from(CANNOT_START); // the parent has died meanwhile: nobody waits for this command
    }
    let error = Command::new(program).arg0(arg0).args(rest).exec();
    let reason = error.to_string();
    let reason = reason.split(" (os error").next().unwrap_or_default();
    crate::console::error(&format!("cannot start {program:?}: {reason}\n"));
    ExitCode::from(CANNOT_START)
}

/// SIGTERM and not SIGKILL, so that a sidecar drains; the guard kills what does not end.
#[cfg(target_os = "linux")]
fn tied_to(parent: &str) -> bool {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let set = set_parent_process_death_signal(Some(Signal::TERM));
    let current = getppid().map(|parent| parent.as_raw_nonzero().get().to_string());
    set.is_ok() && current.as_deref() == Some(parent)
}

#[cfg(not(target_os = "linux"))]
fn tied_to(_parent: &str) -> bool {
    true // the guard alone watches
}
