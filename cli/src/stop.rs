//! `stop`: ends running instances, by application ID or by run file.
//!
//! *Source:* strings and exit codes of the original: a failure to stop is told and still gives 0, unless `--strict` is there.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::command::{Command, Outcome, block_on_local};
use crate::context::Context;
use crate::instances::{self, proc, record::Record};
use crate::run;

/// How long processes may take to end: a command's own patience with applications and sidecars, and a little more.
const PATIENCE: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(10);

pub(crate) const COMMAND: Command = Command {
    name: "stop",
    arguments: "[app-id...] [flags]",
    about: "Stop running instances and their applications",
    details: "Applications and sidecars get time to finish what they do. Waits until they have ended.",
    examples: "  dapr stop --app-id cart\n  dapr stop cart orders\n  dapr stop -f dapr.yaml",
    flags: || {
        FlagSet::new().with_all([
            Flag::new(Kind::Text, "app-id", "", "the `id` of the application to stop").short('a'),
            Flag::new(
                Kind::Text,
                "run-file",
                "",
                "stop all applications of this run `file`, or of the dapr.yaml of a directory",
            )
            .short('f'),
            Flag::new(Kind::Bool, "strict", "", "give a non-zero exit code when something could not be stopped"),
            Flag::new(Kind::Bool, "kubernetes", "", "stop in a cluster").short('k').hidden(),
        ])
    },
    run: stop,
};

fn stop(context: &Context, parsed: &Parsed) -> Outcome {
    if parsed.bool("kubernetes") {
        bail!(
            "stopping in Kubernetes is not possible with this version; leave out -k to stop what runs on this machine"
        );
    }
    let failure = u8::from(parsed.bool("strict"));
    if parsed.given("run-file") {
        let path = run::find_file(parsed.text("run-file"))?.display().to_string();
        return block_on_local(async {
            match stop_file(context, &path).await {
                Ok(()) => context.console.success("Dapr and app processes stopped successfully"),
                Err(error) => {
                    context.console.failure(&format!("failed to stop Dapr and app processes: {error:#}"));
                    return Ok(failure);
                }
            }
            Ok(0)
        });
    }
    let named = Some(parsed.text("app-id")).filter(|id| !id.is_empty());
    let ids: Vec<&str> = named.into_iter().chain(parsed.positional().iter().map(String::as_str)).collect();
    if ids.is_empty() {
        bail!("nothing to stop: give an application ID, or a run file with -f; `dapr list` shows what runs");
    }
    block_on_local(stop_ids(context, &ids, failure))
}

async fn stop_ids(context: &Context, ids: &[&str], failure: u8) -> Outcome {
    let records = instances::find(context).await;
    let mut code = 0;
    for id in ids {
        match stop_id(&records, id).await {
            Ok(()) => context.console.success(&format!("app stopped successfully: {id}")),
            Err(error) => {
                context.console.failure(&format!("failed to stop app id {id}: {error:#}"));
                code = failure;
            }
        }
    }
    Ok(code)
}

async fn stop_id(records: &[Record], id: &str) -> Result<()> {
    let own: Vec<&Record> = records.iter().filter(|record| record.app_id == id).collect();
    if own.is_empty() {
        bail!("couldn't find app id {id}");
    }
    let mut processes = Vec::new();
    for record in own {
        let hosted = records.iter().filter(|other| other.cli_pid == record.cli_pid).count();
        if record.command_alive() && hosted == 1 {
            processes.push((record.cli_pid, record.cli_start));
        } else {
            // The command that hosts several applications ends this one when its sidecar ends.
            processes.extend(without_command(record));
        }
    }
    end(&processes).await
}

/// What to signal when the command that started an instance cannot be asked.
fn without_command(record: &Record) -> Vec<(u32, u64)> {
    let mut processes = vec![(record.daprd_pid, record.daprd_start)];
    if record.app_start != 0 && record.app_alive() && !record.command_alive() {
        processes.push((record.app_pid, record.app_start));
    }
    processes
}

async fn stop_file(context: &Context, path: &str) -> Result<()> {
    // Also commands whose sidecars have all died by themselves.
    let mut records = instances::record::read_all(&context.runtime.run());
    records.extend(instances::find(context).await.into_iter().filter(|record| record.cli_start == 0));
    records.retain(|record| record.run_template_path == path);
    if records.is_empty() {
        bail!("couldn't find apps with run file {path}");
    }
    let mut processes = BTreeSet::new();
    for record in &records {
        if record.command_alive() {
            processes.insert((record.cli_pid, record.cli_start));
        } else {
            processes.extend(without_command(record));
        }
    }
    end(&processes.into_iter().collect::<Vec<_>>()).await
}

/// Asks processes to end and waits until they have.
async fn end(processes: &[(u32, u64)]) -> Result<()> {
    for (id, start) in processes.iter().filter(|(id, start)| proc::alive(*id, *start)) {
        let Some(pid) = i32::try_from(*id).ok().and_then(Pid::from_raw) else {
            continue;
        };
        match kill_process(pid, Signal::TERM) {
            Err(error) if proc::alive(*id, *start) => bail!("cannot signal process {id}: {error}"),
            _ => {}
        }
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: Vec<String> =
            processes.iter().filter(|(id, start)| proc::alive(*id, *start)).map(|(id, _)| id.to_string()).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("after {} s these processes are still there: {}", PATIENCE.as_secs(), left.join(", "));
        }
        tokio::time::sleep(POLL).await;
    }
}
