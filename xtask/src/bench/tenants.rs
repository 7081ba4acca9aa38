//! Variants C and E: the tenant and notification services of the demo, with the answer given before the notification
//! (asynchronous, as the document's load test timed it) or after it (synchronous). They share one application code, so
//! the difference between them is the waiting alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::paths::{MeasuredPath, Sidecar, SidecarSettings, await_answer, built, local, post};
use super::process::{Process, free_port};

/// When the tenant service answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notify {
    /// Before the notification service was called.
    Async,
    /// After it answered.
    Sync,
}

/// How the tenant service reaches the notification service.
pub(crate) enum Route {
    Direct,
    Sidecars(Sidecar),
}

/// Starts both services and, for [`Route::Sidecars`], their sidecars. Publishing is off: the call alone is measured.
///
/// # Errors
/// When a binary is not built or something does not start.
pub(crate) fn tenants(id: &str, title: &str, route: Route, notify: Notify, directory: &Path) -> Result<MeasuredPath> {
    let directory = directory.join(id);
    fs::create_dir_all(&directory)?;
    let (tenant_port, notification_port, tenant_http) = (free_port()?, free_port()?, free_port()?);
    let mut processes = Vec::new();

    let mut command = Command::new(built("notification-service")?);
    command.env("APP_PORT", notification_port.to_string()).env("PUBLISH", "none");
    let mut notification = Process::start("notification service", command, &directory)?;
    notification.await_status(notification_port, "/healthz", 200, Duration::from_secs(10))?;

    let mut command = Command::new(built("tenant-service")?);
    command.env("APP_PORT", tenant_port.to_string()).env("DAPR_HTTP_PORT", tenant_http.to_string());
    command.env("NOTIFY_MODE", if notify == Notify::Async { "async" } else { "sync" });
    // An app ID of its own per variant, so that the variants of one run cannot answer for each other.
    let notification_id = format!("notification-{}", id.to_lowercase());
    match &route {
        Route::Direct => command.env("NOTIFY_URL", format!("http://127.0.0.1:{notification_port}/notification")),
        Route::Sidecars(_) => command.env(
            "NOTIFY_URL",
            format!("http://127.0.0.1:{tenant_http}/v1.0/invoke/{notification_id}/method/notification"),
        ),
    };
    let mut tenant = Process::start("tenant service", command, &directory)?;
    tenant.await_status(tenant_port, "/healthz", 200, Duration::from_secs(10))?;

    processes.push(tenant);
    if let Route::Sidecars(sidecar) = &route {
        let settings = SidecarSettings {
            app_id: &notification_id,
            app_port: Some(notification_port),
            ..SidecarSettings::default()
        };
        let (callee, _) = sidecar.start_ready("sidecar of the notification service", &settings, &directory)?;
        let tenant_id = format!("tenant-{}", id.to_lowercase());
        let settings = SidecarSettings {
            app_id: &tenant_id,
            app_port: Some(tenant_port),
            http_port: Some(tenant_http),
            ..SidecarSettings::default()
        };
        let (caller, _) = sidecar.start_ready("sidecar of the tenant service", &settings, &directory)?;
        processes.extend([caller, callee]);
    }
    processes.push(notification);

    let body = br#"{"name":"Acme","emailId":"a@b.c","phone":"1"}"#;
    let request = post("/tenant", &["content-type: application/json"], body);
    await_answer(tenant_port, &request, &mut processes)?;
    Ok(MeasuredPath {
        id: id.to_owned(),
        title: title.to_owned(),
        endpoint: local(tenant_port),
        request,
        keep_alive: true,
        grpc: None,
        processes,
        _helpers: Vec::new(),
    })
}
