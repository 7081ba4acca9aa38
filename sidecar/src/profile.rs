//! The profile server (`--enable-profiling`): what this process can truly tell of itself, under the paths of Go's profiles.
//!
//! *Source:* spec http_api.md §1 for port and addresses. *Invariant:* nothing is made up: profiles that belong to Go's runtime
//! are refused by name.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pillion_core::log::Logger;
use pillion_runtime::loops::Loops;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio_util::sync::CancellationToken;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ROOT: &str = "/debug/pprof/";
/// What is served, with its description.
const PAGES: [(&str, &str); 4] = [
    ("cmdline", "the command line of this process, words separated by NUL"),
    ("heap", "memory of this process as the kernel counts it"),
    ("tasks", "asynchronous tasks that are alive; /debug/pprof/goroutine is the same page"),
    ("threads", "threads with the processor time each has used; /debug/pprof/threadcreate is the same page"),
];
/// What the original has and this process cannot have.
const GO_ONLY: [&str; 6] = ["allocs", "block", "mutex", "profile", "symbol", "trace"];

/// Serves until cancelled. `loops`: those of the process besides the caller's.
pub(crate) async fn serve(listener: TcpListener, loops: Loops, log: Logger, cancel: CancellationToken) {
    while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            log.warn("cannot accept a connection on the profile port");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (loops, cancel) = (loops.clone(), cancel.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, loops.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer);
            // A reader that hangs up early is no event.
            let _ = cancel.run_until_cancelled(connection).await;
        });
    }
}

async fn answer(request: Request<Incoming>, loops: Loops) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = page(request.uri().path(), &loops);
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn page(path: &str, loops: &Loops) -> (StatusCode, &'static str, Vec<u8>) {
    const TEXT: &str = "text/plain; charset=utf-8";
    let Some(name) = path.strip_prefix(ROOT) else {
        return (StatusCode::NOT_FOUND, TEXT, b"404 page not found\n".to_vec());
    };
    match name {
        "" => (StatusCode::OK, "text/html; charset=utf-8", index().into_bytes()),
        "cmdline" => (StatusCode::OK, TEXT, command_line()),
        "heap" => (StatusCode::OK, TEXT, memory().into_bytes()),
        "tasks" | "goroutine" => (StatusCode::OK, TEXT, tasks(loops).into_bytes()),
        "threads" | "threadcreate" => (StatusCode::OK, TEXT, threads().into_bytes()),
        _ if GO_ONLY.contains(&name) => {
            let text = format!(
                "{ROOT}{name} is a profile of Go's runtime, which this process does not have; use `perf` on process {}\n",
                std::process::id()
            );
            (StatusCode::NOT_IMPLEMENTED, TEXT, text.into_bytes())
        }
        _ => (StatusCode::NOT_FOUND, TEXT, b"Unknown profile\n".to_vec()),
    }
}

fn index() -> String {
    let mut text = format!(
        "<html>\n<head>\n<title>{ROOT}</title>\n</head>\n<body>\n{ROOT}\n<p>What this process can tell:\n<ul>\n"
    );
    for (name, description) in PAGES {
        let _ = writeln!(text, "<li><a href='{name}'>{name}</a>: {description}</li>"); // writing to a String cannot fail
    }
    text.push_str("</ul>\n</body>\n</html>\n");
    text
}

fn command_line() -> Vec<u8> {
    let words: Vec<Vec<u8>> = std::env::args_os().map(|word| word.as_bytes().to_vec()).collect();
    words.join(&0)
}

/// The memory lines of the process's status.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("Vm") || line.starts_with("Rss"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn tasks(loops: &Loops) -> String {
    let all: Vec<RuntimeMetrics> = loops.metrics().chain([Handle::current().metrics()]).collect();
    let sum = |of: fn(&RuntimeMetrics) -> usize| all.iter().map(of).sum::<usize>();
    format!(
        "tasks alive: {}\ntasks waiting for a thread: {}\nthreads that run tasks: {}\n",
        sum(RuntimeMetrics::num_alive_tasks),
        sum(RuntimeMetrics::global_queue_depth),
        sum(RuntimeMetrics::num_workers)
    )
}

/// Name and processor time of each thread. *Source:* `/proc/<pid>/task/*/{comm,schedstat}`, the first field in nanoseconds.
fn threads() -> String {
    let mut text = String::new();
    for thread in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let spent: u64 = read("schedstat").split(' ').next().and_then(|field| field.parse().ok()).unwrap_or_default();
        let spent = Duration::from_nanos(spent);
        let _ = writeln!(text, "{}\t{}\t{spent:.1?}", thread.file_name().display(), read("comm").trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_tell_figures_and_go_profiles_are_refused() {
        for (name, part) in [
            ("", "href='heap'"),
            ("cmdline", "pillion"),
            ("heap", "VmRSS:"),
            ("goroutine", "tasks alive: "),
            ("threads", "\t"),
        ] {
            let (status, _, body) = page(&format!("{ROOT}{name}"), &Loops::default());
            let body = String::from_utf8(body).unwrap();
            assert!(status == StatusCode::OK && body.contains(part), "{name}: {body}");
        }
        assert_eq!(page("/debug/pprof/trace", &Loops::default()).0, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(page("/debug/pprof/no", &Loops::default()).0, StatusCode::NOT_FOUND);
        assert_eq!(page("/", &Loops::default()).0, StatusCode::NOT_FOUND);
    }
}
