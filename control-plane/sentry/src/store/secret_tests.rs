//! The Secret and the ConfigMap on a fake API server.

use std::path::Path;

use super::*;
use crate::kube::fake::FakeKube;

const SECRET: &str = "/api/v1/namespaces/system/secrets/dapr-trust-bundle";
const MAP: &str = "/api/v1/namespaces/system/configmaps/dapr-trust-bundle";

async fn store(fake: &FakeKube) -> SecretStore {
    let files = CredentialFiles::of(Path::new("/credentials"));
    SecretStore::new(fake.client().await, "system", &files)
}

fn material() -> Material {
    Material {
        root: Some(b"root".to_vec()),
        issuer_chain: Some(b"chain".to_vec()),
        issuer_key: Some(b"key".to_vec()),
        token_key: Some(b"token".to_vec()),
        key_set: Some(b"{}".to_vec()),
    }
}

#[tokio::test]
async fn material_comes_back_and_only_its_public_half_is_published() {
    let empty = json!({"metadata": {"resourceVersion": "7"}, "data": null});
    let fake = FakeKube::default().with(SECRET, empty.clone()).with(MAP, empty);
    let store = store(&fake).await;
    assert!(store.load().await.unwrap() == Material::default());
    assert!(fake.writes().is_empty());
    assert_eq!(store.save(&material()).await.unwrap(), Saved::Done);
    store.publish(&material()).await.unwrap();
    assert_eq!(fake.get(MAP)["data"], json!({"ca.crt": "root", "jwks.json": "{}"}));
    assert_eq!(fake.get(SECRET)["metadata"]["resourceVersion"], "7");
    assert!(store.load().await.unwrap() == material());
    assert_eq!(fake.writes(), [SECRET, MAP]);
}

#[tokio::test]
async fn a_config_map_that_differs_is_corrected() {
    let fake = FakeKube::default()
        .with(SECRET, json!({"data": {"ca.crt": STANDARD.encode("new")}}))
        .with(MAP, json!({"data": {"ca.crt": "old", "other": "stays"}}));
    let store = store(&fake).await;
    let loaded = store.load().await.unwrap();
    assert!(fake.writes().is_empty(), "what is not verified is not published");
    store.publish(&loaded).await.unwrap();
    assert_eq!(fake.get(MAP)["data"], json!({"ca.crt": "new", "other": "stays"}));
}

#[tokio::test]
async fn what_somebody_else_stored_meanwhile_stays() {
    let stored = json!({"data": {"ca.crt": STANDARD.encode("theirs")}});
    let fake = FakeKube::default().with(SECRET, stored.clone()).with(MAP, json!({}));
    assert_eq!(store(&fake).await.save(&material()).await.unwrap(), Saved::Overtaken);
    assert_eq!((fake.get(SECRET), fake.writes()), (stored, Vec::new()));
}

#[tokio::test]
async fn a_missing_secret_is_told() {
    let error = store(&FakeKube::default()).await.load().await.err().unwrap();
    assert_eq!(error, "failed to get the secrets dapr-trust-bundle in namespace system: not found");
}
