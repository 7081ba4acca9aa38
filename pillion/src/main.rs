//! The one binary. It answers as `daprd`, as `sentry` or as the CLI, by the name it is called with or by its first argument.

mod resident;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;

use mimalloc::MiMalloc;
use pillion_cli::{Parts, RunningSentry};
use pillion_core::DAPR_VERSION;
use pillion_core::log::{Level, LogOptions, Logger};
use pillion_sentry::local::Local;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let called = arguments.next().unwrap_or_default();
    let mut arguments: Vec<String> = arguments.collect();
    let name = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(role) = role(name) {
        return role(&arguments);
    }
    if let Some(role) = arguments.first().and_then(|first| role(first)) {
        arguments.remove(0);
        return role(&arguments);
    }
    let program = if name == "dapr" { "dapr" } else { "pillion" };
    pillion_cli::main(program, arguments, Parts { component_types, sentry })
}

/// The part of the system a name stands for; `None` = the command line.
fn role(name: &str) -> Option<fn(&[String]) -> ExitCode> {
    match name {
        "daprd" => Some(sidecar),
        "sentry" => Some(pillion_sentry::main),
        _ => None,
    }
}

fn sidecar(arguments: &[String]) -> ExitCode {
    resident::give_back_later();
    pillion_sidecar::daprd::main(arguments, &pillion_catalog::registry())
}

/// The sentry of this machine, in the process of the command line. What needs attention is told on standard error.
fn sentry(directory: PathBuf) -> Pin<Box<dyn Future<Output = Result<RunningSentry, String>>>> {
    Box::pin(async move {
        let options = LogOptions {
            level: Level::Warning,
            as_json: false,
            app_id: String::new(),
            instance: String::new(),
            version: DAPR_VERSION.to_owned(),
        };
        let log = Logger::new(options, Box::new(std::io::stderr())).scope("dapr.sentry");
        let local = Local::start(&directory, log).await.map_err(|error| error.to_string())?;
        Ok(RunningSentry { address: local.address(), roots: local.roots().to_owned(), running: Box::new(local) })
    })
}

/// For the commands that look at component files.
fn component_types() -> Vec<String> {
    pillion_catalog::registry().types().into_iter().map(str::to_owned).collect()
}
