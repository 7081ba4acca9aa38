//! Figures of the process: memory, processor time, open files.
//!
//! *Job:* read them where the system tells them. *Neighbours:* the metrics server prints them, `otlp` sends them. *Invariant:* what the
//! system does not tell is left out, never zero. *Source:* names and help texts are those of Prometheus' process collector,
//! which the original has.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of the times in `/proc/<pid>/stat`. *Source:* `USER_HZ`, which Linux has fixed for programs on all processors in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name as exported.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Unit in the words of OpenTelemetry; empty for counts.
    pub unit: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// Its value now.
    pub value: f64,
}

/// The figures now of a process that was `started` then. Reads files, which takes some tens of microseconds.
pub fn figures(started: SystemTime) -> Vec<Figure> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let (status, stat, limits) = (read("status"), read("stat"), read("limits"));
    let gauge =
        |name, help, unit, value: Option<f64>| value.map(|value| Figure { name, help, unit, is_counter: false, value });
    let started = started.duration_since(UNIX_EPOCH).ok().map(|since| since.as_millis() as f64 / 1000.0);
    let processor = cpu_seconds(&stat).map(|value| Figure {
        name: "process_cpu_seconds_total",
        help: "Total user and system CPU time spent in seconds.",
        unit: "s",
        is_counter: true,
        value,
    });
    let figures = [
        gauge("process_resident_memory_bytes", "Resident memory size in bytes.", "By", bytes(&status, "VmRSS:")),
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", "By", bytes(&status, "VmSize:")),
        processor,
        gauge("process_open_fds", "Number of open file descriptors.", "", open_files()),
        gauge("process_max_fds", "Maximum number of open file descriptors.", "", open_files_max(&limits)),
        gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "s", started),
    ];
    figures.into_iter().flatten().collect()
}

/// The figures in the Prometheus text format.
pub fn text(figures: &[Figure]) -> String {
    let mut text = String::new();
    for Figure { name, help, is_counter, value, .. } in figures {
        let kind = if *is_counter { "counter" } else { "gauge" };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"); // writing to a String cannot fail
    }
    text
}

fn bytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}

/// Time on a processor, of threads that have ended too. *Source:* proc(5), the fields 14 and 15 of `stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name before the bracket, field 2, may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    u32::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok().map(f64::from)
}

/// The limit of open files, when there is one.
fn open_files_max(limits: &str) -> Option<f64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn memory_is_told_with_its_type() {
        let text = text(&figures(UNIX_EPOCH + Duration::from_millis(1500)));
        assert!(text.contains("\nprocess_start_time_seconds 1.5\n"), "{text}");
        assert!(text.contains("# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total "), "{text}");
        let value = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(value.parse::<f64>().unwrap() > 100_000.0, "{value}");
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 3 0 1000 0 0";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(open_files_max("Max open files            unlimited            unlimited            files"), None);
    }
}
