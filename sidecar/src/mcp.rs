//! MCPServer resources: checked, listed, and followed as they change. What they serve is not built yet.
//!
//! *Source:* the checks and log lines are those of the original's processor.

use std::collections::BTreeMap;

use pillion_core::log::Logger;
use pillion_resources::types::OtherResource;
use serde_json::Value;

const KIND: &str = "MCPServer";

/// The servers of the resources.
#[derive(Default)]
pub(crate) struct McpServers(BTreeMap<String, Server>);

struct Server {
    document: Value,
    is_usable: bool,
}

impl McpServers {
    /// Looks at the servers that are new or changed and forgets those that are gone.
    ///
    /// # Errors
    /// A server that must not be used and does not say `ignoreErrors`; the sidecar must end then.
    pub(crate) fn follow(&mut self, others: &[OtherResource], log: &Logger) -> Result<(), String> {
        let wanted = || others.iter().filter(|other| other.kind == KIND);
        self.0.retain(|name, _| wanted().any(|other| other.name == *name));
        for OtherResource { name, document, .. } in wanted() {
            if self.0.get(name).is_some_and(|known| known.document == *document) {
                continue;
            }
            let problem = check(&document["spec"]["endpoint"])
                .map(|problem| format!("MCPServer {name:?} failed security validation: {problem}"));
            self.0.insert(name.clone(), Server { document: document.clone(), is_usable: problem.is_none() });
            let Some(problem) = problem else {
                log.info(format_args!("MCPServer loaded: {name}"));
                continue;
            };
            if document["spec"]["ignoreErrors"].as_bool() == Some(true) {
                log.error(format_args!("Ignoring error processing MCPServer: {problem}"));
            } else {
                log.warn(format_args!("Error processing MCPServer, daprd will exit gracefully: {problem}"));
                return Err(problem);
            }
        }
        Ok(())
    }

    /// Names of the servers that can be used.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().filter(|(_, server)| server.is_usable).map(|(name, _)| name.clone()).collect()
    }
}

/// What makes an endpoint one that must not be used. *Source:* spec resources.md §6 "Validation".
fn check(endpoint: &Value) -> Option<String> {
    if let Some(stdio) = endpoint.get("stdio").filter(|stdio| !stdio.is_null()) {
        let command = stdio["command"].as_str().unwrap_or_default();
        return command.is_empty().then(|| "spec.endpoint.stdio.command: expected a command".to_owned());
    }
    for transport in ["streamableHTTP", "sse"] {
        let Some(url) = endpoint[transport]["url"].as_str() else { continue };
        let uri: Option<http::Uri> = url.parse().ok();
        let scheme = uri.as_ref().and_then(http::Uri::scheme_str).unwrap_or_default();
        let has_host = uri.as_ref().and_then(http::Uri::host).is_some_and(|host| !host.is_empty());
        if !matches!(scheme, "http" | "https") || !has_host {
            return Some(format!(
                "spec.endpoint.{transport}.url: expected http://host/… or https://host/…, found {url:?}"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(url: &str, ignore: bool) -> OtherResource {
        let document = json!({"spec": {"ignoreErrors": ignore, "endpoint": {"streamableHTTP": {"url": url}}}});
        OtherResource { kind: KIND.to_owned(), name: "a".to_owned(), document, ..OtherResource::default() }
    }

    #[test]
    fn a_server_that_must_not_be_used_is_left_out_or_ends_the_sidecar() {
        let (mut servers, log) = (McpServers::default(), Logger::silent());
        servers.follow(&[server("http://h/mcp", true)], &log).unwrap();
        assert_eq!(servers.names(), ["a"]);
        servers.follow(&[server("ftp://h/mcp", true)], &log).unwrap();
        assert_eq!(servers.names(), [""; 0]);
        servers.follow(&[server("http://h/mcp", false)], &log).unwrap();
        assert_eq!(servers.names(), ["a"]);
        let problem = servers.follow(&[server("ftp://h/mcp", false)], &log).unwrap_err();
        assert!(problem.starts_with("MCPServer \"a\" failed security validation: "), "{problem}");
        servers.follow(&[], &log).unwrap();
        assert_eq!(servers.names(), [""; 0]);
    }

    #[test]
    fn endpoints_have_a_host_or_a_command() {
        for (endpoint, good) in [
            (json!({"sse": {"url": "https://h:1/x"}}), true),
            (json!({"sse": {"url": "https:///x"}}), false),
            (json!({"sse": {"url": "h/x"}}), false),
            (json!({"stdio": {"command": "run"}}), true),
            (json!({"stdio": {"command": ""}}), false),
        ] {
            assert_eq!(check(&endpoint).is_none(), good, "{endpoint}");
        }
    }
}
