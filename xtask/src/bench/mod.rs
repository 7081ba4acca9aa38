//! `cargo xtask bench invoke|publish|state|start|memory|reload`: measures what the sidecar costs. Figures are printed and written,
//! never asserted, since machines are shared; see `docs/performance.md` for the method.
//!
//! `driver` sends, `paths` builds what is sent to, `process` watches the kernel's counters, `report` reduces and prints.

pub(crate) mod driver;
pub(crate) mod echo;
mod grpc;
pub(crate) mod grpc_echo;
mod http1;
mod identity;
mod invoke;
mod local;
mod manifests;
mod memory;
mod options;
mod paths;
mod process;
mod reload;
mod report;
mod socket;
mod start;
mod tenants;

use anyhow::{Result, bail};

use driver::{Pace, Plan, drive};
use options::Options;
use paths::MeasuredPath;
use process::{CpuTime, Process, resident_kib};
use report::{Report, Row, Sample, write_json};

/// Runs `bench` with the arguments after that word.
///
/// # Errors
/// Wrong arguments, or nothing at all could be measured.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let Some((what, rest)) = args.split_first() else {
        bail!("{}", options::USAGE);
    };
    let options = Options::parse(rest)?;
    let directory = tempfile::tempdir()?;
    match what.as_str() {
        "invoke" => invoke::run(&options, directory.path()),
        "publish" => local::publish(&options, directory.path()),
        "state" => local::state(&options, directory.path()),
        "start" => start::run(&options, directory.path()),
        "memory" => memory::run(&options, directory.path()),
        "reload" => reload::run(&options, directory.path()),
        other => bail!("unknown bench {other:?}\n{}", options::USAGE),
    }
}

/// Measures all `paths` in interleaved rounds, prints the tables and writes the JSON file.
///
/// # Errors
/// When there is no path, or the driver cannot run at all.
fn measure(
    name: &'static str,
    options: &Options,
    paths: &[MeasuredPath],
    app: Option<&Process>,
    skipped: Vec<(String, String)>,
) -> Result<()> {
    for (id, reason) in &skipped {
        eprintln!("skipped {id}: {reason}");
    }
    if paths.is_empty() {
        bail!("nothing to measure");
    }
    std::thread::sleep(options.settle); // let start-up work end before memory is read
    let memory =
        |path: &MeasuredPath| path.processes.iter().map(|process| resident_kib(process.id())).collect::<Vec<_>>();
    let mut rows: Vec<Row> = paths
        .iter()
        .map(|path| Row {
            id: path.id.clone(),
            title: path.title.clone(),
            roles: path.processes.iter().map(|process| process.role.clone()).collect(),
            rated: Vec::new(),
            closed: Vec::new(),
            idle_kib: memory(path),
            loaded_kib: Vec::new(),
        })
        .collect();
    for round in 0..options.rounds {
        for (at, path) in paths.iter().enumerate() {
            for pace in options.paces() {
                let sample = measure_once(path, app, options, pace)?;
                eprintln!(
                    "round {} {:8} {:?}: p50 {:.3} ms, p99 {:.3} ms, {:.0}/s, CPU µs {:.0?}, {} errors{}",
                    round + 1,
                    path.id,
                    pace,
                    sample.latency_us[0] / 1e3,
                    sample.latency_us[2] / 1e3,
                    sample.per_second,
                    sample.cpu_us,
                    sample.errors,
                    sample.first_error.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
                );
                match pace {
                    Pace::Rated(_) => rows[at].rated.push(sample),
                    Pace::Closed => rows[at].closed.push(sample),
                }
            }
        }
    }
    for (row, path) in rows.iter_mut().zip(paths) {
        row.loaded_kib = memory(path);
    }
    let report = Report { name, rate: options.rate, connections: options.connections, rows, skipped };
    println!("{}", report.text());
    if let Some(path) = &options.json {
        write_json(path, &report.json())?;
    }
    Ok(())
}

/// One run of one path with the CPU time each process spent on it.
fn measure_once(path: &MeasuredPath, app: Option<&Process>, options: &Options, pace: Pace) -> Result<Sample> {
    let plan = Plan {
        endpoint: path.endpoint.clone(),
        request: path.request.clone(),
        connections: options.connections,
        keep_alive: path.keep_alive,
        pace,
        duration: options.duration,
        warm_up: options.warm_up,
    };
    let app = path.grpc.as_ref().map(|grpc| &*grpc.app).or(app);
    let read = || -> (Vec<CpuTime>, Option<CpuTime>, CpuTime) {
        (
            path.processes.iter().map(|process| CpuTime::read(process.id())).collect(),
            app.map(|app| CpuTime::read(app.id())),
            CpuTime::read(std::process::id()),
        )
    };
    let before = read();
    let outcome = match &path.grpc {
        None => drive(&plan)?,
        Some(grpc) => {
            let plan = grpc::Plan {
                concurrency: options.connections,
                pace,
                duration: options.duration,
                warm_up: options.warm_up,
            };
            grpc::drive(&grpc.call, plan)?
        }
    };
    let after = read();
    let processes: Vec<_> = after.0.iter().zip(&before.0).map(|(after, before)| after.since(before)).collect();
    let app = after.1.zip(before.1).map(|(after, before)| after.since(&before)).unwrap_or_default();
    Ok(Sample::new(&outcome, &processes, app, after.2.since(&before.2)))
}
