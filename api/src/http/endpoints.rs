//! The table of HTTP endpoints and what the Configuration lets an app call. *Source:* spec http_api.md §1 and §3-§15.
//!
//! *Job:* find the endpoint of a verb and a cleaned path, decide by `spec.api` whether it exists. *Neighbours:* `front`
//! dispatches on [`Endpoint::call`]. *Invariant:* an endpoint of a block that is not built yet is known here too, so that
//! its answer says so instead of being mistaken for a service invocation.

use http::Method;
use pillion_resources::ApiRule;

use crate::absent::Absent;

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
    InvokeBinding,
    Invoke,
    /// Its block is still to come.
    NotBuilt(Absent),
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
const GET: &[Verb] = &[Get];
const POST: &[Verb] = &[Post];
const PUT: &[Verb] = &[Put];
const DELETE: &[Verb] = &[Delete];
const ALL_FOUR: &[Verb] = &[Get, Post, Put, Delete];

const fn row(
    call: Call,
    name: &'static str,
    verbs: &'static [Verb],
    version: &'static str,
    route: &'static str,
) -> Endpoint {
    Endpoint { call, name, verbs, version, route }
}

/// Name of the one endpoint besides service invocation whose name in API logs goes on.
pub(super) const INVOKE_ACTOR: &str = "InvokeActor";

const V1: &str = "v1.0";
const ALPHA1: &str = "v1.0-alpha1";
const ALPHA2: &str = "v1.0-alpha2";
const BETA1: &str = "v1.0-beta1";

const fn absent(
    block: Absent,
    name: &'static str,
    verbs: &'static [Verb],
    version: &'static str,
    route: &'static str,
) -> Endpoint {
    row(Call::NotBuilt(block), name, verbs, version, route)
}

/// Literal segments come before parameters, so the first match is the right one.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    row(Call::Health, "Healthz", &[Get], V1, "healthz"),
    row(Call::OutboundHealth, "HealthzOutbound", &[Get], V1, "healthz/outbound"),
    row(Call::GetMetadata, "GetMetadata", &[Get], V1, "metadata"),
    row(Call::SetMetadata, "PutMetadata", &[Put], V1, "metadata/{key}"),
    row(Call::Shutdown, "Shutdown", &[Post], V1, "shutdown"),
    row(Call::GetBulkState, "GetBulkState", WRITE, V1, "state/{storeName}/bulk"),
    row(Call::TransactState, "ExecuteStateTransaction", WRITE, V1, "state/{storeName}/transaction"),
    row(Call::GetState, "GetState", &[Get], V1, "state/{storeName}/{key}"),
    row(Call::DeleteState, "DeleteState", &[Delete], V1, "state/{storeName}/{key}"),
    row(Call::SaveState, "SaveState", WRITE, V1, "state/{storeName}"),
    row(Call::QueryState, "QueryStateAlpha1", WRITE, ALPHA1, "state/{storeName}/query"),
    row(Call::BulkPublish, "BulkPublishEvent", WRITE, V1, "publish/bulk/{pubsubname}/*"),
    row(Call::BulkPublish, "BulkPublishEvent", WRITE, ALPHA1, "publish/bulk/{pubsubname}/*"),
    row(Call::Publish, "PublishEvent", WRITE, V1, "publish/{pubsubname}/*"),
    row(Call::GetBulkSecret, "GetBulkSecret", &[Get], V1, "secrets/{secretStoreName}/bulk"),
    row(Call::GetSecret, "GetSecret", &[Get], V1, "secrets/{secretStoreName}/{key}"),
    row(Call::Invoke, "InvokeService", &[], V1, "invoke/*"),
    row(Call::InvokeBinding, "InvokeBinding", WRITE, V1, "bindings/{name}"),
    absent(Absent::Actors, INVOKE_ACTOR, ALL_FOUR, V1, "actors/{actorType}/{actorId}/method/{method}"),
    absent(Absent::Actors, "ExecuteActorStateTransaction", WRITE, V1, "actors/{actorType}/{actorId}/state"),
    absent(Absent::Actors, "GetActorState", GET, V1, "actors/{actorType}/{actorId}/state/{key}"),
    absent(Absent::Actors, "RegisterActorReminder", WRITE, V1, "actors/{actorType}/{actorId}/reminders/{name}"),
    absent(Absent::Actors, "GetActorReminder", GET, V1, "actors/{actorType}/{actorId}/reminders/{name}"),
    absent(Absent::Actors, "UnregisterActorReminder", DELETE, V1, "actors/{actorType}/{actorId}/reminders/{name}"),
    absent(Absent::Actors, "RegisterActorTimer", WRITE, V1, "actors/{actorType}/{actorId}/timers/{name}"),
    absent(Absent::Actors, "UnregisterActorTimer", DELETE, V1, "actors/{actorType}/{actorId}/timers/{name}"),
    absent(Absent::Configuration, "GetConfiguration", GET, V1, "configuration/{storeName}"),
    absent(Absent::Configuration, "SubscribeConfiguration", GET, V1, "configuration/{storeName}/subscribe"),
    absent(Absent::Configuration, "UnsubscribeConfiguration", GET, V1, "configuration/{storeName}/{id}/unsubscribe"),
    absent(Absent::Configuration, "GetConfiguration", GET, ALPHA1, "configuration/{storeName}"),
    absent(Absent::Configuration, "SubscribeConfiguration", GET, ALPHA1, "configuration/{storeName}/subscribe"),
    absent(
        Absent::Configuration,
        "UnsubscribeConfiguration",
        GET,
        ALPHA1,
        "configuration/{storeName}/{id}/unsubscribe",
    ),
    absent(Absent::TryLock, "TryLock", POST, ALPHA1, "lock/{storeName}"),
    absent(Absent::Unlock, "Unlock", POST, ALPHA1, "unlock/{storeName}"),
    absent(Absent::Crypto, "Encrypt", PUT, ALPHA1, "crypto/{name}/encrypt"),
    absent(Absent::Crypto, "Decrypt", PUT, ALPHA1, "crypto/{name}/decrypt"),
    absent(Absent::SubtleCrypto, "SubtleGetKey", POST, ALPHA1, "subtlecrypto/{name}/getkey"),
    absent(Absent::SubtleCrypto, "SubtleEncrypt", POST, ALPHA1, "subtlecrypto/{name}/encrypt"),
    absent(Absent::SubtleCrypto, "SubtleDecrypt", POST, ALPHA1, "subtlecrypto/{name}/decrypt"),
    absent(Absent::SubtleCrypto, "SubtleWrapKey", POST, ALPHA1, "subtlecrypto/{name}/wrapkey"),
    absent(Absent::SubtleCrypto, "SubtleUnwrapKey", POST, ALPHA1, "subtlecrypto/{name}/unwrapkey"),
    absent(Absent::SubtleCrypto, "SubtleSign", POST, ALPHA1, "subtlecrypto/{name}/sign"),
    absent(Absent::SubtleCrypto, "SubtleVerify", POST, ALPHA1, "subtlecrypto/{name}/verify"),
    absent(Absent::Actors, "StartWorkflow", POST, V1, "workflows/{component}/{workflowName}/start"),
    absent(Absent::Actors, "RaiseEventWorkflow", POST, V1, "workflows/{component}/{instanceID}/raiseEvent/{eventName}"),
    absent(Absent::Actors, "PauseWorkflow", POST, V1, "workflows/{component}/{instanceID}/pause"),
    absent(Absent::Actors, "ResumeWorkflow", POST, V1, "workflows/{component}/{instanceID}/resume"),
    absent(Absent::Actors, "TerminateWorkflow", POST, V1, "workflows/{component}/{instanceID}/terminate"),
    absent(Absent::Actors, "PurgeWorkflow", POST, V1, "workflows/{component}/{instanceID}/purge"),
    absent(Absent::Actors, "GetWorkflow", GET, V1, "workflows/{component}/{instanceID}"),
    absent(Absent::Actors, "StartWorkflow", POST, BETA1, "workflows/{component}/{workflowName}/start"),
    absent(
        Absent::Actors,
        "RaiseEventWorkflow",
        POST,
        BETA1,
        "workflows/{component}/{instanceID}/raiseEvent/{eventName}",
    ),
    absent(Absent::Actors, "PauseWorkflow", POST, BETA1, "workflows/{component}/{instanceID}/pause"),
    absent(Absent::Actors, "ResumeWorkflow", POST, BETA1, "workflows/{component}/{instanceID}/resume"),
    absent(Absent::Actors, "TerminateWorkflow", POST, BETA1, "workflows/{component}/{instanceID}/terminate"),
    absent(Absent::Actors, "PurgeWorkflow", POST, BETA1, "workflows/{component}/{instanceID}/purge"),
    absent(Absent::Actors, "GetWorkflow", GET, BETA1, "workflows/{component}/{instanceID}"),
    absent(Absent::Actors, "StartWorkflow", POST, ALPHA1, "workflows/{component}/{workflowName}/start"),
    absent(
        Absent::Actors,
        "RaiseEventWorkflow",
        POST,
        ALPHA1,
        "workflows/{component}/{instanceID}/raiseEvent/{eventName}",
    ),
    absent(Absent::Actors, "PauseWorkflow", POST, ALPHA1, "workflows/{component}/{instanceID}/pause"),
    absent(Absent::Actors, "ResumeWorkflow", POST, ALPHA1, "workflows/{component}/{instanceID}/resume"),
    absent(Absent::Actors, "TerminateWorkflow", POST, ALPHA1, "workflows/{component}/{instanceID}/terminate"),
    absent(Absent::Actors, "PurgeWorkflow", POST, ALPHA1, "workflows/{component}/{instanceID}/purge"),
    absent(Absent::Actors, "GetWorkflow", GET, ALPHA1, "workflows/{component}/{instanceID}"),
    absent(Absent::ScheduleJob, "ScheduleJob", POST, V1, "jobs/{name}"),
    absent(Absent::GetJob, "GetJob", GET, V1, "jobs/{name}"),
    absent(Absent::DeleteJob, "DeleteJob", DELETE, V1, "jobs/{name}"),
    absent(Absent::ScheduleJob, "ScheduleJob", POST, ALPHA1, "jobs/{name}"),
    absent(Absent::GetJob, "GetJob", GET, ALPHA1, "jobs/{name}"),
    absent(Absent::DeleteJob, "DeleteJob", DELETE, ALPHA1, "jobs/{name}"),
    absent(Absent::Conversation, "Converse", POST, ALPHA1, "conversation/{name}/converse"),
    absent(Absent::Conversation, "Converse", POST, ALPHA2, "conversation/{name}/converse"),
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
        let initial = rest.as_bytes().first();
        for (endpoint, registered) in ENDPOINTS.iter().zip(&self.registered) {
            // Every route begins with a word, and most calls can be told apart by its first letter.
            if endpoint.route.as_bytes().first() == initial
                && *registered
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

    /// A rule names a group, which is the first word of a route under a shorter version (`v1alpha1/state`), or begins a route
    /// (`v1.0/state`).
    fn matches_any(&self, rules: &[String]) -> bool {
        let (word, _) = self.route.split_once('/').unwrap_or((self.route, ""));
        let group = format!("{}/{word}", self.version.replace(".0", "").replace('-', ""));
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
            (Method::POST, "/v1.0/bindings/b", Call::InvokeBinding, ["b", ""]),
            (Method::POST, "/v1.0/workflows/dapr/w/start", Call::NotBuilt(Absent::Actors), ["dapr", "w"]),
            (Method::POST, "/v1.0/workflows/dapr/i/raiseEvent/e", Call::NotBuilt(Absent::Actors), ["dapr", "i"]),
            (Method::POST, "/v1.0/workflows/dapr/i/other", Call::Invoke, ["", ""]),
            (Method::PUT, "/v1.0-alpha1/crypto/c/sign", Call::Invoke, ["", ""]),
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
