//! `bench reload`: what a call feels while manifests change, how soon a change is in effect, and what an idle sidecar costs.
//!
//! *Job:* the same pair of sidecars is measured in turns at the same rate: quiet, while resources change, and while resources and the
//! Configuration change. *Neighbours:* `manifests` writes, `driver` sends. *Invariant:* the turns alternate within one run, so that their
//! ratio does not depend on the machine's mood.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::driver::{LONGEST, Outcome, Pace, Plan, drive, nanoseconds};
use super::manifests::{Manifests, PROBE};
use super::options::Options;
use super::paths::{Sidecar, SidecarSettings, await_answer, local, payload, post};
use super::process::{CpuTime, Process, exchange, resident_kib};
use super::report::{machine, middle, write_json};

/// Time between two editions.
const PAUSE: Duration = Duration::from_millis(300);
/// Time between two looks at the metadata; the resolution of the figures.
const LOOK: Duration = Duration::from_millis(2);
/// How long a change may take before the bench gives up.
const EFFECT_LIMIT: Duration = Duration::from_secs(20);
/// Components written at once.
const MANY: usize = 100;
/// The idle time is this many runs.
const IDLE_RUNS: u32 = 4;

/// What changes during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Quiet,
    /// Component, Subscription, Resiliency and HTTPEndpoint.
    Resources,
    /// All of these and the Configuration, which begins a new runtime in the process.
    Everything,
}

impl Turn {
    const ALL: [Self; 3] = [Self::Quiet, Self::Resources, Self::Everything];

    const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Resources => "resources",
            Self::Everything => "everything",
        }
    }
}

/// All runs of one turn.
struct Seen {
    turn: Turn,
    latencies: Histogram<u64>,
    rounds: Vec<Value>,
    /// p99 of each round in microseconds.
    p99_us: Vec<f64>,
    answers: u64,
    errors: u64,
    first_error: Option<String>,
    editions: usize,
    /// CPU time of caller and callee.
    cpu: Duration,
}

/// The pair and its manifests.
struct Pair {
    /// Caller, callee.
    processes: Vec<Process>,
    manifests: Vec<Manifests>,
    callee_port: u16,
    caller_port: u16,
    request: Vec<u8>,
    edition: AtomicUsize,
}

/// Starts two sidecars and measures.
///
/// # Errors
/// When they do not start, or a change does not take effect.
pub(crate) fn run(options: &Options, directory: &Path) -> Result<()> {
    let (_app, app_port) = Process::start_echo("echo app", directory)?;
    let pair = Pair::start(app_port, directory)?;
    thread::sleep(options.settle);
    let idle = options.wants("idle").then(|| pair.idle(options.duration * IDLE_RUNS));
    let mut seen = Vec::new();
    for turn in Turn::ALL.into_iter().filter(|turn| options.wants(turn.name())) {
        seen.push(Seen::new(turn)?);
    }
    for round in 0..options.rounds {
        for seen in &mut seen {
            let outcome = pair.measure(options, seen)?;
            println!("round {} {}", round + 1, seen.add(&outcome)?);
        }
    }
    let mut delays = Vec::new();
    for count in [1, MANY] {
        if options.wants("effect") {
            delays.push((count, pair.delays(count, options.rounds)?));
        }
    }
    report(options, &pair, idle.as_deref(), &seen, &delays)
}

impl Pair {
    fn start(app_port: u16, directory: &Path) -> Result<Self> {
        let sidecar = Sidecar::ours()?;
        let (caller_id, callee_id) = ("caller-reload", "callee-reload");
        let mut processes = Vec::new();
        let mut manifests = Vec::new();
        let mut ports = Vec::new();
        for (app_id, role) in [(callee_id, "sidecar of the callee"), (caller_id, "sidecar of the caller")] {
            let directory = directory.join(app_id);
            std::fs::create_dir_all(&directory)?;
            let own = Manifests::new(&directory, callee_id)?;
            let settings = SidecarSettings {
                app_id,
                app_port: (app_id == callee_id).then_some(app_port),
                configuration: Some(&own.configuration),
                resources: Some(&own.resources),
                ..SidecarSettings::default()
            };
            let (process, port) = sidecar.start_ready(role, &settings, &directory)?;
            processes.insert(0, process);
            manifests.insert(0, own);
            ports.push(port);
        }
        let header = format!("dapr-app-id: {callee_id}");
        let request = post("/echo", &["content-type: application/json", &header], &payload());
        let (callee_port, caller_port) = (ports[0], ports[1]);
        await_answer(caller_port, &request, &mut processes)?;
        Ok(Self { processes, manifests, callee_port, caller_port, request, edition: AtomicUsize::new(1) })
    }

    /// Share of a core each process uses when nothing happens, in percent.
    fn idle(&self, time: Duration) -> Vec<f64> {
        let before = self.cpu();
        thread::sleep(time);
        self.spent(&before).into_iter().map(|spent| spent.as_secs_f64() / time.as_secs_f64() * 100.0).collect()
    }

    fn cpu(&self) -> Vec<CpuTime> {
        self.processes.iter().map(|process| CpuTime::read(process.id())).collect()
    }

    fn spent(&self, before: &[CpuTime]) -> Vec<Duration> {
        self.cpu().iter().zip(before).map(|(now, before)| now.since(before)).collect()
    }

    /// One run at the rate, with a thread that writes what the turn says.
    fn measure(&self, options: &Options, seen: &mut Seen) -> Result<Outcome> {
        let plan = Plan {
            endpoint: local(self.caller_port),
            request: self.request.clone(),
            connections: options.connections,
            keep_alive: true,
            pace: Pace::Rated(options.rate),
            duration: options.duration,
            warm_up: options.warm_up,
        };
        let (stop, turn, before) = (AtomicBool::new(false), seen.turn, self.cpu());
        let outcome = thread::scope(|scope| {
            let writer = scope.spawn(|| self.write_until(&stop, turn));
            let outcome = drive(&plan);
            stop.store(true, Ordering::Relaxed);
            match writer.join() {
                Ok(written) => seen.editions += written?,
                Err(_) => bail!("the writer of manifests panicked"),
            }
            outcome
        })?;
        seen.cpu += self.spent(&before).into_iter().sum::<Duration>();
        thread::sleep(PAUSE * 5); // what was written last takes effect, runtimes that were replaced end
        Ok(outcome)
    }

    /// Writes an edition of everything the turn names, again and again; how many.
    fn write_until(&self, stop: &AtomicBool, turn: Turn) -> Result<usize> {
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            if turn != Turn::Quiet {
                let number = self.edition.fetch_add(1, Ordering::Relaxed);
                for manifests in &self.manifests {
                    manifests.write_resources(number)?;
                    if turn == Turn::Everything {
                        manifests.write_configuration(number)?;
                    }
                }
                written += 1;
            }
            thread::sleep(PAUSE);
        }
        Ok(written)
    }

    /// Milliseconds from the write of `count` components to their effect in the metadata of the callee.
    fn delays(&self, count: usize, rounds: usize) -> Result<Vec<f64>> {
        let mut delays = Vec::new();
        for round in 0..=rounds {
            let begin = Instant::now();
            let kind = self.manifests[1].write_probes(count, round)?;
            while probes_of(self.callee_port, kind)? != count {
                if begin.elapsed() > EFFECT_LIMIT {
                    bail!(
                        "{count} components are not in effect after {EFFECT_LIMIT:?}:\n{}",
                        self.processes[1].log_end()
                    );
                }
                thread::sleep(LOOK);
            }
            delays.push(begin.elapsed().as_secs_f64() * 1e3);
            thread::sleep(PAUSE);
        }
        delays.remove(0); // these came, the others changed
        Ok(delays)
    }
}

/// How many probes the metadata show with this type.
fn probes_of(port: u16, kind: &str) -> Result<usize> {
    let message = exchange(port, b"GET /v1.0/metadata HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let metadata: Value = serde_json::from_slice(&message.body).context("reading the metadata")?;
    let components = metadata["components"].as_array().into_iter().flatten();
    let probes = components.filter(|component| component["name"].as_str().is_some_and(|name| name.starts_with(PROBE)));
    Ok(probes.filter(|component| component["type"] == kind).count())
}

impl Seen {
    fn new(turn: Turn) -> Result<Self> {
        let latencies = Histogram::new_with_bounds(1, nanoseconds(LONGEST), 3).context("creating a histogram")?;
        let (rounds, p99_us) = (Vec::new(), Vec::new());
        Ok(Self {
            turn,
            latencies,
            rounds,
            p99_us,
            answers: 0,
            errors: 0,
            first_error: None,
            editions: 0,
            cpu: Duration::ZERO,
        })
    }

    /// Takes in one run; gives its line.
    fn add(&mut self, outcome: &Outcome) -> Result<String> {
        self.latencies.add(&outcome.latencies).context("adding histograms")?;
        self.answers += outcome.latencies.len();
        self.errors += outcome.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&outcome.first_error);
        }
        let [p50, p99, p999, max] = milliseconds(&outcome.latencies);
        self.p99_us.push(p99 * 1e3);
        self.rounds.push(json!({
            "latency_ms": { "p50": p50, "p99": p99, "p99.9": p999, "max": max },
            "errors": outcome.errors, "first_error": outcome.first_error, "in_flight_max": outcome.in_flight_max,
        }));
        Ok(format!(
            "{:10}: p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms, max {max:.3} ms, {} errors{}",
            self.turn.name(),
            outcome.errors,
            outcome.first_error.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
        ))
    }
}

/// p50, p99, p99.9 and the longest.
fn milliseconds(latencies: &Histogram<u64>) -> [f64; 4] {
    [0.5, 0.99, 0.999, 1.0].map(|quantile| latencies.value_at_quantile(quantile) as f64 / 1e6)
}

fn report(
    options: &Options,
    pair: &Pair,
    idle: Option<&[f64]>,
    seen: &[Seen],
    delays: &[(usize, Vec<f64>)],
) -> Result<()> {
    println!(
        "\nreload at {:.0} requests/s, {} connections, an edition of every file every {} ms (all rounds together)\n\
         | turn | editions | p50 ms | p99 | p99.9 | max | p99 beside quiet | median of rounds | CPU µs per request | errors |\n|---|---|---|---|---|---|---|---|---|---|",
        options.rate,
        options.connections,
        PAUSE.as_millis()
    );
    let quiet = seen.iter().find(|seen| seen.turn == Turn::Quiet);
    let mut turns = Vec::new();
    for seen in seen {
        let [p50, p99, p999, max] = milliseconds(&seen.latencies);
        let beside = quiet.map(|quiet| {
            let rounds = seen.p99_us.iter().zip(&quiet.p99_us).map(|(now, quiet)| now / quiet).collect();
            (p99 / milliseconds(&quiet.latencies)[1], middle(rounds))
        });
        let cpu_us = seen.cpu.as_secs_f64() * 1e6 / seen.answers.max(1) as f64;
        let text = beside.map_or("- | -".to_owned(), |(all, rounds)| format!("{all:.2} | {rounds:.2}"));
        println!(
            "| {} | {} | {p50:.3} | {p99:.3} | {p999:.3} | {max:.3} | {text} | {:.0} | {} of {}{} |",
            seen.turn.name(),
            seen.editions,
            cpu_us,
            seen.errors,
            seen.answers + seen.errors,
            seen.first_error.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
        );
        turns.push(json!({
            "turn": seen.turn.name(), "editions": seen.editions, "answers": seen.answers, "errors": seen.errors,
            "latency_ms": { "p50": p50, "p99": p99, "p99.9": p999, "max": max },
            "cpu_us_per_request": cpu_us, "p99_beside_quiet": beside.map(|(all, _)| all), "p99_beside_quiet_median": beside.map(|(_, rounds)| rounds),
            "rounds": seen.rounds,
        }));
    }
    for (count, delays) in delays {
        let longest = delays.iter().copied().fold(0.0, f64::max);
        println!(
            "{count} component(s) changed: in effect after {:.0} ms (median of {}), {longest:.0} ms at most",
            middle(delays.clone()),
            delays.len()
        );
    }
    if let Some(idle) = idle {
        println!(
            "idle for {:?}: {:.3} and {:.3} % of a core (caller, callee)",
            options.duration * IDLE_RUNS,
            idle[0],
            idle[1]
        );
    }
    let resident: Vec<u64> = pair.processes.iter().map(|process| resident_kib(process.id())).collect();
    println!("RSS at the end: {resident:?} KiB (caller, callee)");
    if let Some(path) = &options.json {
        let delays: Vec<Value> =
            delays.iter().map(|(count, delays)| json!({ "components": count, "in_effect_ms": delays })).collect();
        write_json(
            path,
            &json!({
                "bench": "reload", "rate": options.rate, "connections": options.connections, "machine": machine(),
                "turns": turns, "in_effect": delays, "idle_percent_of_a_core": idle, "resident_kib": resident,
            }),
        )?;
    }
    Ok(())
}
