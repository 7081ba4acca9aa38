//! Finds the sockets, asks each what it serves, and makes the factories.
//!
//! *Invariant:* one socket that does not answer keeps none of the others from being used, and is named in the log.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pillion_contract::{DiscoveryContext, Registry};
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_proto::components::v1 as pb;
use tokio::time::Instant;
use tonic::Code;

use crate::connection::{causes, dial};
use crate::reflection::list_services;
use crate::{bindings, pubsub, secrets, state, status};

/// How long a socket may take to answer. The original waits for ever, so that a file nobody serves keeps it from starting.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two tries; doubles up to the second value.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Looks for the sockets of a directory. Problems are logged. A directory that does not exist is an empty one.
pub async fn discover(context: DiscoveryContext) -> Registry {
    discover_within(context, ANSWER_LIMIT).await
}

async fn discover_within(context: DiscoveryContext, limit: Duration) -> Registry {
    let mut registry = Registry::default();
    // *Source:* the original's two scopes.
    let log = context.log.scope("pluggable-components-discovery");
    let connector_log = context.log.scope("pluggable-components-grpc-connector");
    let directory = context.sockets_dir.clone();
    let listed = tokio::task::spawn_blocking({
        let log = log.clone();
        move || list(&directory, &log)
    });
    let sockets = match listed.await {
        Ok(Ok(Some(sockets))) => sockets,
        Ok(Ok(None)) => return registry,
        Ok(Err(error)) => {
            log.error(format_args!(
                "could not initialize pluggable components: could not list the unix sockets in {}: {error}; \
                 check DAPR_COMPONENTS_SOCKETS_FOLDER and its permissions",
                context.sockets_dir.display()
            ));
            return registry;
        }
        Err(error) => {
            log.error(format_args!("could not initialize pluggable components: {error}"));
            return registry;
        }
    };
    connector_log.debug(format_args!("loading pluggable components under path {}", context.sockets_dir.display()));
    let answers =
        join_all(sockets.iter().map(|(_, path)| services(path, limit, &context.board, &log, &connector_log))).await;
    for ((name, path), answer) in sockets.into_iter().zip(answers) {
        match answer {
            Ok(services) => register(&mut registry, &name, &path, &services, &context.board, &connector_log),
            Err(problem) => {
                log.error(format_args!(
                    "could not initialize pluggable components of the socket {}: {problem}",
                    path.display()
                ));
                context.board.unhealthy(
                    "pluggableComponent",
                    name,
                    format!("its socket {} was not usable at the start", path.display()),
                    problem,
                    "start the component and restart the sidecar, or remove the file when it is left over",
                );
            }
        }
    }
    registry
}

/// Names and paths of the sockets, by name; `None` without the directory. Subdirectories are skipped.
fn list(directory: &Path, log: &Logger) -> io::Result<Option<Vec<(String, PathBuf)>>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut sockets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Ok(metadata) = fs::metadata(&path) else { continue }; // gone again
        if metadata.is_dir() {
            continue;
        }
        let name =
            path.file_name().and_then(|name| name.to_str()).map(without_extension).filter(|name| !name.is_empty());
        match name.filter(|_| metadata.file_type().is_socket()) {
            Some(name) => sockets.push((name.to_owned(), path)),
            None => log.warn(format_args!("could not use socket for file {}", path.display())),
        }
    }
    sockets.sort();
    Ok(Some(sockets))
}

/// A file name up to its last dot.
fn without_extension(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The services of a socket, which may not be served yet.
async fn services(
    socket: &Path,
    limit: Duration,
    board: &Board,
    log: &Logger,
    connector_log: &Logger,
) -> Result<Vec<String>, String> {
    connector_log.debug(format_args!("using socket defined at 'unix://{}'", socket.display()));
    let deadline = Instant::now() + limit;
    let mut pause = RETRY_FIRST;
    let mut problem = String::from("it does not answer");
    let mut told = false;
    let wait = board.wait(
        "pluggableComponent",
        socket.display().to_string(),
        "an answer on its socket",
        "start the component, or remove the file when it is left over",
    );
    loop {
        match tokio::time::timeout_at(deadline, ask(socket)).await {
            Ok(Ok(services)) => return Ok(services),
            Ok(Err(Refusal::ForGood(problem))) => return Err(problem),
            Ok(Err(Refusal::NotYet(text))) => problem = text,
            Err(_elapsed) => {}
        }
        wait.failed(problem.clone());
        if Instant::now() + pause >= deadline {
            return Err(format!(
                "{problem}; waited {} seconds; start the component, or remove the file when it is left over",
                limit.as_secs()
            ));
        }
        if !std::mem::replace(&mut told, true) {
            log.warn(format_args!(
                "waiting up to {} seconds for the pluggable component of {}: {problem}",
                limit.as_secs(),
                socket.display()
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

enum Refusal {
    NotYet(String),
    ForGood(String),
}

async fn ask(socket: &Path) -> Result<Vec<String>, Refusal> {
    let (channel, _) = dial(socket).await.map_err(|error| Refusal::NotYet(causes(&error)))?;
    list_services(&channel).await.map_err(|status| {
        let text = format!("unable to list services: {}", status::text(&status));
        match status.code() {
            Code::Unimplemented => {
                Refusal::ForGood(format!("{text}; the component must serve gRPC reflection (v1alpha)"))
            }
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => Refusal::NotYet(text),
            _ => Refusal::ForGood(text),
        }
    })
}

/// Adds a factory for each service that is a component; a type's name is compared in lower case, as all are.
fn register(registry: &mut Registry, name: &str, path: &Path, services: &[String], board: &Board, log: &Logger) {
    let socket: Arc<Path> = Arc::from(path);
    let lower = name.to_ascii_lowercase();
    for service in services {
        let (socket, board) = (socket.clone(), board.clone());
        match service.as_str() {
            pb::state_store_server::SERVICE_NAME => registry
                .register_state(&format!("state.{lower}"), move |context| state::create(socket.clone(), context)),
            pb::pub_sub_server::SERVICE_NAME => registry.register_pubsub(&format!("pubsub.{lower}"), move |context| {
                pubsub::create(socket.clone(), board.clone(), context)
            }),
            pb::secret_store_server::SERVICE_NAME => {
                registry.register_secrets(&format!("secretstores.{lower}"), move |context| {
                    secrets::create(socket.clone(), context)
                });
            }
            pb::input_binding_server::SERVICE_NAME => {
                registry.register_input_binding(&format!("bindings.{lower}"), move |context| {
                    bindings::create_input(socket.clone(), board.clone(), context)
                });
            }
            pb::output_binding_server::SERVICE_NAME => {
                registry.register_output_binding(&format!("bindings.{lower}"), move |context| {
                    bindings::create_output(socket.clone(), context)
                });
            }
            _ => continue, // reflection itself, and what belongs to a state store
        }
        log.info(format_args!("pluggable component '{name}' was successfully registered for '{service}'"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_last_dot() {
        let cases = [("store.sock", "store"), ("a.b.sock", "a.b"), ("plain", "plain"), (".sock", "")];
        for (file, wanted) in cases {
            assert_eq!(without_extension(file), wanted, "{file}");
        }
    }
}
