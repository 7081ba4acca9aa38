//! `doctor`: looks at this machine and at the sidecars that run on it, and says what is wrong and what to do.
//!
//! *Job:* ask every check of [`machine`] and [`sidecars`], print what they found, and give the exit code. *Neighbours:* a sidecar
//! explains its own parts under `pillionDoctor` of its metadata. *Invariant:* it changes nothing, and no check can hang.

mod finding;
mod machine;
mod ports;
mod sidecars;

use std::path::PathBuf;

use anyhow::bail;
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};
use serde_json::json;

use crate::command::{Command, Outcome, block_on_local, output_flag, wants_json};
use crate::console;
use crate::context::Context;
use finding::{Finding, State};

pub(crate) const COMMAND: Command = Command {
    name: "doctor",
    arguments: "[all] [flags]",
    about: "Find out what is wrong with this machine and its sidecars",
    details: "Looks at the runtime directory, ports, resources, other installations, and at every sidecar: whether it answers,\n\
              what it waits for, since when, the last error, and what to do.\n\
              The exit code is 1 when something is wrong.",
    examples: "  dapr doctor\n  dapr doctor --app-id cart\n  dapr doctor -o json",
    flags: || {
        FlagSet::new().with_all([
            Flag::new(Kind::Text, "app-id", "", "look at the sidecars of this application `id` only").short('a'),
            Flag::new(
                Kind::List,
                "resources-path",
                "",
                "`directories` of resources to check; the default ones when not given",
            ),
            output_flag(),
        ])
    },
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let json = wants_json(parsed)?;
    let app_id = match parsed.positional() {
        [] => Some(parsed.text("app-id")).filter(|id| !id.is_empty() && *id != "all"),
        [all] if all == "all" && !parsed.given("app-id") => None,
        _ => bail!("expected no argument, or all; name an application with --app-id"),
    };
    let resources: Vec<PathBuf> = parsed.list("resources-path").iter().map(PathBuf::from).collect();
    block_on_local(async {
        let records = crate::instances::find(context).await;
        let mut findings = Vec::new();
        if app_id.is_none() {
            findings.extend(machine::look(context, &resources, &records));
        }
        findings.extend(sidecars::look(context, app_id, records).await);
        let wrong = findings.iter().filter(|finding| finding.state == State::Wrong).count();
        if json {
            let list: Vec<_> = findings.iter().map(Finding::to_json).collect();
            console::output(&format!("{:#}\n", json!({"ok": wrong == 0, "findings": list})));
        } else {
            tell(context, &findings, wrong);
        }
        Ok(u8::from(wrong > 0))
    })
}

fn tell(context: &Context, findings: &[Finding], wrong: usize) {
    for finding in findings {
        let text = finding.text();
        match finding.state {
            State::Good => context.console.success(&text),
            State::Notable => context.console.warning(&text),
            State::Wrong => context.console.failure(&text),
        }
    }
    match wrong {
        0 => context.console.success("Nothing is wrong"),
        1 => context.console.failure("1 thing is wrong"),
        _ => context.console.failure(&format!("{wrong} things are wrong")),
    }
}
