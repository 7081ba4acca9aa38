//! Secret stores: spec components.md §4.4.

use std::collections::BTreeMap;
use std::sync::Arc;

use pillion_contract::{ErrorKind, SecretStore};

/// Runs the suite; the store must hold `conftestsecret` = `abcd` and `secondsecret` = `efgh`, more is allowed.
///
/// `missing_is_empty` says that an absent secret reads as an empty value, as `secretstores.local.env` does.
pub async fn run(store: Arc<dyn SecretStore>, missing_is_empty: bool) {
    let none = BTreeMap::new();
    let one = store.get("conftestsecret", &none).await.expect("get of an existing secret");
    assert_eq!(
        one,
        BTreeMap::from([("conftestsecret".to_owned(), "abcd".to_owned())]),
        "a single value stands under the secret's own name"
    );
    let all = store.bulk_get(&none).await.expect("bulk get");
    assert_eq!(
        all.get("conftestsecret").and_then(|bundle| bundle.get("conftestsecret")).map(String::as_str),
        Some("abcd"),
        "bulk get"
    );
    assert_eq!(
        all.get("secondsecret").and_then(|bundle| bundle.get("secondsecret")).map(String::as_str),
        Some("efgh"),
        "bulk get"
    );
    match store.get("no-such-secret-anywhere", &none).await {
        Ok(bundle) if missing_is_empty => {
            assert_eq!(
                bundle.get("no-such-secret-anywhere").map(String::as_str),
                Some(""),
                "an absent secret reads as empty here"
            );
        }
        Ok(bundle) => panic!("an absent secret must be an error, got {bundle:?}"),
        Err(error) => {
            assert!(!missing_is_empty, "an absent secret reads as empty here, got {error}");
            assert_eq!(error.kind, ErrorKind::NotFound, "an absent secret is NotFound: {error}");
            assert!(error.to_string().contains("no-such-secret-anywhere"), "the error names the secret: {error}");
        }
    }
}
