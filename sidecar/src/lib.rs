//! The composition of a sidecar: options, resources, components, servers, the app, and their life.
//!
//! *Job:* build every part, connect them, start and stop them in order. *Neighbours:* `pillion` calls [`daprd::main`] with
//! the component types of `catalog`; tests and embedders use [`Sidecar::start`]. *Invariant:* a sidecar is a value: it
//! reads the process environment only through [`Environment`], and several can live in one process.

mod app;
mod categories;
mod components;
pub mod daprd;
mod environment;
mod health;
mod info;
mod listeners;
mod mcp;
mod metrics;
mod operator;
mod options;
mod profile;
mod reload;
mod resources;
mod security;
mod sidecar;
mod tracing;

pub use environment::Environment;
pub use options::{Command, Mode, Options, OptionsError};
pub use sidecar::{End, Sidecar, StartError, StopError};
