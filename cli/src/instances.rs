//! The sidecars that run: those with a record in the runtime directory, and every other `daprd` process that uses the same one.
//!
//! *Invariant:* two runtime directories do not see each other's instances. A process belongs to the directory its environment names.

pub(crate) mod proc;
pub(crate) mod record;

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};
use serde_json::Value as Json;

use crate::client::{self, Call, Endpoint, socket_path};
use crate::context::Context;
use record::Record;

/// How long a sidecar may take to tell about itself.
const METADATA_LIMIT: Duration = Duration::from_millis(1500);

/// All running instances, in the order in which they were started.
pub(crate) async fn find(context: &Context) -> Vec<Record> {
    let mut found: Vec<Record> =
        record::read_all(&context.runtime.run()).into_iter().filter(Record::sidecar_alive).collect();
    for process in proc::sidecars(context.runtime.root()) {
        if found.iter().any(|record| record.daprd_pid == process.id) {
            continue;
        }
        let mut record = from_command_line(&process);
        ask(&mut record, context).await;
        found.push(record);
    }
    found.sort_by_key(|record| (record.created, record.daprd_pid));
    found
}

/// The first instance of an application ID.
pub(crate) async fn of_app(context: &Context, app_id: &str) -> Option<Record> {
    find(context).await.into_iter().find(|record| record.app_id == app_id)
}

/// Where the HTTP API of an instance listens.
pub(crate) fn endpoint(record: &Record) -> Endpoint {
    match &record.unix_domain_socket {
        Some(directory) => Endpoint::Socket(socket_path(directory, &record.app_id, "http")),
        None => Endpoint::Port(record.http_port),
    }
}

/// *Source:* the flags and defaults of `daprd` that a listing shows.
fn shown_flags() -> FlagSet {
    FlagSet::new().single_dash_long().with_all([
        Flag::new(Kind::Text, "app-id", "", ""),
        Flag::new(Kind::Text, "app-port", "0", ""),
        Flag::new(Kind::Text, "dapr-http-port", "3500", ""),
        Flag::new(Kind::Text, "dapr-grpc-port", "50001", ""),
        Flag::new(Kind::Text, "enable-metrics", "true", ""),
        Flag::new(Kind::Text, "max-body-size", "4Mi", ""),
        Flag::new(Kind::Text, "read-buffer-size", "4Ki", ""),
        Flag::new(Kind::Text, "unix-domain-socket", "", ""),
    ])
}

fn from_command_line(process: &proc::Sidecar) -> Record {
    let set = shown_flags();
    let known = process.arguments.iter().enumerate().filter_map(|(at, argument)| {
        let name = argument.trim_start_matches('-');
        if name == argument {
            return None;
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (
                name,
                process
                    .arguments
                    .get(at + 1)
                    .filter(|next| !next.starts_with("--"))
                    .cloned()
                    .unwrap_or_else(|| "true".into()),
            ),
        };
        set.flags().iter().any(|flag| flag.name == name).then(|| format!("--{name}={value}"))
    });
    let Ok(parsed) = set.parse(known.collect::<Vec<_>>()) else {
        return Record::default(); // all kinds are texts: cannot happen
    };
    record_of(process, &parsed)
}

fn record_of(process: &proc::Sidecar, parsed: &Parsed) -> Record {
    let port = |name: &str| parsed.text(name).parse().unwrap_or(0);
    let bytes = |name: &str| pillion_core::quantity::parse_bytes(parsed.text(name)).unwrap_or(0);
    Record {
        app_id: parsed.text("app-id").to_owned(),
        http_port: port("dapr-http-port"),
        grpc_port: port("dapr-grpc-port"),
        app_port: port("app-port"),
        metrics_enabled: parsed.text("enable-metrics") != "false",
        max_request_body_size: bytes("max-body-size"),
        http_read_buffer_size: bytes("read-buffer-size"),
        unix_domain_socket: Some(parsed.text("unix-domain-socket")).filter(|path| !path.is_empty()).map(PathBuf::from),
        created: process.started_unix,
        daprd_pid: process.id,
        daprd_start: proc::start_ticks(process.id),
        ..Record::default()
    }
}

/// Completes a record with what the original's or another command put into the sidecar's metadata.
async fn ask(record: &mut Record, context: &Context) {
    let call = context.with_token(Call::new(Method::GET, "/v1.0/metadata"));
    let Ok(answer) = client::send(&endpoint(record), call, METADATA_LIMIT).await else {
        return; // not up yet, or it needs a token: the command line has told enough
    };
    let Ok(metadata) = serde_json::from_slice::<Json>(&answer.body) else {
        return;
    };
    let extended = |key: &str| metadata["extended"][key].as_str().unwrap_or_default().to_owned();
    record.cli_pid = extended("cliPID").parse().unwrap_or(0);
    record.app_pid = extended("appPID").parse().unwrap_or(0);
    record.command = extended("appCommand");
    record.run_template_path = extended("runTemplatePath");
    record.run_template_name = extended("runTemplateName");
    record.app_log_path = extended("appLogPath");
    record.daprd_log_path = extended("daprdLogPath");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_tells_ports_and_id() {
        let process = proc::Sidecar {
            id: 7,
            arguments: [
                "daprd",
                "-app-id",
                "cart",
                "--dapr-http-port=3510",
                "--app-port",
                "8080",
                "--enable-profiling",
                "--log-level",
                "debug",
            ]
            .map(str::to_owned)
            .to_vec(),
            started_unix: 100,
        };
        let record = from_command_line(&process);
        assert_eq!(
            (record.app_id.as_str(), record.http_port, record.grpc_port, record.app_port),
            ("cart", 3510, 50001, 8080)
        );
        assert_eq!((record.max_request_body_size, record.http_read_buffer_size), (4 << 20, 4096));
        assert!(record.metrics_enabled);
    }
}
