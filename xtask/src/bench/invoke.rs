//! `bench invoke`: the variants A to K of service invocation beside nginx and haproxy hops.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};

use super::measure;
use super::options::Options;
use super::paths::{
    MeasuredPath, Names, PairForm, Sidecar, grpc_direct, grpc_pair, haproxy, local, nginx, original_pair, pair,
    payload, post,
};
use super::process::Process;
use super::tenants::{Notify, Route, tenants};

/// Every variant in table order.
const VARIANTS: [(&str, &str); 22] = [
    ("A", "direct"),
    ("B", "direct, a connection per request"),
    ("nginx", "two nginx hops"),
    ("nginx-tls", "two nginx hops, mutual TLS between them"),
    ("haproxy", ""),
    ("D", "two sidecars, dapr-app-id header"),
    ("F", "two sidecars, /v1.0/invoke path"),
    ("G-direct", "direct, gRPC"),
    ("G", "two sidecars, gRPC proxy"),
    ("G-mtls", "as G, mTLS"),
    ("G-original", "two original sidecars, gRPC proxy"),
    ("H", "as D, caller on a Unix socket"),
    ("I", "as D, tracing 100 %"),
    ("J", "as D, mTLS"),
    ("J-original", "two original sidecars, header, mTLS"),
    ("O", "as D, metrics, tracing 100 % to Zipkin, API log"),
    ("O-off", "as D, none of these"),
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
    let mut grpc_app = None;
    let mut paths = Vec::new();
    let mut skipped = Vec::new();
    for (id, title) in VARIANTS.iter().filter(|(id, _)| options.wants(id)) {
        match start(id, title, port, &mut grpc_app, directory) {
            Ok(path) => paths.push(path),
            Err(error) => skipped.push(((*id).to_owned(), format!("{error:#}"))),
        }
    }
    measure("invoke", options, &paths, Some(&app), skipped)
}

/// Starts one variant.
fn start(
    id: &str,
    title: &str,
    app: u16,
    grpc_app: &mut Option<(Rc<Process>, u16)>,
    directory: &Path,
) -> Result<MeasuredPath> {
    let ours = Sidecar::ours;
    let names = Names::Default;
    match id {
        "A" | "B" => Ok(direct(id, title, app)),
        "nginx" | "nginx-tls" => nginx(id, title, id == "nginx-tls", app, directory),
        "haproxy" => haproxy(app, directory),
        "D" => pair(id, title, &ours()?, PairForm::Header, names, app, directory),
        "F" => pair(id, title, &ours()?, PairForm::Path, names, app, directory),
        "H" => pair(id, title, &ours()?, PairForm::UnixSocket, names, app, directory),
        "I" => pair(id, title, &ours()?, PairForm::Traced, names, app, directory),
        "O" => pair(id, title, &ours()?, PairForm::Observed, names, app, directory),
        "O-off" => pair(id, title, &ours()?, PairForm::Unobserved, names, app, directory),
        "J" => pair(id, title, &ours()?, PairForm::Mtls, names, app, directory),
        "J-original" => original_pair(id, title, PairForm::Mtls, app, directory),
        "K" => original_pair(id, title, PairForm::Header, app, directory),
        "C" => tenants(id, title, Route::Direct, Notify::Async, directory),
        "C-sync" => tenants(id, title, Route::Direct, Notify::Sync, directory),
        "E" => tenants(id, title, Route::Sidecars(ours()?), Notify::Async, directory),
        "E-sync" => tenants(id, title, Route::Sidecars(ours()?), Notify::Sync, directory),
        "G-direct" => Ok(grpc_direct(id, title, grpc_echo(grpc_app, directory)?)),
        "G" => grpc_pair(id, title, &ours()?, PairForm::Header, names, grpc_echo(grpc_app, directory)?, directory),
        "G-mtls" => grpc_pair(id, title, &ours()?, PairForm::Mtls, names, grpc_echo(grpc_app, directory)?, directory),
        "G-original" => {
            let (sidecar, app) = (Sidecar::original()?, grpc_echo(grpc_app, directory)?);
            grpc_pair(id, title, &sidecar, PairForm::Header, Names::Sqlite, app.clone(), directory).or_else(|sqlite| {
                grpc_pair(id, title, &sidecar, PairForm::Header, Names::Default, app, directory)
                    .with_context(|| format!("by SQLite: {sqlite:#}; by mDNS"))
            })
        }
        other => bail!("no variant {other}"),
    }
}

/// The gRPC echo app, one for all variants that need it.
fn grpc_echo(running: &mut Option<(Rc<Process>, u16)>, directory: &Path) -> Result<(Rc<Process>, u16)> {
    if let Some(running) = running {
        return Ok(running.clone());
    }
    let (process, port) = Process::start_grpc_echo("gRPC echo app", directory)?;
    Ok(running.insert((Rc::new(process), port)).clone())
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
        grpc: None,
        processes: Vec::new(),
        _helpers: Vec::new(),
    }
}
