//! What the system rules and rules by memory look at: load, CPU and memory, read once a second from `/proc`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);
/// `USER_HZ`, the same on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// The last readings; `None` where there is none, and then nothing is limited by it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readings {
    /// Average of the last minute.
    pub(super) load: Option<f64>,
    /// Share of one CPU this process takes.
    pub(super) cpu: Option<f64>,
    /// Resident memory of this process.
    pub(super) memory_bytes: Option<u64>,
}

/// Reads until dropped.
pub(super) async fn watch(readings: Arc<Mutex<Readings>>, page_bytes: u64) {
    let mut before: Option<(Instant, f64)> = None;
    loop {
        let load = read("/proc/loadavg").await.and_then(|text| text.split(' ').next()?.parse().ok());
        let ticks = read("/proc/self/stat").await.and_then(|text| cpu_ticks(&text));
        let pages: Option<u64> = read("/proc/self/statm").await.and_then(|text| text.split(' ').nth(1)?.parse().ok());
        let now = Instant::now();
        let cpu = before.zip(ticks).map(|((at, earlier), ticks)| {
            (ticks - earlier) / TICKS_PER_SECOND / now.duration_since(at).as_secs_f64().max(0.001)
        });
        before = ticks.map(|ticks| (now, ticks));
        *readings.lock() = Readings { load, cpu, memory_bytes: pages.map(|pages| pages * page_bytes) };
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn read(path: &str) -> Option<String> {
    tokio::fs::read_to_string(path).await.ok()
}

/// User and system time; the name before it is in brackets and may hold anything.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::cpu_ticks;

    #[test]
    fn the_cpu_time_follows_the_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert!((cpu_ticks(stat).unwrap() - 150.0).abs() < f64::EPSILON);
        assert!(cpu_ticks("42").is_none());
    }
}
