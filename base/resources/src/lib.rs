//! Typed resource manifests: Component, Configuration, Subscription, Resiliency, HTTPEndpoint, and how they are read.

pub mod types;

pub use types::*;
