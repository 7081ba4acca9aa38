//! The table of HTTP endpoints and what the Configuration lets an app call. *Source:* spec http_api.md §1 and §3-§15.
//!
//! *Job:* find the endpoint of a verb and a cleaned path, decide by `spec.api` whether it exists. *Neighbours:* `front`
//! dispatches on [`Endpoint::call`]. *Invariant:* an endpoint of a block that is not built yet is known here too, so that
//! its answer says so instead of being mistaken for a service invocation.

use http::Method;
use pillion_resources::ApiRule;

/// What an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Health,
    OutboundHealth,
    GetMetadata,
    SetMetadata,
    Shutdown,
    GetState,
    DeleteState,
    SaveState,
    GetBulkState,
    TransactState,
    QueryState,
    Publish,
    BulkPublish,
    GetSecret,
    GetBulkSecret,
    Invoke,
    /// Its block is still to come.
    NotBuilt,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) call: Call,
    /// Name in API logs.
    pub(super) name: &'static str,
    verbs: &'static [Verb],
    version: &'static str,
    /// Segments; `{…}` takes one, `*` the rest.
    route: &'static str,
    group: &'static str,
    group_version: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

use Verb::{Delete, Get, Post, Put};

const WRITE: &[Verb] = &[Post, Put];
const ALL_FOUR: &[Verb] = &[Get, Post, Put, Delete];

const fn row(
    call: Call,
    name: &'static str,
    verbs: &'static [Verb],
    version: &'static str,
    route: &'static str,
    group: (&'static str, &'static str),
) -> Endpoint {
    Endpoint { call, name, verbs, version, route, group: group.0, group_version: group.1 }
}

const V1: &str = "v1.0";
const ALPHA1: &str = "v1.0-alpha1";
const ALPHA2: &str = "v1.0-alpha2";
const BETA1: &str = "v1.0-beta1";

const fn not_built(
    name: &'static str,
    verbs: &'static [Verb],
    version: &'static str,
    route: &'static str,
    group: (&'static str, &'static str),
) -> Endpoint {
    row(Call::NotBuilt, name, verbs, version, route, group)
}

/// Literal segments come before parameters, so the first match is the right one.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    row(Call::Health, "Healthz", &[Get], V1, "healthz", ("healthz", "v1")),
    row(Call::OutboundHealth, "HealthzOutbound", &[Get], V1, "healthz/outbound", ("healthz", "v1")),
    row(Call::GetMetadata, "GetMetadata", &[Get], V1, "metadata", ("metadata", "v1")),
    row(Call::SetMetadata, "PutMetadata", &[Put], V1, "metadata/{key}", ("metadata", "v1")),
    row(Call::Shutdown, "Shutdown", &[Post], V1, "shutdown", ("shutdown", "v1")),
    row(Call::GetBulkState, "GetBulkState", WRITE, V1, "state/{storeName}/bulk", ("state", "v1")),
    row(Call::TransactState, "ExecuteStateTransaction", WRITE, V1, "state/{storeName}/transaction", ("state", "v1")),
    row(Call::GetState, "GetState", &[Get], V1, "state/{storeName}/{key}", ("state", "v1")),
    row(Call::DeleteState, "DeleteState", &[Delete], V1, "state/{storeName}/{key}", ("state", "v1")),
    row(Call::SaveState, "SaveState", WRITE, V1, "state/{storeName}", ("state", "v1")),
    row(Call::QueryState, "QueryStateAlpha1", WRITE, ALPHA1, "state/{storeName}/query", ("state", "v1alpha1")),
    row(Call::BulkPublish, "BulkPublishEvent", WRITE, V1, "publish/bulk/{pubsubname}/*", ("publish", "v1")),
    row(Call::BulkPublish, "BulkPublishEvent", WRITE, ALPHA1, "publish/bulk/{pubsubname}/*", ("publish", "v1alpha1")),
    row(Call::Publish, "PublishEvent", WRITE, V1, "publish/{pubsubname}/*", ("publish", "v1")),
    row(Call::GetBulkSecret, "GetBulkSecret", &[Get], V1, "secrets/{secretStoreName}/bulk", ("secrets", "v1")),
    row(Call::GetSecret, "GetSecret", &[Get], V1, "secrets/{secretStoreName}/{key}", ("secrets", "v1")),
    row(Call::Invoke, "InvokeService", &[], V1, "invoke/*", ("invoke", "v1")),
    not_built("InvokeBinding", WRITE, V1, "bindings/{name}", ("bindings", "v1")),
    not_built("InvokeActor", ALL_FOUR, V1, "actors/{actorType}/{actorId}/method/{method}", ("actors", "v1")),
    not_built("ExecuteActorStateTransaction", WRITE, V1, "actors/{actorType}/{actorId}/state", ("actors", "v1")),
    not_built("GetActorState", &[Get], V1, "actors/{actorType}/{actorId}/state/{key}", ("actors", "v1")),
    not_built("ActorReminder", ALL_FOUR, V1, "actors/{actorType}/{actorId}/reminders/{name}", ("actors", "v1")),
    not_built("ActorTimer", &[Post, Put, Delete], V1, "actors/{actorType}/{actorId}/timers/{name}", ("actors", "v1")),
    not_built("GetConfiguration", &[Get], V1, "configuration/{storeName}", ("configuration", "v1")),
    not_built("GetConfiguration", &[Get], ALPHA1, "configuration/{storeName}", ("configuration", "v1alpha1")),
    not_built("SubscribeConfiguration", &[Get], V1, "configuration/{storeName}/subscribe", ("configuration", "v1")),
    not_built(
        "SubscribeConfiguration",
        &[Get],
        ALPHA1,
        "configuration/{storeName}/subscribe",
        ("configuration", "v1alpha1"),
    ),
    not_built(
        "UnsubscribeConfiguration",
        &[Get],
        V1,
        "configuration/{storeName}/{id}/unsubscribe",
        ("configuration", "v1"),
    ),
    not_built(
        "UnsubscribeConfiguration",
        &[Get],
        ALPHA1,
        "configuration/{storeName}/{id}/unsubscribe",
        ("configuration", "v1alpha1"),
    ),
    not_built("TryLockAlpha1", &[Post], ALPHA1, "lock/{storeName}", ("lock", "v1alpha1")),
    not_built("UnlockAlpha1", &[Post], ALPHA1, "unlock/{storeName}", ("unlock", "v1alpha1")),
    not_built("Crypto", &[Put], ALPHA1, "crypto/{name}/{operation}", ("crypto", "v1alpha1")),
    not_built("SubtleCrypto", &[Post], ALPHA1, "subtlecrypto/{name}/{operation}", ("subtlecrypto", "v1alpha1")),
    not_built("Workflow", &[Get, Post], V1, "workflows/*", ("workflows", "v1")),
    not_built("Workflow", &[Get, Post], BETA1, "workflows/*", ("workflows", "v1beta1")),
    not_built("Workflow", &[Get, Post], ALPHA1, "workflows/*", ("workflows", "v1alpha1")),
    not_built("Job", &[Get, Post, Delete], V1, "jobs/{name}", ("jobs", "v1")),
    not_built("Job", &[Get, Post, Delete], ALPHA1, "jobs/{name}", ("jobs", "v1alpha1")),
    not_built("ConverseAlpha1", &[Post], ALPHA1, "conversation/{name}/converse", ("conversation", "v1alpha1")),
    not_built("ConverseAlpha2", &[Post], ALPHA2, "conversation/{name}/converse", ("conversation", "v1alpha2")),
];

/// The endpoint that takes what no other does.
const INVOKE: usize = {
    let mut index = 0;
    while !matches!(ENDPOINTS[index].call, Call::Invoke) {
        index += 1;
    }
    index
};

/// The parameters of a route, still escaped: at most two on what is built.
pub(super) type Parameters<'a> = [&'a str; 2];

/// What the Configuration lets an app call: `spec.api.allowed` and `spec.api.denied`.
pub struct HttpRules {
    /// By index of [`ENDPOINTS`].
    registered: Vec<bool>,
}

impl HttpRules {
    /// Decides for each endpoint. Rules of other protocols are ignored; health is always there.
    pub fn new(allowed: &[ApiRule], denied: &[ApiRule]) -> Self {
        let [allowed, denied] = [keys(allowed), keys(denied)];
        let is_registered = |endpoint: &Endpoint| {
            matches!(endpoint.call, Call::Health | Call::OutboundHealth)
                || !endpoint.matches_any(&denied) && (allowed.is_empty() || endpoint.matches_any(&allowed))
        };
        Self { registered: ENDPOINTS.iter().map(is_registered).collect() }
    }

    /// The endpoint of a call and its parameters. `None` when not even service invocation may be called.
    pub(super) fn find<'a>(&self, verb: &Method, path: &'a str) -> Option<(&'static Endpoint, Parameters<'a>)> {
        let fallback = || self.registered[INVOKE].then(|| (&ENDPOINTS[INVOKE], Parameters::default()));
        let Some((version, rest)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return fallback();
        };
        if !version.starts_with("v1.0") || rest.starts_with("invoke/") {
            return fallback();
        }
        for (endpoint, registered) in ENDPOINTS.iter().zip(&self.registered) {
            if *registered
                && endpoint.version == version
                && endpoint.takes(verb)
                && let Some(parameters) = parameters(endpoint.route, rest)
            {
                return Some((endpoint, parameters));
            }
        }
        fallback()
    }
}

fn keys(rules: &[ApiRule]) -> Vec<String> {
    let of_http = rules.iter().filter(|rule| rule.protocol == "http");
    of_http.map(|rule| format!("{}/{}", rule.version, rule.name)).collect()
}

impl Endpoint {
    fn takes(&self, verb: &Method) -> bool {
        let verb = match *verb {
            Method::GET => Get,
            Method::POST => Post,
            Method::PUT => Put,
            Method::DELETE => Delete,
            _ => return false,
        };
        self.verbs.contains(&verb)
    }

    /// A rule names a group, or begins a route: `v1.0/state`.
    fn matches_any(&self, rules: &[String]) -> bool {
        let group = format!("{}/{}", self.group_version, self.group);
        let route = format!("{}/{}", self.version, self.route);
        rules.iter().any(|rule| *rule == group || route.starts_with(rule.as_str()))
    }
}

fn parameters<'a>(route: &str, path: &'a str) -> Option<Parameters<'a>> {
    let mut found = Parameters::default();
    let mut count = 0;
    let mut rest = Some(path);
    for wanted in route.split('/') {
        let left = rest?;
        if wanted == "*" {
            found[count.min(1)] = left;
            return Some(found);
        }
        let (segment, after) = left.split_once('/').map_or((left, None), |(segment, after)| (segment, Some(after)));
        rest = after;
        if wanted.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            if let Some(place) = found.get_mut(count) {
                *place = segment;
            }
            count += 1;
        } else if wanted != segment {
            return None;
        }
    }
    rest.is_none_or(str::is_empty).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(rules: &HttpRules, verb: Method, path: &'a str) -> Option<(Call, Parameters<'a>)> {
        rules.find(&verb, path).map(|(endpoint, parameters)| (endpoint.call, parameters))
    }

    #[test]
    fn verbs_and_paths_find_their_endpoint() {
        let open = HttpRules::new(&[], &[]);
        let cases = [
            (Method::GET, "/v1.0/healthz", Call::Health, ["", ""]),
            (Method::GET, "/v1.0/state/s/k", Call::GetState, ["s", "k"]),
            (Method::GET, "/v1.0/state/s/bulk", Call::GetState, ["s", "bulk"]),
            (Method::PUT, "/v1.0/state/s/bulk", Call::GetBulkState, ["s", ""]),
            (Method::POST, "/v1.0/state/s", Call::SaveState, ["s", ""]),
            (Method::POST, "/v1.0/publish/p/a/b", Call::Publish, ["p", "a/b"]),
            (Method::POST, "/v1.0/publish/bulk/p/t", Call::BulkPublish, ["p", "t"]),
            (Method::POST, "/v1.0-alpha1/publish/bulk/p/t", Call::BulkPublish, ["p", "t"]),
            (Method::GET, "/v1.0/secrets/s/bulk", Call::GetBulkSecret, ["s", ""]),
            (Method::GET, "/v1.0/secrets/s/k", Call::GetSecret, ["s", "k"]),
            (Method::POST, "/v1.0/bindings/b", Call::NotBuilt, ["b", ""]),
            // What no route takes is a service invocation.
            (Method::PATCH, "/v1.0/state/s", Call::Invoke, ["", ""]),
            (Method::GET, "/v1.0/state/s/k/more", Call::Invoke, ["", ""]),
            (Method::GET, "/v1.0/shutdown", Call::Invoke, ["", ""]),
            (Method::POST, "/v1.0/publish/p", Call::Invoke, ["", ""]),
            (Method::GET, "/orders", Call::Invoke, ["", ""]),
            (Method::GET, "/", Call::Invoke, ["", ""]),
            (Method::GET, "/v1.0/invoke/a/method/b", Call::Invoke, ["", ""]),
        ];
        for (verb, path, call, parameters) in cases {
            assert_eq!(find(&open, verb.clone(), path), Some((call, parameters)), "{verb} {path}");
        }
    }

    #[test]
    fn rules_unregister_endpoints_but_never_health() {
        let rule =
            |version: &str, name: &str| ApiRule { name: name.into(), version: version.into(), protocol: "http".into() };
        let no_state = HttpRules::new(&[], &[rule("v1.0", "state")]);
        assert_eq!(find(&no_state, Method::GET, "/v1.0/state/s/k").unwrap().0, Call::Invoke);
        let only_publish = HttpRules::new(&[rule("v1", "publish")], &[]);
        assert_eq!(find(&only_publish, Method::POST, "/v1.0/publish/p/t").unwrap().0, Call::Publish);
        assert_eq!(find(&only_publish, Method::GET, "/v1.0/healthz").unwrap().0, Call::Health);
        assert_eq!(find(&only_publish, Method::GET, "/v1.0/state/s/k"), None, "invoke is not allowed either");
    }
}
