//! App health checks: probes that open and close the gate to the app.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pillion_core::log::Logger;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::AppChannel;

/// `--app-health-*` flags after defaulting.
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// Path of the HTTP probe.
    pub path: String,
    /// Time between probes.
    pub interval: Duration,
    /// Time a probe may take; at most `interval`.
    pub timeout: Duration,
    /// Failures in a row that make the app unhealthy.
    pub threshold: u32,
}

/// Whether the app is healthy; readable from the hot path, awaitable from others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppHealth {
    healthy: Arc<AtomicBool>,
    changes: Arc<watch::Sender<bool>>,
    probed: Arc<watch::Sender<bool>>,
    /// What the last probe that failed saw.
    problem: Arc<Mutex<String>>,
}

impl AppHealth {
    /// Starts in the given state: `true` without health checks, `false` with them.
    pub fn new(healthy: bool) -> Self {
        Self {
            healthy: Arc::new(AtomicBool::new(healthy)),
            changes: Arc::new(watch::channel(healthy).0),
            probed: Arc::new(watch::channel(false).0),
            problem: Arc::default(),
        }
    }

    /// Waits until the first probe has ended, well or not: before that nothing is known of the app.
    pub async fn first_probe(&self) {
        let mut probed = self.probed.subscribe();
        let _ = probed.wait_for(|probed| *probed).await; // cannot fail: the sender is ours
    }

    /// The state now.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// What the last probe that failed saw; empty when none has failed.
    pub fn problem(&self) -> String {
        self.problem.lock().clone()
    }

    /// Follows the state.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.changes.subscribe()
    }

    fn set(&self, healthy: bool) -> bool {
        let changed = self.healthy.swap(healthy, Ordering::Relaxed) != healthy;
        if changed {
            self.changes.send_replace(healthy);
        }
        changed
    }

    /// Probes until cancelled. The first probe runs at once; one success makes the app healthy, `threshold` failures in a
    /// row make it unhealthy. *Source:* spec app_channel.md §3.
    pub async fn run(self, channel: AppChannel, options: HealthOptions, log: Logger, cancel: CancellationToken) {
        let mut failures = 0u32;
        let mut ticks = tokio::time::interval(options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let problem = match tokio::time::timeout(options.timeout, probe(&channel, &options.path)).await {
                Ok(Ok(())) => None,
                Ok(Err(problem)) => Some(problem),
                Err(_) => Some(format!("no answer within {:?}", options.timeout)),
            };
            match problem {
                None => {
                    failures = 0;
                    if self.set(true) {
                        log.info("App entered healthy status");
                    }
                }
                Some(problem) => {
                    failures = failures.saturating_add(1);
                    self.problem.lock().clone_from(&problem);
                    log.debug(format_args!("app health probe failed ({failures} in a row): {problem}"));
                    if failures >= options.threshold && self.set(false) {
                        log.warn(format_args!("App entered un-healthy status: {problem}"));
                    }
                }
            }
            self.probed.send_replace(true);
        }
    }
}

async fn probe(channel: &AppChannel, path: &str) -> Result<(), String> {
    match channel {
        AppChannel::Http(channel) => match channel.probe(path).await {
            Ok(200..=299) => Ok(()),
            Ok(status) => Err(format!("Health check failed with status code: {status}")),
            Err(error) => Err(format!("Network error: {error}")),
        },
        AppChannel::Grpc(channel) => channel.health_check().await.map_err(|error| error.to_string()),
    }
}
