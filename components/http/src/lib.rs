//! HTTP middleware written here: `middleware.http.uppercase`, `routeralias`, `routerchecker`, `ratelimit`, `bearer`, `oauth2`,
//! `oauth2clientcredentials` and `sentinel`.
//!
//! *Job:* one module per component type, each with a `create` that the registry calls. *Neighbours:* `contract` has the trait
//! and the pipeline; `wasm` has the types that run foreign code. *Invariant:* no statics; two components share nothing.

pub mod bearer;
mod client;
mod form;
pub mod oauth2;
pub mod oauth2_client_credentials;
mod path_filter;
pub mod rate_limit;
mod respond;
pub mod router_alias;
pub mod router_checker;
pub mod sentinel;
mod token_endpoint;
pub mod uppercase;

use pillion_contract::Registry;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_middleware("middleware.http.bearer", bearer::create);
    registry.register_middleware("middleware.http.oauth2", oauth2::create);
    registry.register_middleware("middleware.http.oauth2clientcredentials", oauth2_client_credentials::create);
    registry.register_middleware("middleware.http.ratelimit", rate_limit::create);
    registry.register_middleware("middleware.http.routeralias", router_alias::create);
    registry.register_middleware("middleware.http.routerchecker", router_checker::create);
    registry.register_middleware("middleware.http.sentinel", sentinel::create);
    registry.register_middleware("middleware.http.uppercase", uppercase::create);
}

#[cfg(test)]
mod tests;
