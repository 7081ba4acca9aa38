//! The rules against the cases the original lists for its own, and what is ours.

use pillion_resources::AccessOperation;
use pillion_security::TrustDomain;

use super::*;

fn operation(name: &str, verbs: &[&str], action: &str) -> AccessOperation {
    let http_verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
    AccessOperation { name: name.to_owned(), http_verbs, action: action.to_owned() }
}

fn policy(caller: (&str, &str, &str), default: &str, operations: Vec<AccessOperation>) -> AccessPolicy {
    let (app_id, trust_domain, namespace) = caller;
    AccessPolicy {
        app_id: app_id.to_owned(),
        default_action: default.to_owned(),
        trust_domain: trust_domain.to_owned(),
        namespace: namespace.to_owned(),
        operations,
    }
}

fn spec(default: &str, policies: Vec<AccessPolicy>) -> AccessControlSpec {
    AccessControlSpec { default_action: default.to_owned(), trust_domain: "abcd".to_owned(), policies: Some(policies) }
}

fn compile(spec: &AccessControlSpec, is_http: bool) -> Rules {
    Rules::compile(spec, is_http, &mut Vec::new()).unwrap().unwrap()
}

fn id(trust_domain: &str, namespace: &str, app_id: &str) -> SpiffeId {
    SpiffeId::new(TrustDomain::parse(trust_domain).unwrap(), namespace, app_id).unwrap()
}

/// *Source:* facts of `pkg/acl/acl_test.go`.
fn listed(is_http: bool) -> Rules {
    let policies = vec![
        policy(
            ("app1", "public", "ns1"),
            "allow",
            vec![operation("/op1", &["POST", "GET"], "allow"), operation("/op2", &["*"], "deny")],
        ),
        policy(
            ("app2", "domain1", "ns2"),
            "deny",
            vec![operation("/op3/a/*", &["PUT", "GET"], "allow"), operation("/op4", &["POST"], "allow")],
        ),
        policy(("app3", "domain1", "ns1"), "", vec![operation("/op5", &["POST"], "allow")]),
        policy(
            ("app4", "domain1", "ns2"),
            "deny",
            ["/op6", "/op7/a/b/*", "/op7/a/b/c/f", "/op7/a/b*", "/op7/c/**"]
                .map(|name| operation(name, &[], "allow"))
                .into(),
        ),
        policy(("app1", "public", "ns4"), "allow", vec![operation("/op6", &["*"], "allow")]),
    ];
    compile(&spec("deny", policies), is_http)
}

#[test]
fn calls_of_http_apps() {
    let rules = listed(true);
    let (app1, app2, app3) = (id("public", "ns1", "app1"), id("domain1", "ns2", "app2"), id("domain1", "ns1", "app3"));
    for (peer, operation, verb, allowed) in [
        (Some(&id("public", "ns1", "appX")), "op1", "POST", false),
        (Some(&id("private", "ns1", "app1")), "op1", "POST", false),
        (Some(&id("public", "abcd", "app1")), "op1", "POST", false),
        (None, "op1", "POST", false),
        (Some(&app1), "op1", "POST", true),
        (Some(&app1), "op1", "PUT", true), // the default of the policy
        (Some(&app1), "opX", "POST", true),
        (Some(&app1), "Op2", "POST", false),
        (Some(&app1), "OP2", "PUT", false),
        (Some(&app2), "op4", "PUT", false),
        (Some(&app2), "op4", "POST", true),
        (Some(&app2), "/op4", "POST", true),
        (Some(&app2), "/op4", "post", false), // the verb is compared as it is
        (Some(&app3), "op5", "PUT", false),
        (Some(&app3), "op5", "POST", true),
        (Some(&app2), "/op3/a", "PUT", true),
        (Some(&app2), "/op3/b/b", "PUT", false),
        (Some(&app2), "/op3/a/b", "PUT", true),
    ] {
        let verdict = rules.judge(peer, operation, Asked::Method(Some(verb)));
        assert_eq!(verdict.allowed, allowed, "{verb} {operation} of {peer:?}");
    }
    assert!(!rules.judge(Some(&app2), "op4", Asked::Method(None)).allowed);
    // No verb and no default action of its own: denied, whatever the default above is.
    let open = compile(&spec("allow", vec![policy(("a", "t", "n"), "", vec![operation("/x", &["*"], "allow")])]), true);
    let caller = id("t", "n", "a");
    assert!(open.judge(Some(&caller), "x", Asked::Method(Some("GET"))).allowed);
    assert!(!open.judge(Some(&caller), "x", Asked::Method(None)).allowed);
    assert!(open.judge(Some(&caller), "y", Asked::Method(None)).allowed);
}

#[test]
fn calls_of_grpc_apps() {
    let rules = listed(false);
    let (app2, app4) = (id("domain1", "ns2", "app2"), id("domain1", "ns2", "app4"));
    for asked in [Asked::Method(None), Asked::Service] {
        assert!(!rules.judge(Some(&app2), "/OP4", asked).allowed, "capitals count");
        assert!(rules.judge(Some(&app2), "op4", asked).allowed);
        for (operation, allowed) in [
            ("op6", true),
            ("op7/a/b/c", true),
            ("op7/a/b/c/d", false),
            ("op7/a/b/c/f", true),
            ("op7/a/bc", true),
            ("op7/c/d/e", true),
            ("op7/d", false),
        ] {
            assert_eq!(rules.judge(Some(&app4), operation, asked).allowed, allowed, "{operation}");
        }
    }
    // A gRPC service asked of an app that speaks HTTP is compared with names in lower case, as in the original.
    let upper =
        compile(&spec("deny", vec![policy(("a", "t", "n"), "deny", vec![operation("/S/M", &[], "allow")])]), true);
    let caller = id("t", "n", "a");
    assert!(!upper.judge(Some(&caller), "/S/M", Asked::Service).allowed);
    assert!(upper.judge(Some(&caller), "/s/m", Asked::Service).allowed);
}

#[test]
fn who_decided_is_told() {
    let rules = listed(true);
    let decided =
        |peer: Option<&SpiffeId>, operation: &str| rules.judge(peer, operation, Asked::Method(Some("POST"))).by;
    assert_eq!(decided(None, "op1"), DecidedBy::Global);
    assert_eq!(decided(Some(&id("public", "ns1", "app1")), "op1"), DecidedBy::App);
    // Without a default action of its own it counts for all, although the operation decided.
    assert_eq!(decided(Some(&id("domain1", "ns1", "app3")), "op5"), DecidedBy::Global);
}

#[test]
fn actions_and_defaults() {
    let one = |action: &str| vec![policy(("a", "t", "n"), action, Vec::new())];
    let caller = id("t", "n", "a");
    for (action, allowed) in [("allow", true), ("ALLOW", true), ("deny", false), ("yes", false), ("allow ", false)] {
        let rules = compile(&spec("deny", one(action)), true);
        assert_eq!(rules.judge(Some(&caller), "x", Asked::Method(Some("GET"))).allowed, allowed, "{action}");
        assert_eq!(compile(&spec(action, Vec::new()), true).allow_all(), allowed, "{action}");
    }
    let written = |policies: Option<Vec<AccessPolicy>>| AccessControlSpec { policies, ..spec("", Vec::new()) };
    assert!(compile(&written(Some(Vec::new())), true).allow_all());
    let mut notes = Vec::new();
    let rules = Rules::compile(&written(None), true, &mut notes).unwrap().unwrap();
    assert!(!rules.default_allows);
    assert_eq!(notes, ["No global default action has been specified. Setting default global action as Deny"]);
    assert!(!compile(&written(Some(one("allow"))), true).default_allows);
    assert!(Rules::compile(&AccessControlSpec::default(), true, &mut Vec::new()).unwrap().is_none());
}

#[test]
fn incomplete_policies_are_refused() {
    let policies = vec![
        policy(("app1", "", "ns1"), "allow", Vec::new()),
        policy(("app2", "", ""), "allow", Vec::new()),
        policy(("", "t", "n"), "allow", Vec::new()),
    ];
    let error = Rules::compile(&spec("deny", policies), true, &mut Vec::new()).unwrap_err();
    let text = "invalid access control spec. missing trustdomain for apps: [app1 app2], missing namespace for apps: [app2], missing app name on at least one of the app policies: true";
    assert_eq!(error.to_string(), text);
}

#[test]
fn what_never_counts_is_noted() {
    let twice =
        || policy(("a", "t", "n"), "deny", vec![operation("/x", &["GET"], "allow"), operation("X", &[], "deny")]);
    let mut notes = Vec::new();
    Rules::compile(&spec("deny", vec![twice(), twice()]), true, &mut notes).unwrap();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].contains("given twice, only the first counts"), "{notes:?}");
    assert!(notes[2].contains("given twice, only the last counts"), "{notes:?}");
}

#[test]
fn an_http_app_is_asked_for_what_it_will_read() {
    let public = |is_http| {
        let operations = vec![operation("/public/**", &["*"], "allow"), operation("/a%20b", &["*"], "allow")];
        compile(&spec("deny", vec![policy(("a", "t", "n"), "deny", operations)]), is_http)
    };
    let caller = id("t", "n", "a");
    let rules = public(true);
    for (operation, allowed) in [
        ("public/x", true),
        ("public/x%20y", true),
        ("/public/100%", true),
        ("public/%2e%2e/admin", false),
        ("public/%2E./admin", false),
        ("public/x%2f..%2f..%2fadmin", false),
        ("public%2f..%2fadmin", false),
        ("admin%2F..%2Fpublic/x", false),
        ("a%20b", false), // a rule with an escape means the escape, which an app reads otherwise
    ] {
        let verdict = rules.judge(Some(&caller), operation, Asked::Method(Some("GET")));
        assert_eq!(verdict.allowed, allowed, "{operation}");
    }
    assert!(
        public(false).judge(Some(&caller), "public/%2e%2e/admin", Asked::Method(None)).allowed,
        "gRPC has no escapes"
    );
}

#[test]
fn lower_case_is_that_of_go() {
    for (text, lowered) in [("/abc-1%2f", "/abc-1%2f"), ("/ABC", "/abc"), ("ÄΣ", "äσ"), ("İ", "i"), ("\u{212a}", "k")]
    {
        assert_eq!(lower(text), lowered);
    }
}

/// Specifications and calls made at random, with what the original v1.18.3 itself said of them.
const ORIGINAL: &str = include_str!("original.txt");

#[test]
fn the_original_says_the_same() {
    let text = std::env::var_os("ACCESS_CASES")
        .map_or_else(|| ORIGINAL.to_owned(), |path| std::fs::read_to_string(path).unwrap());
    let mut spec = AccessControlSpec::default();
    let (mut is_http, mut rules, mut calls) = (false, None, 0);
    for line in text.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        match parts[..] {
            ["spec", protocol, default, trust_domain, policies] => {
                (is_http, rules) = (protocol == "http", None);
                spec = AccessControlSpec {
                    default_action: default.to_owned(),
                    trust_domain: trust_domain.to_owned(),
                    policies: (policies == "given").then(Vec::new),
                };
            }
            ["policy", app_id, trust_domain, namespace, default] => {
                spec.policies.as_mut().unwrap().push(policy((app_id, trust_domain, namespace), default, Vec::new()));
            }
            ["rule", name, action, verbs] => {
                let verbs: Vec<&str> = verbs.split(',').filter(|verb| !verb.is_empty()).collect();
                let policy = spec.policies.as_mut().unwrap().last_mut().unwrap();
                policy.operations.push(operation(name, &verbs, action));
            }
            ["call", peer, operation, verb, allowed, by] => {
                let rules = rules.get_or_insert_with(|| Rules::compile(&spec, is_http, &mut Vec::new()).unwrap());
                let peer = (!peer.is_empty()).then(|| {
                    let parts: Vec<&str> = peer.split('/').collect();
                    id(parts[0], parts[1], parts[2])
                });
                let asked = match verb {
                    "service" => Asked::Service,
                    "NONE" => Asked::Method(None),
                    verb => Asked::Method(Some(verb)),
                };
                let said = rules.as_ref().map(|rules| rules.judge(peer.as_ref(), operation, asked));
                let by = match by {
                    "app" => Some(DecidedBy::App),
                    "global" => Some(DecidedBy::Global),
                    _ => None,
                };
                let wanted = by.map(|by| Verdict { allowed: allowed == "allowed", by });
                assert_eq!(said, wanted, "{line}\n{spec:?}");
                calls += 1;
            }
            _ => panic!("{line}"),
        }
    }
    assert!(calls > 500);
}
