//! Typed resource manifests: Component, Configuration, Subscription, Resiliency, HTTPEndpoint, and how they are read.
//!
//! The way of a file: [`yaml`] reads documents with line numbers, [`schema`] says which fields a kind has, [`check`] compares the two
//! and reports every difference as a [`Finding`], [`decode`] makes the typed value, [`rules`] looks at what only the meaning
//! can tell, and [`load`] applies namespace, scopes and duplicate names. [`values`] turns metadata items into strings.
//!
//! Invariant: nothing here reads the process environment or talks to a secret store; callers pass both in.

mod check;
mod configuration;
mod decode;
mod distance;
mod document;
mod finding;
mod load;
mod manifest;
mod rules;
mod schema;
pub mod types;
mod unbuilt;
mod validate;
mod values;
mod yaml;

pub use configuration::{expand_environment, load_configuration, read_configuration};
pub use document::read_document;
pub use finding::{Finding, Severity};
pub use load::{LoadOptions, Loaded, load_directories, load_texts};
pub use types::*;
pub use validate::{validate_path, validate_text};
pub use values::{TemplateContext, env_allowed, expand_templates, references, resolve};
pub use yaml::{Entry, Node, Scalar, Value};
