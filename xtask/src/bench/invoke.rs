//! `bench invoke`: the variants A to K of service invocation beside nginx and haproxy hops.

use std::path::Path;

use anyhow::{Result, bail};

use super::measure;
use super::options::Options;
use super::paths::{MeasuredPath, Names, PairForm, Sidecar, haproxy, local, nginx, original_pair, pair, payload, post};
use super::process::Process;
use super::tenants::{Notify, Route, tenants};

/// Every variant in table order.
const VARIANTS: [(&str, &str); 15] = [
    ("A", "direct"),
    ("B", "direct, a connection per request"),
    ("nginx", ""),
    ("haproxy", ""),
    ("D", "two sidecars, dapr-app-id header"),
    ("F", "two sidecars, /v1.0/invoke path"),
    ("G", "two sidecars, gRPC proxy"),
    ("H", "as D, caller on a Unix socket"),
    ("I", "as D, tracing 100 %"),
    ("J", "as D, mTLS"),
    ("K", "two original sidecars, header"),
    ("C", "tenant app, direct, asynchronous"),
    ("C-sync", "tenant app, direct, synchronous"),
    ("E", "tenant app, sidecars, asynchronous"),
    ("E-sync", "tenant app, sidecars, synchronous"),
];

/// Starts what the wanted variants need and measures them.
///
/// # Errors
/// When the echo app does not start or no variant can be measured.
pub(crate) fn run(options: &Options, directory: &Path) -> Result<()> {
    let (app, port) = Process::start_echo("echo app", directory)?;
    let mut paths = Vec::new();
    let mut skipped = Vec::new();
    for (id, title) in VARIANTS.iter().filter(|(id, _)| options.wants(id)) {
        match start(id, title, port, directory) {
            Ok(path) => paths.push(path),
            Err(error) => skipped.push(((*id).to_owned(), format!("{error:#}"))),
        }
    }
    measure("invoke", options, &paths, Some(&app), skipped)
}

/// Starts one variant.
fn start(id: &str, title: &str, app: u16, directory: &Path) -> Result<MeasuredPath> {
    let ours = Sidecar::ours;
    let names = Names::Default;
    match id {
        "A" | "B" => Ok(direct(id, title, app)),
        "nginx" => nginx(app, directory),
        "haproxy" => haproxy(app, directory),
        "D" => pair(id, title, &ours()?, PairForm::Header, names, app, directory),
        "F" => pair(id, title, &ours()?, PairForm::Path, names, app, directory),
        "H" => pair(id, title, &ours()?, PairForm::UnixSocket, names, app, directory),
        "I" => pair(id, title, &ours()?, PairForm::Traced, names, app, directory),
        "K" => original_pair(id, title, app, directory),
        "C" => tenants(id, title, Route::Direct, Notify::Async, directory),
        "C-sync" => tenants(id, title, Route::Direct, Notify::Sync, directory),
        "E" => tenants(id, title, Route::Sidecars(ours()?), Notify::Async, directory),
        "E-sync" => tenants(id, title, Route::Sidecars(ours()?), Notify::Sync, directory),
        "G" => bail!("the load driver speaks HTTP/1.1 only; the gRPC proxy has tests, no bench yet"),
        "J" => bail!("not built yet: mTLS needs the sentry service"),
        other => bail!("no variant {other}"),
    }
}

fn direct(id: &str, title: &str, app: u16) -> MeasuredPath {
    let keep_alive = id == "A";
    let headers: &[&str] = if keep_alive {
        &["content-type: application/json"]
    } else {
        &["content-type: application/json", "connection: close"]
    };
    MeasuredPath {
        id: id.to_owned(),
        title: title.to_owned(),
        endpoint: local(app),
        request: post("/echo", headers, &payload()),
        keep_alive,
        processes: Vec::new(),
    }
}
