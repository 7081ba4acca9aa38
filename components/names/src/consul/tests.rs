use super::fake::FakeAgent;
use super::*;
use crate::tests::{context, question, registration};

async fn resolver(agent: &FakeAgent, fields: &[(&str, &str)]) -> Arc<dyn NameResolver> {
    let client = json!({"address": agent.address, "waitTime": "2s"}).to_string();
    let fields = [&[("client", client.as_str())], fields].concat();
    make(context("nameresolution.consul", &fields), Environment::default()).await.unwrap()
}

const OWN: &[(&str, &str)] = &[("selfRegister", "true"), ("selfDeregister", "true")];

#[tokio::test]
async fn conforms() {
    let agent = FakeAgent::start().await;
    let (first, second) = (resolver(&agent, OWN).await, resolver(&agent, OWN).await);
    let third = resolver(&agent, &[OWN[0], OWN[1], ("useCache", "true")]).await;
    // One port of the HTTP API is one instance, and the suite has one; so each gets an id of its own here.
    pillion_conformance::name_resolution::run(apart(first, 1), apart(second, 2), apart(third, 3)).await;
}

/// Gives each sidecar of the suite a port of its own for the HTTP API.
struct Apart(Arc<dyn NameResolver>, u16);

fn apart(resolver: Arc<dyn NameResolver>, http_port: u16) -> Arc<dyn NameResolver> {
    Arc::new(Apart(resolver, http_port))
}

#[async_trait]
impl NameResolver for Apart {
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        self.0.register(Registration { http_port: self.1, ..registration }).await
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        self.0.resolve(request).await
    }

    fn report_failure(&self, request: &ResolveRequest, address: &str) {
        self.0.report_failure(request, address);
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.0.close().await
    }
}

#[tokio::test]
async fn an_agent_on_a_socket_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("consul.sock");
    let client = json!({"address": format!("unix://{}", socket.display())}).to_string();
    let fields = [("client", client.as_str()), OWN[0]];
    let resolver = make(context("nameresolution.consul", &fields), Environment::default()).await.unwrap();
    let problem = resolver.resolve(&question("shop")).await.unwrap_err().to_string();
    assert!(problem.contains(&format!("connecting to {}", socket.display())), "{problem}");
    let agent = FakeAgent::start().await;
    agent.listen_on(&socket);
    resolver.register(registration("shop", 50_002)).await.unwrap();
    assert_eq!(resolver.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:50002"]);
}

#[tokio::test]
async fn a_sidecar_registers_itself() {
    let agent = FakeAgent::start().await;
    let plain = resolver(&agent, OWN).await;
    plain.register(registration("shop", 50_002)).await.unwrap();
    let wanted = json!({
        "ID": "shop-127.0.0.1-3500", "Name": "shop", "Address": "127.0.0.1", "Port": 8080,
        "Meta": {"DAPR_PORT": "50002"},
        "Checks": [{
            "Name": "Dapr Health Status", "CheckID": "daprHealth:shop-127.0.0.1-3500", "Interval": "15s",
            "HTTP": "http://127.0.0.1:3500/v1.0/healthz?appid=shop",
        }],
    });
    assert_eq!(agent.registration("shop-127.0.0.1-3500").unwrap(), wanted);
    plain.close().await.unwrap();
    assert_eq!(agent.registration("shop-127.0.0.1-3500"), None);

    let fields = [
        ("selfRegister", "true"),
        ("tags", r#"["dapr","v1"]"#),
        ("meta", r#"{"DAPR_METRICS_PORT":9090}"#),
        ("checks", r#"[{"name":"own","checkID":"c","interval":"5s","http":"http://x/","args":["a"]}]"#),
        ("daprPortMetaKey", "GRPC"),
    ];
    let more = resolver(&agent, &fields).await;
    more.register(Registration { app_port: None, ..registration("shop", 50_002) }).await.unwrap();
    let wanted = json!({
        "ID": "shop-127.0.0.1-3500", "Name": "shop", "Address": "127.0.0.1", "Tags": ["dapr", "v1"],
        "Meta": {"DAPR_METRICS_PORT": "9090", "GRPC": "50002"},
        "Checks": [{"Name": "own", "CheckID": "c", "Interval": "5s", "HTTP": "http://x/", "ScriptArgs": ["a"]}],
    });
    assert_eq!(agent.registration("shop-127.0.0.1-3500").unwrap(), wanted);
    more.close().await.unwrap();
    assert!(agent.registration("shop-127.0.0.1-3500").is_some(), "without selfDeregister it stays");

    let advanced = [
        ("advancedRegistration", r#"{"name":"shop2","address":"10.0.0.7","meta":{"a":"b"},"check":{"ttl":"9s"}}"#),
        ("selfDeregister", "true"),
    ];
    let advanced = resolver(&agent, &advanced).await;
    advanced.register(registration("ignored", 50_002)).await.unwrap();
    let wanted = json!({
        "Name": "shop2", "Address": "10.0.0.7", "Meta": {"a": "b", "DAPR_PORT": "50002"}, "Check": {"TTL": "9s"},
    });
    assert_eq!(agent.registration("shop2").unwrap(), wanted);
    advanced.close().await.unwrap();
    assert_eq!(agent.registration("shop2"), None);
}

#[tokio::test]
async fn healthy_instances_with_a_port_are_answered() {
    let agent = FakeAgent::start().await;
    agent.add("1", json!({"Name": "shop", "Address": "10.0.0.1", "Meta": {"DAPR_PORT": "1"}}));
    agent.add("2", json!({"Name": "shop", "Address": "fd00::2", "Meta": {"DAPR_PORT": "2"}}));
    agent.add("3", json!({"Name": "shop", "Address": "", "Meta": {"DAPR_PORT": "3"}}));
    agent.add("4", json!({"Name": "shop", "Address": "10.0.0.4", "Meta": {}}));
    agent.add("5", json!({"Name": "shop", "Address": "10.0.0.5", "Meta": {"DAPR_PORT": "5"}}));
    agent.set_passing("5", false);
    agent.add("6", json!({"Name": "bare", "Address": "10.0.0.6"}));
    let resolver = resolver(&agent, &[]).await;
    resolver.register(registration("me", 1)).await.unwrap();
    for _ in 0..3 {
        let found = resolver.resolve(&question("shop")).await.unwrap();
        assert_eq!(found, ["10.0.0.1:1", "[fd00::2]:2", "10.9.9.9:3"], "the last by its node");
    }
    let asked = ["GET /v1/agent/self?wait=2000ms", "GET /v1/health/service/shop?wait=2000ms&cached=&passing=1"];
    assert_eq!(agent.asked(), asked, "asked once, then remembered");
    let error = resolver.resolve(&question("bare")).await.unwrap_err();
    let wanted = format!(
        "target service AppID 'bare' found but DAPR_PORT missing from meta (asked the Consul agent http://{}); register the service with DAPR_PORT = the internal gRPC port of its sidecar, or set daprPortMetaKey",
        agent.address
    );
    assert_eq!((error.kind, error.to_string()), (ErrorKind::NotFound, wanted));
    let error = resolver.resolve(&question("nobody")).await.unwrap_err().to_string();
    assert!(error.starts_with("no healthy services found with AppID 'nobody' (asked the Consul agent http"), "{error}");
}

#[tokio::test]
async fn options_are_sent_as_consul_wants_them() {
    let agent = FakeAgent::start().await;
    agent.require("secret");
    let query = json!({
        "datacenter": "dc2", "namespace": "n", "partition": "p", "filter": "Service.Tags contains \"a\"", "token": "secret",
        "allowStale": true, "useCache": true, "maxAge": "30s", "staleIfError": "1m", "near": "_agent", "waitTime": "1s",
        "nodeMeta": {"rack": "r1"}, "relayFactor": 3, "localOnly": true, "connect": true,
    });
    let client = json!({"address": agent.address, "datacenter": "dc1", "token": "secret"}).to_string();
    let fields = [("client", client.as_str()), ("queryOptions", &query.to_string())];
    let resolver = resolver(&agent, &fields).await;
    resolver.register(registration("me", 1)).await.unwrap();
    resolver.resolve(&question("a b")).await.unwrap_err();
    let wanted = "GET /v1/health/service/a%20b?ns=n&partition=p&dc=dc2&near=_agent&stale=&local-only=true&connect=true\
                  &wait=1000ms&node-meta=rack%3Ar1&relay-factor=3&cached=&passing=1\
                  &filter=Service.Tags%20contains%20%22a%22 max-age=30, stale-if-error=60";
    assert_eq!(agent.asked(), ["GET /v1/agent/self?dc=dc1", wanted]);
}

#[tokio::test]
async fn questions_may_have_a_token_of_their_own() {
    let agent = FakeAgent::start().await;
    agent.require("own");
    let client = json!({"address": agent.address, "token": "own"}).to_string();
    let fields = [("client", client.as_str()), ("queryOptions", r#"{"token":"other"}"#), OWN[0]];
    let resolver = resolver(&agent, &fields).await;
    resolver.register(registration("shop", 1)).await.unwrap();
    let error = resolver.resolve(&question("shop")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error}");
    agent.require("other");
    assert_eq!(resolver.resolve(&question("shop")).await.unwrap(), ["127.0.0.1:1"]);
}

#[tokio::test]
async fn with_the_cache_changes_arrive_without_questions() {
    let agent = FakeAgent::start().await;
    agent.add("1", json!({"Name": "shop", "Address": "10.0.0.1", "Meta": {"DAPR_PORT": "1"}}));
    agent.add("2", json!({"Name": "shop", "Address": "10.0.0.2", "Meta": {"DAPR_PORT": "2"}}));
    let resolver = resolver(&agent, &[("useCache", "true")]).await;
    let sees = async |wanted: &[&str]| {
        let look = || async { resolver.resolve(&question("shop")).await.is_ok_and(|found| found == wanted) };
        pillion_conformance::eventually(Duration::from_secs(5), look).await
    };
    let is_watching = || async { agent.asked().iter().any(|line| line.contains("index=")) };
    assert!(sees(&["10.0.0.1:1", "10.0.0.2:2"]).await);
    assert!(pillion_conformance::eventually(Duration::from_secs(5), is_watching).await, "{:?}", agent.asked());
    let asked = agent.asked().len();
    for _ in 0..100 {
        resolver.resolve(&question("shop")).await.unwrap();
    }
    assert!(agent.asked().len() <= asked + 1, "answers cost no question");
    agent.set_passing("1", false);
    assert!(sees(&["10.0.0.2:2"]).await, "an ill instance is left out");
    agent.set_passing("1", true);
    assert!(sees(&["10.0.0.1:1", "10.0.0.2:2"]).await);
    resolver.report_failure(&question("shop"), "10.0.0.1:1");
    let before = agent.asked().len();
    assert!(sees(&["10.0.0.1:1", "10.0.0.2:2"]).await);
    assert!(agent.asked().len() > before, "after a failure the agent is asked again");
    assert!(
        agent.asked().iter().any(|line| line.contains("filter=ServiceName%3D%3D%22shop%22")),
        "{:?}",
        agent.asked()
    );
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let agent = FakeAgent::start().await;
    agent.require("secret");
    let refused = resolver(&agent, OWN).await.register(registration("shop", 1)).await.unwrap_err();
    let wanted = format!(
        "failed to register consul service: the Consul agent http://{} answered 403 Forbidden to PUT /v1/agent/service/register: ACL not found; check client.token in spec.nameResolution.configuration and its policy",
        agent.address
    );
    assert_eq!((refused.kind, refused.to_string()), (ErrorKind::Unauthorized, wanted));
    let nowhere = [("client", r#"{"address":"127.0.0.1:1"}"#)];
    let nowhere = make(context("nameresolution.consul", &nowhere), Environment::default()).await.unwrap();
    let error = nowhere.register(registration("shop", 1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let text = error.to_string();
    let start = "failed check on consul agent: GET /v1/agent/self: connecting to 127.0.0.1:1: ";
    assert!(text.starts_with(start) && text.ends_with("that the Consul agent runs"), "{text}");
    let file = [("client", r#"{"address":"https://x:1","tlsConfig":{"caFile":"/no/ca.pem"}}"#)];
    let error = make(context("nameresolution.consul", &file), Environment::default()).await.err().unwrap();
    assert!(error.to_string().starts_with("spec.nameResolution.configuration: cannot read /no/ca.pem: "), "{error}");
}
