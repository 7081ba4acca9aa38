//! What the four demo services share. The services know Pillion only as a Dapr sidecar on
//! `localhost`: nothing here imports one of its crates, so the demo proves the wire and nothing else.
//!
//! ```text
//! POST /tenant ─► tenant-service ─(sidecars)─► notification-service ─► topic `tenants` ─┬─► email-service
//!                                                                                       └─► sms-service
//! ```

pub mod client;
pub mod consumer;
pub mod ledger;
pub mod server;
pub mod switches;
pub mod tenant;
