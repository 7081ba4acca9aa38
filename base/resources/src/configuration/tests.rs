use super::*;

fn load(files: &[&str], env: &dyn Fn(&str) -> Option<String>) -> Result<(Configuration, Vec<Finding>), Vec<Finding>> {
    let directory = tempfile::tempdir().unwrap();
    let write = |(index, text): (usize, &&str)| {
        let path = directory.path().join(format!("{index}.yaml"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let paths: Vec<PathBuf> = files.iter().enumerate().map(write).collect();
    load_configuration(&paths, env)
}

fn nothing(_: &str) -> Option<String> {
    None
}

fn with_spec(spec: &str) -> String {
    format!("apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {spec}\n")
}

/// The findings without those of [`crate::unbuilt`], which has tests of its own.
fn texts(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .filter(|finding| !finding.message.contains("not supported by this version yet"))
        .map(|finding| finding.to_string().rsplit('/').next().unwrap().to_owned())
        .collect()
}

#[test]
fn no_file_gives_the_defaults() {
    let (configuration, findings) = load_configuration(&[], &nothing).unwrap();
    assert_eq!(findings, []);
    assert!(configuration.features.is_empty());
    assert_eq!(configuration.spec["accessControl"], json!({"defaultAction": "allow", "trustDomain": "public"}));
    assert_eq!(configuration.mtls_enabled, None);
    assert_eq!(configuration.tracing.otel, Some(json!({"isSecure": true})));
}

#[test]
fn every_typed_field_is_read() {
    let text = with_spec(
        "
  tracing: {samplingRate: 1, stdout: true, zipkin: {endpointAddress: \"http://z\"}, otel: {endpointAddress: \"o:4317\", isSecure: false, protocol: grpc, headers: [\"a=b\"]}}
  nameResolution: {component: sqlite, version: v1, configuration: {connectionString: x}}
  secrets: {scopes: [{storeName: local, defaultAccess: Deny, allowedSecrets: [b, a], deniedSecrets: [c]}]}
  api: {allowed: [{name: state, version: v1, protocol: HTTP}], denied: [{name: invoke, version: v1, protocol: grpc}]}
  features: [{name: HotReload, enabled: false}, {name: ActorStateTTL, enabled: true}]
  components: {deny: [bindings.smtp]}
  logging: {apiLogging: {enabled: true, obfuscateURLs: true, omitHealthChecks: true}}
  mtls: {enabled: false}
  httpPipeline: {handlers: [{name: r, type: middleware.http.ratelimit}]}",
    );
    let (configuration, findings) = load(&[&text], &nothing).unwrap();
    assert_eq!(texts(&findings), Vec::<String>::new());
    assert_eq!(configuration.name, "c");
    assert_eq!(configuration.tracing.sampling_rate, "1");
    assert!(configuration.tracing.stdout);
    assert_eq!(configuration.tracing.zipkin_endpoint, "http://z");
    assert_eq!(
        configuration.tracing.otel,
        Some(json!({"endpointAddress": "o:4317", "headers": ["a=b"], "isSecure": false, "protocol": "grpc"}))
    );
    let resolution = configuration.name_resolution.unwrap();
    assert_eq!((resolution.component.as_str(), resolution.configuration), ("sqlite", json!({"connectionString": "x"})));
    let scope = &configuration.secrets_scopes[0];
    assert_eq!(
        (scope.deny_by_default, scope.allowed.join(","), scope.denied.join(",")),
        (true, "a,b".to_owned(), "c".to_owned())
    );
    assert_eq!(configuration.api_allowed[0].protocol, "http");
    assert_eq!(configuration.api_denied[0].name, "invoke");
    assert_eq!(
        (configuration.features["HotReload"], configuration.features["ActorStateTTL"]),
        (false, false), // neither is built yet
    );
    assert_eq!(configuration.components_deny, ["bindings.smtp"]);
    assert_eq!(
        (
            configuration.api_logging,
            configuration.api_logging_obfuscate_urls,
            configuration.api_logging_omit_health_checks
        ),
        (Some(true), true, true)
    );
    assert_eq!(configuration.mtls_enabled, Some(false));
    assert_eq!(configuration.spec["httpPipeline"]["handlers"][0]["type"], "middleware.http.ratelimit");
}

#[test]
fn later_files_go_over_earlier_ones() {
    let first = with_spec(
        "{tracing: {samplingRate: \"1\", stdout: true}, nameResolution: {component: a, configuration: {x: 1}}, components: {deny: [state.a, state.b]}}",
    );
    let second =
        with_spec("{tracing: {stdout: false}, nameResolution: {configuration: {y: 2}}, components: {deny: [state.c]}}")
            .replace("name: c", "name: d");
    let (configuration, _) = load(&[&first, &second], &nothing).unwrap();
    assert_eq!(configuration.name, "d");
    assert_eq!((configuration.tracing.sampling_rate.as_str(), configuration.tracing.stdout), ("1", false));
    let resolution = configuration.name_resolution.unwrap();
    assert_eq!((resolution.component.as_str(), resolution.configuration), ("a", json!({"y": 2})));
    assert_eq!(configuration.components_deny, ["state.c"]);
    let feature = |name: &str| with_spec(&format!("{{features: [{{name: {name}, enabled: true}}]}}"));
    let (configuration, _) = load(&[&feature("Feature1"), &feature("Feature2")], &nothing).unwrap();
    assert_eq!(configuration.features, [("Feature2".to_owned(), true)].into(), "lists are replaced");
}

#[test]
fn variables_are_replaced_before_reading() {
    let environment = |name: &str| match name {
        "RATE" => Some("0.5".to_owned()),
        "ON" => Some("true".to_owned()),
        _ => None,
    };
    let text = with_spec(
        "\n  tracing:\n    samplingRate: \"$RATE\"\n    stdout: ${ON}\n    zipkin: {endpointAddress: \"$MISSING\"}",
    );
    let (configuration, findings) = load(&[&text], &environment).unwrap();
    assert_eq!((configuration.tracing.sampling_rate.as_str(), configuration.tracing.stdout), ("0.5", true));
    assert_eq!(
        texts(&findings),
        [
            "0.yaml:8: the environment variable MISSING is not set; it is replaced by nothing; set it, or write the value"
        ]
    );
}

#[test]
fn expansion_follows_go() {
    let cases = [
        ("a$X-b", "a<X>-b"),
        ("${X}y", "<X>y"),
        ("$X_1.", "<X_1>."),
        ("cost: 5$", "cost: 5$"),
        ("a $ b", "a $ b"),
        ("${}x", "x"),
        ("${open", "open"),
        ("$$", "<$>"),
        ("$1x", "<1>x"),
        ("${*}", "<*>"),
        ("$é", "$é"),
        ("", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(expand_environment(text, &mut |name, _| Some(format!("<{name}>"))), expected, "{text}");
    }
}

#[test]
fn what_stops_the_start_is_an_error_with_every_finding() {
    let cases = [
        (with_spec("{metric: {enabled: \"no\"}, tracin: {}}"), 2),
        (with_spec("{secrets: {scopes: [{storeName: a}, {storeName: a}]}}"), 1),
        (with_spec("{secrets: {scopes: [{storeName: a, defaultAccess: maybe}]}}"), 1),
        (with_spec("{accessControl: {policies: [{appId: a}]}}"), 2),
        (with_spec("{accessControl: {policies: {appId: a}}}"), 1),
        (with_spec("{a: 1, a: 2}"), 1),
        (with_spec("["), 1),
        (with_spec("5"), 1),
    ];
    for (text, count) in cases {
        let findings = load(&[&text], &nothing).unwrap_err();
        assert_eq!(texts(&findings).len(), count, "{text}: {:?}", texts(&findings));
    }
    let missing = load_configuration(&[PathBuf::from("/nowhere/c.yaml")], &nothing).unwrap_err();
    assert_eq!(
        missing[0].to_string(),
        "/nowhere/c.yaml: cannot read the file: no such file or directory; check that it exists and may be read"
    );
}

#[test]
fn access_control_is_read_over_its_defaults() {
    let spec = |text: &str| load(&[&with_spec(text)], &nothing).unwrap().0.access_control;
    let defaults = AccessControlSpec { default_action: "allow".into(), trust_domain: "public".into(), policies: None };
    assert_eq!(spec("{}"), defaults);
    assert_eq!(spec("{accessControl: {policies: []}}").policies, Some(Vec::new()));
    assert_eq!(spec("{accessControl: {defaultAction: \"\"}}").default_action, "", "written empty is not left out");
    let read = spec(
        "{accessControl: {defaultAction: deny, policies: [{appId: a, trustDomain: t, namespace: n, operations: [{name: /x, httpVerb: [GET, \"*\"], action: allow}]}]}}",
    );
    let operation =
        AccessOperation { name: "/x".into(), http_verbs: vec!["GET".into(), "*".into()], action: "allow".into() };
    let policy = AccessPolicy {
        app_id: "a".into(),
        trust_domain: "t".into(),
        namespace: "n".into(),
        operations: vec![operation],
        ..AccessPolicy::default()
    };
    assert_eq!((read.default_action.as_str(), read.policies), ("deny", Some(vec![policy])));
    // An action that is no action denies, as in the original; it is told and does not stop the start.
    let (configuration, findings) = load(&[&with_spec("{accessControl: {defaultAction: maybe}}")], &nothing).unwrap();
    assert_eq!((configuration.access_control.default_action.as_str(), findings.len()), ("maybe", 1));
}

#[test]
fn what_the_original_starts_with_is_no_error() {
    let cases = [
        with_spec("{tracing: {samplingRate: all}}"),
        with_spec("{unknown: 1}"),
        "spec: {tracing: {stdout: true}}\n".to_owned(),
        "kind: Component\nspec: {}\n".to_owned(),
        "# nothing\n".to_owned(),
        with_spec("{}") + "---\nkind: Other\n",
    ];
    for text in cases {
        let (_, findings) = load(&[&text], &nothing).unwrap_or_else(|findings| panic!("{text}: {findings:?}"));
        let bare = text.starts_with("spec:");
        assert_eq!(texts(&findings).is_empty(), bare, "{text}");
    }
}

#[test]
fn a_configuration_that_is_no_file_is_taken_as_it_is() {
    let text =
        r#"{"kind": "Configuration", "metadata": {"name": "c"}, "spec": {"tracing": {"samplingRate": "$RATE"}}}"#;
    let (read, findings) = read_configuration(Path::new("kubernetes/Configuration/c"), text).unwrap();
    assert_eq!(findings.iter().filter(|finding| finding.field == "metadata.name").count(), 0);
    assert_eq!((read.name.as_str(), read.tracing.sampling_rate.as_str()), ("c", "$RATE"));
    assert_eq!(read.access_control.trust_domain, "public");
    assert!(read_configuration(Path::new("c"), "{").is_err());
}
