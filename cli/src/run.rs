//! `dapr run`: one application with its sidecar, a sidecar alone, or the applications of a run file.

mod app_settings;
pub(crate) mod file;
mod flags;
pub(crate) mod instance;
mod multi;
mod names;
mod signals;
mod single;
pub(crate) mod tended;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
pub(crate) use multi::find as find_file;
use pillion_core::flags::Parsed;

use crate::command::{Command, Outcome, block_on_local};
use crate::context::Context;

/// Flags that have a meaning beside `--run-file`.
const WITH_RUN_FILE: [&str; 5] = ["run-file", "runtime-path", "log-as-json", "kubernetes", "mtls"];

pub(crate) const COMMAND: Command = Command {
    name: "run",
    arguments: "[flags] [-- command arguments...]",
    about: "Run an application with a sidecar beside it, a sidecar alone, or all applications of a run file",
    details: "Without a command only the sidecar is started, for an application that runs in a debugger or elsewhere. Flags may stand\n\
              before or after the command; what follows -- belongs to the command alone. With -f, the run file (dapr.yaml) tells\n\
              everything, and all its applications start together.",
    examples: "  dapr run --app-id cart --app-port 8080 -- node app.js\n  \
               dapr run --app-id cart --app-port 8080 --resources-path ./components\n  \
               dapr run -f .",
    flags: flags::table,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    if parsed.bool("kubernetes") {
        bail!("running in Kubernetes is not possible with this version; leave out -k to run on this machine");
    }
    if parsed.given("run-file") {
        let ignored: Vec<&str> = parsed.given_names().filter(|name| !WITH_RUN_FILE.contains(name)).collect();
        if !ignored.is_empty() || !parsed.positional().is_empty() {
            context.console.warning(&format!(
                "the run file tells everything: ignored {}",
                ignored
                    .iter()
                    .map(|name| format!("--{name}"))
                    .chain(parsed.positional().iter().cloned())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        return block_on_local(multi::run(context, parsed.text("run-file"), parsed.bool("mtls")));
    }
    let settings = app_settings::from_flags(context, parsed)?;
    block_on_local(single::run(context, settings, parsed.bool("mtls")))
}

/// Refuses a command that cannot be found, before anything is started.
fn check_command(context: &Context, settings: &crate::settings::Settings) -> Result<()> {
    let Some(program) = settings.command.first() else {
        return Ok(());
    };
    let directory = settings.directory.clone().unwrap_or_else(|| PathBuf::from("."));
    if !directory.is_dir() {
        bail!(
            "cannot start the application {:?}: the directory {} does not exist",
            settings.app_id,
            directory.display()
        );
    }
    let search = settings.env.get("PATH").map(String::as_str).or_else(|| context.variable("PATH")).unwrap_or_default();
    if executable(program, &directory, search) {
        return Ok(());
    }
    let place = if program.contains('/') { format!("in {}", directory.display()) } else { "in PATH".to_owned() };
    bail!("cannot start the application {:?}: there is no executable file {program:?} {place}", settings.app_id)
}

fn executable(program: &str, directory: &Path, search: &str) -> bool {
    if program.contains('/') {
        return is_executable(&directory.join(program));
    }
    std::env::split_paths(search).any(|place| is_executable(&directory.join(place).join(program)))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
