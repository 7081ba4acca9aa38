//! Base types every other crate speaks in: errors and their table, log values, durations, flags.
//!
//! *Job:* hold what has no I/O and no protocol of its own. *Neighbours:* everything imports it, it imports nothing of
//! ours. *Invariant:* no statics with state; a clock, a logger and a shutdown token are values that are passed in.

pub mod board;
pub mod duration;
pub mod error;
pub mod flags;
pub mod json;
pub mod log;
pub mod quantity;
pub mod secret;

/// The version of Dapr whose wire this system speaks; clients read it as the runtime version.
pub const DAPR_VERSION: &str = "1.18.3";
