//! `bench start`: from exec to healthy with five components, memory when idle, and the whole demo to all ready.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::local::component_yaml;
use super::options::Options;
use super::paths::{Sidecar, SidecarSettings, built};
use super::process::{Process, exchange, resident_kib};
use super::report::{middle, write_json};
use crate::metadata;

/// Component types both sidecars have and that need no server.
const COMPONENTS: [(&str, &str); 3] =
    [("store", "state.in-memory"), ("store-2", "state.in-memory"), ("broker", "pubsub.in-memory")];
/// Time between two looks at healthz; the resolution of the figure.
const LOOK: Duration = Duration::from_micros(200);

/// Measures starts of ours and the original, then of the demo.
///
/// # Errors
/// When the resource files cannot be written.
pub(crate) fn run(options: &Options, directory: &Path) -> Result<()> {
    let resources = directory.join("resources");
    write_components(&resources, directory)?;
    let rounds = if options.rounds_given { options.rounds } else { 20 };
    let mut results = serde_json::Map::new();
    let mut sidecars = Vec::new();
    for (id, sidecar) in [("ours", Sidecar::ours()), ("original", Sidecar::original())] {
        match sidecar {
            Ok(sidecar) if options.wants(id) => sidecars.push((id, sidecar, Vec::new(), Vec::new())),
            Ok(_) => {}
            Err(error) => println!("skipped {id}: {error:#}"),
        }
    }
    for _ in 0..rounds {
        for (id, sidecar, times, memory) in &mut sidecars {
            let (time, resident) = start_once(id, sidecar, &resources, directory, options.settle)?;
            times.push(time);
            memory.push(resident);
        }
    }
    for (id, _, times, memory) in sidecars {
        let (time, resident) = (middle(times.clone()), middle(memory.clone()));
        println!(
            "{id}: exec to healthz 204 with five components {time:.1} ms, idle RSS {resident:.1} MiB (medians of {rounds})"
        );
        results.insert(id.to_owned(), json!({ "healthy_ms": time, "idle_mib": resident, "all_ms": times }));
    }
    if options.wants("demo") {
        match demo(directory) {
            Ok(time) => {
                println!("demo: run -f to all four apps ready {time:.0} ms");
                results.insert("demo_ready_ms".to_owned(), json!(time));
            }
            Err(error) => println!("skipped demo: {error:#}"),
        }
    }
    if let Some(path) = &options.json {
        write_json(path, &Value::Object(results))?;
    }
    Ok(())
}

/// Three in-memory components, a secret file and a SQLite store: five.
fn write_components(resources: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(resources)?;
    for (name, component) in COMPONENTS {
        fs::write(resources.join(format!("{name}.yaml")), component_yaml(name, component))?;
    }
    let secrets = directory.join("secrets.json");
    fs::write(&secrets, "{\"key\":\"value\"}")?;
    let with = |name: &str, component: &str, key: &str, value: &Path| {
        component_yaml(name, component)
            .replace("  metadata: []\n", &format!("  metadata:\n  - name: {key}\n    value: \"{}\"\n", value.display()))
    };
    fs::write(resources.join("secrets.yaml"), with("secrets", "secretstores.local.file", "secretsFile", &secrets))?;
    let database = directory.join("state.db");
    fs::write(resources.join("sqlite.yaml"), with("sqlite", "state.sqlite", "connectionString", &database))?;
    Ok(())
}

/// Milliseconds from exec to healthz 204, and MiB resident when nothing happens any more.
fn start_once(id: &str, sidecar: &Sidecar, resources: &Path, directory: &Path, settle: Duration) -> Result<(f64, f64)> {
    let app_id = format!("bench-start-{id}");
    let settings = SidecarSettings { app_id: &app_id, resources: Some(resources), ..SidecarSettings::default() };
    let (mut process, port) = sidecar.start("sidecar", &settings, directory)?;
    let started = process.started;
    let ready = await_healthy(&mut process, port, started + Duration::from_secs(20))?;
    std::thread::sleep(settle);
    Ok(((ready - started).as_secs_f64() * 1e3, resident_kib(process.id()) as f64 / 1024.0))
}

fn await_healthy(process: &mut Process, port: u16, deadline: Instant) -> Result<Instant> {
    let request = b"GET /v1.0/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    loop {
        if exchange(port, request).is_ok_and(|message| message.status == 204) {
            return Ok(Instant::now());
        }
        process.still_runs()?;
        anyhow::ensure!(Instant::now() < deadline, "not healthy in 20 s:\n{}", process.log_end());
        std::thread::sleep(LOOK);
    }
}

/// Milliseconds from `pillion run -f examples/tenants` to healthy apps on its four ports.
fn demo(directory: &Path) -> Result<f64> {
    let template = metadata::root()?.join("examples/tenants/dapr.yaml");
    let text = fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    let ports: Vec<u16> = text
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("appPort:"))
        .filter_map(|port| port.trim().parse().ok())
        .collect();
    anyhow::ensure!(!ports.is_empty(), "{} names no appPort", template.display());
    // The run file names the applications as programs of the PATH.
    let applications = built("tenant-service")?.parent().map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(applications.into_iter().chain(std::env::split_paths(&path)))?;
    let mut command = Command::new(&Sidecar::ours()?.program);
    command.arg("run").arg("-f").arg(&template).env("PATH", path);
    let mut process = Process::start("demo", command, directory)?;
    let started = process.started;
    for port in ports {
        process.await_status(port, "/healthz", 200, Duration::from_secs(20))?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
