//! Sentry, the certificate authority of the control plane: gives every sidecar and service its SPIFFE identity.
//!
//! *Job:* [`main`] is the process, [`run`] the service. A request comes in at [`server`], a [`validator`] says who it is, the
//! [`authority`] signs; the material comes from a [`store`] and is exchanged by [`reload`] when it changes. [`oidc`], [`health`] and
//! [`metrics`] are read over HTTP. *Neighbours:* `base/security` has the cryptography. *Invariant:* names in certificates come from
//! the validator's answer, never from the request for a certificate; a running authority is only ever replaced by a verified one.

mod authority;
mod bundle;
mod cluster_domain;
mod configuration;
mod environment;
mod health;
mod http_server;
mod kube;
pub mod local;
mod metrics;
mod oidc;
mod options;
mod process;
mod reload;
mod run;
mod server;
mod store;
mod validator;
mod yaml;

pub use environment::Environment;
pub use options::{Mode, OidcOptions, Options, OptionsError, TokenOptions};
pub use process::main;
pub use run::{RunError, run};
