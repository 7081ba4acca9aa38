//! The one binary. It answers as `daprd` or as the CLI, by the name it is called with or by its first argument.

mod resident;

use std::path::Path;
use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let called = arguments.next().unwrap_or_default();
    let mut arguments: Vec<String> = arguments.collect();
    let name = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name == "daprd" {
        return sidecar(&arguments);
    }
    if arguments.first().is_some_and(|first| first == "daprd") {
        arguments.remove(0);
        return sidecar(&arguments);
    }
    let program = if name == "dapr" { "dapr" } else { "pillion" };
    pillion_cli::main(program, arguments, component_types)
}

fn sidecar(arguments: &[String]) -> ExitCode {
    resident::give_back_later();
    pillion_sidecar::daprd::main(arguments, &pillion_catalog::registry())
}

/// For the commands that look at component files.
fn component_types() -> Vec<String> {
    pillion_catalog::registry().types().into_iter().map(str::to_owned).collect()
}
