//! `init` and `uninstall`: the runtime directory.
//!
//! *Invariant:* nothing is downloaded and no file of the user is overwritten; a second `init` only makes what is missing and
//! points the link `bin/daprd` at this program.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pillion_core::DAPR_VERSION;
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};

use crate::command::{Command, Outcome, block_on_local};
use crate::context::Context;
use crate::instances;

pub(crate) const INIT: Command = Command {
    name: "init",
    arguments: "[flags]",
    about: "Set up this machine: the runtime and components that need no server",
    details: "Makes the directory .dapr with the sidecar's program, a Configuration, and the components statestore (a SQLite file) and\n\
              pubsub (embedded and durable). Nothing is downloaded and no container is started; files that exist are kept.",
    examples: "  dapr init\n  dapr init --runtime-path /srv/dapr",
    flags: init_flags,
    run: init,
};

pub(crate) const UNINSTALL: Command = Command {
    name: "uninstall",
    arguments: "[flags]",
    about: "Remove the runtime from this machine",
    details: "Removes the programs; with --all, the whole directory .dapr with components, configuration and data.",
    examples: "  dapr uninstall\n  dapr uninstall --all",
    flags: uninstall_flags,
    run: uninstall,
};

/// Flags of the original that have nothing to do here, because no container and no download is needed.
const WITHOUT_MEANING: [&str; 9] = [
    "from-dir",
    "network",
    "container-runtime",
    "image-registry",
    "image-variant",
    "redis-stack",
    "scheduler-volume",
    "scheduler-override-broadcast-host-port",
    "runtime-version",
];

/// Flags that count in a cluster only, where neither command can go yet.
fn for_kubernetes(names: &[&'static str]) -> Vec<Flag> {
    let about = "for Kubernetes";
    let flag = |name: &'static str| match name {
        "namespace" => Flag::new(Kind::Text, name, "", about).short('n'),
        "dev" | "wait" | "enable-ha" => Flag::new(Kind::Bool, name, "", about),
        "set" => Flag::new(Kind::Repeated, name, "", about),
        _ => Flag::new(Kind::Text, name, "", about),
    };
    names.iter().map(|name| flag(name).hidden()).collect()
}

const INIT_IN_KUBERNETES: [&str; 9] = [
    "namespace",
    "dev",
    "wait",
    "timeout",
    "enable-ha",
    "set",
    "ca-root-certificate",
    "issuer-private-key",
    "issuer-public-certificate",
];

fn init_flags() -> FlagSet {
    let text = |name: &'static str| Flag::new(Kind::Text, name, "", "accepted, without a meaning here").hidden();
    FlagSet::new()
        .with(Flag::new(Kind::Bool, "slim", "", "the same as without: there are no containers to leave out").short('s'))
        .with(text("runtime-version"))
        .with(text("from-dir"))
        .with(text("network"))
        .with(text("container-runtime"))
        .with(text("image-registry"))
        .with(text("image-variant"))
        .with(Flag::new(Kind::Bool, "redis-stack", "", "accepted, without a meaning here").hidden())
        .with(text("scheduler-volume"))
        .with(text("scheduler-override-broadcast-host-port"))
        .with(Flag::new(Kind::Bool, "kubernetes", "", "install into a cluster").short('k').hidden())
        .with(Flag::new(Kind::Bool, "enable-mtls", "", "for Kubernetes").hidden())
        .with_all(for_kubernetes(&INIT_IN_KUBERNETES))
}

fn uninstall_flags() -> FlagSet {
    FlagSet::new()
        .with(Flag::new(Kind::Bool, "all", "", "remove components, configuration and data too"))
        .with(Flag::new(Kind::Text, "network", "", "accepted, without a meaning here").hidden())
        .with(Flag::new(Kind::Text, "container-runtime", "", "accepted, without a meaning here").hidden())
        .with(Flag::new(Kind::Bool, "kubernetes", "", "remove from a cluster").short('k').hidden())
        .with_all(for_kubernetes(&["namespace", "timeout", "dev"]))
}

fn init(context: &Context, parsed: &Parsed) -> Outcome {
    if parsed.bool("kubernetes") {
        bail!("installing into Kubernetes is not possible with this version; leave out -k to set up this machine");
    }
    let console = &context.console;
    console.pending("Making the jump to hyperspace...");
    let ignored: Vec<String> = WITHOUT_MEANING
        .iter()
        .filter(|name| parsed.given(name) && !harmless(name, parsed))
        .map(|name| format!("--{name}"))
        .collect();
    if !ignored.is_empty() {
        console.warning(&format!(
            "without a meaning here, since nothing is downloaded and no container is started: {}",
            ignored.join(", ")
        ));
    }
    if parsed.given("enable-mtls") {
        console.warning("--enable-mtls is for Kubernetes; on this machine, add --mtls to dapr run");
    }
    let of_clusters: Vec<String> =
        INIT_IN_KUBERNETES.iter().filter(|name| parsed.given(name)).map(|name| format!("--{name}")).collect();
    if !of_clusters.is_empty() {
        console.warning(&format!(
            "without a meaning on this machine, since they are for Kubernetes: {}",
            of_clusters.join(", ")
        ));
    }
    console.info(&format!("Installing runtime version {DAPR_VERSION}"));
    for line in set_up(context)? {
        console.info(&line);
    }
    console.success("Success! Dapr is up and running. To get started, go here: https://docs.dapr.io/getting-started");
    Ok(0)
}

/// A version that is the one we have, or "the newest".
fn harmless(name: &str, parsed: &Parsed) -> bool {
    name == "runtime-version" && ["latest", "edge", DAPR_VERSION].contains(&parsed.text(name).trim_start_matches('v'))
}

/// Makes what is missing; says in one line each what was made.
fn set_up(context: &Context) -> Result<Vec<String>> {
    let runtime = &context.runtime;
    let (bin, components, data) = (runtime.bin(), runtime.components(), runtime.data());
    for directory in [&bin, &components, &data] {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the directory {}", directory.display()))?;
    }
    let own =
        std::env::current_exe().and_then(std::fs::canonicalize).context("cannot find the file of this program")?;
    let mut made = Vec::new();
    made.extend(link(&bin.join("daprd"), &own)?);
    let store = components.join("statestore.yaml");
    made.extend(write_new(&store, &state_store(&data.join("statestore.db")))?);
    made.extend(write_new(&components.join("pubsub.yaml"), PUBSUB)?);
    made.extend(write_new(&runtime.config(), CONFIGURATION)?);
    if made.is_empty() {
        made.push(format!("{} was complete already; nothing was changed", runtime.dir().display()));
    }
    Ok(made)
}

/// Points the link at this program; a real file in its place is moved aside.
fn link(link: &Path, own: &Path) -> Result<Option<String>> {
    let explain = || format!("cannot make the link {}", link.display());
    match std::fs::symlink_metadata(link) {
        Ok(found) if found.is_symlink() => {
            if std::fs::read_link(link).is_ok_and(|target| target == own) {
                return Ok(None);
            }
        }
        Ok(_) if std::fs::canonicalize(link).is_ok_and(|file| file == own) => return Ok(None),
        Ok(_) => {
            let aside = link.with_extension("original");
            std::fs::rename(link, &aside).with_context(explain)?;
        }
        Err(_) => {}
    }
    // A new link takes the place of an old one at once: sidecars may be starting.
    let temporary = link.with_extension(format!("{}", std::process::id()));
    std::os::unix::fs::symlink(own, &temporary).with_context(explain)?;
    std::fs::rename(&temporary, link).with_context(explain)?;
    Ok(Some(format!("{} -> {}", link.display(), own.display())))
}

fn write_new(path: &Path, text: &str) -> Result<Option<String>> {
    if path.exists() {
        return Ok(None);
    }
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(format!("Wrote {}", path.display())))
}

fn state_store(file: &Path) -> String {
    // JSON's quotes are YAML's too.
    let file = serde_json::Value::from(file.display().to_string());
    format!(
        "# State in one SQLite file of this machine; also the store of actors and workflows.\n\
         apiVersion: dapr.io/v1alpha1\n\
         kind: Component\n\
         metadata:\n  name: statestore\n\
         spec:\n  type: state.sqlite\n  version: v1\n  metadata:\n    \
         - name: connectionString\n      value: {file}\n    \
         - name: actorStateStore\n      value: \"true\"\n"
    )
}

const PUBSUB: &str = "# A durable broker without a server; all sidecars of this runtime directory share it.
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: pubsub
spec:
  type: pubsub.embedded
  version: v1
";

const CONFIGURATION: &str = "apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: daprConfig
spec:
  tracing:
    samplingRate: \"1\"
";

fn uninstall(context: &Context, parsed: &Parsed) -> Outcome {
    if parsed.bool("kubernetes") {
        bail!("removing from Kubernetes is not possible with this version; leave out -k to remove from this machine");
    }
    let console = &context.console;
    console.pending("Removing Dapr from your machine...");
    block_on_local(async {
        let running = instances::find(context).await;
        if !running.is_empty() {
            let ids: Vec<&str> = running.iter().map(|record| record.app_id.as_str()).collect();
            console.warning(&format!("still running, end them with `dapr stop`: {}", ids.join(", ")));
        }
        Ok(0)
    })?;
    let directory: PathBuf = if parsed.bool("all") { context.runtime.dir() } else { context.runtime.bin() };
    match std::fs::remove_dir_all(&directory) {
        Ok(()) => console.info(&format!("Removed {}", directory.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            console.info(&format!("{} was not there", directory.display()))
        }
        // Source: the exit code is 0 all the same.
        Err(error) => {
            console.failure(&format!("cannot remove {}: {error}", directory.display()));
            return Ok(0);
        }
    }
    console.success("Dapr has been removed successfully");
    Ok(0)
}
