//! Material in the Secret `dapr-trust-bundle`; its public half also in the ConfigMap of that name, for everybody.
//!
//! *Source:* spec internals.md §5.4. Where the two differ, the Secret is right and the ConfigMap is corrected (the original makes
//! a new root instead, which cuts off every running sidecar).

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::{CredentialStore, Material};
use crate::kube::{KubeClient, escape};
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

    async fn put(&self, kind: &str, resource: &Json) -> Result<(), String> {
        let written = self.client.put(&self.path(kind), resource).await;
        written.map(drop).map_err(|error| format!("failed to update the {kind} {NAME}: {error}"))
    }

    /// Brings the ConfigMap in line with the public half; says nothing when it is.
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
        if map.get("data") == before.as_ref() { Ok(()) } else { self.put("configmaps", &map).await }
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
        let material = Material {
            root: part(&self.keys.root)?,
            issuer_chain: part(&self.keys.issuer_chain)?,
            issuer_key: part(&self.keys.issuer_key)?,
            token_key: part(&self.keys.token_key)?,
            key_set: part(&self.keys.key_set)?,
        };
        if material.root.is_some() {
            self.publish(&material).await?;
        }
        Ok(material)
    }

    async fn save(&self, material: &Material) -> Result<(), String> {
        let mut secret = self.get("secrets").await?;
        let parts = [
            (&self.keys.root, &material.root),
            (&self.keys.issuer_chain, &material.issuer_chain),
            (&self.keys.issuer_key, &material.issuer_key),
            (&self.keys.token_key, &material.token_key),
            (&self.keys.key_set, &material.key_set),
        ];
        change(&mut secret, |data| {
            for (key, content) in parts {
                if let Some(content) = content {
                    data.insert(key.clone(), json!(STANDARD.encode(content)));
                }
            }
        });
        self.put("secrets", &secret).await?;
        self.publish(material).await
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
