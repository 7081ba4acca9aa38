//! State stores that encrypt what they store. The rows are read through a second component on the same file, which does not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pillion_proto::common::v1::StateItem;
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_proto::runtime::v1::{
    ExecuteStateTransactionRequest, GetStateRequest, SaveStateRequest, TransactionalStateOperation,
};
use pillion_testkit::{Binary, ResourceDir, Sidecar, SidecarOptions, eventually};
use serde_json::json;

use crate::fixture::unique;

const FIRST: &str = "000102030405060708090a0b0c0d0e0f";
const SECOND: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff101112131415161718191a1b1c1d1e1f";
const THIRD: &str = "ababababababababababababababababababababababababa";

struct Stores {
    _data: ResourceDir,
    dir: ResourceDir,
    sidecar: Sidecar,
}

fn secrets(data: &Path) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: vault}}\nspec:\n  type: secretstores.local.file\n  \
         version: v1\n  metadata: [{{name: secretsFile, value: '{}'}}]\n",
        data.join("secrets.json").display()
    )
}

fn store(name: &str, data: &Path, keys: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: state.sqlite\n  version: v1\n  \
         metadata:\n  - {{name: connectionString, value: '{}'}}\n{keys}auth: {{secretStore: vault}}\n",
        data.join("state.db").display()
    )
}

fn key(field: &str, secret: &str) -> String {
    format!("  - {{name: {field}, secretKeyRef: {{name: {secret}, key: {secret}}}}}\n")
}

impl Stores {
    /// A store `secret` that encrypts, and a store `plain` with the same rows.
    async fn start() -> Self {
        let keys = json!({"first": FIRST, "second": SECOND, "broken": THIRD}).to_string();
        let data = ResourceDir::new().unwrap().with("secrets.json", &keys).unwrap();
        let dir = ResourceDir::new().unwrap().with("1-secrets.yaml", &secrets(data.path())).unwrap();
        let dir = dir.with("2-plain.yaml", &store("plain", data.path(), "")).unwrap();
        let keys = key("primaryEncryptionKey", "first");
        let dir = dir.with("3-secret.yaml", &store("secret", data.path(), &keys)).unwrap();
        let sidecar = SidecarOptions::new(&unique("encryption")).resources(dir.path()).start().await.unwrap();
        Self { _data: data, dir, sidecar }
    }

    async fn save(&self, store: &str, body: serde_json::Value) -> u16 {
        self.sidecar.post(&format!("/v1.0/state/{store}"), &body.to_string()).await.unwrap().status.as_u16()
    }

    async fn get(&self, store: &str, key: &str) -> String {
        self.sidecar.get(&format!("/v1.0/state/{store}/{key}")).await.unwrap().text()
    }

    async fn client(&self) -> DaprClient<tonic::transport::Channel> {
        DaprClient::connect(format!("http://127.0.0.1:{}", self.sidecar.grpc)).await.unwrap()
    }
}

#[tokio::test]
async fn values_are_encrypted_at_rest_and_come_back() {
    let stores = Stores::start().await;
    assert_eq!(stores.save("secret", json!([{"key": "a", "value": "value1"}, {"key": "b", "value": 12}])).await, 204);
    assert_eq!(stores.get("secret", "a").await, "value1");
    assert_eq!(stores.get("secret", "b").await, "12");
    let row = stores.get("plain", "a").await;
    let (text, name) = row.rsplit_once("||").unwrap();
    // 12 bytes of nonce, 6 of the value, 16 of the tag.
    assert_eq!((name, text.len()), ("first", 48), "{row}");
    let transaction = json!({"operations": [
        {"operation": "upsert", "request": {"key": "a", "value": "value2"}},
        {"operation": "delete", "request": {"key": "b"}},
    ]});
    let reply = stores.sidecar.post("/v1.0/state/secret/transaction", &transaction.to_string()).await.unwrap();
    assert_eq!(reply.status, 204);
    assert_eq!((stores.get("secret", "a").await, stores.get("secret", "b").await), ("value2".into(), String::new()));
    assert!(stores.get("plain", "a").await.ends_with("||first"));
    assert!(stores.sidecar.log().contains("Automatic encryption enabled for state store secret"));
}

#[tokio::test]
async fn documents_stay_json_and_stand_in_bulk_answers() {
    if !Binary::find().unwrap().is_ours() {
        return; // stores Go's map[n:1], and gives an empty answer to a bulk get of texts
    }
    let stores = Stores::start().await;
    stores
        .save("secret", json!([{"key": "a", "value": {"n": [1, 12345678901u64]}}, {"key": "b", "value": "te\"xt"}]))
        .await;
    assert_eq!(stores.get("secret", "a").await, r#"{"n":[1,12345678901]}"#);
    stores.save("plain", json!([{"key": "c", "value": "in clear"}])).await;
    let reply = stores.sidecar.post("/v1.0/state/secret/bulk", r#"{"keys":["a","b","c","d"]}"#).await.unwrap();
    let found = reply.json();
    assert_eq!((&found[0]["data"], &found[1]["data"]), (&json!({"n": [1, 12345678901u64]}), &json!("te\"xt")));
    let wanted = "could not decrypt data for state store secret: encryption key name not found on record";
    assert_eq!((found[2].get("data"), &found[2]["error"]), (None, &json!(wanted)));
    assert_eq!(found[3], json!({"key": "d"}));
}

#[tokio::test]
async fn bytes_of_grpc_are_encrypted_as_they_are() {
    let stores = Stores::start().await;
    let mut client = stores.client().await;
    let item = |key: &str, value: &'static [u8]| StateItem {
        key: key.to_owned(),
        value: value.into(),
        ..StateItem::default()
    };
    let save = SaveStateRequest { store_name: "secret".to_owned(), states: vec![item("a", b"\x00\x01\"")] };
    client.save_state(save).await.unwrap();
    let get = |store: &str, key: &str| GetStateRequest {
        store_name: store.to_owned(),
        key: key.to_owned(),
        ..GetStateRequest::default()
    };
    assert_eq!(client.get_state(get("secret", "a")).await.unwrap().into_inner().data, &b"\x00\x01\""[..]);
    assert!(client.get_state(get("plain", "a")).await.unwrap().into_inner().data.ends_with(b"||first"));
    assert!(client.get_state(get("secret", "none")).await.unwrap().into_inner().data.is_empty());
    if !Binary::find().unwrap().is_ours() {
        return; // stores Go's [50 51]
    }
    let operation =
        TransactionalStateOperation { operation_type: "upsert".to_owned(), request: Some(item("b", b"23")) };
    let transaction = ExecuteStateTransactionRequest {
        store_name: "secret".to_owned(),
        operations: vec![operation],
        ..ExecuteStateTransactionRequest::default()
    };
    client.execute_state_transaction(transaction).await.unwrap();
    assert_eq!(client.get_state(get("secret", "b")).await.unwrap().into_inner().data, "23");
}

#[tokio::test]
async fn what_cannot_be_decrypted_is_an_error() {
    let stores = Stores::start().await;
    stores.save("plain", json!([{"key": "clear", "value": "x||"}])).await;
    // In the store it has its quotes: `"x||"`, whose key would be called `"`.
    let reply = stores.sidecar.get("/v1.0/state/secret/clear").await;
    if !Binary::find().unwrap().is_ours() {
        return; // the original panics for an unknown key
    }
    let reply = reply.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_STATE_GET".to_owned()));
    assert!(reply.text().contains("could not decrypt data for state store secret"), "{}", reply.text());
}

#[tokio::test]
async fn keys_rotate_while_the_sidecar_runs() {
    if !Binary::find().unwrap().is_ours() {
        return; // keeps the keys it started with
    }
    let stores = Stores::start().await;
    stores.save("secret", json!([{"key": "old", "value": "1st"}])).await;
    let keys = key("primaryEncryptionKey", "second") + &key("secondaryEncryptionKey", "first");
    let text = store("secret", stores._data.path(), &keys);
    fs::write(stores.dir.path().join("3-secret.yaml"), text).unwrap();
    eventually("the second key encrypts", Duration::from_secs(10), || async {
        stores.save("secret", json!([{"key": "new", "value": "2nd"}])).await;
        stores.get("plain", "new").await.ends_with("||second").then_some(())
    })
    .await;
    assert_eq!((stores.get("secret", "old").await, stores.get("secret", "new").await), ("1st".into(), "2nd".into()));
}

#[tokio::test]
async fn a_store_whose_key_cannot_be_used_does_not_start() {
    let data = ResourceDir::new().unwrap().with("secrets.json", &json!({"broken": THIRD}).to_string()).unwrap();
    let dir = ResourceDir::new().unwrap().with("1-secrets.yaml", &secrets(data.path())).unwrap();
    let text = store("secret", data.path(), &key("primaryEncryptionKey", "broken"));
    let dir = dir.with("2-secret.yaml", &text).unwrap();
    let mut sidecar = SidecarOptions::new(&unique("encryption")).resources(dir.path()).spawn().unwrap();
    let status = sidecar.wait_for_exit(Duration::from_secs(20)).await.expect("it ends");
    assert!(!status.success());
    let log = sidecar.log();
    assert!(!log.contains(THIRD), "the key is in the log: {log}");
    if Binary::find().unwrap().is_ours() {
        assert!(log.contains("32, 48 or 64 hexadecimal digits"), "{log}");
    }
}
