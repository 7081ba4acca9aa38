//! What does not need a running sidecar: versions, other installations, the runtime directory, ports, resources.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pillion_core::DAPR_VERSION;
use pillion_resources::{LoadOptions, validate_path};

use super::finding::Finding;
use super::ports;
use crate::context::Context;
use crate::instances::record::Record;

/// The ports of a sidecar that is started without `run`, which chooses free ones. *Source:* the defaults of `daprd`.
const PORTS: [(u16, &str); 3] = [(3500, "--dapr-http-port"), (50001, "--dapr-grpc-port"), (9090, "--metrics-port")];

pub(super) fn look(context: &Context, resources: &[PathBuf], records: &[Record]) -> Vec<Finding> {
    let mut findings = vec![version(context)];
    findings.extend(other_installations(context));
    findings.push(runtime_directory(context));
    findings.extend(PORTS.iter().filter_map(|(port, flag)| port_finding(*port, flag, records)));
    if resources.is_empty() {
        let defaults = [context.runtime.components(), context.runtime.config()];
        findings.extend(defaults.iter().filter(|path| path.exists()).flat_map(|path| resources_of(context, path)));
    } else {
        findings.extend(resources.iter().flat_map(|path| resources_of(context, path)));
    }
    findings
}

fn version(context: &Context) -> Finding {
    let program = context.sidecar_program();
    let own = env!("CARGO_PKG_VERSION");
    Finding::good("version", format!("Pillion {own}, speaks Dapr {DAPR_VERSION}; sidecars are {}", program.display()))
}

/// Programs of the same names that are found before ours, or instead of it.
fn other_installations(context: &Context) -> Vec<Finding> {
    let own = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
    let path = context.variable("PATH").unwrap_or_default();
    let other = |name: &str| {
        let first = std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| is_program(file))?;
        let real = std::fs::canonicalize(&first).ok()?;
        (real != own).then(|| {
            Finding::notable(
                format!("path: {name}"),
                format!("{} is another installation, and is what a shell finds", first.display()),
                "remove it, or put the directory of this program first in PATH",
            )
        })
    };
    ["dapr", "daprd"].into_iter().filter_map(other).collect()
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn runtime_directory(context: &Context) -> Finding {
    let directory = context.runtime.dir();
    let subject = "runtime directory";
    let shown = directory.display();
    if !directory.exists() {
        let message = format!("{shown} does not exist yet; commands make it when they need it");
        return Finding::notable(subject, message, format!("{} init adds default components", context.program));
    }
    let probe = directory.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, b"");
    let _ = std::fs::remove_file(&probe); // there is none when it could not be written
    match written {
        Ok(()) => Finding::good(subject, format!("{shown} can be written")),
        Err(error) => Finding::wrong(
            subject,
            format!("{shown} cannot be written: {error}"),
            "correct its owner and permissions, free space on its disk, or use another one with --runtime-path",
        ),
    }
}

/// `None` for a port that is free or held by one of our sidecars.
fn port_finding(port: u16, flag: &str, records: &[Record]) -> Option<Finding> {
    let error = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).err()?;
    let holder = ports::holder(port);
    if let Some(holder) = &holder
        && records.iter().any(|record| record.daprd_pid == holder.id)
    {
        return None;
    }
    let held = match holder {
        Some(holder) => format!("held by process {} ({})", holder.id, holder.name),
        None => format!("not free: {error}"),
    };
    Some(Finding::notable(
        format!("port {port}"),
        format!("{held}; a daprd that is started by itself wants it"),
        format!("end that process, or give daprd another port with {flag}; run chooses free ports by itself"),
    ))
}

fn resources_of(context: &Context, path: &Path) -> Vec<Finding> {
    let options = LoadOptions { known_types: (context.component_types)(), ..LoadOptions::default() };
    let found = validate_path(path, &options);
    if found.is_empty() {
        return vec![Finding::good("resources", format!("{} has no problems", path.display()))];
    }
    let finding = |found: pillion_resources::Finding| {
        let mut shown = found.clone();
        shown.suggestion.clear();
        let make = if found.is_error() { Finding::wrong } else { Finding::notable };
        make("resources".to_owned(), shown.to_string(), found.suggestion)
    };
    found.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn a_port_of_a_stranger_is_told_and_one_of_ours_is_not() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let finding = port_finding(port, "--dapr-http-port", &[]).unwrap();
        assert_eq!((finding.state, finding.subject.as_str()), (State::Notable, format!("port {port}").as_str()));
        assert!(finding.message.contains(&format!("process {}", std::process::id())), "{}", finding.message);
        let ours = Record { daprd_pid: std::process::id(), ..Record::default() };
        assert_eq!(port_finding(port, "--dapr-http-port", &[ours]), None);
    }
}
