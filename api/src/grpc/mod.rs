//! The gRPC front: translation between gRPC messages and the building blocks, nothing else.
//!
//! Neighbours: `pillion_proto` has the messages and server traits, the blocks do the work. Invariant: [`status`] is the
//! only place where an [`ApiError`](pillion_core::error::ApiError) becomes a gRPC status.

pub mod status;
