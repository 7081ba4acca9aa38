//! Reads Configuration files of a standalone sidecar: environment expansion, several files over the defaults.
//!
//! *Source:* the standalone loader: only the first document of a file counts and `kind` is not checked.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::check::{Checker, Dialect};
use crate::decode::{at, boolean, items, text, texts};
use crate::finding::{Finding, Severity};
use crate::load::read_text;
use crate::manifest::finding;
use crate::rules;
use crate::schema::{KINDS, Kind};
use crate::types::{
    AccessControlSpec, AccessOperation, AccessPolicy, ApiRule, Configuration, NameResolution, PipelineHandler,
    SecretsScope, Tracing,
};
use crate::unbuilt;
use crate::yaml::{Chunk, Node, parse, split};

/// Loads the files in order, each over what the earlier ones and the defaults say; no file = the defaults.
///
/// Variables (`$NAME`, `${NAME}`) are replaced in the whole text first, with `env`; unset ones become empty.
///
/// # Errors
/// All findings of all files when a file cannot be read, is not YAML, has a value of a wrong type, repeats a secret store, leaves
/// an access control policy incomplete or denies what this version would let through: with these the sidecar does not start.
/// Other findings come with the result.
pub fn load_configuration(
    files: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Configuration, Vec<Finding>), Vec<Finding>> {
    let mut findings = Vec::new();
    let mut fatal = false;
    let mut spec = defaults();
    let mut name = String::new();
    for file in files {
        let document = match read_text(file) {
            Ok(text) => read(file, &text, env, &mut findings, &mut fatal),
            Err(problem) => {
                findings.push(*problem);
                fatal = true;
                None
            }
        };
        let Some(document) = document else { continue };
        let own_name = text(&document, &["metadata", "name"]);
        if !own_name.is_empty() {
            name = own_name;
        }
        merge(&mut spec, at(&document, &["spec"]), "");
    }
    if fatal { Err(findings) } else { Ok((typed(name, spec), findings)) }
}

/// Reads one Configuration that is no file, over the defaults; `origin` only names it in findings, `$NAME` stays as it is.
///
/// *Source:* so the original reads the Configuration an operator gives.
///
/// # Errors
/// As [`load_configuration`].
pub fn read_configuration(origin: &Path, content: &str) -> Result<(Configuration, Vec<Finding>), Vec<Finding>> {
    let (mut findings, mut fatal, mut spec) = (Vec::new(), false, defaults());
    let document = read_expanded(origin, content, &mut findings, &mut fatal);
    if fatal {
        return Err(findings);
    }
    let document = document.unwrap_or(Json::Null);
    merge(&mut spec, at(&document, &["spec"]), "");
    Ok((typed(text(&document, &["metadata", "name"]), spec), findings))
}

/// *Source:* the defaults of the original: TLS to the collector, metrics on, access allowed in trust domain `public`.
fn defaults() -> Json {
    json!({
        "tracing": {"otel": {"isSecure": true}},
        "metric": {"enabled": true},
        "accessControl": {"defaultAction": "allow", "trustDomain": "public"},
    })
}

fn read(
    file: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    findings: &mut Vec<Finding>,
    fatal: &mut bool,
) -> Option<Json> {
    let expanded = expand_environment(text, &mut |name, line| {
        let value = env(name);
        if value.is_none() {
            let message = format!("the environment variable {name} is not set; it is replaced by nothing");
            findings.push(finding(Severity::Warning, file, line, "", message, "set it, or write the value"));
        }
        value
    });
    read_expanded(file, &expanded, findings, fatal)
}

fn read_expanded(file: &Path, text: &str, findings: &mut Vec<Finding>, fatal: &mut bool) -> Option<Json> {
    let mut documents = split(text).into_iter().filter(|chunk| !chunk.is_blank());
    let Some(chunk) = documents.next() else {
        findings.push(finding(Severity::Warning, file, 0, "", "the file holds no document; the defaults are used", ""));
        return None;
    };
    if let Some(second) = documents.next() {
        let message = "only the first document of a Configuration file is read";
        findings.push(finding(
            Severity::Warning,
            file,
            second.first_content_line(),
            "",
            message,
            "move it to a file of its own",
        ));
    }
    let node = match parse_document(file, chunk, findings) {
        Ok(node) => node?,
        Err(()) => {
            *fatal = true;
            return None;
        }
    };
    let kind = configuration_kind();
    let mut checker = Checker::new(file, Dialect::Configuration, node.line);
    let document = checker.object(&node, "", kind.fields);
    let written = crate::decode::text(&document, &["kind"]);
    if !written.is_empty() && written != kind.name {
        checker.report(
            Severity::Warning,
            "kind",
            format!("expected kind Configuration, found {written:?}"),
            "pass a Configuration with --config",
        );
    }
    rules::configuration(&mut checker, &document);
    unbuilt::configuration(&mut checker, &document);
    *fatal |= checker.unusable || checker.findings.iter().any(is_fatal);
    findings.append(&mut checker.findings);
    Some(document)
}

fn parse_document(file: &Path, chunk: Chunk<'_>, findings: &mut Vec<Finding>) -> Result<Option<Node>, ()> {
    let parsed = parse(chunk).map_err(|error| {
        let message = format!("not valid YAML: {}", error.message);
        findings.push(finding(
            Severity::Error,
            file,
            error.line,
            "",
            message,
            "look at the indentation, quotes and brackets here and on the line before",
        ));
    })?;
    if parsed.repeated.is_empty() {
        return Ok(parsed.root);
    }
    findings.extend(parsed.repeated.iter().map(|repeated| {
        finding(Severity::Error, file, repeated.line, &repeated.path, repeated.message.clone(), "remove one of them")
    }));
    Err(())
}

fn configuration_kind() -> Kind {
    let [_, configuration, ..] = KINDS;
    configuration
}

/// Problems that stop the original at startup.
fn is_fatal(finding: &Finding) -> bool {
    let field = finding.field.as_str();
    let policy_part = [".appId", ".trustDomain", ".namespace"].iter().any(|end| field.ends_with(end));
    finding.is_error()
        && (field.starts_with("spec.secrets.scopes")
            || field.starts_with("spec.workflow.stateRetentionPolicy")
            || field == "spec.tracing.otel.timeout"
            || (field.starts_with("spec.accessControl.policies[") && policy_part))
}

/// Objects merge key by key, everything else is replaced; free-form settings are replaced as a whole.
fn merge(base: &mut Json, over: &Json, path: &str) {
    match (base, over) {
        (_, Json::Null) => {}
        (Json::Object(base), Json::Object(over)) if path != "nameResolution.configuration" => {
            for (key, value) in over {
                let path = crate::check::join(path, key);
                merge(base.entry(key.clone()).or_insert(Json::Null), value, &path);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn typed(name: String, spec: Json) -> Configuration {
    let rules = |list: &str| -> Vec<ApiRule> {
        let rule = |rule: &Json| ApiRule {
            name: text(rule, &["name"]),
            version: text(rule, &["version"]),
            protocol: text(rule, &["protocol"]).to_lowercase(),
        };
        items(&spec, &["api", list]).iter().map(rule).collect()
    };
    let scope = |scope: &Json| {
        let sorted = |list: &str| {
            let mut names = texts(scope, &[list]);
            names.sort();
            names
        };
        SecretsScope {
            store_name: text(scope, &["storeName"]),
            deny_by_default: text(scope, &["defaultAccess"]).eq_ignore_ascii_case("deny"),
            allowed: sorted("allowedSecrets"),
            denied: sorted("deniedSecrets"),
        }
    };
    let feature = |feature: &Json| {
        let name = text(feature, &["name"]);
        let enabled = boolean(feature, &["enabled"]).unwrap_or(false) && !unbuilt::is_feature(&name);
        (name, enabled)
    };
    let pipeline = |name: &str| {
        let handler = |handler: &Json| PipelineHandler {
            name: text(handler, &["name"]),
            component_type: text(handler, &["type"]),
            version: text(handler, &["version"]),
        };
        items(&spec, &[name, "handlers"]).iter().map(handler).collect()
    };
    let features = items(&spec, &["features"]).iter().map(feature).collect();
    let otel = at(&spec, &["tracing", "otel"]);
    let logging = |field: &str| boolean(&spec, &["logging", "apiLogging", field]);
    Configuration {
        name,
        tracing: Tracing {
            sampling_rate: text(&spec, &["tracing", "samplingRate"]),
            stdout: boolean(&spec, &["tracing", "stdout"]).unwrap_or(false),
            zipkin_endpoint: text(&spec, &["tracing", "zipkin", "endpointAddress"]),
            otel: (!otel.is_null()).then(|| otel.clone()),
        },
        name_resolution: at(&spec, &["nameResolution"]).is_object().then(|| NameResolution {
            component: text(&spec, &["nameResolution", "component"]),
            version: text(&spec, &["nameResolution", "version"]),
            configuration: at(&spec, &["nameResolution", "configuration"]).clone(),
        }),
        secrets_scopes: items(&spec, &["secrets", "scopes"]).iter().map(scope).collect(),
        api_allowed: rules("allowed"),
        api_denied: rules("denied"),
        features,
        components_deny: texts(&spec, &["components", "deny"]),
        api_logging: logging("enabled"),
        api_logging_obfuscate_urls: logging("obfuscateURLs").unwrap_or(false),
        api_logging_omit_health_checks: logging("omitHealthChecks").unwrap_or(false),
        http_pipeline: pipeline("httpPipeline"),
        app_http_pipeline: pipeline("appHttpPipeline"),
        mtls_enabled: boolean(&spec, &["mtls", "enabled"]),
        access_control: access_control(at(&spec, &["accessControl"])),
        spec,
    }
}

fn access_control(spec: &Json) -> AccessControlSpec {
    let operation = |operation: &Json| AccessOperation {
        name: text(operation, &["name"]),
        http_verbs: texts(operation, &["httpVerb"]),
        action: text(operation, &["action"]),
    };
    let policy = |policy: &Json| AccessPolicy {
        app_id: text(policy, &["appId"]),
        default_action: text(policy, &["defaultAction"]),
        trust_domain: text(policy, &["trustDomain"]),
        namespace: text(policy, &["namespace"]),
        operations: items(policy, &["operations"]).iter().map(operation).collect(),
    };
    AccessControlSpec {
        default_action: text(spec, &["defaultAction"]),
        trust_domain: text(spec, &["trustDomain"]),
        policies: at(spec, &["policies"]).as_array().map(|policies| policies.iter().map(policy).collect()),
    }
}

/// Replaces `$NAME` and `${NAME}`; `lookup` gets the name and its 1-based line, `None` becomes nothing.
///
/// A `$` without a name stays; `${}` and an unclosed `${` disappear. *Source:* Go's `os.ExpandEnv`.
pub fn expand_environment(text: &str, lookup: &mut dyn FnMut(&str, usize) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut line = 1;
    while let Some(position) = rest.find('$') {
        let (before, after) = rest.split_at(position);
        line += before.matches('\n').count();
        out.push_str(before);
        let tail = after.strip_prefix('$').unwrap_or_default();
        if tail.is_empty() {
            rest = after;
            break;
        }
        let (name, width) = variable_name(tail);
        if name.is_empty() && width == 0 {
            out.push('$');
        } else if !name.is_empty() {
            out.push_str(&lookup(name, line).unwrap_or_default());
        }
        let (skipped, next) = tail.split_at(width);
        line += skipped.matches('\n').count();
        rest = next;
    }
    out.push_str(rest);
    out
}

/// Name after a `$` and how many bytes it takes; an empty name with a width is bad syntax that is dropped.
fn variable_name(tail: &str) -> (&str, usize) {
    let special = |c: char| "*#$@!?-".contains(c) || c.is_ascii_digit();
    if let Some(inner) = tail.strip_prefix('{') {
        return match inner.find('}') {
            Some(end) => (inner.get(..end).unwrap_or_default(), end + 2),
            None => ("", 1),
        };
    }
    if tail.starts_with(special) {
        return (tail.get(..1).unwrap_or_default(), 1);
    }
    let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
    (tail.get(..end).unwrap_or_default(), end)
}

#[cfg(test)]
mod tests;
