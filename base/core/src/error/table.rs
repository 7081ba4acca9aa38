//! The one table of API errors: `errorCode`, `ErrorInfo.reason`, statuses, text, details and metric labels of each.
//!
//! *Job:* hold the rows, one file per building block; [`ALL`] lists them all for tests and documents. *Neighbours:* blocks
//! make an [`ApiError`](super::ApiError) of a row, the `api` crate writes it. *Invariant:* a row is declared by `rows!`,
//! which also lists it, so no row misses in [`ALL`]. Rows of blocks that are not built yet are here already: their values
//! are facts of the wire. *Source:* spec errors.md §4.

/// Declares the rows of a category, and the list of them.
macro_rules! rows {
    ($category:ident: $($(#[$doc:meta])* $name:ident = $shape:ident($($value:expr),* $(,)?);)+) => {
        $($(#[$doc])* pub static $name: ErrorSpec = ErrorSpec::$shape(Category::$category, $($value),*);)+
        pub(super) static ROWS: &[&ErrorSpec] = &[$(&$name),+];
    };
}

mod actor;
mod binding;
mod common;
mod configuration;
mod conversation;
mod crypto;
mod health;
mod invocation;
mod job;
mod lock;
mod pubsub;
mod secret;
mod state;
#[cfg(test)]
mod tests;
mod workflow;

pub use actor::*;
pub use binding::*;
pub use common::*;
pub use configuration::*;
pub use conversation::*;
pub use crypto::*;
pub use health::*;
pub use invocation::*;
pub use job::*;
pub use lock::*;
pub use pubsub::*;
pub use secret::*;
pub use state::*;
pub use workflow::*;

use super::ErrorSpec;

/// Every row, block by block.
pub static ALL: &[&[&ErrorSpec]] = &[
    common::ROWS,
    health::ROWS,
    invocation::ROWS,
    state::ROWS,
    pubsub::ROWS,
    binding::ROWS,
    secret::ROWS,
    configuration::ROWS,
    crypto::ROWS,
    lock::ROWS,
    actor::ROWS,
    workflow::ROWS,
    job::ROWS,
    conversation::ROWS,
];
