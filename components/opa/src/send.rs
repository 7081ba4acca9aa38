//! `http.send`: a policy asks another server.
//!
//! *Neighbours:* `request` reads what the policy says. *Source:* OPA 1.4 `v1/topdown/http.go`. *Invariant:* runs only on a
//! thread that may wait; ends with the question it belongs to, at its end or when nobody waits for it any more.

mod request;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use pillion_core::log::Logger;
use pillion_http_client::{Client, Error, Limits};
use regorus::Value;
use serde_json::{Map, Value as Json, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use request::Call;

/// The name policies call it by.
pub(crate) const NAME: &str = "http.send";
/// *Source:* OPA's default.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer; the original has no limit.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;
/// The wait before the first repetition; each further one is twice as long.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What all questions share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) log: Logger,
    /// For calls without TLS options of their own; reads the system's roots once.
    client: Arc<Client>,
}

/// What one question has of it.
#[derive(Clone)]
pub(crate) struct Sender {
    shared: Shared,
    runtime: Handle,
    /// The question is over then.
    end: Instant,
    cancel: CancellationToken,
    /// Within a question the same request has the same answer.
    answered: Vec<(Value, Result<Value, Problem>)>,
}

/// Why there is no answer.
#[derive(Clone)]
struct Problem {
    /// A network is to blame, not the policy.
    is_network: bool,
    text: String,
}

impl Shared {
    pub(crate) fn new(log: Logger) -> Self {
        Self { log, client: Arc::new(Client::new(limits(TIMEOUT))) }
    }
}

fn limits(time: Duration) -> Limits {
    Limits { time, body_bytes: ANSWER_LIMIT }
}

impl Sender {
    /// Answers the calls of one question, which ends at `end` or with the token.
    pub(crate) fn new(shared: Shared, runtime: Handle, end: Instant, cancel: CancellationToken) -> Self {
        Self { shared, runtime, end, cancel, answered: Vec::new() }
    }

    /// The function: waits for the answer on this thread.
    pub(crate) fn send(&mut self, arguments: &[Value]) -> Value {
        let Some(request) = arguments.first().filter(|request| request.as_object().is_ok()) else {
            return Value::Undefined;
        };
        let found = self.answered.iter().find(|(known, _)| known == request).map(|(_, answer)| answer.clone());
        let answer = found.unwrap_or_else(|| {
            let answer = self.call(request);
            self.answered.push((request.clone(), answer.clone()));
            answer
        });
        match answer {
            Ok(answer) => answer,
            Err(problem) if request::raises_errors(request) => {
                self.shared.log.warn(format_args!("http.send: {}", problem.text));
                Value::Undefined
            }
            Err(problem) => problem.value(),
        }
    }

    fn call(&self, request: &Value) -> Result<Value, Problem> {
        let call = Call::parse(request)?;
        let client = match &call.tls {
            Some(tls) => Arc::new(Client::with_tls(limits(TIMEOUT), tls.clone())),
            None => self.shared.client.clone(),
        };
        let attempts = self.attempts(&call, &client);
        let rest = self.end.saturating_duration_since(Instant::now());
        let answer = self.runtime.block_on(async {
            tokio::select! {
                answer = tokio::time::timeout(rest, attempts) => answer,
                () = self.cancel.cancelled() => Ok(Err(Problem::network("nobody waits for the answer any more"))),
            }
        });
        let answer = answer.unwrap_or_else(|_| Err(Problem::network("the time of the policy is over")))?;
        Ok(value(answer, &call))
    }

    async fn attempts(&self, call: &Call, client: &Client) -> Result<Response<Bytes>, Problem> {
        let mut delay = RETRY_DELAY;
        for _ in 0..call.retries {
            if let Ok(answer) = once(call, client).await {
                return Ok(answer);
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(60));
        }
        once(call, client).await
    }
}

async fn once(call: &Call, client: &Client) -> Result<Response<Bytes>, Problem> {
    let request = call.request.clone();
    let answer = async {
        if call.follows_redirects {
            client.follow(request).await
        } else {
            client.send_within(request, call.timeout).await
        }
    };
    match tokio::time::timeout(call.timeout, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::Timeout(..))) | Err(_) => {
            let (method, url) = (call.request.method(), call.request.uri());
            Err(Problem::network(&format!("{method} {url}: request timed out")))
        }
        Ok(Err(error)) => Err(Problem::network(&error.to_string())),
    }
}

impl Problem {
    fn network(text: &str) -> Self {
        Self { is_network: true, text: text.to_owned() }
    }

    /// What a policy gets that asked for problems as values.
    fn value(&self) -> Value {
        let code = if self.is_network { "eval_http_send_network_error" } else { "eval_http_send_internal_error" };
        from_json(&json!({"status_code": 0, "error": {"code": code, "message": self.text}}))
    }
}

/// A mistake of the policy.
impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { is_network: false, text }
    }
}

/// The answer as an object: `status`, `status_code`, `headers` (lists, names in small letters), `raw_body`, and `body`, which is
/// `null` unless it is JSON.
fn value(answer: Response<Bytes>, call: &Call) -> Value {
    let (parts, body) = answer.into_parts();
    let mut headers = Map::new();
    for name in parts.headers.keys() {
        let values =
            parts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        headers.insert(name.as_str().to_owned(), values.collect());
    }
    let content_type = parts.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = call.decodes_json || content_type.is_some_and(|kind| kind.contains("application/json"));
    let decoded: Option<Json> = if is_json { serde_json::from_slice(&body).ok() } else { None };
    let status = format!("{} {}", parts.status.as_str(), parts.status.canonical_reason().unwrap_or_default());
    from_json(&json!({
        "status": status, "status_code": parts.status.as_u16(), "headers": headers,
        "raw_body": String::from_utf8_lossy(&body), "body": decoded,
    }))
}

fn from_json(json: &Json) -> Value {
    Value::from_json_str(&json.to_string()).unwrap_or(Value::Undefined)
}
