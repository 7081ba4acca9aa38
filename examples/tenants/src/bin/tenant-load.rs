//! A closed-loop load driver that also proves that nothing was lost: it posts tenants for some seconds,
//! remembers every id that was answered 201, then waits until each `--expect` consumer has them all.
//!
//! ```text
//! tenant-load --url http://127.0.0.1:8080/tenant --connections 8 --seconds 5 \
//!     --expect http://127.0.0.1:8082/stats --expect http://127.0.0.1:8083/stats
//! ```
//! Exit code 1 when a post failed or an id is missing after 60 s.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tenants::client::Client;
use tenants::ledger::Stats;

/// How long the consumers may take to catch up after the last post.
const CATCH_UP: Duration = Duration::from_secs(60);

struct Options {
    url: String,
    connections: u32,
    duration: Duration,
    expect: Vec<String>,
}

/// What one or all connections saw.
#[derive(Default)]
struct Outcome {
    created: BTreeSet<String>,
    latencies: Vec<Duration>,
    failed: u64,
    first_failure: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("tenant-load: {message}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let mut outcome = drive(&options).await;
    report(&mut outcome, started.elapsed());
    let mut complete = outcome.failed == 0 && !outcome.created.is_empty();
    for url in &options.expect {
        let missing = missing_after_catch_up(url, &outcome.created).await;
        println!("{url}: {} of {} delivered", outcome.created.len() - missing, outcome.created.len());
        complete &= missing == 0;
    }
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            url: "http://127.0.0.1:8080/tenant".to_owned(),
            connections: 8,
            duration: Duration::from_secs(5),
            expect: Vec::new(),
        };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag}: expected a value after it"))?;
            let number = || value.parse::<u32>().map_err(|_| format!("{flag}: expected a whole number, got {value:?}"));
            match flag.as_str() {
                "--url" => options.url = value,
                "--connections" => options.connections = number()?,
                "--seconds" => options.duration = Duration::from_secs(number()?.into()),
                "--expect" => options.expect.push(value),
                _ => {
                    return Err(format!("unknown flag {flag}: expected --url, --connections, --seconds or --expect"));
                }
            }
        }
        Ok(options)
    }
}

/// Runs the connections side by side until the time is over.
async fn drive(options: &Options) -> Outcome {
    let until = Instant::now() + options.duration;
    let connections: Vec<_> =
        (0..options.connections).map(|_| tokio::spawn(post_until(options.url.clone(), until))).collect();
    let mut all = Outcome::default();
    for connection in connections {
        match connection.await {
            Ok(one) => all.absorb(one),
            Err(error) => all.fail(error.to_string()),
        }
    }
    all
}

async fn post_until(url: String, until: Instant) -> Outcome {
    let client = Client::new();
    let body = json!({ "name": "Load", "emailId": "load@example.org", "phone": "+1" }).to_string();
    let mut outcome = Outcome::default();
    while Instant::now() < until {
        let begin = Instant::now();
        match client.post(&url, &[], body.clone().into_bytes()).await {
            Ok((status, answer)) if status.as_u16() == 201 => {
                outcome.latencies.push(begin.elapsed());
                let id = serde_json::from_slice::<Value>(&answer)
                    .ok()
                    .and_then(|answer| Some(answer.get("id")?.as_str()?.to_owned()));
                match id {
                    Some(id) => drop(outcome.created.insert(id)),
                    None => outcome.fail("a 201 without an id".to_owned()),
                }
            }
            Ok((status, answer)) => outcome.fail(format!("{status}: {}", String::from_utf8_lossy(&answer))),
            Err(error) => outcome.fail(error.to_string()),
        }
    }
    outcome
}

impl Outcome {
    fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(reason);
    }

    fn absorb(&mut self, other: Self) {
        self.created.extend(other.created);
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

fn report(outcome: &mut Outcome, elapsed: Duration) {
    outcome.latencies.sort_unstable();
    let created = outcome.latencies.len();
    let rate = f64::from(u32::try_from(created).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
    let at = |percent: usize| {
        outcome.latencies.get((created * percent / 100).min(created.saturating_sub(1))).copied().unwrap_or_default()
    };
    println!(
        "{created} created, {} failed, {rate:.0} per second, med {:.2?}, p95 {:.2?}, p99 {:.2?}",
        outcome.failed,
        at(50),
        at(95),
        at(99)
    );
    if let Some(reason) = &outcome.first_failure {
        println!("first failure: {reason}");
    }
}

/// Asks a consumer until it has every id; returns how many are missing at the end.
async fn missing_after_catch_up(url: &str, created: &BTreeSet<String>) -> usize {
    let client = Client::new();
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let ids = match client.get(url).await {
            Ok((_, body)) => serde_json::from_slice::<Stats>(&body).map(|stats| stats.ids).unwrap_or_default(),
            Err(_) => BTreeSet::new(),
        };
        let missing = created.difference(&ids).count();
        if missing == 0 || Instant::now() > deadline {
            return missing;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
