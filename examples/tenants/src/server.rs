//! Starting and stopping a service: the port from `APP_PORT`, one line when it listens, SIGTERM and
//! Ctrl-C finish the requests under way.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::switches;

/// Serves `routes` and `GET /healthz` on 127.0.0.1 until SIGTERM or Ctrl-C.
///
/// # Errors
/// When `APP_PORT` is not a port, the port is taken, or signals cannot be watched.
pub async fn serve(name: &str, default_port: u16, routes: Router) -> Result<(), Box<dyn Error>> {
    let port = switches::number("APP_PORT", default_port)?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("{name}: cannot listen on port {port}: {error}; set APP_PORT to a free one"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    println!("{name} listens on port {port}");
    let routes = routes.route("/healthz", get(|| async { "ok" }));
    axum::serve(listener, routes).with_graceful_shutdown(stop).await?;
    println!("{name} stopped");
    Ok(())
}
