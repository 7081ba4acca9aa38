//! The fields of `nameresolution.consul`, with the variables Consul's own client reads where a field is missing.
//!
//! *Source:* components-contrib nameresolution/hashicorp/consul and its README; `DefaultConfig` of Consul's Go client. The flat
//! names (`address`, `token`, …) are those of the component's `metadata.yaml`, which the original lists and does not read.

use std::path::PathBuf;
use std::time::Duration;

use pillion_contract::Metadata;
use pillion_core::duration::parse_go;
use pillion_core::secret::Secret;
use serde_json::{Map, Value as Json};

use super::shape::{Shape, at};
use crate::environment::Environment;

const ADDRESS: &str = "127.0.0.1:8500";
const PORT_KEY: &str = "DAPR_PORT";

/// See the module text.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) client: ClientSettings,
    pub(super) query: QueryOptions,
    /// What to register instead of what this sidecar knows of itself.
    pub(super) advanced: Option<Map<String, Json>>,
    pub(super) self_register: bool,
    pub(super) self_deregister: bool,
    pub(super) use_cache: bool,
    pub(super) port_key: String,
    pub(super) checks: Vec<Json>,
    pub(super) tags: Option<Json>,
    pub(super) meta: Map<String, Json>,
}

/// How the agent is reached.
#[derive(Debug, Default)]
pub(super) struct ClientSettings {
    /// Scheme, host and port, without a slash at the end.
    pub(super) base: String,
    /// The Unix socket the agent listens on, if it does; `base` is only a name then.
    pub(super) socket: Option<PathBuf>,
    pub(super) datacenter: String,
    pub(super) wait_time: Option<Duration>,
    pub(super) token: Secret<String>,
    pub(super) token_file: String,
    /// User and password.
    pub(super) user: Option<(String, Secret<String>)>,
    pub(super) namespace: String,
    pub(super) partition: String,
    pub(super) server_name: String,
    pub(super) ca_file: String,
    pub(super) ca_path: String,
    pub(super) certificate_file: String,
    pub(super) key_file: String,
    pub(super) is_unverified: bool,
}

/// How instances are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct QueryOptions {
    pub(super) namespace: String,
    pub(super) partition: String,
    pub(super) datacenter: String,
    pub(super) token: Secret<String>,
    pub(super) near: String,
    pub(super) filter: String,
    pub(super) max_age: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) wait_time: Option<Duration>,
    pub(super) node_meta: Vec<(String, String)>,
    pub(super) allow_stale: bool,
    pub(super) require_consistent: bool,
    pub(super) use_cache: bool,
    pub(super) relay_factor: u64,
    pub(super) local_only: bool,
    pub(super) connect: bool,
}

impl Settings {
    /// # Errors
    /// Names the field that cannot be read, and what it must be.
    pub(super) fn read(metadata: &Metadata, environment: &Environment) -> Result<Self, String> {
        let root = Source::of_metadata(metadata);
        let query = match root.object("queryOptions")? {
            Some(options) => QueryOptions::read(&options)?,
            None => QueryOptions::default_of(&root)?,
        };
        Ok(Self {
            client: ClientSettings::read(&root, environment)?,
            query,
            advanced: root.object("advancedRegistration")?.map(|given| given.fields),
            self_register: root.bool("selfRegister"),
            self_deregister: root.bool("selfDeregister"),
            use_cache: root.bool("useCache"),
            port_key: root.text("daprPortMetaKey").unwrap_or_else(|| PORT_KEY.to_owned()),
            checks: match root.get("checks") {
                None | Some(Json::Null) => Vec::new(),
                Some(Json::Array(checks)) => checks.iter().map(|check| Shape::Check.write(check)).collect(),
                Some(_) => return Err("checks: expected a list of health checks".to_owned()),
            },
            tags: match root.get("tags") {
                None | Some(Json::Null) => None,
                Some(tags @ Json::Array(_)) => Some(tags.clone()),
                Some(Json::String(tags)) => Some(tags.split(',').map(|tag| Json::from(tag.trim())).collect()),
                Some(_) => return Err("tags: expected a list of texts".to_owned()),
            },
            meta: root.object("meta")?.map(|given| given.texts()).unwrap_or_default(),
        })
    }
}

impl ClientSettings {
    fn read(root: &Source, environment: &Environment) -> Result<Self, String> {
        let empty = || Source { fields: Map::new(), path: String::new() };
        let client = root.object("client")?.unwrap_or_else(empty);
        let tls = client.object("tlsConfig")?.unwrap_or_else(empty);
        let auth = client.object("httpAuth")?.unwrap_or_else(empty);
        let either = |source: &Source, name: &str, flat: &str, variable: &str| {
            source.text(name).or_else(|| root.text(flat)).or_else(|| environment.get(variable).map(str::to_owned))
        };
        let text = |source, name, flat, variable| either(source, name, flat, variable).unwrap_or_default();
        let tls_by_default = environment.get("CONSUL_HTTP_SSL").is_some_and(is_true);
        let scheme = client.text("scheme").or_else(|| root.text("scheme"));
        let scheme = scheme.unwrap_or_else(|| if tls_by_default { "https" } else { "http" }.to_owned());
        let address = text(&client, "address", "address", "CONSUL_HTTP_ADDR");
        let user = match either(&auth, "username", "username", "") {
            Some(name) => Some((name, text(&auth, "password", "password", ""))),
            None => environment.get("CONSUL_HTTP_AUTH").map(|pair| {
                let (name, password) = pair.split_once(':').unwrap_or((pair, ""));
                (name.to_owned(), password.to_owned())
            }),
        };
        let skips = environment.get("CONSUL_HTTP_SSL_VERIFY").is_some_and(|text| !is_true(text));
        let wait_time = client.duration("waitTime")?;
        let (base, socket) = base(&scheme, &address)?;
        Ok(Self {
            base,
            socket,
            datacenter: text(&client, "datacenter", "datacenter", ""),
            wait_time: if wait_time.is_some() { wait_time } else { root.duration("waitTime")? },
            token: Secret::new(text(&client, "token", "token", "CONSUL_HTTP_TOKEN")),
            token_file: text(&client, "tokenFile", "tokenFile", "CONSUL_HTTP_TOKEN_FILE"),
            user: user.map(|(name, password)| (name, Secret::new(password))),
            namespace: text(&client, "namespace", "namespace", "CONSUL_NAMESPACE"),
            partition: text(&client, "partition", "partition", "CONSUL_PARTITION"),
            server_name: text(&tls, "address", "tlsAddress", "CONSUL_TLS_SERVER_NAME"),
            ca_file: text(&tls, "caFile", "caFile", "CONSUL_CACERT"),
            ca_path: text(&tls, "caPath", "caPath", "CONSUL_CAPATH"),
            certificate_file: text(&tls, "certFile", "certFile", "CONSUL_CLIENT_CERT"),
            key_file: text(&tls, "keyFile", "keyFile", "CONSUL_CLIENT_KEY"),
            is_unverified: tls.bool("insecureSkipVerify") || root.bool("insecureSkipVerify") || skips,
        })
    }
}

/// The agent's URL, and its socket. An address may have a scheme of its own, which counts more.
fn base(scheme: &str, address: &str) -> Result<(String, Option<PathBuf>), String> {
    let address = if address.is_empty() { ADDRESS } else { address };
    let (scheme, address) = address.split_once("://").unwrap_or((scheme, address));
    match scheme {
        "http" | "https" => Ok((format!("{scheme}://{}", address.trim_end_matches('/')), None)),
        "unix" if address.starts_with('/') => Ok(("http://localhost".to_owned(), Some(PathBuf::from(address)))),
        _ => Err(format!(
            "client.address: {scheme}://{address} cannot be used: expected host:port with the scheme http or https, or unix:// and an absolute path"
        )),
    }
}

impl QueryOptions {
    fn read(given: &Source) -> Result<Self, String> {
        let text = |name| given.text(name).unwrap_or_default();
        Ok(Self {
            namespace: text("namespace"),
            partition: text("partition"),
            datacenter: text("datacenter"),
            token: Secret::new(text("token")),
            near: text("near"),
            filter: text("filter"),
            max_age: given.duration("maxAge")?,
            stale_if_error: given.duration("staleIfError")?,
            wait_time: given.duration("waitTime")?,
            node_meta: given
                .object("nodeMeta")?
                .map(|meta| meta.texts().into_iter().map(|(key, value)| (key, plain(&value))).collect())
                .unwrap_or_default(),
            allow_stale: given.bool("allowStale"),
            require_consistent: given.bool("requireConsistent"),
            use_cache: given.bool("useCache"),
            relay_factor: given.text("relayFactor").and_then(|text| text.parse().ok()).unwrap_or(0),
            local_only: given.bool("localOnly"),
            connect: given.bool("connect"),
        })
    }

    /// Without options the agent's cache answers. *Source:* the original's `getQueryOptionsConfig`.
    fn default_of(root: &Source) -> Result<Self, String> {
        Ok(Self {
            use_cache: true,
            datacenter: root.text("queryDatacenter").unwrap_or_default(),
            token: Secret::new(root.text("queryToken").unwrap_or_default()),
            wait_time: root.duration("queryWaitTime")?,
            allow_stale: root.bool("allowStale"),
            require_consistent: root.bool("requireConsistent"),
            ..Self::default()
        })
    }
}

/// An object of the Configuration and where it stands.
struct Source {
    fields: Map<String, Json>,
    path: String,
}

impl Source {
    /// Nested values are JSON texts there.
    fn of_metadata(metadata: &Metadata) -> Self {
        let read = |(name, text): (&str, &str)| {
            let value = match text.trim_start().as_bytes().first() {
                Some(b'{' | b'[') => serde_json::from_str(text).unwrap_or_else(|_| Json::from(text)),
                _ => Json::from(text),
            };
            (name.to_owned(), value)
        };
        Self { fields: metadata.iter().map(read).collect(), path: String::new() }
    }

    fn get(&self, name: &str) -> Option<&Json> {
        at(&self.fields, name)
    }

    fn object(&self, name: &str) -> Result<Option<Self>, String> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) if text.is_empty() || text == "null" => Ok(None),
            Some(Json::Object(fields)) => {
                Ok(Some(Self { fields: fields.clone(), path: format!("{}{name}.", self.path) }))
            }
            Some(_) => Err(format!("{}{name}: expected fields below it", self.path)),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = match self.get(name)? {
            Json::Null | Json::Object(_) | Json::Array(_) => return None,
            value => plain(value),
        };
        (!text.is_empty() && text != "null").then_some(text)
    }

    fn bool(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| is_true(&text))
    }

    /// Go's form, or a number of nanoseconds, which is what the original reads.
    fn duration(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let nanoseconds = text.parse().ok().map(Duration::from_nanos);
        let read = nanoseconds.map_or_else(|| parse_go(&text), Ok);
        read.map(Some).map_err(|problem| format!("{}{name}: {problem}, or a number of nanoseconds", self.path))
    }

    /// Every field as a text.
    fn texts(self) -> Map<String, Json> {
        self.fields.into_iter().map(|(name, value)| (name, Json::from(plain(&value)))).collect()
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_true(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], environment: Environment) -> Result<Settings, String> {
        Settings::read(&Metadata::new(fields.iter().copied()), &environment)
    }

    #[test]
    fn nothing_is_needed() {
        let settings = read(&[], Environment::default()).unwrap();
        assert_eq!((settings.client.base.as_str(), settings.port_key.as_str()), ("http://127.0.0.1:8500", "DAPR_PORT"));
        assert!(settings.query.use_cache && !settings.use_cache && !settings.self_register);
        assert!(settings.advanced.is_none() && settings.checks.is_empty());
    }

    #[test]
    fn every_place_of_a_setting_is_read() {
        let client = r#"{"address":"a:1","scheme":"https","token":"t","httpAuth":{"username":"u","password":"p"},
            "waitTime":5000000000,"tlsConfig":{"caFile":"ca","insecureSkipVerify":true}}"#;
        let query = r#"{"Datacenter":"d","filter":"f","maxAge":"30s","nodeMeta":{"rack":7},"relayFactor":2}"#;
        let fields = [("client", client), ("QueryOptions", query), ("selfRegister", "true"), ("tags", "[\"x\"]")];
        let settings = read(&fields, Environment::default()).unwrap();
        assert_eq!(settings.client.base, "https://a:1");
        assert_eq!(settings.client.wait_time, Some(Duration::from_secs(5)));
        assert_eq!(settings.client.user.as_ref().unwrap().0, "u");
        assert!(settings.client.is_unverified && settings.client.ca_file == "ca" && settings.self_register);
        let query = settings.query;
        assert_eq!((query.datacenter.as_str(), query.filter.as_str(), query.relay_factor), ("d", "f", 2));
        assert_eq!((query.max_age, query.use_cache), (Some(Duration::from_secs(30)), false));
        assert_eq!(query.node_meta, [("rack".to_owned(), "7".to_owned())]);

        let flat = [("address", "https://b:2/"), ("username", "u"), ("queryDatacenter", "e"), ("tags", "x, y")];
        let variables = [("CONSUL_HTTP_ADDR", "c:3"), ("CONSUL_HTTP_TOKEN", "v"), ("CONSUL_HTTP_SSL_VERIFY", "false")];
        let settings = read(&flat, Environment::from(variables)).unwrap();
        assert_eq!(settings.client.base, "https://b:2");
        assert_eq!((settings.client.token.expose().as_str(), settings.client.is_unverified), ("v", true));
        assert_eq!((settings.query.datacenter.as_str(), settings.query.use_cache), ("e", true));
        assert_eq!(settings.tags, Some(serde_json::json!(["x", "y"])));
        assert_eq!(read(&[], Environment::from(variables)).unwrap().client.base, "http://c:3");
    }

    #[test]
    fn problems_name_the_field() {
        let cases = [
            ("client", "text", "client: expected fields below it"),
            ("client", r#"{"address":"unix://s"}"#, "client.address: unix://s cannot be used"),
            ("queryOptions", r#"{"maxAge":"soon"}"#, "queryOptions.maxAge: invalid duration"),
            ("checks", "{}", "checks: expected a list"),
        ];
        for (name, value, wanted) in cases {
            let problem = read(&[(name, value)], Environment::default()).unwrap_err();
            assert!(problem.starts_with(wanted), "{problem}");
        }
    }
}
