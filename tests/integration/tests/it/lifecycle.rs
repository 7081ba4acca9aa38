//! The life of sidecars under load: resources are edited, broken and removed, processes signalled, killed and restarted, apps go
//! away; an oracle looks whenever all is quiet.
//!
//! *Job:* [`plan`] says what happens, from a seed; [`world`] does it; [`load`] calls meanwhile; [`oracle`] judges. *Invariant:*
//! the plan does not depend on what happens, so that a seed repeats it. `cargo xtask fuzz lifecycle` sets the variables.

mod files;
mod load;
mod oracle;
mod plan;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use load::{Load, Tally};
use oracle::Oracle;
use world::{Rules, World, locked};

/// For how long, in seconds; the test does nothing without it.
const SECONDS: &str = "LIFECYCLE_SECONDS";
const SEED: &str = "LIFECYCLE_SEED";
/// `false`: files are read at a SIGHUP only.
const HOT_RELOAD: &str = "LIFECYCLE_HOT_RELOAD";
/// `false`: only files are edited; no process is signalled and no app goes away, so that no failure has an excuse.
const SIGNALS: &str = "LIFECYCLE_SIGNALS";
/// `true`: a reload by SIGHUP is no excuse for a failed call.
const STRICT_HANGUP: &str = "LIFECYCLE_STRICT_HANGUP";

/// The fewest messages that an app of the run got.
fn delivered(world: &World) -> usize {
    world.members.iter().map(|member| locked(&member.ledger.delivered).len()).min().unwrap_or_default()
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; run it with cargo xtask fuzz lifecycle"]
async fn nothing_is_lost_whatever_happens() {
    let Some(seconds) = setting(SECONDS) else { panic!("set {SECONDS}, or run cargo xtask fuzz lifecycle") };
    let length = Duration::from_secs(seconds.parse().unwrap());
    let seed: u64 = setting(SEED).map_or(1, |seed| seed.parse().unwrap());
    let hot_reload = setting(HOT_RELOAD).as_deref() != Some("false");
    let signals = setting(SIGNALS).as_deref() != Some("false");
    let strict_hangup = setting(STRICT_HANGUP).as_deref() == Some("true");
    println!("lifecycle: seed {seed}, {seconds} s, hot reload {hot_reload}, signals {signals}");

    let root = tempfile::TempDir::with_prefix("pillion-life-").unwrap();
    let world = World::start(root.path(), seed, Rules { hot_reload, strict_hangup }).await.unwrap();
    let tally = Arc::new(Tally::default());
    let load = Load::start(&world, &tally);
    let mut oracle = Oracle::default();
    let mut steps = 0;
    for (number, round) in plan::plan(seed, length, signals).into_iter().enumerate() {
        println!("round {number}: {} steps", round.len());
        load.go_on();
        let begin = Instant::now();
        for step in round {
            tokio::time::sleep(step.at.saturating_sub(begin.elapsed())).await;
            println!("  {:>6} ms: {step}", begin.elapsed().as_millis());
            if let Err(error) = world.apply(&step).await {
                tally.violation(format!("{step}: {error:#}"));
            }
            steps += 1;
        }
        load.pause().await;
        if let Err(error) = oracle.look(&world, &tally).await {
            tally.violation(format!("the oracle could not look: {error:#}"));
        }
        if !locked(&tally.violations).is_empty() {
            break;
        }
    }
    load.stop();
    let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    println!(
        "lifecycle: seed {seed}: {steps} steps, {} publishes ({} acknowledged), {} calls, {} state calls, {} failures of what was away, {} checks",
        count(&tally.publishes),
        locked(&tally.acknowledged).len(),
        count(&tally.calls),
        count(&tally.states),
        count(&tally.excused),
        oracle.checks,
    );
    print!("{}", oracle.summary(&world));
    let violations = locked(&tally.violations).clone();
    println!(
        "lifecycle: seed {seed}: {} messages delivered to each app, {} violations",
        delivered(&world),
        violations.len()
    );
    assert!(violations.is_empty(), "seed {seed}:\n{}\n{}", violations.join("\n"), world.logs().await);
}
