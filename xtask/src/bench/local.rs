//! `bench publish` and `bench state`: one sidecar with an in-memory component, ours beside the original.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::measure;
use super::options::Options;
use super::paths::{MeasuredPath, Sidecar, SidecarSettings, await_answer, local, payload, post};

/// `POST /v1.0/publish/<in-memory pub/sub>/<topic>` with 1 KiB.
///
/// # Errors
/// When neither sidecar can be started.
pub(crate) fn publish(options: &Options, directory: &Path) -> Result<()> {
    let request = post("/v1.0/publish/bench/topic", &["content-type: application/json"], &payload());
    both("publish", options, directory, "pubsub.in-memory", None, &request)
}

/// `GET /v1.0/state/<in-memory store>/key`, the value being 1 KiB.
///
/// # Errors
/// When neither sidecar can be started.
pub(crate) fn state(options: &Options, directory: &Path) -> Result<()> {
    let value = String::from_utf8(payload())?;
    let save = post(
        "/v1.0/state/bench",
        &["content-type: application/json"],
        format!(r#"[{{"key":"key","value":{value}}}]"#).as_bytes(),
    );
    let request = b"GET /v1.0/state/bench/key HTTP/1.1\r\nhost: localhost\r\n\r\n";
    both("state", options, directory, "state.in-memory", Some(&save), request)
}

fn both(
    name: &'static str,
    options: &Options,
    directory: &Path,
    component: &str,
    prepare: Option<&[u8]>,
    request: &[u8],
) -> Result<()> {
    let resources = directory.join("resources");
    fs::create_dir_all(&resources)?;
    fs::write(resources.join("bench.yaml"), component_yaml("bench", component))?;
    let mut paths = Vec::new();
    let mut skipped = Vec::new();
    for (id, title, sidecar) in [("ours", "Pillion", Sidecar::ours()), ("original", "daprd", Sidecar::original())] {
        if !options.wants(id) {
            continue;
        }
        let path = sidecar.and_then(|sidecar| {
            let directory = directory.join(id);
            fs::create_dir_all(&directory)?;
            let app_id = format!("bench-{name}-{id}");
            let settings =
                SidecarSettings { app_id: &app_id, resources: Some(&resources), ..SidecarSettings::default() };
            let (process, port) = sidecar.start_ready("sidecar", &settings, &directory)?;
            let mut processes = vec![process];
            for request in prepare.into_iter().chain([request]) {
                await_answer(port, request, &mut processes)?;
            }
            Ok(MeasuredPath {
                id: id.to_owned(),
                title: format!("{title}, {component}"),
                endpoint: local(port),
                request: request.to_vec(),
                keep_alive: true,
                grpc: None,
                processes,
                _helpers: Vec::new(),
            })
        });
        match path {
            Ok(path) => paths.push(path),
            Err(error) => skipped.push((id.to_owned(), format!("{error:#}"))),
        }
    }
    measure(name, options, &paths, None, skipped)
}

/// A Component document without metadata.
pub(crate) fn component_yaml(name: &str, component: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {component}\n  version: v1\n  metadata: []\n"
    )
}
