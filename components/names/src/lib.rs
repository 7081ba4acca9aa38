//! Name resolution by DNS, by a pattern, by Consul and by AWS Cloud Map: `nameresolution.kubernetes`, `nameresolution.dns`,
//! `nameresolution.nameformat`, `nameresolution.consul`, `nameresolution.aws.cloudmap`.
//!
//! *Job:* one module per way to find sidecars, each with a `create` that the registry calls. *Neighbours:* `answers` remembers
//! what was found, `http-client` is how servers are asked. *Invariant:* a remembered app costs no I/O; what is remembered has a
//! limit and an end; every failure says what was looked up, where, and what to do.

mod answers;
pub mod cloudmap;
pub mod consul;
pub mod dns;
mod environment;
pub mod name_format;

use pillion_contract::Registry;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_name_resolution("nameresolution.kubernetes", dns::create_kubernetes);
    registry.register_name_resolution("nameresolution.dns", dns::create);
    registry.register_name_resolution("nameresolution.nameformat", name_format::create);
    registry.register_name_resolution("nameresolution.consul", consul::create);
    registry.register_name_resolution("nameresolution.hashicorp.consul", consul::create);
    registry.register_name_resolution("nameresolution.aws.cloudmap", cloudmap::create);
}

/// `host:port`, with brackets around an IPv6 host.
fn join_host_port(host: &str, port: u16) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests;
