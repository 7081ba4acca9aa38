//! The compiled `spec.accessControl`, and what it says of one call.
//!
//! *Job:* compile a specification and judge calls. *Neighbours:* [`super`] asks and tells the log and the metrics.
//! *Invariant:* whatever does not say `allow` denies. *Source:* the original's `pkg/acl/acl.go`, spec internals.md §5.8.

use std::borrow::Cow;
use std::collections::HashMap;

use pillion_resources::{AccessControlSpec, AccessPolicy};
use pillion_runtime::message::clean_path;
use pillion_security::SpiffeId;

use super::trie::Trie;
use super::{Asked, InvalidAccessControl};

/// What to do with calls, by caller.
#[derive(Debug)]
pub(super) struct Rules {
    default_allows: bool,
    /// Whether the app speaks HTTP: verbs count then, and capitals do not.
    is_http: bool,
    /// By app id; the policies of one differ in the namespace.
    policies: HashMap<Box<str>, Vec<Policy>>,
}

#[derive(Debug)]
struct Policy {
    namespace: Box<str>,
    trust_domain: Box<str>,
    /// `None` = not given.
    default_allows: Option<bool>,
    operations: Trie<Operation>,
}

#[derive(Debug)]
struct Operation {
    verbs: Vec<Box<str>>,
    allows: bool,
}

/// Whose action decided, as the metrics tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecidedBy {
    App,
    Global,
}

/// What the rules say of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) by: DecidedBy,
}

impl Rules {
    /// Compiles a specification; `None` when it says nothing at all. `notes` gets what its author may not expect.
    pub(super) fn compile(
        spec: &AccessControlSpec,
        is_http: bool,
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>, InvalidAccessControl> {
        let policies = spec.policies.as_deref();
        if spec.trust_domain.is_empty() && spec.default_action.is_empty() && policies.is_none_or(<[_]>::is_empty) {
            return Ok(None);
        }
        check(policies.unwrap_or_default())?;
        let default_allows = if !spec.default_action.is_empty() {
            allows(&spec.default_action)
        } else if policies.is_some_and(<[_]>::is_empty) {
            true
        } else {
            notes.push("No global default action has been specified. Setting default global action as Deny".to_owned());
            false
        };
        let mut rules = Self { default_allows, is_http, policies: HashMap::new() };
        for policy in policies.unwrap_or_default() {
            rules.add(policy, notes);
        }
        Ok(Some(rules))
    }

    /// The last policy of an app id and namespace counts.
    fn add(&mut self, written: &AccessPolicy, notes: &mut Vec<String>) {
        let of = format!("access control policy of {}, namespace {}", written.app_id, written.namespace);
        let mut operations = Trie::default();
        for operation in &written.operations {
            let name = if self.is_http { lower(&operation.name) } else { Cow::Borrowed(operation.name.as_str()) };
            let verbs = operation.http_verbs.iter().map(|verb| Box::from(verb.as_str())).collect();
            if !operations.put(&name, Operation { verbs, allows: allows(&operation.action) }) {
                notes.push(format!("{of}: the operation {:?} is given twice, only the first counts", operation.name));
            }
        }
        for (name, by) in operations.hidden() {
            notes.push(format!("{of}: the operation {name} never counts because of {by}"));
        }
        let policy = Policy {
            namespace: written.namespace.as_str().into(),
            trust_domain: written.trust_domain.as_str().into(),
            default_allows: (!written.default_action.is_empty()).then(|| allows(&written.default_action)),
            operations,
        };
        let list = self.policies.entry(written.app_id.as_str().into()).or_default();
        list.retain(|earlier| {
            let other = earlier.namespace != policy.namespace;
            if !other {
                notes.push(format!("{of} is given twice, only the last counts"));
            }
            other
        });
        list.push(policy);
    }

    /// Whether every call is allowed, whoever calls.
    pub(super) fn allow_all(&self) -> bool {
        self.default_allows && self.policies.is_empty()
    }

    /// What the rules say of a call to a cleaned operation.
    pub(super) fn judge(&self, peer: Option<&SpiffeId>, operation: &str, asked: Asked<'_>) -> Verdict {
        let global = Verdict { allowed: self.default_allows, by: DecidedBy::Global };
        let Some(policy) = peer.and_then(|peer| self.policy(peer)) else { return global };
        let default = policy.default_allows.map_or(global, |allowed| Verdict { allowed, by: DecidedBy::App });
        let allowed = self.allows(policy, operation, asked, default.allowed);
        // An HTTP app takes escapes for what they stand for: both readings have to be allowed. Ours; the original looks at
        // the first alone.
        let decoded = match asked {
            Asked::Method(_) if self.is_http && operation.contains('%') => decoded(operation),
            _ => None,
        };
        let allowed = allowed && decoded.is_none_or(|other| self.allows(policy, &other, asked, default.allowed));
        Verdict { allowed, by: default.by }
    }

    fn policy(&self, peer: &SpiffeId) -> Option<&Policy> {
        let of_app = self.policies.get(peer.app_id())?;
        let policy = of_app.iter().find(|policy| *policy.namespace == *peer.namespace())?;
        Some(policy).filter(|policy| *policy.trust_domain == *peer.trust_domain().as_str())
    }

    fn allows(&self, policy: &Policy, operation: &str, asked: Asked<'_>, default: bool) -> bool {
        let Asked::Method(verb) = asked else {
            return policy.operations.find(operation).map_or(default, |found| found.allows);
        };
        if !self.is_http {
            return policy.operations.find(operation).map_or(default, |found| found.allows);
        }
        let Some(found) = policy.operations.find(&lower(operation)) else { return default };
        match verb {
            // Without a verb it is the action of the policy alone, whether it has one or not.
            None => policy.default_allows.unwrap_or(false),
            Some(verb) if found.verbs.iter().any(|listed| **listed == *verb || **listed == *"*") => found.allows,
            Some(_) => default,
        }
    }
}

fn allows(action: &str) -> bool {
    action.eq_ignore_ascii_case("allow")
}

fn check(policies: &[AccessPolicy]) -> Result<(), InvalidAccessControl> {
    let without = |part: fn(&AccessPolicy) -> &String| -> Vec<String> {
        policies.iter().filter(|policy| part(policy).is_empty()).map(|policy| policy.app_id.clone()).collect()
    };
    let invalid = InvalidAccessControl {
        without_trust_domain: without(|policy| &policy.trust_domain),
        without_namespace: without(|policy| &policy.namespace),
        without_app_id: policies.iter().any(|policy| policy.app_id.is_empty()),
    };
    if invalid.is_none() { Ok(()) } else { Err(invalid) }
}

/// Lower case, letter by letter as in Go. *Source:* `strings.ToLower`; the one letter that Rust makes two of keeps the first.
pub(super) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|letter| letter.to_lowercase().next().unwrap_or(letter)).collect())
}

/// What an HTTP app makes of an operation with escapes; `None` when it is the same.
fn decoded(operation: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(operation).decode_utf8_lossy();
    let cleaned = clean_path(&text);
    (cleaned != operation.trim_start_matches('/')).then_some(cleaned)
}

#[cfg(test)]
mod tests;
