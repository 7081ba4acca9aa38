//! What observing one request costs. A measurement and not a check: it prints, nothing fails because a machine is slow.
//!
//! `cargo test --release -p pillion-telemetry --test cost -- --ignored --nocapture --test-threads 1`

#![expect(clippy::unwrap_used, reason = "the whole file is a test")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use pillion_core::log::{Level, LogOptions, Logger};
use pillion_telemetry::export::{BatchSettings, Resource};
use pillion_telemetry::metrics::{CallKind, Metrics, MetricsOptions};
use pillion_telemetry::trace::{ExporterSettings, SpanKind, TraceContext, Tracer, TracerSettings, http_failure};
use tokio_util::sync::CancellationToken;

const CALLS: u32 = 20_000;
const ROUNDS: usize = 15;

/// The best of several rounds: others use the machine too.
fn measure(what: &str, mut call: impl FnMut()) {
    let best = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        (0..CALLS).for_each(|_| call());
        started.elapsed()
    });
    println!("{what}: {} ns", best.min().unwrap().as_nanos() / u128::from(CALLS));
}

/// CPU time of all threads of this process.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// As many attributes as a service invocation over HTTP has.
fn one_span(tracer: &Tracer, parent: Option<TraceContext>) {
    let started = tracer.start(SpanKind::Client, parent, || "/echo".to_owned());
    black_box(started.context.map(TraceContext::to_value));
    if let Some(mut span) = started.span {
        span.set("dapr-app-id", "callee");
        span.set("rpc.service", "ServiceInvocation");
        span.rename(format!("CallLocal/{}/{}", "callee", "echo"));
        span.set("net.peer.name", "callee");
        span.set("dapr.protocol", "http");
        span.set("dapr.api", "POST /echo");
        span.set("http.request.method", "POST");
        span.set("url.full", "/echo");
        span.set("server.address", "127.0.0.1");
        span.set("server.port", "40312");
        span.set("dapr.status_code", "200");
        black_box(http_failure(200));
    }
}

fn tracer(exporters: Vec<ExporterSettings>) -> (Tracer, Vec<pillion_telemetry::trace::ExportWorker>) {
    let settings = TracerSettings {
        sampling_rate: "1".to_owned(),
        exporters,
        resource: Resource { attributes: vec![("service.name".to_owned(), "caller".to_owned())] },
        batch: BatchSettings::default(),
    };
    Tracer::new(settings, &Logger::silent()).unwrap()
}

#[test]
#[ignore = "a measurement"]
fn metrics() {
    let metrics = Metrics::new(&MetricsOptions::new("caller", "default"));
    let elapsed = Duration::from_micros(1500);
    measure("metrics of the caller, without spans", || {
        let metrics = black_box(&metrics);
        metrics.http().unwrap().served("POST", "/echo", 200, (1024, 1024), elapsed);
        metrics.service().unwrap().request_sent("callee", CallKind::Unary);
        metrics.service().unwrap().response_received("callee", 200, CallKind::Unary, elapsed);
    });
    measure("metrics of the callee", || {
        let metrics = black_box(&metrics);
        metrics.service().unwrap().request_received("caller");
        metrics.http().unwrap().asking("POST", "/echo", 1024);
        metrics.http().unwrap().asked("POST", "/echo", Some((200, 1024)), elapsed);
        metrics.service().unwrap().response_sent("caller", 200);
    });
}

#[test]
#[ignore = "a measurement"]
fn spans_without_exporter() {
    let tracer = tracer(Vec::new()).0;
    measure("a span, dropped at its end", || one_span(&tracer, None));
}

/// A collector that takes everything.
async fn collector() -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut data, mut chunk) = (Vec::new(), vec![0; 256 * 1024]);
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    data.extend_from_slice(&chunk[..count]);
                    let Some(end) = data.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8_lossy(&data[..end]).to_ascii_lowercase();
                    let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                    if data.len() >= end + 4 + length.trim().parse::<usize>().unwrap() {
                        data.clear();
                        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                }
            });
        }
    });
    port
}

/// CPU of the whole process at a steady rate, the collector's reading included.
#[test]
#[ignore = "a measurement"]
fn spans_to_zipkin() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = format!("http://127.0.0.1:{}/api/v2/spans", collector().await);
        let (tracer, workers) = tracer(vec![ExporterSettings::Zipkin { endpoint }]);
        let cancel = CancellationToken::new();
        for worker in workers {
            tokio::spawn(worker.run(cancel.clone()));
        }
        let (before, spans) = (cpu(), 20_000_u32);
        let idle = {
            let mut timer = tokio::time::interval(Duration::from_millis(1));
            for _ in 0..spans / 10 {
                timer.tick().await;
            }
            cpu() - before
        };
        let before = cpu();
        let mut timer = tokio::time::interval(Duration::from_millis(1));
        for _ in 0..spans / 10 {
            timer.tick().await;
            for _ in 0..10 {
                one_span(&tracer, None);
                tokio::task::yield_now().await;
            }
        }
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let spent = cpu() - before - idle;
        println!("a span sent to Zipkin, all threads, collector too: {} ns", spent.as_nanos() / u128::from(spans));
        cancel.cancel();
    });
}

#[test]
#[ignore = "a measurement"]
fn api_log_lines() {
    let path = std::env::temp_dir().join(format!("pillion-cost-{}.log", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    let text = str::to_owned;
    let options = LogOptions {
        level: Level::Info,
        as_json: false,
        app_id: text("caller"),
        instance: text("host"),
        version: text("1.18.3"),
    };
    let log = Logger::new(options, Box::new(file)).scope("dapr.runtime.http-info");
    measure("a line of the API log", || {
        let fields = vec![
            ("method", black_box("POST /echo").to_owned()),
            ("code", black_box(200_u16).to_string()),
            ("size", black_box(1024_u64).to_string()),
            ("duration", black_box(1_u64).to_string()),
        ];
        log.with_fields(Level::Info, "HTTP API Called", &fields);
    });
    std::fs::remove_file(path).unwrap();
}
