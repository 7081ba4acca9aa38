//! `version` and `build-info`: what runs here.
//!
//! Programs that look at these numbers compare them with ranges of Dapr, so the compatible version is what they get; our own
//! version has a line and a key of its own.

use std::os::unix::process::CommandExt as _;
use std::process::{Command as Process, Stdio};

use anyhow::bail;
use pillion_core::DAPR_VERSION;
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};
use serde_json::json;

use crate::command::{Command, Outcome};
use crate::console;
use crate::context::Context;

/// Our own version.
const OWN: &str = env!("CARGO_PKG_VERSION");

pub(crate) const VERSION: Command = Command {
    name: "version",
    arguments: "[flags]",
    about: "Print the versions of the CLI and the runtime",
    details: "",
    examples: "  dapr version\n  dapr version -o json",
    flags: || {
        FlagSet::new()
            .with(Flag::new(Kind::Text, "output", "", "the `format`: json, or text when not given").short('o'))
    },
    run: version,
};

pub(crate) const BUILD_INFO: Command = Command {
    name: "build-info",
    arguments: "",
    about: "Print how the CLI and the runtime were built",
    details: "",
    examples: "",
    flags: FlagSet::new,
    run: build_info,
};

fn version(context: &Context, parsed: &Parsed) -> Outcome {
    match parsed.text("output") {
        "" | "text" => console::output(&text(context)),
        "json" => {
            let versions =
                json!({"Cli version": DAPR_VERSION, "Runtime version": runtime(context), "Pillion version": OWN});
            console::output(&format!("{versions}\n"));
        }
        other => bail!("the output format is {other:?}; expected json"),
    }
    Ok(0)
}

/// The lines of `--version`. *Source:* the first two of the original.
pub(crate) fn text(context: &Context) -> String {
    format!("CLI version: {DAPR_VERSION}\nRuntime version: {}\nPillion version: {OWN}\n", runtime(context))
}

/// *Source:* what the sidecar's program says, `n/a` when there is none.
fn runtime(context: &Context) -> String {
    match ask(context, "--version") {
        Some(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "n/a".to_owned(),
    }
}

fn ask(context: &Context, flag: &str) -> Option<String> {
    let output = Process::new(context.sidecar_program())
        .arg0("daprd")
        .arg(flag)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn build_info(context: &Context, _parsed: &Parsed) -> Outcome {
    let commit = option_env!("PILLION_COMMIT").unwrap_or("unknown");
    console::output(&format!(
        "CLI:\n\tVersion: {DAPR_VERSION}\n\tPillion version: {OWN}\n\tGit Commit: {commit}\n\tTarget: {}-{}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    let runtime = ask(context, "--build-info").unwrap_or_else(|| "n/a\n".to_owned());
    let lines: String =
        runtime.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("\t{line}\n")).collect();
    console::output(&format!("Runtime:\n{lines}"));
    Ok(0)
}
