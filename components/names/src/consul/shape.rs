//! How a registration is written for Consul's agent: the fields there are, in the agent's spelling.
//!
//! *Job:* turns what stands in a Configuration, in any case of letters, into the agent's JSON. *Invariant:* a field the agent
//! would not know is left out, as Go's decoder does it in the original.
//!
//! *Source:* the types of `github.com/hashicorp/consul/api` the original decodes into.

use serde_json::{Map, Value as Json};

/// What stands behind a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A text, number, list or map that is passed on.
    Plain,
    Check,
    Registration,
    Weights,
    Address,
    Proxy,
    Upstream,
    Gateway,
    Expose,
    ExposePath,
    Connect,
}

/// Name in the Configuration, name for the agent, what stands behind.
type Field = (&'static str, &'static str, Shape);

impl Shape {
    #[rustfmt::skip] // tables
    fn fields(self) -> &'static [Field] {
        use Shape::{Address, Check, Connect, Expose, ExposePath, Gateway, Plain, Proxy, Registration, Upstream, Weights};
        match self {
            Plain => &[],
            Check => &[
                ("Args", "ScriptArgs", Plain), ("CheckID", "CheckID", Plain), ("Name", "Name", Plain),
                ("DockerContainerID", "DockerContainerID", Plain), ("Shell", "Shell", Plain),
                ("Interval", "Interval", Plain), ("Timeout", "Timeout", Plain), ("TTL", "TTL", Plain),
                ("HTTP", "HTTP", Plain), ("Header", "Header", Plain), ("Method", "Method", Plain),
                ("Body", "Body", Plain), ("TCP", "TCP", Plain), ("Status", "Status", Plain),
                ("Notes", "Notes", Plain), ("TLSServerName", "TLSServerName", Plain),
                ("TLSSkipVerify", "TLSSkipVerify", Plain), ("GRPC", "GRPC", Plain), ("GRPCUseTLS", "GRPCUseTLS", Plain),
                ("AliasNode", "AliasNode", Plain), ("AliasService", "AliasService", Plain),
                ("SuccessBeforePassing", "SuccessBeforePassing", Plain),
                ("FailuresBeforeWarning", "FailuresBeforeWarning", Plain),
                ("FailuresBeforeCritical", "FailuresBeforeCritical", Plain),
                ("DeregisterCriticalServiceAfter", "DeregisterCriticalServiceAfter", Plain),
            ],
            Registration => &[
                ("Kind", "Kind", Plain), ("ID", "ID", Plain), ("Name", "Name", Plain), ("Tags", "Tags", Plain),
                ("Port", "Port", Plain), ("Address", "Address", Plain), ("TaggedAddresses", "TaggedAddresses", Address),
                ("EnableTagOverride", "EnableTagOverride", Plain), ("Meta", "Meta", Plain),
                ("Weights", "Weights", Weights), ("Check", "Check", Check), ("Checks", "Checks", Check),
                ("Proxy", "Proxy", Proxy), ("Connect", "Connect", Connect), ("Namespace", "Namespace", Plain),
                ("Partition", "Partition", Plain),
            ],
            Weights => &[("Passing", "Passing", Plain), ("Warning", "Warning", Plain)],
            Address => &[("Address", "Address", Plain), ("Port", "Port", Plain)],
            Proxy => &[
                ("DestinationServiceName", "DestinationServiceName", Plain),
                ("DestinationServiceID", "DestinationServiceID", Plain),
                ("LocalServiceAddress", "LocalServiceAddress", Plain), ("LocalServicePort", "LocalServicePort", Plain),
                ("Config", "Config", Plain), ("Upstreams", "Upstreams", Upstream),
                ("MeshGateway", "MeshGateway", Gateway), ("Expose", "Expose", Expose),
            ],
            Upstream => &[
                ("DestinationType", "DestinationType", Plain), ("DestinationNamespace", "DestinationNamespace", Plain),
                ("DestinationName", "DestinationName", Plain), ("Datacenter", "Datacenter", Plain),
                ("LocalBindAddress", "LocalBindAddress", Plain), ("LocalBindPort", "LocalBindPort", Plain),
                ("Config", "Config", Plain), ("MeshGateway", "MeshGateway", Gateway),
            ],
            Gateway => &[("Mode", "Mode", Plain)],
            Expose => &[("Checks", "Checks", Plain), ("Paths", "Paths", ExposePath)],
            ExposePath => &[
                ("ListenerPort", "ListenerPort", Plain), ("Path", "Path", Plain), ("LocalPathPort", "LocalPathPort", Plain),
                ("Protocol", "Protocol", Plain), ("ParsedFromCheck", "ParsedFromCheck", Plain),
            ],
            Connect => &[("Native", "Native", Plain), ("SidecarService", "SidecarService", Registration)],
        }
    }

    /// The value in the agent's spelling; of a list, each element.
    pub(super) fn write(self, value: &Json) -> Json {
        match (self, value) {
            (Self::Plain, _) => value.clone(),
            (_, Json::Array(list)) => list.iter().map(|one| self.write(one)).collect(),
            // The one map whose keys are the user's.
            (Self::Address, Json::Object(map)) if map.values().any(Json::is_object) => {
                let write = |(name, one): (&String, &Json)| (name.clone(), self.write(one));
                Json::Object(map.iter().map(write).collect())
            }
            (_, Json::Object(object)) => {
                let mut written = Map::new();
                for (name, wire, shape) in self.fields() {
                    if let Some(value) = at(object, name).filter(|value| !value.is_null()) {
                        written.insert((*wire).to_owned(), shape.write(value));
                    }
                }
                Json::Object(written)
            }
            _ => value.clone(),
        }
    }
}

/// A field by its name in any case of letters.
pub(super) fn at<'a>(object: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_get_the_spelling_of_the_agent() {
        let given = json!({
            "name": "shop", "port": 8080, "taggedAddresses": {"lan": {"address": "10.0.0.1", "port": 80}},
            "checks": [{"args": ["a"], "checkId": "c", "tlsSkipVerify": true, "header": {"X-y": ["z"]}}],
            "connect": {"sidecarService": {"port": 1, "proxy": {"upstreams": [{"destinationName": "db"}]}}},
            "meta": {"lower": "case"}, "weights": {"passing": 3}, "unknown": 1, "check": null,
        });
        let wanted = json!({
            "Name": "shop", "Port": 8080, "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 80}},
            "Checks": [{"ScriptArgs": ["a"], "CheckID": "c", "TLSSkipVerify": true, "Header": {"X-y": ["z"]}}],
            "Connect": {"SidecarService": {"Port": 1, "Proxy": {"Upstreams": [{"DestinationName": "db"}]}}},
            "Meta": {"lower": "case"}, "Weights": {"Passing": 3},
        });
        assert_eq!(Shape::Registration.write(&given), wanted);
    }
}
