use async_trait::async_trait;
use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::log::Logger;

use super::*;

/// Knows every name but `missing`; the value is the name.
struct Echo;

#[async_trait]
impl SecretStore for Echo {
    async fn get(&self, name: &str, _: &BTreeMap<String, String>) -> Result<SecretBundle, ComponentError> {
        if name == "missing" {
            return Err(ComponentError::new(ErrorKind::NotFound, "secret missing not found"));
        }
        Ok(BTreeMap::from([(name.to_owned(), name.to_owned())]))
    }

    async fn bulk_get(&self, _: &BTreeMap<String, String>) -> Result<BTreeMap<String, SecretBundle>, ComponentError> {
        let bundle = |name: &str| (name.to_owned(), BTreeMap::from([(name.to_owned(), "x".to_owned())]));
        Ok(BTreeMap::from([bundle("a"), bundle("b"), bundle("c")]))
    }
}

fn none() -> Arc<Policies> {
    Arc::new(Policies::none(&Logger::silent()))
}

fn scoped(deny_by_default: bool, allowed: &[&str], denied: &[&str]) -> SecretStores {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let scope = SecretsScope { store_name: "s".into(), deny_by_default, allowed: list(allowed), denied: list(denied) };
    let stores = SecretStores::new([scope], none());
    stores.add("s", Arc::new(Echo));
    stores
}

async fn names(stores: &SecretStores) -> Vec<String> {
    stores.bulk_get("s", &BTreeMap::new()).await.unwrap().into_keys().collect()
}

#[tokio::test]
async fn scopes_decide_what_is_seen() {
    assert_eq!(names(&scoped(false, &[], &["b"])).await, ["a", "c"]);
    assert_eq!(names(&scoped(true, &["b"], &[])).await, ["b"]);
    assert_eq!(names(&scoped(false, &["a", "b"], &["a"])).await, ["a", "b"]);
    assert!(names(&scoped(true, &[], &["a"])).await.is_empty());

    let error = scoped(false, &["a"], &[]).get("s", "b", &BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_PERMISSION_DENIED", 403));
    assert_eq!(error.message, r#"access denied by policy to get "b" from "s""#);
}

#[tokio::test]
async fn errors_have_the_specified_forms() {
    let none = SecretStores::new([], none());
    let error = none.get("s", "a", &BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_SECRET_STORES_NOT_CONFIGURED", 500));

    none.add("s", Arc::new(Echo));
    let error = none.bulk_get("other", &BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_SECRET_STORE_NOT_FOUND", 401));
    assert_eq!(error.message, "failed finding secret store with key other");

    let error = none.get("s", "missing", &BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_SECRET_GET", 500));
    assert_eq!(error.message, "failed getting secret with key missing from secret store s: secret missing not found");
    assert!(error.details.is_empty());
}
