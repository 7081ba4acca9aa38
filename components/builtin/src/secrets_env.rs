//! `secretstores.local.env`: secrets from the sidecar's environment variables.
//!
//! *Invariant:* `APP_API_TOKEN` and everything that starts with `DAPR_` (any case) is never given out.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use pillion_contract::{ComponentError, InitContext, SecretBundle, SecretStore};
use pillion_core::log::Logger;

/// The component; see the module text.
pub struct EnvSecrets {
    prefix: String,
    variables: Variables,
    log: Logger,
}

/// Where variables come from; tests bring their own because a process cannot change its environment safely.
enum Variables {
    Process,
    #[cfg(test)]
    Fixed(BTreeMap<String, String>),
}

impl Variables {
    fn get(&self, name: &str) -> Option<String> {
        match self {
            Self::Process => std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            #[cfg(test)]
            Self::Fixed(variables) => variables.get(name).cloned(),
        }
    }

    fn all(&self) -> Vec<(String, String)> {
        match self {
            Self::Process => std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
                .collect(),
            #[cfg(test)]
            Self::Fixed(variables) => variables.clone().into_iter().collect(),
        }
    }
}

/// Makes the component; metadata `prefix` is put before each name.
///
/// # Errors
/// None; the signature is that of all factories.
pub async fn create(context: InitContext) -> Result<Arc<dyn SecretStore>, ComponentError> {
    let prefix = context.metadata.get("prefix").unwrap_or_default().to_owned();
    Ok(Arc::new(EnvSecrets { prefix, variables: Variables::Process, log: context.log }))
}

fn is_allowed(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name != "APP_API_TOKEN" && !name.starts_with("DAPR_")
}

/// `getenv` takes no such names; asking for one must not end the process.
fn can_exist(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

#[async_trait]
impl SecretStore for EnvSecrets {
    /// An absent or withheld variable reads as an empty value, as in the original.
    async fn get(&self, name: &str, _metadata: &BTreeMap<String, String>) -> Result<SecretBundle, ComponentError> {
        let variable = format!("{}{name}", self.prefix);
        let value = if !is_allowed(&variable) {
            self.log.warn(format!("Access to env var {name} is forbidden"));
            None
        } else if can_exist(&variable) {
            self.variables.get(&variable)
        } else {
            None
        };
        Ok(BTreeMap::from([(name.to_owned(), value.unwrap_or_default())]))
    }

    async fn bulk_get(
        &self,
        _metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, SecretBundle>, ComponentError> {
        let variables = self.variables.all().into_iter().filter(|(variable, _)| is_allowed(variable));
        let secrets = variables.filter_map(|(variable, value)| {
            let name = variable.strip_prefix(&self.prefix).filter(|name| !name.is_empty())?.to_owned();
            Some((name.clone(), BTreeMap::from([(name, value)])))
        });
        Ok(secrets.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(prefix: &str, variables: &[(&str, &str)]) -> EnvSecrets {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        EnvSecrets { prefix: prefix.to_owned(), variables: Variables::Fixed(variables), log: Logger::silent() }
    }

    #[tokio::test]
    async fn conforms() {
        let store = store("", &[("conftestsecret", "abcd"), ("secondsecret", "efgh")]);
        pillion_conformance::secrets::run(Arc::new(store), true).await;
    }

    #[tokio::test]
    async fn reads_the_process_environment() {
        let store = create(crate::tests::context("secretstores.local.env", &[])).await.unwrap();
        let path = store.get("PATH", &BTreeMap::new()).await.unwrap();
        assert_eq!(path.get("PATH").cloned(), std::env::var("PATH").ok());
    }

    #[tokio::test]
    async fn withholds_the_sidecars_own_variables() {
        let none = BTreeMap::new();
        let secret = [("APP_API_TOKEN", "t"), ("DAPR_API_TOKEN", "t"), ("dapr_http_port", "1"), ("App_Api_Token", "t")];
        let plain = store("", &[secret.as_slice(), &[("OK", "yes")]].concat());
        for (name, _) in secret {
            assert_eq!(plain.get(name, &none).await.unwrap()[name], "", "{name}");
        }
        assert_eq!(plain.bulk_get(&none).await.unwrap().into_keys().collect::<Vec<_>>(), ["OK"]);
        assert_eq!(
            store("DAPR_", &secret).get("API_TOKEN", &none).await.unwrap()["API_TOKEN"],
            "",
            "not by way of the prefix either"
        );
        assert_eq!(store("DAPR_", &secret).bulk_get(&none).await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_prefix_is_added_and_removed() {
        let none = BTreeMap::new();
        let store = store("MY_", &[("MY_A", "1"), ("MY_", "2"), ("A", "3"), ("my_b", "4")]);
        assert_eq!(store.get("A", &none).await.unwrap()["A"], "1");
        let all = store.bulk_get(&none).await.unwrap();
        assert_eq!(all, BTreeMap::from([("A".into(), BTreeMap::from([("A".into(), "1".into())]))]));
    }

    #[tokio::test]
    async fn odd_names_read_as_empty() {
        let store = create(crate::tests::context("secretstores.local.env", &[])).await.unwrap();
        for name in ["", "A=B", "nul\0"] {
            assert_eq!(store.get(name, &BTreeMap::new()).await.unwrap()[name], "");
        }
    }
}
