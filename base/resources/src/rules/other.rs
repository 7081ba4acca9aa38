//! Rules of MCPServer and WorkflowAccessPolicy: what their Kubernetes schemas demand beyond types.

use serde_json::Value as Json;

use super::{name_values, url};
use crate::check::Checker;
use crate::decode::{at, items, name_values as decode_items, text};
use crate::finding::Severity::Error;

/// *Source:* item limits of the WorkflowAccessPolicy schema.
const RULES_MAX: usize = 100;
const OPERATIONS_MAX: usize = 8;
const REQUIRES_MAX: usize = 20;

pub(crate) fn other(checker: &mut Checker, kind: &str, document: &Json) {
    match kind {
        "MCPServer" => mcp_server(checker, document),
        _ => workflow_access_policy(checker, document),
    }
}

fn mcp_server(checker: &mut Checker, document: &Json) {
    let transports = ["streamableHTTP", "sse", "stdio"];
    let endpoint = at(document, &["spec", "endpoint"]);
    let given: Vec<&str> = transports.into_iter().filter(|name| !at(endpoint, &[name]).is_null()).collect();
    if given.len() != 1 {
        let (found, suggestion) = match given.is_empty() {
            true => ("none".to_owned(), "add streamableHTTP: with url below it".to_owned()),
            false => (given.join(" and "), format!("keep one of {}", given.join(" and "))),
        };
        let message = format!("expected exactly one of streamableHTTP, sse, stdio, found {found}");
        checker.report_absence(Error, "spec.endpoint", message, suggestion);
    }
    for transport in given {
        let path = format!("spec.endpoint.{transport}");
        if transport == "stdio" {
            let items = decode_items(document, &["spec", "endpoint", "stdio", "env"], checker);
            for (index, item) in items.iter().enumerate().filter(|(_, item)| item.name.contains(['=', '\n', '\0'])) {
                let message = format!("expected a variable name without =, line ends and NUL, found {:?}", item.name);
                checker.report(Error, &format!("{path}.env[{index}].name"), message, "put the value under value:");
            }
            continue;
        }
        url(checker, &format!("{path}.url"), &text(endpoint, &[transport, "url"]));
        let has_store = !text(endpoint, &[transport, "auth", "secretStore"]).is_empty();
        let headers = decode_items(document, &["spec", "endpoint", transport, "headers"], checker);
        name_values(checker, &format!("{path}.headers"), &headers, has_store);
        let oauth2 = at(endpoint, &[transport, "auth", "oauth2"]);
        if !oauth2.is_null() && at(oauth2, &["secretKeyRef"]).is_null() {
            checker.report_absence(
                Error,
                &format!("{path}.auth.oauth2"),
                "secretKeyRef is required for oauth2",
                "add secretKeyRef with name and key",
            );
        }
    }
}

fn workflow_access_policy(checker: &mut Checker, document: &Json) {
    let rules = items(document, &["spec", "rules"]);
    count(checker, "spec.rules", rules.len(), 0, RULES_MAX);
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        if at(rule, &["callers"]).is_array() {
            count(checker, &format!("{path}.callers"), items(rule, &["callers"]).len(), 1, RULES_MAX);
        }
        let (workflows, activities) = (items(rule, &["workflows"]), items(rule, &["activities"]));
        if workflows.is_empty() && activities.is_empty() {
            let message = "expected workflows or activities (at least one entry)";
            checker.report_absence(Error, &path, message, "add activities: with - name: and an activity below it");
        }
        count(checker, &format!("{path}.workflows"), workflows.len(), 0, RULES_MAX);
        count(checker, &format!("{path}.activities"), activities.len(), 0, RULES_MAX);
        for (number, workflow) in workflows.iter().enumerate() {
            let path = format!("{path}.workflows[{number}]");
            let operations = items(workflow, &["operations"]);
            if at(workflow, &["operations"]).is_array() {
                count(checker, &format!("{path}.operations"), operations.len(), 1, OPERATIONS_MAX);
            }
            let only_schedule = operations.len() == 1 && operations.iter().all(|operation| operation == "schedule");
            if !items(workflow, &["requires"]).is_empty() && !only_schedule {
                checker.report_absence(
                    Error,
                    &format!("{path}.requires"),
                    "requires is allowed only when schedule is the sole operation",
                    "give the other operations an entry of their own without requires",
                );
            }
            count(checker, &format!("{path}.requires"), items(workflow, &["requires"]).len(), 0, REQUIRES_MAX);
        }
        for (number, activity) in activities.iter().enumerate() {
            count(
                checker,
                &format!("{path}.activities[{number}].requires"),
                items(activity, &["requires"]).len(),
                0,
                REQUIRES_MAX,
            );
        }
    }
}

fn count(checker: &mut Checker, path: &str, found: usize, least: usize, most: usize) {
    if found < least || found > most {
        let suggestion = if found < least { "add an entry" } else { "split it into several resources" };
        checker.report(Error, path, format!("expected {least} to {most} entries, found {found}"), suggestion);
    }
}
