//! The metrics server: what the sidecar recorded and figures of the process, in the Prometheus text form.
//!
//! *Source:* spec flags.md §7 for the port; any path answers, as in the original.

mod settings;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pillion_core::log::Logger;
use pillion_telemetry::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use settings::metrics;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until cancelled.
pub(crate) async fn serve(listener: TcpListener, metrics: Metrics, log: Logger, cancel: CancellationToken) {
    let started = SystemTime::now(); // the server is opened with the process
    while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            log.warn("cannot accept a connection on the metrics port");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (cancel, metrics) = (cancel.clone(), metrics.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service_fn(|request| answer(request, &metrics, started)));
            // A scraper that hangs up early is no event.
            let _ = cancel.run_until_cancelled(connection).await;
        });
    }
}

async fn answer(
    _: Request<Incoming>,
    metrics: &Metrics,
    started: SystemTime,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from(format!("{}{}", metrics.text(), process_figures(started))));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}

/// The figures of the process now. Values the system does not tell are left out.
fn process_figures(started: SystemTime) -> String {
    let mut text = String::new();
    let mut add = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"); // writing to a String cannot fail
        }
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().ok().map(|value| value * 1024.0)
    };
    add("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", kilobytes("VmRSS"));
    add("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", kilobytes("VmSize"));
    add("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", cpu_seconds());
    let open =
        std::fs::read_dir("/proc/self/fd").ok().and_then(|entries| u32::try_from(entries.count()).ok()).map(f64::from);
    add("process_open_fds", "gauge", "Number of open file descriptors.", open);
    add("process_max_fds", "gauge", "Maximum number of open file descriptors.", open_files_max());
    let started = started.duration_since(UNIX_EPOCH).ok().map(|since| since.as_millis() as f64 / 1000.0);
    add("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", started);
    text
}

/// The limit of open files, when there is one.
fn open_files_max() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// Time on a processor of all threads that run now. *Source:* first field of `/proc/<pid>/task/*/schedstat`, nanoseconds.
fn cpu_seconds() -> Option<f64> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    Some(nanoseconds.sum::<f64>() / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_with_its_type() {
        let text = process_figures(UNIX_EPOCH + Duration::from_millis(1500));
        assert!(text.contains("\nprocess_start_time_seconds 1.5\n"), "{text}");
        assert!(text.contains("# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes "), "{text}");
        let value = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(value.parse::<f64>().unwrap() > 100_000.0, "{value}");
    }
}
