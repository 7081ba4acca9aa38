//! `cargo xtask <command>`: the chores of this repository. Each command lives in its module; this file only names them.

mod bench;
mod codegen;
mod deny;
mod dist;
mod errors;
mod fuzz;
mod layers;
mod metadata;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: cargo xtask <command>
  layers               compare the crates' dependencies with the layer table
  deny                 compare licences, duplicates and sources of dependencies with deny.toml
  codegen [--check]    generate (or compare) the protocol code
  errors [--check]     print the error table to docs/errors.md (or compare)
  bench <what> …       measure; `cargo xtask bench` lists the options
  dist                 build the binary that is handed out, guided by a profile of its work
  fuzz lifecycle …     the life of sidecars under load and an oracle; tests/integration/tests/it/lifecycle.rs
  demo …               scripts/demo
  test …               scripts/test";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((command, rest)) = args.split_first() else {
        bail!("{USAGE}");
    };
    match command.as_str() {
        "layers" => layers::run(rest),
        "deny" => deny::run(rest),
        "codegen" => codegen::run(rest),
        "errors" => errors::run(rest),
        "bench" => bench::run(rest),
        "dist" => dist::run(rest),
        "fuzz" => fuzz::run(rest),
        "bench-echo" => bench::echo::run(), // started by `bench`
        "bench-echo-grpc" => bench::grpc_echo::run(),
        "demo" | "test" => script(command, rest),
        other => bail!("unknown command {other:?}\n{USAGE}"),
    }
}

/// Runs `scripts/<name>` of the repository.
fn script(name: &str, args: &[String]) -> Result<()> {
    let path = metadata::root()?.join("scripts").join(name);
    let status = Command::new(&path).args(args).status().with_context(|| format!("running {}", path.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", path.display());
    }
    Ok(())
}
