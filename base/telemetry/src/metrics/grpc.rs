//! gRPC metrics: calls of the API, calls of the app, probes of the app. *Source:* spec metrics.md §2.

use std::sync::Arc;
use std::time::Duration;

use pillion_core::error::GrpcCode;

use super::table::Table;
use super::{Builder, counter, size, whole_milliseconds};

const LATENCY: usize = 0;
const COUNT: usize = 1;
const SENT: usize = 0;
const RECEIVED: usize = 1;

/// gRPC server and client metrics.
pub struct GrpcMetrics {
    server: Arc<Table>,
    server_bytes: Arc<Table>,
    client: Arc<Table>,
    client_bytes: Arc<Table>,
    probes: Arc<Table>,
}

impl GrpcMetrics {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let server = vec![
            builder.latency(
                "dapr_grpc_io_server_server_latency",
                "Time from a call of the gRPC API to its end, in whole milliseconds.",
            ),
            counter("dapr_grpc_io_server_completed_rpcs", "Calls of the gRPC API that ended."),
        ];
        let server_bytes = vec![
            size(
                "dapr_grpc_io_server_sent_bytes_per_rpc",
                "Size of the answer message of a call of the gRPC API in bytes.",
            ),
            size(
                "dapr_grpc_io_server_received_bytes_per_rpc",
                "Size of the request message of a call of the gRPC API in bytes.",
            ),
        ];
        let client = vec![
            builder.latency(
                "dapr_grpc_io_client_roundtrip_latency",
                "Time from a gRPC call of the app to its end, in whole milliseconds.",
            ),
            counter("dapr_grpc_io_client_completed_rpcs", "gRPC calls of the app that ended."),
        ];
        let client_bytes = vec![
            size(
                "dapr_grpc_io_client_sent_bytes_per_rpc",
                "Size of the request message of a gRPC call of the app in bytes.",
            ),
            size("dapr_grpc_io_client_received_bytes_per_rpc", "Size of the app's answer message in bytes."),
        ];
        let probes = vec![
            builder.latency(
                "dapr_grpc_io_healthprobes_roundtrip_latency",
                "Time from a gRPC health probe of the app to its end, in whole milliseconds.",
            ),
            counter("dapr_grpc_io_healthprobes_completed_count", "gRPC health probes of the app that ended."),
        ];
        Self {
            server: builder.table(&["grpc_server_method", "grpc_server_status"], server),
            server_bytes: builder.table(&["grpc_server_method"], server_bytes),
            client: builder.table(&["grpc_client_method", "grpc_client_status"], client),
            client_bytes: builder.table(&["grpc_client_method"], client_bytes),
            probes: builder.table(&["grpc_client_status"], probes),
        }
    }

    /// A call of one message for one message ended. `bytes`: received, sent.
    pub fn served(&self, method: &str, code: i32, bytes: (u64, u64), elapsed: Duration) {
        self.streamed(method, code, elapsed);
        self.server_bytes.with(&[method], |row| {
            row.observe(RECEIVED, bytes.0 as f64);
            row.observe(SENT, bytes.1 as f64);
        });
    }

    /// A proxied call, which counts as streaming, ended on the API port.
    pub fn streamed(&self, method: &str, code: i32, elapsed: Duration) {
        self.server.with(&[method, GrpcCode::from_number(code).go_name()], |row| {
            row.observe(LATENCY, whole_milliseconds(elapsed));
            row.count(COUNT);
        });
    }

    /// A call of the app ended. `bytes`: sent, received.
    pub fn asked(&self, method: &str, code: i32, bytes: (u64, u64), elapsed: Duration) {
        self.passed_on(method, code, elapsed);
        self.client_bytes.with(&[method], |row| {
            row.observe(SENT, bytes.0 as f64);
            row.observe(RECEIVED, bytes.1 as f64);
        });
    }

    /// A proxied call of another sidecar ended on the internal port, where it counts as a call of the app.
    pub fn passed_on(&self, method: &str, code: i32, elapsed: Duration) {
        self.client.with(&[method, GrpcCode::from_number(code).go_name()], |row| {
            row.observe(LATENCY, whole_milliseconds(elapsed));
            row.count(COUNT);
        });
    }

    /// A health probe ended.
    pub fn probed(&self, code: i32, elapsed: Duration) {
        self.probes.with(&[GrpcCode::from_number(code).go_name()], |row| {
            row.observe(LATENCY, whole_milliseconds(elapsed));
            row.count(COUNT);
        });
    }
}
