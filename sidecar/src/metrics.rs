//! The metrics server: what the sidecar recorded and figures of the process, in the Prometheus text form.
//!
//! *Source:* spec flags.md §7 for the port; any path answers, as in the original.

mod settings;

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pillion_core::log::Logger;
use pillion_telemetry::metrics::{Metrics, process};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use settings::{increased_cardinality, metrics};

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
    let mut response =
        Response::new(Full::from(format!("{}{}", metrics.text(), process::text(&process::figures(started)))));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}
