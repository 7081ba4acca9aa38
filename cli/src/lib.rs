//! The commands of `dapr`, also called `pillion`.
//!
//! *Job:* start and stop sidecars and applications on this machine, talk to them, and look after the runtime directory.
//! *Neighbours:* [`main`] is called by the binary; sidecars are other processes, started from the same file and spoken to over
//! HTTP. *Invariant:* a child never outlives the command that started it.

mod calls;
mod client;
mod command;
mod completion;
mod console;
mod context;
mod doctor;
mod forward;
mod init;
mod instances;
mod invoke;
mod list;
mod local_sentry;
mod ports;
mod process;
mod publish;
mod run;
mod runtime_dir;
mod settings;
mod stop;
mod validate;
mod version;

use std::process::ExitCode;

use command::{Command, Program};
pub use local_sentry::{RunningSentry, StartSentry};

/// In the order of the help.
const COMMANDS: [Command; 12] = [
    init::INIT,
    run::COMMAND,
    list::COMMAND,
    stop::COMMAND,
    invoke::COMMAND,
    publish::COMMAND,
    validate::COMMAND,
    doctor::COMMAND,
    init::UNINSTALL,
    version::VERSION,
    version::BUILD_INFO,
    completion::COMMAND,
];

/// What only the whole program has.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The component types the sidecar carries.
    pub component_types: fn() -> Vec<String>,
    /// Starts the sentry of this machine.
    pub sentry: StartSentry,
}

/// Runs a command. `name` is what it was called by, `arguments` what followed.
pub fn main(name: &str, arguments: Vec<String>, parts: Parts) -> ExitCode {
    match arguments.first().map(String::as_str) {
        Some(process::child::ROLE) => return process::child::run(&arguments[1..]),
        Some(process::guard::ROLE) => return process::guard::run(),
        _ => {}
    }
    // A variable that is not text cannot be one of ours.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let program = Program {
        name: name.to_owned(),
        environment: environment.collect(),
        component_types: parts.component_types,
        sentry: parts.sentry,
    };
    ExitCode::from(command::dispatch(&program, &COMMANDS, arguments))
}
