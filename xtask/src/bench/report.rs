//! What is printed and written: medians over rounds, ratios to the direct path and to the peers, JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::driver::Outcome;

/// One run of one path, reduced to numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Latency in microseconds at 50, 90, 99 and 99.9 %.
    pub(crate) latency_us: [f64; 4],
    pub(crate) per_second: f64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) in_flight_max: usize,
    /// CPU microseconds per answered request of each process of the path, in path order.
    pub(crate) cpu_us: Vec<f64>,
    /// CPU microseconds per answered request of the echo app.
    pub(crate) app_cpu_us: f64,
    /// CPU microseconds per answered request of the driver itself.
    pub(crate) driver_cpu_us: f64,
}

impl Sample {
    /// Reduces `outcome`; the CPU times are those spent during the run.
    pub(crate) fn new(outcome: &Outcome, processes: &[Duration], app: Duration, driver: Duration) -> Self {
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / (outcome.answers.max(1)) as f64;
        let quantile = |q: f64| outcome.latencies.value_at_quantile(q) as f64 / 1e3;
        Self {
            latency_us: [0.5, 0.9, 0.99, 0.999].map(quantile),
            per_second: outcome.per_second,
            errors: outcome.errors,
            first_error: outcome.first_error.clone(),
            in_flight_max: outcome.in_flight_max,
            cpu_us: processes.iter().map(|spent| each(*spent)).collect(),
            app_cpu_us: each(app),
            driver_cpu_us: each(driver),
        }
    }
}

/// Median of each number over the rounds; errors are summed, since one lost request matters.
pub(crate) fn median(samples: &[Sample]) -> Sample {
    let of = |pick: &dyn Fn(&Sample) -> f64| middle(samples.iter().map(pick).collect());
    let width = samples.iter().map(|sample| sample.cpu_us.len()).min().unwrap_or(0);
    Sample {
        latency_us: [0, 1, 2, 3].map(|index| of(&|sample| sample.latency_us[index])),
        per_second: of(&|sample| sample.per_second),
        errors: samples.iter().map(|sample| sample.errors).sum(),
        first_error: samples.iter().find_map(|sample| sample.first_error.clone()),
        in_flight_max: samples.iter().map(|sample| sample.in_flight_max).max().unwrap_or(0),
        cpu_us: (0..width).map(|index| of(&|sample| sample.cpu_us[index])).collect(),
        app_cpu_us: of(&|sample| sample.app_cpu_us),
        driver_cpu_us: of(&|sample| sample.driver_cpu_us),
    }
}

/// Median; the mean of the two middle ones for an even count, 0 for none.
pub(crate) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// One path with all its rounds.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) title: String,
    /// Names of the processes behind `cpu_us` and `resident_kib`.
    pub(crate) roles: Vec<String>,
    /// Rounds at the fixed rate.
    pub(crate) rated: Vec<Sample>,
    /// Rounds at saturation.
    pub(crate) closed: Vec<Sample>,
    /// Resident memory before any load and after all of it, in KiB, by process.
    pub(crate) idle_kib: Vec<u64>,
    pub(crate) loaded_kib: Vec<u64>,
}

/// A whole bench.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    /// Requests per second of the rated rounds.
    pub(crate) rate: f64,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
    /// Paths left out, with the reason.
    pub(crate) skipped: Vec<(String, String)>,
}

impl Report {
    /// The tables as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} at {:.0} requests/s, {} connections (medians over rounds; added = minus direct)",
            self.name, self.rate, self.connections
        ); // String never fails
        let _ = writeln!(
            text,
            "| path | p50 ms | p90 | p99 | p99.9 | added p50 | added p99 | x direct p50 | CPU µs/request by process | app | driver | errors |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for row in self.rows.iter().filter(|row| !row.rated.is_empty()) {
            let sample = median(&row.rated);
            let [p50, p90, p99, p999] = sample.latency_us.map(|value| value / 1e3);
            let added = self.direct(&row.id).map(|(rated, _)| {
                let d = rated.latency_us.map(|value| value / 1e3);
                (p50 - d[0], p99 - d[2], p50 / d[0])
            });
            let added = added.map_or("- | - | -".to_owned(), |(a, b, c)| format!("{a:.3} | {b:.3} | {c:.2}"));
            let _ = writeln!(
                text,
                "| {} {} | {p50:.3} | {p90:.3} | {p99:.3} | {p999:.3} | {added} | {} | {:.0} | {:.0} | {} |",
                row.id,
                row.title,
                list(&sample.cpu_us),
                sample.app_cpu_us,
                sample.driver_cpu_us,
                errors(&sample)
            );
        }
        let _ = writeln!(
            text,
            "\n{} at saturation, {} connections\n| path | requests/s | x direct | p50 ms | p99 | CPU µs/request by process | app | driver | RSS MiB idle | RSS MiB loaded | errors |\n|---|---|---|---|---|---|---|---|---|---|---|",
            self.name, self.connections
        );
        for row in self.rows.iter().filter(|row| !row.closed.is_empty()) {
            let sample = median(&row.closed);
            let ratio = self
                .direct(&row.id)
                .map_or("-".to_owned(), |(_, closed)| format!("{:.2}", sample.per_second / closed.per_second));
            let mebibytes = |kib: &[u64]| list1(&kib.iter().map(|kib| *kib as f64 / 1024.0).collect::<Vec<_>>());
            let _ = writeln!(
                text,
                "| {} {} | {:.0} | {ratio} | {:.3} | {:.3} | {} | {:.0} | {:.0} | {} | {} | {} |",
                row.id,
                row.title,
                sample.per_second,
                sample.latency_us[0] / 1e3,
                sample.latency_us[2] / 1e3,
                list(&sample.cpu_us),
                sample.app_cpu_us,
                sample.driver_cpu_us,
                mebibytes(&row.idle_kib),
                mebibytes(&row.loaded_kib),
                errors(&sample)
            );
        }
        for line in self.ratios() {
            let _ = writeln!(text, "{line}");
        }
        for (id, reason) in &self.skipped {
            let first = reason.lines().next().unwrap_or_default();
            let _ = writeln!(text, "skipped {id}: {first}");
        }
        text
    }

    fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// The call without anything between, at the rate and at saturation: what row `id` is compared with.
    fn direct(&self, id: &str) -> Option<(Sample, Sample)> {
        let direct = self.row(if id.starts_with('G') { "G-direct" } else { "A" })?;
        Some((median(&direct.rated), median(&direct.closed)))
    }

    /// Ours against each peer of the same run, calls of gRPC apart.
    fn ratios(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(ours) = self.row("D").or_else(|| self.row("ours")) {
            lines.extend(self.ratios_of(ours, &["nginx", "haproxy", "K", "original"]));
        }
        if let Some(ours) = self.row("J") {
            lines.extend(self.ratios_of(ours, &["nginx-tls", "J-original", "D"]));
        }
        if let Some(ours) = self.row("O") {
            lines.extend(self.ratios_of(ours, &["O-off"]));
        }
        if let Some(ours) = self.row("G") {
            lines.extend(self.ratios_of(ours, &["G-original"]));
        }
        if !lines.is_empty() {
            lines.insert(0, String::new());
        }
        lines
    }

    fn ratios_of(&self, ours: &Row, peers: &[&str]) -> Vec<String> {
        let (rated, closed) = (median(&ours.rated), median(&ours.closed));
        let direct = self.direct(&ours.id).map(|(rated, _)| rated);
        let mut lines = Vec::new();
        for peer in peers.iter().filter_map(|id| self.row(id)) {
            let (peer_rated, peer_closed) = (median(&peer.rated), median(&peer.closed));
            let mut line = format!("{} / {} {}:", ours.id, peer.id, peer.title);
            if let Some(direct) = &direct {
                let added = |sample: &Sample, at: usize| sample.latency_us[at] - direct.latency_us[at];
                let _ = write!(
                    line,
                    " added p50 {:.2}, added p99 {:.2},",
                    added(&rated, 0) / added(&peer_rated, 0),
                    added(&rated, 2) / added(&peer_rated, 2)
                );
            } else if !ours.rated.is_empty() {
                let _ = write!(
                    line,
                    " p50 {:.2}, p99 {:.2},",
                    rated.latency_us[0] / peer_rated.latency_us[0],
                    rated.latency_us[2] / peer_rated.latency_us[2]
                );
            }
            let cpu = |sample: &Sample| sample.cpu_us.iter().sum::<f64>();
            let _ = write!(
                line,
                " CPU at the rate {:.2}, CPU at saturation {:.2}, requests/s {:.2}",
                cpu(&rated) / cpu(&peer_rated),
                cpu(&closed) / cpu(&peer_closed),
                closed.per_second / peer_closed.per_second
            );
            lines.push(line);
        }
        lines
    }

    /// Everything, each round apart.
    pub(crate) fn json(&self) -> Value {
        let sample = |sample: &Sample| {
            json!({
                "latency_us": { "p50": sample.latency_us[0], "p90": sample.latency_us[1], "p99": sample.latency_us[2], "p99.9": sample.latency_us[3] },
                "requests_per_second": sample.per_second, "errors": sample.errors, "first_error": sample.first_error,
                "in_flight_max": sample.in_flight_max, "cpu_us_per_request": sample.cpu_us,
                "app_cpu_us_per_request": sample.app_cpu_us, "driver_cpu_us_per_request": sample.driver_cpu_us,
            })
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "id": row.id, "title": row.title, "processes": row.roles,
                    "rated": { "median": sample(&median(&row.rated)), "rounds": row.rated.iter().map(sample).collect::<Vec<_>>() },
                    "closed": { "median": sample(&median(&row.closed)), "rounds": row.closed.iter().map(sample).collect::<Vec<_>>() },
                    "resident_kib": { "idle": row.idle_kib, "loaded": row.loaded_kib },
                })
            })
            .collect();
        let skipped: Vec<Value> =
            self.skipped.iter().map(|(id, reason)| json!({ "id": id, "reason": reason })).collect();
        json!({ "bench": self.name, "rate": self.rate, "connections": self.connections, "machine": machine(), "paths": rows, "skipped": skipped })
    }
}

/// Kernel and processors, so that two files can be compared honestly.
pub(crate) fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "kernel": read("/proc/sys/kernel/osrelease"), "processors": processors, "load_average": read("/proc/loadavg") })
}

/// Writes `value` to `path`.
///
/// # Errors
/// When the file cannot be written, naming it.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

fn list(values: &[f64]) -> String {
    if values.is_empty() {
        "-".to_owned()
    } else {
        values.iter().map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(" + ")
    }
}

fn list1(values: &[f64]) -> String {
    if values.is_empty() {
        "-".to_owned()
    } else {
        values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" + ")
    }
}

fn errors(sample: &Sample) -> String {
    match &sample.first_error {
        None => sample.errors.to_string(),
        Some(text) => format!("{} ({})", sample.errors, text.chars().take(60).collect::<String>().replace('|', "/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(p50: f64, rps: f64, cpu: f64) -> Sample {
        Sample {
            latency_us: [p50, p50, p50 * 2.0, p50 * 3.0],
            per_second: rps,
            cpu_us: vec![cpu, cpu],
            ..Sample::default()
        }
    }

    fn row(id: &str, samples: Vec<Sample>) -> Row {
        Row {
            id: id.to_owned(),
            title: String::new(),
            roles: vec![],
            rated: samples.clone(),
            closed: samples,
            idle_kib: vec![1024],
            loaded_kib: vec![2048],
        }
    }

    #[test]
    fn median_ignores_one_bad_round_but_sums_errors() {
        let mut bad = sample(9000.0, 10.0, 500.0);
        bad.errors = 2;
        let found = median(&[sample(100.0, 1000.0, 50.0), bad, sample(110.0, 990.0, 51.0)]);
        assert_eq!(found.latency_us[0], 110.0);
        assert_eq!((found.per_second, found.errors), (990.0, 2));
        assert_eq!(found.cpu_us, [51.0, 51.0]);
        assert_eq!(middle(vec![1.0, 4.0]), 2.5);
    }

    #[test]
    fn ratio_compares_what_the_hops_add() {
        let report = Report {
            name: "invoke",
            rate: 1000.0,
            connections: 16,
            rows: vec![
                row("A", vec![sample(100.0, 30_000.0, 0.0)]),
                row("D", vec![sample(300.0, 9_000.0, 60.0)]),
                row("nginx", vec![sample(200.0, 6_000.0, 40.0)]),
            ],
            skipped: vec![("J".to_owned(), "no sentry yet".to_owned())],
        };
        let text = report.text();
        assert!(text.contains("added p50 2.00"), "{text}");
        assert!(text.contains("requests/s 1.50"), "{text}");
        assert!(text.contains("skipped J: no sentry yet"), "{text}");
        assert_eq!(report.json()["paths"][1]["rated"]["median"]["latency_us"]["p50"], 300.0);
    }
}
