//! HTTP metrics: calls of the API, calls of the app, probes of the app. *Source:* spec metrics.md §2.

use std::sync::Arc;
use std::time::Duration;

use super::path::PathLabels;
use super::table::{Row, Table};
use super::{Builder, Decimal, counter, milliseconds, size, whole_milliseconds};

const LATENCY: usize = 0;
const COUNT: usize = 1;
const RESPONSES: usize = 2;
const ONLY: usize = 0;
const RECEIVED: usize = 0;
const SENT: usize = 1;
/// The status of a call the app did not answer.
const NO_ANSWER: u16 = 500;

/// HTTP server and client metrics.
pub struct HttpMetrics {
    paths: PathLabels,
    exclude_verbs: bool,
    server: Arc<Table>,
    server_bytes: Option<Arc<Row>>,
    client: Arc<Table>,
    client_sent: Arc<Table>,
    client_received: Option<Arc<Row>>,
    probes: Arc<Table>,
}

impl HttpMetrics {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let mut server = vec![
            builder.latency(
                "dapr_http_server_latency",
                "Time from a request of the HTTP API to its answer, in whole milliseconds.",
            ),
            counter("dapr_http_server_request_count", "Requests of the HTTP API."),
        ];
        if builder.options.increased_cardinality {
            server.push(counter("dapr_http_server_response_count", "Answers of the HTTP API."));
        }
        let server_bytes = builder.table(
            &[],
            vec![
                size(
                    "dapr_http_server_request_bytes",
                    "Size of request bodies of the HTTP API, as declared, in bytes.",
                ),
                size("dapr_http_server_response_bytes", "Size of answer bodies of the HTTP API in bytes."),
            ],
        );
        let client = vec![
            builder.latency(
                "dapr_http_client_roundtrip_latency",
                "Time from a request to the app to its answer, in milliseconds.",
            ),
            counter("dapr_http_client_completed_count", "Requests to the app that were answered or failed."),
        ];
        let sent = vec![size("dapr_http_client_sent_bytes", "Size of request bodies to the app in bytes.")];
        let received = vec![size("dapr_http_client_received_bytes", "Size of the app's answer bodies in bytes.")];
        let probes = vec![
            builder.latency(
                "dapr_http_healthprobes_roundtrip_latency",
                "Time from a health probe of the app to its answer, in milliseconds.",
            ),
            counter("dapr_http_healthprobes_completed_count", "Health probes of the app that were answered or failed."),
        ];
        Self {
            paths: PathLabels::new(builder.options.increased_cardinality, &builder.options.path_matching),
            exclude_verbs: builder.options.exclude_verbs,
            server: builder.table(&["method", "path", "status"], server),
            server_bytes: server_bytes.row(&[]),
            client: builder.table(&["method", "path", "status"], client),
            client_sent: builder.table(&["method", "path", "status"], sent),
            client_received: builder.table(&[], received).row(&[]),
            probes: builder.table(&["status"], probes),
        }
    }

    /// A call of the API was answered. `path` is decoded and not cleaned.
    pub fn served(&self, verb: &str, path: &str, status: u16, bytes: (u64, u64), elapsed: Duration) {
        let status = Decimal::new(i32::from(status));
        self.server.with(&[self.verb(verb), &self.paths.of_server(path), status.as_str()], |row| {
            row.observe(LATENCY, whole_milliseconds(elapsed));
            row.count(COUNT);
            row.count(RESPONSES);
        });
        if let Some(row) = &self.server_bytes {
            row.observe(RECEIVED, bytes.0 as f64);
            row.observe(SENT, bytes.1 as f64);
        }
    }

    /// The app is about to be called with a body of this size.
    pub fn asking(&self, verb: &str, path: &str, bytes: u64) {
        self.client_sent
            .with(&[self.verb(verb), &self.paths.of_client(path), ""], |row| row.observe(ONLY, bytes as f64));
    }

    /// The app answered with this status and size, or `None` when it did not.
    pub fn asked(&self, verb: &str, path: &str, answer: Option<(u16, u64)>, elapsed: Duration) {
        let (status, bytes) = answer.unwrap_or((NO_ANSWER, 0));
        let status = Decimal::new(i32::from(status));
        self.client.with(&[self.verb(verb), &self.paths.of_client(path), status.as_str()], |row| {
            row.observe(LATENCY, milliseconds(elapsed));
            row.count(COUNT);
        });
        if let Some(row) = &self.client_received {
            row.observe(ONLY, bytes as f64);
        }
    }

    /// A health probe ended with this status, or `None` without one.
    pub fn probed(&self, status: Option<u16>, elapsed: Duration) {
        let status = Decimal::new(i32::from(status.unwrap_or(NO_ANSWER)));
        self.probes.with(&[status.as_str()], |row| {
            row.observe(LATENCY, milliseconds(elapsed));
            row.count(COUNT);
        });
    }

    fn verb<'a>(&self, verb: &'a str) -> &'a str {
        match verb {
            _ if self.exclude_verbs => "",
            "GET" | "PUT" | "POST" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" | "CONNECT" | "TRACE" => verb,
            _ => "UNKNOWN",
        }
    }
}
