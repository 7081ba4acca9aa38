use super::*;

/// A Component document.
fn component(name: &str, kind: &str, extra: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\n{extra}spec:\n  type: {kind}\n  version: v1\n"
    )
}

fn scoped(name: &str, kind: &str, scopes: &str) -> String {
    component(name, kind, "") + &format!("scopes: [{scopes}]\n")
}

fn in_namespace(name: &str, kind: &str, namespace: &str) -> String {
    component(name, kind, &format!("  namespace: {namespace}\n"))
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn options(app_id: &str, namespace: &str) -> LoadOptions {
    LoadOptions {
        app_id: Some(app_id.to_owned()),
        namespace: Some(namespace.to_owned()).filter(|text| !text.is_empty()),
        known_types: Vec::new(),
    }
}

fn load(files: &[(&str, &str)], options: &LoadOptions) -> Loaded {
    let directory = directory(files);
    load_directories(&[directory.path().to_owned()], options)
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.components.iter().map(|component| component.name.as_str()).collect()
}

fn texts(loaded: &Loaded) -> Vec<String> {
    loaded.findings.iter().map(|finding| finding.to_string().rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn every_field_of_a_component_is_read() {
    let text = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: store
  namespace: prod
spec:
  type: state.redis
  version: v1
  ignoreErrors: true
  initTimeout: 20s
  metadata:
  - name: redisHost
    value: localhost:6379
  - name: redisDB
    value: 3
  - name: ratio
    value: 1.50
  - name: enableTLS
    value: yes
  - name: options
    value: {b: 1, a: [x]}
  - name: empty
    value: \"\"
  - name: quoted
    value: \"007\"
  - name: redisPassword
    secretKeyRef:
      name: redis
      key: password
  - name: user
    secretKeyRef: {name: user}
  - name: zone
    envRef: ZONE
auth:
  secretStore: local
scopes: [a, b]
";
    let loaded = load(&[("a.yaml", text)], &options("a", "prod"));
    assert_eq!(loaded.findings, []);
    let store = &loaded.components[0];
    assert_eq!(
        (store.component_type.as_str(), store.version.as_str(), store.ignore_errors),
        ("state.redis", "v1", true)
    );
    assert_eq!(store.init_timeout, std::time::Duration::from_secs(20));
    assert_eq!((store.namespace.as_deref(), store.secret_store.as_deref()), (Some("prod"), Some("local")));
    assert_eq!(store.scopes, ["a", "b"]);
    assert_eq!(store.origin.line, 1);
    let values: Vec<(&str, Option<&str>)> =
        store.metadata.iter().map(|item| (item.name.as_str(), item.value.as_deref())).collect();
    assert_eq!(
        values[..8],
        [
            ("redisHost", Some("localhost:6379")),
            ("redisDB", Some("3")),
            ("ratio", Some("1.5")),
            ("enableTLS", Some("true")),
            ("options", Some(r#"{"a":["x"],"b":1}"#)),
            ("empty", Some("")),
            ("quoted", Some("007")),
            ("redisPassword", None),
        ]
    );
    assert_eq!(store.metadata[7].secret_key_ref, Some(("redis".to_owned(), "password".to_owned())));
    assert_eq!(store.metadata[8].secret_key_ref, Some(("user".to_owned(), "user".to_owned())));
    assert_eq!((store.metadata[9].env_ref.as_deref(), store.metadata[9].line), (Some("ZONE"), 32));
}

#[test]
fn an_absent_or_invalid_init_timeout_is_five_seconds() {
    let five = std::time::Duration::from_secs(5);
    let loaded = load(&[("a.yaml", &(component("a", "state.x", "") + "  initTimeout: soon\n"))], &options("a", ""));
    assert_eq!(loaded.components[0].init_timeout, five);
    assert_eq!(loaded.findings.len(), 1);
    assert_eq!(load(&[("a.yaml", &component("a", "state.x", ""))], &options("a", "")).components[0].init_timeout, five);
}

#[test]
fn files_load_in_name_order_and_only_yaml() {
    let (first, second, third) =
        (component("first", "state.x", ""), component("second", "state.x", ""), component("third", "state.x", ""));
    let directory = directory(&[("b.yml", &second), ("a.yaml", &first), ("c.YAML", &third), ("notes.txt", "x")]);
    std::fs::create_dir(directory.path().join("sub.yaml")).unwrap();
    std::fs::write(directory.path().join("sub.yaml/d.yaml"), component("fourth", "state.x", "")).unwrap();
    let loaded = load_directories(&[directory.path().to_owned()], &options("a", ""));
    assert_eq!(names(&loaded), ["first", "second", "third"]);
    assert_eq!(
        texts(&loaded),
        ["notes.txt: not a YAML file; it was not loaded; name it .yaml or .yml if it is a manifest"]
    );
}

#[test]
fn directories_load_in_the_order_given() {
    let one = directory(&[("z.yaml", &component("one", "state.x", ""))]);
    let two = directory(&[("a.yaml", &component("two", "state.x", ""))]);
    let loaded = load_directories(&[one.path().to_owned(), two.path().to_owned()], &options("a", ""));
    assert_eq!(names(&loaded), ["one", "two"]);
}

#[test]
fn a_missing_directory_is_an_error_and_the_others_load() {
    let one = directory(&[("a.yaml", &component("one", "state.x", ""))]);
    let missing = one.path().join("nothing");
    let loaded = load_directories(&[missing.clone(), one.path().to_owned()], &options("a", ""));
    assert_eq!(names(&loaded), ["one"]);
    assert!(loaded.has_errors());
    assert_eq!(loaded.unreadable, [format!("open {}: no such file or directory", missing.display())]);
}

#[test]
fn good_documents_of_a_bad_file_load() {
    let text = format!("{}---\nkind: [\n---\n{}", component("one", "state.x", ""), component("two", "state.x", ""));
    let loaded = load(&[("a.yaml", &text)], &options("a", ""));
    assert_eq!(names(&loaded), ["one", "two"]);
    assert_eq!(loaded.components[1].origin.line, 11);
    assert_eq!(loaded.findings.len(), 1);
}

#[test]
fn files_that_are_not_text_are_told() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), b"a: 1\nb: \xff\n").unwrap();
    std::fs::write(directory.path().join("b.yaml"), format!("\u{feff}{}", component("bom", "state.x", ""))).unwrap();
    let loaded = load_directories(&[directory.path().to_owned()], &options("a", ""));
    assert_eq!(texts(&loaded), ["a.yaml:2: not UTF-8 text; save the file as UTF-8"]);
    assert_eq!(names(&loaded), ["bom"]);
}

#[test]
fn scopes_and_namespaces_decide() {
    // (own namespace, manifest's namespace, scopes, loads)
    let cases = [
        ("", None, "", true),
        ("", Some("other"), "", true),
        ("prod", None, "", true),
        ("prod", Some("prod"), "", true),
        ("prod", Some("other"), "", false),
        ("", None, "shop", true),
        ("", None, "cart, shop", true),
        ("", None, "Shop", false),
        ("", None, "cart", false),
        ("prod", Some("prod"), "cart", false),
    ];
    for (own, namespace, scopes, loads) in cases {
        let head = namespace.map_or_else(String::new, |namespace| format!("  namespace: {namespace}\n"));
        let tail = if scopes.is_empty() { String::new() } else { format!("scopes: [{scopes}]\n") };
        let documents = [
            component("a", "state.x", &head) + &tail,
            format!(
                "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata:\n  name: a\n{head}spec: {{baseUrl: \"http://x\"}}\n{tail}"
            ),
            format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Subscription\nmetadata:\n  name: a\n{head}spec: {{pubsubname: p, topic: t, route: /r}}\n{tail}"
            ),
            format!(
                "apiVersion: dapr.io/v1alpha1\nkind: MCPServer\nmetadata:\n  name: a\n{head}spec: {{endpoint: {{sse: {{url: \"http://x\"}}}}}}\n{tail}"
            ),
        ];
        let loaded = load(&[("a.yaml", &documents.join("---\n"))], &options("shop", own));
        let counts =
            [loaded.components.len(), loaded.http_endpoints.len(), loaded.subscriptions.len(), loaded.others.len()];
        assert_eq!(counts, [usize::from(loads); 4], "{own} {namespace:?} {scopes}");
        assert_eq!(loaded.findings, []);
    }
}

#[test]
fn without_an_app_id_every_scope_is_accepted() {
    let loaded = load(&[("a.yaml", &scoped("a", "state.x", "cart"))], &LoadOptions::default());
    assert_eq!(names(&loaded), ["a"]);
}

#[test]
fn duplicates_are_told_in_the_wire_text() {
    let text = [component("foo", "secretstores.local.file", ""), component("foo", "state.in-memory", "")].join("---\n");
    let loaded = load(&[("a.yaml", &text)], &options("a", ""));
    let expected = "duplicate definition of Component name foo (state.in-memory/v1) with existing foo (secretstores.local.file/v1)";
    assert_eq!(loaded.duplicates, [expected]);
    assert_eq!(loaded.duplicates_of("Component").as_deref(), Some(expected));
    assert_eq!(loaded.duplicates_of("HTTPEndpoint"), None);
    assert_eq!(names(&loaded), ["foo"]);
}

#[test]
fn duplicates_of_a_set_namespace() {
    // Source: daprd/resources/namespace/set/unique: other namespaces neither load nor count.
    let documents = [
        in_namespace("abc", "state.in-memory", "mynamespace"),
        in_namespace("abc", "pubsub.in-memory", "mynamespace"),
        in_namespace("abc", "state.in-memory", "foo"),
        in_namespace("123", "state.in-memory", "mynamespace"),
        in_namespace("123", "state.in-memory", "mynamespace"),
        in_namespace("123", "pubsub.in-memory", "mynamespace"),
    ];
    let loaded = load(&[("a.yaml", &documents.join("---\n"))], &options("a", "mynamespace"));
    assert_eq!(
        loaded.duplicates_of("Component").unwrap(),
        "duplicate definition of Component name abc (pubsub.in-memory/v1) with existing abc (state.in-memory/v1)\n\
         duplicate definition of Component name 123 (state.in-memory/v1) with existing 123 (state.in-memory/v1)\n\
         duplicate definition of Component name 123 (pubsub.in-memory/v1) with existing 123 (state.in-memory/v1)"
    );
}

#[test]
fn only_accepted_names_are_remembered() {
    let (mine, theirs) = (component("a", "state.x", ""), scoped("a", "state.y", "other"));
    let accepted_first = load(&[("a.yaml", &[mine.clone(), theirs.clone()].join("---\n"))], &options("me", ""));
    assert_eq!(accepted_first.duplicates.len(), 1, "an out-of-scope one after an accepted one is a duplicate");
    let out_of_scope_first = load(&[("a.yaml", &[theirs, mine].join("---\n"))], &options("me", ""));
    assert_eq!(out_of_scope_first.duplicates, Vec::<String>::new());
    assert_eq!(names(&out_of_scope_first), ["a"]);
}

#[test]
fn a_workflow_access_policy_with_mistakes_is_refused_by_name() {
    let policy = |name: &str, rule: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: WorkflowAccessPolicy\nmetadata: {{name: {name}}}\nspec: {{rules: [{rule}]}}\n"
        )
    };
    let all = [
        policy("good", "{callers: [{appID: a}], workflows: [{name: w, operations: [get]}]}"),
        policy("unknown-field", "{callers: [{appID: a}], more: b, workflows: [{name: w, operations: [get]}]}"),
        policy("no-operation", "{callers: [{appID: a}], workflows: [{name: w, operations: [fly]}]}"),
        policy("nobody", "{callers: [], workflows: [{name: w, operations: [get]}]}"),
        policy("no-callers", "{workflows: [{name: w, operations: [get]}]}"),
    ];
    let loaded = load(&[("a.yaml", &all.join("---\n"))], &LoadOptions::default());
    let names: Vec<&str> = loaded.others.iter().map(|other| other.name.as_str()).collect();
    assert_eq!(names, ["good", "unknown-field"]);
    for name in ["no-operation", "nobody", "no-callers"] {
        let text = format!(": WorkflowAccessPolicy {name:?} failed validation, skipping: ");
        assert!(texts(&loaded).iter().any(|told| told.contains(&text)), "{name}: {:#?}", texts(&loaded));
    }
}

#[test]
fn one_name_in_two_kinds_is_fine() {
    let endpoint =
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: a}\nspec: {baseUrl: \"http://x\"}\n";
    let text = [component("a", "state.x", ""), endpoint.to_owned(), endpoint.to_owned()].join("---\n");
    let loaded = load(&[("a.yaml", &text)], &options("a", ""));
    assert_eq!(
        loaded.duplicates,
        ["duplicate definition of HTTPEndpoint name a (http://x) with existing a (http://x)"]
    );
}

#[test]
fn components_without_a_version_are_named_without_it() {
    let text = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec: {type: state.x}\n";
    let loaded = load(&[("a.yaml", &[text, text].join("---\n"))], &options("a", ""));
    assert_eq!(loaded.duplicates, ["duplicate definition of Component name a (state.x) with existing a (state.x)"]);
}

#[test]
fn both_subscription_versions_become_one_form() {
    let text = "apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: two}
spec:
  pubsubname: p
  topic: t
  metadata: {rawPayload: true}
  routes:
    rules:
    - {match: event.type == \"a\", path: /a}
    - {match: event.type == \"b\", path: /b}
    default: /c
  deadLetterTopic: dead
  bulkSubscribe: {enabled: true, maxMessagesCount: 10, maxAwaitDurationMs: 20}
---
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: one}
spec: {pubsubname: p, topic: t, route: /r}
---
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: one}
spec: {pubsubname: p, topic: u, route: /u}
";
    let loaded = load(&[("a.yaml", text)], &options("a", ""));
    assert_eq!(loaded.findings, []);
    let rule =
        |matches: &str, path: &str| crate::types::RouteRule { matches: matches.to_owned(), path: path.to_owned() };
    let [two, one, again] = &loaded.subscriptions[..] else { panic!("three subscriptions, names may repeat") };
    assert_eq!(two.rules, [rule("event.type == \"a\"", "/a"), rule("event.type == \"b\"", "/b"), rule("", "/c")]);
    assert_eq!(two.metadata, [("rawPayload".to_owned(), "true".to_owned())].into());
    assert_eq!(two.dead_letter_topic, "dead");
    let bulk = crate::types::BulkSubscribe { enabled: true, max_messages_count: 10, max_await_duration_ms: 20 };
    assert_eq!(two.bulk_subscribe, bulk);
    assert_eq!(one.rules, [rule("", "/r")]);
    assert_eq!((again.topic.as_str(), again.origin.line), ("u", 21));
}

const RESILIENCY: &str = "kind: Resiliency
apiVersion: dapr.io/v1alpha1
metadata: {name: r, namespace: elsewhere}
spec:
  policies:
    timeouts: {call: 2s, short: 250}
    retries:
      quick: {policy: exponential, maxInterval: 10s, maxRetries: 3, matching: {httpStatusCodes: 429, gRPCStatusCodes: \"1-4\"}}
    circuitBreakers:
      breaker: {maxRequests: 2, interval: 8s, timeout: 5s, trip: consecutiveFailures >= 5}
  targets:
    apps:
      shop: {timeout: call, retry: quick, circuitBreaker: breaker, circuitBreakerCacheSize: 7}
    actors:
      cart: {circuitBreaker: breaker, circuitBreakerScope: both}
    components:
      pubsub:
        outbound: {timeout: call, retry: DaprBuiltInServiceRetries}
        inbound: {retry: quick}
";

#[test]
fn resiliency_is_read_whole_from_any_namespace() {
    let loaded = load(&[("a.yaml", RESILIENCY), ("b.yaml", RESILIENCY)], &options("a", "prod"));
    assert_eq!(loaded.findings, []);
    assert_eq!(loaded.duplicates, Vec::<String>::new());
    assert_eq!(loaded.resiliencies.len(), 2);
    let resiliency = &loaded.resiliencies[0];
    assert_eq!(resiliency.timeouts["short"], "250");
    let retry = &resiliency.retries["quick"];
    assert_eq!(
        (retry.policy.as_str(), retry.max_retries, retry.http_status_codes.as_str()),
        ("exponential", Some(3), "429")
    );
    assert_eq!(resiliency.circuit_breakers["breaker"].trip, "consecutiveFailures >= 5");
    assert_eq!(resiliency.apps["shop"].circuit_breaker_cache_size, 7);
    assert_eq!(resiliency.actors["cart"].circuit_breaker_scope, "both");
    assert_eq!(resiliency.components["pubsub"].inbound.retry, "quick");
}

#[test]
fn only_the_first_document_is_read_as_resiliency() {
    let text = format!("# a comment\n---\n{RESILIENCY}---\n{RESILIENCY}---\n{}", component("a", "state.x", ""));
    let loaded = load(&[("a.yaml", &text)], &options("a", ""));
    assert_eq!((loaded.resiliencies.len(), loaded.components.len(), loaded.findings.len()), (1, 1, 1));
    let other_app = load(&[("a.yaml", &(RESILIENCY.to_owned() + "scopes: [b]\n"))], &options("a", ""));
    assert_eq!(other_app.resiliencies.len(), 0);
}

#[test]
fn policies_of_one_file_serve_the_targets_of_another() {
    let targets = "kind: Resiliency\napiVersion: dapr.io/v1alpha1\nmetadata: {name: t}\nspec: {targets: {apps: {x: {timeout: call, retry: quik}}}}\n";
    let loaded = load(&[("a.yaml", targets), ("b.yaml", RESILIENCY)], &options("a", ""));
    assert_eq!(
        texts(&loaded),
        [
            "a.yaml:4: spec.targets.apps.x.retry: there is no retry policy named \"quik\", so the target gets none; did you mean quick?"
        ]
    );
}

#[test]
fn the_users_bare_retry_says_why_nothing_was_loaded() {
    let text = "retryForever:\n  policy: constant\n  duration: 5s\n  maxRetries: 5\n";
    let loaded = load(&[("resiliency.yaml", text)], &options("a", ""));
    assert_eq!(texts(&loaded), ["resiliency.yaml:1: no kind; nothing was loaded; did you mean spec.policies.retries?"]);
    assert_eq!(loaded.findings[0].severity, Severity::Warning);
}

#[test]
fn http_endpoints_are_read_whole() {
    let text = "apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {name: shop}
spec:
  baseUrl: https://shop.example.com:8443/base
  headers:
  - {name: X-Key, secretKeyRef: {name: key}}
  clientTLS:
    rootCA: {value: pem}
    renegotiation: OnceAsClient
auth: {secretStore: local}
";
    let loaded = load(&[("a.yaml", text)], &options("a", ""));
    assert_eq!(loaded.findings, []);
    let endpoint = &loaded.http_endpoints[0];
    assert_eq!(endpoint.base_url, "https://shop.example.com:8443/base");
    assert_eq!(endpoint.headers[0].secret_key_ref, Some(("key".to_owned(), "key".to_owned())));
    let tls: Vec<(&str, Option<&str>)> =
        endpoint.client_tls.iter().map(|item| (item.name.as_str(), item.value.as_deref())).collect();
    assert_eq!(tls, [("rootCA", Some("pem")), ("renegotiation", Some("OnceAsClient"))]);
}

#[test]
fn a_configuration_among_the_resources_is_told() {
    let text = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec: {}\n";
    let loaded = load(&[("a.yaml", text)], &options("a", ""));
    assert_eq!(
        texts(&loaded),
        [
            "a.yaml:1: kind: a Configuration is not read from the resources; nothing was loaded; pass the file with --config"
        ]
    );
}

#[test]
fn comment_only_documents_are_silent_beside_others() {
    let text = format!("---\n# first\n---\n{}---\n", component("a", "state.x", ""));
    let loaded = load(&[("a.yaml", &text)], &options("a", ""));
    assert_eq!((names(&loaded), loaded.findings.len()), (vec!["a"], 0));
}
