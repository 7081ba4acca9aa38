//! Black-box tests of the commands: processes, their output, their exit codes, and what is left of them.
//!
//! This program plays three parts, because a command starts its helpers and its sidecars from its own file: called `dapr` it is the
//! CLI, called `daprd` a stand-in for the sidecar, and otherwise the runner of the tests. With `PILLION_BIN` the tests use that
//! program in both parts. *Invariant:* each test has a runtime directory of its own and ends what it started.

mod calls;
mod fake_daprd;
mod frame;
mod multi;
mod single;
mod world;

use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use pillion_cli::{Parts, RunningSentry};
use world::World;

/// A test and its name.
type Test = (&'static str, fn(&World));

/// How many run at the same time.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let called = std::env::args().next().unwrap_or_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some("dapr") => {
            return pillion_cli::main("dapr", arguments, Parts { component_types: Vec::new, sentry: fake_sentry });
        }
        Some("daprd") => return fake_daprd::main(&arguments),
        _ => {}
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut tests: Vec<Test> = [frame::TESTS, single::TESTS, multi::TESTS, calls::TESTS].concat();
    tests.retain(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())));
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let count = tests.len();
    let failed = run(tests);
    println!("\ntest result: {} passed; {} failed", count - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Stands in for sentry: a place where nothing listens.
fn fake_sentry(directory: PathBuf) -> Pin<Box<dyn Future<Output = Result<RunningSentry, String>>>> {
    let address = SocketAddr::from(([127, 0, 0, 1], 4711));
    Box::pin(async move { Ok(RunningSentry { address, roots: directory.join("ca.crt"), running: Box::new(()) }) })
}

/// Runs all of them and gives the names of those that failed.
fn run(tests: Vec<Test>) -> Vec<&'static str> {
    let (waiting, failed) = (Mutex::new(tests.into_iter()), Mutex::new(Vec::new()));
    let next = || waiting.lock().ok().and_then(|mut tests| tests.next());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, test)) = next() {
                    let begin = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| test(&World::new())));
                    let word = if outcome.is_ok() { "ok" } else { "FAILED" };
                    println!("test {name} ... {word} ({:.2} s)", begin.elapsed().as_secs_f32());
                    if outcome.is_err() {
                        failed.lock().expect("no test holds it").push(name);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_default()
}
