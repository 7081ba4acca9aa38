//! Turns metadata items into strings: secrets, environment variables, templates.

use crate::finding::{Finding, Severity};
use crate::types::{Component, NameValue};

/// Names of the secrets a component needs from its secret store, each once, in order.
pub fn references(component: &Component) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in component.metadata.iter().filter_map(|item| item.secret_key_ref.as_ref()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Whether a manifest may refer to this environment variable.
///
/// Refused (without case): empty, `APP_API_TOKEN`, `DAPR_*`, names with a space. With `allowed_keys` (the value of
/// `DAPR_ENV_KEYS`, separated by spaces; empty = none given) it must be listed too.
pub fn env_allowed(name: &str, allowed_keys: Option<&str>) -> bool {
    let upper = name.to_uppercase();
    if upper.is_empty() || upper == "APP_API_TOKEN" || upper.starts_with("DAPR_") || upper.contains(' ') {
        return false;
    }
    match allowed_keys.filter(|keys| !keys.is_empty()) {
        Some(keys) => keys.split(' ').any(|key| key == upper),
        None => true,
    }
}

/// The string value of one item, before templates.
///
/// `secret` is what the secret store has under the item's name and key; `None` = not there. An environment variable that is
/// not set is empty. `env` is also asked for `DAPR_ENV_KEYS`.
///
/// # Errors
/// A finding (without file, with the item's line) when the variable is refused or the secret is not there and no value is given.
pub fn resolve(
    item: &NameValue,
    secret: Option<&str>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Finding> {
    let error = |field: &str, message: String, suggestion: String| Finding {
        severity: Severity::Error,
        file: std::path::PathBuf::new(),
        line: item.line,
        field: format!("{}.{field}", item.name),
        message,
        suggestion,
    };
    if item.value.is_none()
        && let Some(variable) = &item.env_ref
    {
        if !env_allowed(variable, env("DAPR_ENV_KEYS").as_deref()) {
            return Err(error(
                "envRef",
                format!("the variable {variable:?} may not be referred to"),
                "use another variable".to_owned(),
            ));
        }
        return Ok(env(variable).unwrap_or_default());
    }
    let Some((name, key)) = &item.secret_key_ref else {
        return Ok(item.value.clone().unwrap_or_default());
    };
    match secret.filter(|secret| !secret.is_empty()).or(item.value.as_deref()) {
        Some(value) => Ok(value.to_owned()),
        None => Err(error(
            "secretKeyRef",
            format!("the secret store has no value for secret {name:?}, key {key:?}"),
            "add it to the store or correct name and key".to_owned(),
        )),
    }
}

/// What the templates of metadata values stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateContext {
    /// `{appID}`.
    pub app_id: String,
    /// First part of `{namespace}`, which is `<namespace>.<appID>`.
    pub namespace: String,
    /// `{podName}`; empty = not in a pod, and values that use it are refused.
    pub pod_name: String,
}

/// Replaces `{uuid}` (a fresh one for each occurrence), `{podName}`, `{namespace}` and `{appID}` in a component metadata value.
///
/// # Errors
/// The wire text when `{podName}` is used and the pod name is empty; `property` is the item's name.
pub fn expand_templates(property: &str, value: &str, context: &TemplateContext) -> Result<String, String> {
    let mut pieces = value.split("{uuid}");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out.push_str(&uuid::Uuid::new_v4().to_string());
        out.push_str(piece);
    }
    if out.contains("{podName}") {
        if context.pod_name.is_empty() {
            return Err(format!(
                "failed to parse metadata: property {property} refers to {{podName}} but podName is not set"
            ));
        }
        out = out.replace("{podName}", &context.pod_name);
    }
    Ok(out
        .replace("{namespace}", &format!("{}.{}", context.namespace, context.app_id))
        .replace("{appID}", &context.app_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: Option<&str>, secret: bool, variable: Option<&str>) -> NameValue {
        NameValue {
            name: "item".to_owned(),
            value: value.map(str::to_owned),
            secret_key_ref: secret.then(|| ("s".to_owned(), "k".to_owned())),
            env_ref: variable.map(str::to_owned),
            line: 7,
        }
    }

    fn environment(name: &str) -> Option<String> {
        (name == "HOST").then(|| "localhost".to_owned())
    }

    #[test]
    fn sources_have_an_order() {
        let cases = [
            (item(Some("v"), false, None), None, Ok("v")),
            (item(None, false, None), None, Ok("")),
            (item(None, false, Some("HOST")), None, Ok("localhost")),
            (item(None, false, Some("UNSET")), None, Ok("")),
            (item(Some("v"), false, Some("HOST")), None, Ok("v")),
            (item(Some("v"), true, None), Some("hidden"), Ok("hidden")),
            (item(Some("v"), true, None), None, Ok("v")),
            (item(None, true, None), Some("hidden"), Ok("hidden")),
            (item(None, true, None), None, Err(": item.secretKeyRef")),
            (item(None, true, None), Some(""), Err("key \"k\"")),
            (item(None, false, Some("DAPR_API_TOKEN")), None, Err("may not")),
            (item(None, false, Some("app_api_token")), None, Err("may not")),
            (item(None, false, Some("A B")), None, Err("may not")),
        ];
        for (item, secret, expected) in cases {
            match (resolve(&item, secret, &environment), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{item:?}"),
                (Err(finding), Err(part)) => {
                    assert!(finding.to_string().contains(part), "{finding}");
                    assert_eq!(finding.line, 7);
                }
                (result, expected) => panic!("{item:?}: {result:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn the_list_of_keys_restricts_variables() {
        assert!(env_allowed("HOST", Some("PORT HOST")));
        assert!(!env_allowed("HOS", Some("PORT HOST")));
        assert!(env_allowed("HOST", Some("")));
    }

    #[test]
    fn templates_are_filled() {
        let context =
            TemplateContext { app_id: "shop".to_owned(), namespace: "prod".to_owned(), pod_name: String::new() };
        assert_eq!(expand_templates("a", "{namespace}/{appID}/{other}", &context).unwrap(), "prod.shop/shop/{other}");
        let ids = expand_templates("a", "{uuid},{uuid}", &context).unwrap();
        let (first, second) = ids.split_once(',').unwrap();
        assert_ne!(first, second);
        assert_eq!(uuid::Uuid::parse_str(first).unwrap().get_version_num(), 4);
        let error = expand_templates("consumerID", "{podName}", &context).unwrap_err();
        assert_eq!(error, "failed to parse metadata: property consumerID refers to {podName} but podName is not set");
        let in_pod = TemplateContext { pod_name: "pod-1".to_owned(), ..context };
        assert_eq!(expand_templates("a", "x-{podName}", &in_pod).unwrap(), "x-pod-1");
    }

    #[test]
    fn each_secret_is_fetched_once() {
        let component = Component {
            metadata: vec![item(None, true, None), item(None, true, None), item(None, false, None)],
            ..Component::default()
        };
        assert_eq!(references(&component), ["s"]);
    }
}
