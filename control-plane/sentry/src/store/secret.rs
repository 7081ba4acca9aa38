//! Material in the Secret `dapr-trust-bundle`; its public half also in the ConfigMap of that name, for everybody.
//!
//! *Source:* spec internals.md §5.4. Where the two differ, the Secret is right and the ConfigMap is corrected (the original makes
//! a new root instead, which cuts off every running sidecar). *Invariant:* what is stored is never replaced by what was made here:
//! of several replicas that start with an empty Secret, the first one's authority is that of all.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::{CredentialStore, Material, Saved};
use crate::kube::{KubeClient, KubeError, escape};
use crate::options::CredentialFiles;

const NAME: &str = "dapr-trust-bundle";

/// A Secret and a ConfigMap of one namespace.
pub(crate) struct SecretStore {
    client: Arc<KubeClient>,
    namespace: String,
    keys: Keys,
}

/// The keys in the Secret: the last parts of the paths.
struct Keys {
    root: String,
    issuer_chain: String,
    issuer_key: String,
    token_key: String,
    key_set: String,
}

impl SecretStore {
    pub(crate) fn new(client: Arc<KubeClient>, namespace: &str, files: &CredentialFiles) -> Self {
        let key = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let keys = Keys {
            root: key(&files.root),
            issuer_chain: key(&files.issuer_chain),
            issuer_key: key(&files.issuer_key),
            token_key: key(&files.token_key),
            key_set: key(&files.key_set),
        };
        Self { client, namespace: namespace.to_owned(), keys }
    }

    fn path(&self, kind: &str) -> String {
        format!("/api/v1/namespaces/{}/{kind}/{NAME}", escape(&self.namespace))
    }

    async fn get(&self, kind: &str) -> Result<Json, String> {
        self.client
            .get(&self.path(kind))
            .await
            .map_err(|error| format!("failed to get the {kind} {NAME} in namespace {}: {error}", self.namespace))
    }

    async fn put(&self, kind: &str, resource: &Json) -> Result<Saved, String> {
        match self.client.put(&self.path(kind), resource).await {
            Ok(_) => Ok(Saved::Done),
            Err(KubeError::Conflict) => Ok(Saved::Overtaken),
            Err(error) => Err(format!("failed to update the {kind} {NAME} in namespace {}: {error}", self.namespace)),
        }
    }
}

#[async_trait]
impl CredentialStore for SecretStore {
    async fn load(&self) -> Result<Material, String> {
        let secret = self.get("secrets").await?;
        let part = |key: &String| {
            let text = secret.get("data").and_then(|data| data.get(key)).and_then(Json::as_str);
            let decoded = text.map(|text| STANDARD.decode(text)).transpose();
            decoded.map_err(|error| format!("{key} of the secret {NAME} is not base64: {error}"))
        };
        Ok(Material {
            root: part(&self.keys.root)?,
            issuer_chain: part(&self.keys.issuer_chain)?,
            issuer_key: part(&self.keys.issuer_key)?,
            token_key: part(&self.keys.token_key)?,
            key_set: part(&self.keys.key_set)?,
        })
    }

    async fn save(&self, material: &Material) -> Result<Saved, String> {
        let mut secret = self.get("secrets").await?;
        let parts = [
            (&self.keys.root, &material.root),
            (&self.keys.issuer_chain, &material.issuer_chain),
            (&self.keys.issuer_key, &material.issuer_key),
            (&self.keys.token_key, &material.token_key),
            (&self.keys.key_set, &material.key_set),
        ];
        let mut overtaken = false;
        change(&mut secret, |data| {
            for (key, content) in parts {
                let Some(content) = content else { continue };
                let content = json!(STANDARD.encode(content));
                overtaken |= data.insert(key.clone(), content.clone()).is_some_and(|stored| stored != content);
            }
        });
        if overtaken || self.put("secrets", &secret).await? == Saved::Overtaken {
            return Ok(Saved::Overtaken);
        }
        Ok(Saved::Done)
    }

    /// Whoever is faster writes the same.
    async fn publish(&self, material: &Material) -> Result<(), String> {
        let mut map = self.get("configmaps").await?;
        let before = map.get("data").cloned();
        change(&mut map, |data| {
            for (key, content) in [(&self.keys.root, &material.root), (&self.keys.key_set, &material.key_set)] {
                match content {
                    Some(content) => data.insert(key.clone(), json!(String::from_utf8_lossy(content))),
                    None => data.remove(key),
                };
            }
        });
        if map.get("data") != before.as_ref() {
            self.put("configmaps", &map).await?;
        }
        Ok(())
    }
}

/// Changes the `data` of a Secret or ConfigMap; the API leaves it out, or writes null, when there is none.
fn change(resource: &mut Json, changes: impl FnOnce(&mut Map<String, Json>)) {
    let Some(resource) = resource.as_object_mut() else { return };
    let mut data = match resource.remove("data") {
        Some(Json::Object(data)) => data,
        _ => Map::new(),
    };
    changes(&mut data);
    resource.insert("data".to_owned(), Json::Object(data));
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
