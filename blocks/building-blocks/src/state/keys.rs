//! Keys in a store: the prefix that keeps apps apart, and the way back.
//!
//! *Source:* spec internals.md §10.1. *Invariant:* a prefix is computed once per component, so a call only concatenates.

use pillion_contract::{ComponentError, ErrorKind, Metadata};
use pillion_core::error::table;

/// Between prefix and key; neither may contain it.
pub const SEPARATOR: &str = "||";

/// The prefix of a component's keys, separator included; empty without one.
///
/// `namespace` is `None` when `NAMESPACE` is unset, which makes the strategy `namespace` act as `appid`.
///
/// # Errors
/// `InvalidRequest` for a literal that contains the separator.
pub(super) fn prefix_of(
    store: &str,
    metadata: &Metadata,
    app_id: &str,
    namespace: Option<&str>,
) -> Result<Box<str>, ComponentError> {
    let strategy = metadata.get("keyPrefix").map_or_else(|| "appid".to_owned(), str::to_lowercase);
    if strategy.contains(SEPARATOR) {
        return Err(ComponentError::new(
            ErrorKind::InvalidRequest,
            format!(
                "component {store:?}: metadata field \"keyPrefix\": {}",
                table::STATE_ILLEGAL_KEY.text_with(&[&strategy])
            ),
        ));
    }
    let name = match strategy.as_str() {
        "none" => return Ok(Box::default()),
        "appid" | "namespace" if app_id.is_empty() => return Ok(Box::default()),
        "name" => store.to_owned(),
        "appid" => app_id.to_owned(),
        "namespace" => match namespace.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}.{app_id}"),
            None => app_id.to_owned(),
        },
        literal => literal.to_owned(),
    };
    Ok(format!("{name}{SEPARATOR}").into_boxed_str())
}

/// The key as the app knows it: the part between the first and the second separator, or all of a key without one.
pub fn original(stored: &str) -> &str {
    let mut parts = stored.splitn(3, SEPARATOR);
    let first = parts.next().unwrap_or_default();
    parts.next().unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(strategy: Option<&str>, app_id: &str, namespace: Option<&str>) -> String {
        let metadata = Metadata::new(strategy.map(|strategy| ("KEYPREFIX", strategy)));
        prefix_of("store", &metadata, app_id, namespace).unwrap().into()
    }

    #[test]
    fn every_strategy_has_its_prefix() {
        assert_eq!(prefix(None, "app", None), "app||");
        assert_eq!(prefix(Some("AppID"), "app", None), "app||");
        assert_eq!(prefix(Some("appid"), "", None), "");
        assert_eq!(prefix(Some("name"), "app", None), "store||");
        assert_eq!(prefix(Some("namespace"), "app", Some("ns")), "ns.app||");
        assert_eq!(prefix(Some("namespace"), "app", None), "app||");
        assert_eq!(prefix(Some("none"), "app", None), "");
        assert_eq!(prefix(Some("Shared"), "app", None), "shared||");
    }

    #[test]
    fn a_prefix_with_the_separator_is_refused() {
        let error = prefix_of("store", &Metadata::new([("keyPrefix", "a||b")]), "app", None).unwrap_err();
        assert!(error.message.contains("can't contain '||'"), "{error}");
    }

    #[test]
    fn stored_keys_lose_their_prefix() {
        assert_eq!(original("app||key"), "key");
        assert_eq!(original("key"), "key");
        assert_eq!(original("app||key||more"), "key");
    }
}
