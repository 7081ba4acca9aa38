//! The sidecars that run: whether they answer, what they explain, whether their apps and commands are there.

use std::time::Duration;

use http::{Method, StatusCode};
use pillion_core::DAPR_VERSION;
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::finding::Finding;
use crate::client::{self, Call};
use crate::context::Context;
use crate::instances;
use crate::instances::record::Record;

/// How long a sidecar may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// A wait shorter than this is a start under way.
const PATIENCE: time::Duration = time::Duration::seconds(10);
/// Bytes of the end of a log file that are looked at.
const LOG_TAIL: usize = 4096;

pub(super) async fn look(context: &Context, app_id: Option<&str>, records: Vec<Record>) -> Vec<Finding> {
    let chosen: Vec<&Record> = records.iter().filter(|record| app_id.is_none_or(|id| record.app_id == id)).collect();
    match (chosen.is_empty(), app_id) {
        (true, Some(id)) => {
            let known: Vec<&str> = records.iter().map(|record| record.app_id.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            vec![Finding::wrong(
                format!("app {id}"),
                format!("no sidecar of this ID runs here; those that run: {known}"),
                format!("start it with {} run --app-id {id}, or correct the ID", context.program),
            )]
        }
        (true, None) => vec![Finding::good("sidecars", "none runs here")],
        (false, _) => {
            let looks = chosen.into_iter().map(|record| one(context, record));
            futures_util::future::join_all(looks).await.into_iter().flatten().collect()
        }
    }
}

async fn one(context: &Context, record: &Record) -> Vec<Finding> {
    let subject = format!("app {}", record.app_id);
    let endpoint = instances::endpoint(record);
    let ask = |path: &str| {
        let call = context.with_token(Call::new(Method::GET, path));
        let endpoint = endpoint.clone();
        async move { client::send(&endpoint, call, ANSWER_LIMIT).await }
    };
    let mut findings = Vec::new();
    if record.cli_pid != 0 && !record.command_alive() && record.cli_start != 0 {
        findings.push(Finding::notable(
            &subject,
            format!("the command that started its sidecar (process {}) is gone", record.cli_pid),
            format!("end the sidecar with {} stop --app-id {}", context.program, record.app_id),
        ));
    }
    let metadata = match ask("/v1.0/metadata").await {
        Ok(answer) if answer.status == StatusCode::OK => answer.body,
        Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
            findings.push(Finding::notable(
                &subject,
                "its sidecar wants an API token",
                "set DAPR_API_TOKEN to its token and ask again",
            ));
            return findings;
        }
        Ok(answer) => {
            let message = format!("GET /v1.0/metadata of its sidecar on {endpoint} answered {}", answer.status);
            findings.push(Finding::wrong(&subject, message, "look at the sidecar's log"));
            return findings;
        }
        Err(error) => {
            let mut finding = Finding::wrong(
                &subject,
                format!("its sidecar (process {}) does not answer on {endpoint}", record.daprd_pid),
                "it serves its API when its components have started: its log says which one it waits for",
            );
            finding.last_error = last_line(&record.daprd_log_path).unwrap_or_else(|| format!("{error:#}"));
            findings.push(finding);
            return findings;
        }
    };
    let metadata: Json = serde_json::from_slice(&metadata).unwrap_or_default();
    findings.extend(explained(&subject, &metadata, OffsetDateTime::now_utc()));
    findings.extend(version(&subject, &metadata));
    let told_of_app =
        metadata["pillionDoctor"].as_array().is_some_and(|parts| parts.iter().any(|part| part["part"] == "app"));
    if !told_of_app {
        findings.extend(app(&subject, &metadata).await);
    }
    if findings.is_empty() {
        match ask("/v1.0/healthz").await {
            Ok(answer) if answer.status.is_success() => {
                findings.push(Finding::good(&subject, format!("its sidecar on {endpoint} is ready")));
            }
            Ok(answer) => {
                let message = format!("its sidecar on {endpoint} is not ready: healthz answered {}", answer.status);
                findings.push(Finding::wrong(&subject, message, "look at the sidecar's log"));
            }
            Err(error) => findings.push(Finding::wrong(&subject, format!("{error:#}"), "look at the sidecar's log")),
        }
    }
    findings
}

/// What the sidecar says of its own parts.
fn explained(subject: &str, metadata: &Json, now: OffsetDateTime) -> Vec<Finding> {
    let parts = metadata["pillionDoctor"].as_array().into_iter().flatten();
    parts
        .map(|part| {
            let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
            let waiting = part["state"] == "waiting";
            let since = OffsetDateTime::parse(&text("since"), &Rfc3339).ok();
            let fresh = waiting && since.is_some_and(|since| now - since < PATIENCE);
            let verb = if waiting { "waits for " } else { "" };
            let name = text("name");
            let kind = match text("part") {
                kind if kind == "app" => String::new(),
                kind => format!("{kind} {name}: "),
            };
            let make = if fresh { Finding::notable } else { Finding::wrong };
            let mut finding = make(subject.to_owned(), format!("{kind}{verb}{}", text("reason")), text("whatToDo"));
            finding.since = text("since");
            finding.last_error = text("lastError");
            finding
        })
        .collect()
}

fn version(subject: &str, metadata: &Json) -> Option<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let runtime = metadata["runtimeVersion"].as_str().unwrap_or_default();
    match metadata["pillionVersion"].as_str() {
        None => Some(Finding::notable(
            subject,
            format!("its sidecar is Dapr {runtime}, which does not explain what it waits for"),
            "",
        )),
        Some(version) if version != own || runtime != DAPR_VERSION => Some(Finding::notable(
            subject,
            format!("its sidecar is Pillion {version} (Dapr {runtime}), this program is {own} (Dapr {DAPR_VERSION})"),
            "restart it, so that both are the same",
        )),
        Some(_) => None,
    }
}

/// Whether the app's port takes connections.
async fn app(subject: &str, metadata: &Json) -> Option<Finding> {
    let connection = &metadata["appConnectionProperties"];
    let port = u16::try_from(connection["port"].as_u64()?).ok()?;
    let host = connection["channelAddress"].as_str().filter(|host| !host.is_empty()).unwrap_or("127.0.0.1");
    let connect = tokio::net::TcpStream::connect((host, port));
    let problem = match tokio::time::timeout(ANSWER_LIMIT, connect).await {
        Ok(Ok(_)) => return None,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
    };
    let mut finding = Finding::wrong(
        subject,
        format!("the app does not take connections on {host}:{port}"),
        "start the app, or correct --app-port and --app-channel-address",
    );
    finding.last_error = problem;
    Some(finding)
}

/// The last line of a log file.
fn last_line(path: &str) -> Option<String> {
    let log = std::fs::read(path).ok().filter(|_| !path.is_empty())?;
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]).into_owned();
    tail.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn a_wait_is_a_problem_after_a_while() {
        let part = |state: &str, since: &str| {
            json!({"pillionDoctor": [{"part": "component", "name": "store", "state": state, "reason": "the start of x",
                "since": since, "lastError": "refused", "whatToDo": "look"}]})
        };
        let now = OffsetDateTime::parse("2026-01-01T00:01:00Z", &Rfc3339).unwrap();
        let state = |metadata: Json| explained("app a", &metadata, now)[0].state;
        assert_eq!(state(part("waiting", "2026-01-01T00:00:55Z")), State::Notable);
        assert_eq!(state(part("waiting", "2026-01-01T00:00:00Z")), State::Wrong);
        assert_eq!(state(part("unhealthy", "2026-01-01T00:00:59Z")), State::Wrong);
        let text = explained("app a", &part("waiting", "2026-01-01T00:00:00Z"), now)[0].text();
        assert_eq!(
            text,
            "app a: component store: waits for the start of x (since 2026-01-01T00:00:00Z); last error: refused; look"
        );
    }

    #[test]
    fn versions_that_differ_are_told() {
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(version("a", &json!({"runtimeVersion": DAPR_VERSION, "pillionVersion": own})), None);
        assert!(version("a", &json!({"runtimeVersion": "1.15.0"})).unwrap().message.contains("is Dapr 1.15.0"));
        assert!(version("a", &json!({"runtimeVersion": "1", "pillionVersion": own})).is_some());
    }
}
