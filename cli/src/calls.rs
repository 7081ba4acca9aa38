//! What `invoke` and `publish` share: the sidecar to call, and the data to send.

use anyhow::{Context as _, Result, bail};
use pillion_core::flags::{Flag, Kind, Parsed};

use crate::client::{Answer, Endpoint, socket_path};
use crate::context::Context;
use crate::instances;

/// The flags both commands have.
pub(crate) fn flags() -> [Flag; 4] {
    [
        Flag::new(Kind::Text, "data", "", "the `data` to send").short('d'),
        Flag::new(Kind::Text, "data-file", "", "a `file` with the data to send").short('f'),
        Flag::new(Kind::Text, "unix-domain-socket", "", "the `directory` of the sidecar's sockets").short('u'),
        Flag::new(Kind::Duration, "timeout", "60s", "the longest time to wait for an answer"),
    ]
}

/// The data of a flag or of a file.
///
/// # Errors
/// Both were given, or the file cannot be read.
pub(crate) fn data(parsed: &Parsed, command: &str) -> Result<Vec<u8>> {
    match (parsed.text("data"), parsed.text("data-file")) {
        (data, "") => Ok(data.as_bytes().to_vec()),
        ("", file) => std::fs::read(file).with_context(|| format!("cannot read the data file {file:?}")),
        _ => bail!("Only one of --data and --data-file allowed in the same {command} command"),
    }
}

/// The HTTP API of the sidecar of an application.
///
/// # Errors
/// None runs here.
pub(crate) async fn sidecar(context: &Context, parsed: &Parsed, app_id: &str) -> Result<Endpoint> {
    let directory = parsed.text("unix-domain-socket");
    if !directory.is_empty() {
        let socket = socket_path(std::path::Path::new(directory), app_id, "http");
        if !socket.exists() {
            bail!("app ID {app_id} not found: there is no socket {}", socket.display());
        }
        return Ok(Endpoint::Socket(socket));
    }
    match instances::of_app(context, app_id).await {
        Some(record) => Ok(instances::endpoint(&record)),
        None => bail!("app ID {app_id} not found"),
    }
}

/// What a refusal says: the status and, where there is one, the body.
pub(crate) fn refusal(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let body = body.trim();
    if body.is_empty() { answer.status.to_string() } else { format!("{}: {body}", answer.status) }
}

/// # Errors
/// A flag that must be given was not, or is empty.
pub(crate) fn require(parsed: &Parsed, names: &[&str]) -> Result<()> {
    let missing: Vec<String> =
        names.iter().filter(|name| parsed.text(name).is_empty()).map(|name| format!("{name:?}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("required flag(s) {} not set", missing.join(", "))
}
