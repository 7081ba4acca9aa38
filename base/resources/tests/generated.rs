//! Broken manifests made from good ones: each line of each good manifest is damaged in every way that fits it, and each damage must
//! give exactly one finding, on its line, that names the field, says what was expected and what to do.
//!
//! Lines end with `# free` where the key is the user's own name, with `# any` where every value is allowed and with `# must`
//! where the line, with all below it, cannot be left out.

use std::fmt::Write as _;
use std::path::Path;

use pillion_resources::{Finding, LoadOptions, validate_text};

/// At least so many manifests are made.
const CASES_MIN: usize = 400;

const GOOD: [(&str, &str); 8] = [
    (
        "component",
        "apiVersion: dapr.io/v1alpha1
kind: Component
metadata:  # must
  name: orders  # must
  namespace: default
  labels:
    team: blue  # free
spec:  # must
  type: state.sqlite  # must
  version: v1
  ignoreErrors: false
  initTimeout: 20s
  metadata:
    - name: connectionString
      value: data.db  # any
    - name: password
      secretKeyRef:
        name: database  # must
        key: password
    - name: host
      envRef: DATABASE_HOST
auth:
  secretStore: local
scopes:
  - cart
",
    ),
    (
        "configuration",
        "apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: main
spec:  # must
  tracing:
    samplingRate: \"0.5\"
    stdout: true
    otel:
      endpointAddress: localhost:4317
      protocol: grpc
      isSecure: false
      timeout: 10s
  metrics:
    enabled: true
    http:
      increasedCardinality: false
      excludeVerbs: true
    latencyDistributionBuckets: [1, 5, 10]
  httpPipeline:
    handlers:
      - name: limit
        type: middleware.http.ratelimit  # must
  mtls:
    enabled: true
    workloadCertTTL: 24h
    allowedClockSkew: 15m
    controlPlaneTrustDomain: cluster.local
  secrets:
    scopes:
      - storeName: local
        defaultAccess: deny
        allowedSecrets: [database]
  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
      - appId: cart
        defaultAction: allow
        trustDomain: public  # must
        namespace: default  # must
        operations:
          - name: /add
            httpVerb: [POST]
            action: allow  # must
  nameResolution:
    component: mdns
    version: v1
  features:
    - name: HotReload
      enabled: true
  api:
    allowed:
      - name: state
        version: v1.0  # must
        protocol: http
  components:
    deny: [bindings.smtp]
  logging:
    apiLogging:
      enabled: true
      obfuscateURLs: false
      omitHealthChecks: true
  wasm:
    strictSandbox: true
  workflow:
    maxConcurrentWorkflowInvocations: 100
    stateRetentionPolicy:
      anyTerminal: 360h
      completed: 1m
",
    ),
    (
        "subscription-v1",
        "apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata:  # must
  name: orders  # must
spec:  # must
  pubsubname: bus  # must
  topic: orders  # must
  route: /orders  # must
  deadLetterTopic: poison
  metadata:
    rawPayload: \"true\"  # free
scopes:
  - cart
",
    ),
    (
        "subscription-v2",
        "apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata:  # must
  name: orders  # must
spec:  # must
  pubsubname: bus  # must
  topic: orders  # must
  routes:
    rules:
      - match: event.type == \"new\"
        path: /new  # must
    default: /orders
  deadLetterTopic: poison
  bulkSubscribe:
    enabled: true
    maxMessagesCount: 100
    maxAwaitDurationMs: 40
",
    ),
    (
        "resiliency",
        "apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata:  # must
  name: main  # must
spec:  # must
  policies:
    timeouts:
      general: 5s  # free
    retries:
      often:  # free
        policy: exponential
        maxInterval: 60s
        maxRetries: 10
        matching:
          httpStatusCodes: 429,500-599
          gRPCStatusCodes: \"14\"
    circuitBreakers:
      fuse:  # free
        maxRequests: 1
        interval: 8s
        timeout: 45s
        trip: consecutiveFailures > 8
  targets:
    apps:
      cart:  # free
        timeout: general
        retry: often
        circuitBreaker: fuse
        circuitBreakerCacheSize: 20
    actors:
      Robot:  # free
        timeout: general
        circuitBreaker: fuse
        circuitBreakerScope: both
    components:
      store:  # free
        outbound:
          timeout: general
          retry: often
        inbound:
          circuitBreaker: fuse
",
    ),
    (
        "http-endpoint",
        "apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata:  # must
  name: github  # must
spec:  # must
  baseUrl: https://api.example.com  # must
  headers:
    - name: accept
      value: text/plain  # any
  clientTLS:
    rootCA:
      secretKeyRef:
        name: ca  # must
        key: pem
    renegotiation: Never
auth:
  secretStore: local
scopes: [cart]
",
    ),
    (
        "mcp-server",
        "apiVersion: dapr.io/v1alpha1
kind: MCPServer
metadata:  # must
  name: tools  # must
spec:  # must
  endpoint:  # must
    streamableHTTP:
      url: https://mcp.example.com  # must
      timeout: 10s
      headers:
        - name: accept
          value: text/plain  # any
      auth:
        secretStore: local
        oauth2:
          issuer: https://login.example.com  # must
          audience: tools
          clientID: me
          secretKeyRef:
            name: login  # must
            key: secret
  middleware:
    beforeCallTool:
      - workflow:
          workflowName: audit  # must
          appID: watch
        mutate: true
  catalog:
    displayName: Tools
    owner:
      team: blue
      contact: blue@example.com
  ignoreErrors: true
",
    ),
    (
        "workflow-access-policy",
        "apiVersion: dapr.io/v1alpha1
kind: WorkflowAccessPolicy
metadata:  # must
  name: guard  # must
spec:  # must
  rules:
    - callers:
        - appID: cart
      workflows:
        - name: order*
          operations: [schedule]  # must
          requires:
            - eventType: workflow.completed
              name: check  # must
              appID: audit
      activities:
        - name: pay
scopes: [shop]
",
    ),
];

/// One damage and what must be found.
struct Case {
    name: String,
    text: String,
    line: usize,
    /// Last part of the field; empty = the document.
    field: String,
    /// All of them are in the message.
    message: Vec<String>,
    /// Is in the suggestion.
    suggestion: String,
}

/// A line with a key.
struct Line<'a> {
    number: usize,
    indent: usize,
    /// It begins an item of a list.
    item: bool,
    key: &'a str,
    value: &'a str,
    note: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut found = Vec::new();
    for (index, whole) in text.lines().enumerate() {
        let (line, note) = whole.split_once("  # ").unwrap_or((whole, ""));
        let start = line.len() - line.trim_start_matches([' ', '-']).len();
        let Some((key, value)) = line[start..].split_once(':') else { continue };
        let item = line[..start].contains('-');
        found.push(Line { number: index + 1, indent: start, item, key, value: value.trim(), note });
    }
    found
}

/// The manifest with one line replaced.
fn with(text: &str, number: usize, replace: impl Fn(&str) -> String) -> String {
    text.lines().enumerate().fold(String::new(), |mut out, (index, line)| {
        let plain = line.split_once("  # ").map_or(line, |(line, _)| line);
        let line = if index + 1 == number { replace(plain) } else { plain.to_owned() };
        if !line.is_empty() {
            out += &line;
            out.push('\n');
        }
        out
    })
}

/// The manifest without a line and what is below it.
fn without(text: &str, line: &Line<'_>) -> String {
    let deeper = |other: &str| other.len() - other.trim_start().len() > line.indent;
    let (mut out, mut below) = (String::new(), false);
    for (index, other) in text.lines().enumerate() {
        let plain = other.split_once("  # ").map_or(other, |(line, _)| line);
        below = index + 1 == line.number || (below && deeper(plain));
        if !below {
            out += plain;
            out.push('\n');
        }
    }
    out
}

fn swapped(key: &str) -> Option<String> {
    let mut letters: Vec<char> = key.chars().collect();
    let at = (1..letters.len().saturating_sub(1)).find(|at| letters[*at] != letters[at + 1])?;
    letters.swap(at, at + 1);
    Some(letters.into_iter().collect())
}

fn damages(name: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for line in lines(text) {
        let Line { number, key, value, .. } = line;
        let add_at = |cases: &mut Vec<Case>, at, what: &str, text, field: &str, message: &[&str], suggestion: &str| {
            cases.push(Case {
                name: format!("{name}:{number}: {key} {what}"),
                text,
                line: at,
                field: field.to_owned(),
                message: message.iter().map(|part| (*part).to_owned()).collect(),
                suggestion: suggestion.to_owned(),
            });
        };
        let add = |cases: &mut Vec<Case>, what: &str, text, field: &str, message: &[&str], suggestion: &str| {
            add_at(cases, number, what, text, field, message, suggestion);
        };
        let put = |new: &str| with(text, number, |old| old.replacen(&format!(": {value}"), &format!(": {new}"), 1));
        let header = key == "kind" || key == "apiVersion";
        if let Some(slip) = swapped(key).filter(|_| line.note != "free" && key.len() > 3) {
            // A Resiliency is loaded whatever its version.
            let read_all_the_same = name == "resiliency" && key == "apiVersion";
            let said = if header && !read_all_the_same { "nothing was loaded" } else { "unknown field" };
            let new = with(text, number, |old| old.replacen(key, &slip, 1));
            add(&mut cases, "misspelled", new, &slip, &[said], key);
        }
        if line.note == "must" {
            let parent_line = lines(text).into_iter().rfind(|other| {
                other.number < number && (other.indent < line.indent || (other.indent == line.indent && other.item))
            });
            let at = parent_line.map_or(1, |parent| parent.number);
            let missing = ["required", "not given"];
            add_at(&mut cases, at, "left out", without(text, &line), key, &missing, &format!("add {key}:"));
            continue;
        }
        if value.is_empty() || header {
            continue;
        }
        if value.starts_with('[') {
            add(&mut cases, "not a list", put("one"), key, &["expected a list", "\"one\""], "[");
            continue;
        }
        if line.note != "any" {
            add(&mut cases, "a map", put("{a: b}"), key, &["expected ", "found a map"], "write ");
        }
        match value {
            "true" | "false" => {
                add(
                    &mut cases,
                    "misspelled boolean",
                    put("ture"),
                    key,
                    &["expected true or false", "\"ture\""],
                    "write ",
                );
                add(
                    &mut cases,
                    "quoted boolean",
                    put("\"true\""),
                    key,
                    &["expected true or false"],
                    "remove the quotes",
                );
            }
            _ if is_duration(value) && line.note != "any" => {
                add(&mut cases, "without unit", put("soon"), key, &["expected a duration", "\"soon\""], "for example");
                add(
                    &mut cases,
                    "with a long unit",
                    put("5 seconds"),
                    key,
                    &["expected a duration", "\"5 seconds\""],
                    "5s",
                );
            }
            _ if value.parse::<u32>().is_ok() => {
                add(&mut cases, "in words", put("many"), key, &["expected a whole number", "\"many\""], "write ");
            }
            _ => {}
        }
        if !value.starts_with('"') {
            let new = put(&format!("\"{value}"));
            add(&mut cases, "with an unclosed quote", new, "", &["not valid YAML"], "quote");
        }
        let again = with(text, number, |old| format!("{old}\n{}{key}: {value}", " ".repeat(line.indent)));
        add_at(&mut cases, number + 1, "twice", again, key, &["twice"], "remove one");
        if line.indent > 0 {
            let new = with(text, number, |old| old.replacen("  ", "\t", 1));
            add(&mut cases, "after a tab", new, "", &["not valid YAML"], "spaces, not tabs");
        }
    }
    cases
}

fn is_duration(value: &str) -> bool {
    let digits = value.trim_end_matches(['s', 'm', 'h']);
    digits != value && digits.parse::<u32>().is_ok()
}

fn check(case: &Case, found: &[Finding]) -> Result<(), String> {
    let [finding] = found else { return Err(format!("{} findings instead of one", found.len())) };
    let last = finding.field.rsplit('.').next().unwrap_or_default();
    if finding.line != case.line {
        return Err(format!("line {} instead of {}", finding.line, case.line));
    }
    if last != case.field {
        return Err(format!("field {:?} instead of …{:?}", finding.field, case.field));
    }
    if let Some(part) = case.message.iter().find(|part| !finding.message.contains(part.as_str())) {
        return Err(format!("the message does not say {part:?}"));
    }
    if finding.suggestion.is_empty() || !finding.suggestion.contains(&case.suggestion) {
        return Err(format!("the suggestion does not say {:?}", case.suggestion));
    }
    Ok(())
}

#[test]
fn the_good_ones_are_good() {
    for (name, text) in GOOD {
        let found = validate_text(Path::new("f.yaml"), &with(text, 0, str::to_owned), &LoadOptions::default());
        assert_eq!(found, [], "{name}");
    }
}

#[test]
fn every_damage_gives_its_one_finding() {
    let (mut total, mut failures) = (0, String::new());
    for case in GOOD.iter().flat_map(|(name, text)| damages(name, text)) {
        total += 1;
        let found = validate_text(Path::new("f.yaml"), &case.text, &LoadOptions::default());
        assert!(found.iter().all(|finding| finding.file == Path::new("f.yaml")));
        if let Err(problem) = check(&case, &found) {
            let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
            writeln!(failures, "{}: {problem}\n    {}", case.name, shown.join("\n    ")).unwrap();
        }
    }
    println!("{total} broken manifests");
    assert!(failures.is_empty(), "of {total}:\n{failures}");
    assert!(total >= CASES_MIN, "only {total} cases");
}
