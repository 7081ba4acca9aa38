use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pillion_contract::Concurrency;
use pillion_core::error::{ErrorDetail, GrpcCode};

use super::*;

/// Remembers the keys it saw; fails every call with `failure` when there is one.
#[derive(Default)]
struct Fake {
    seen: Mutex<Vec<String>>,
    failure: Option<ErrorKind>,
    transactional: bool,
    max: Option<usize>,
}

impl Fake {
    fn call(&self, key: &str) -> Result<(), ComponentError> {
        self.seen.lock().push(key.to_owned());
        self.failure.map_or(Ok(()), |kind| Err(ComponentError::new(kind, "boom")))
    }
}

#[async_trait]
impl StateStore for Fake {
    fn capability(&self) -> StateCapability {
        StateCapability { transactional: self.transactional, ..StateCapability::default() }
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<StateItem>, ComponentError> {
        self.call(&request.key)?;
        Ok(Some(StateItem { data: Bytes::from_static(b"v"), ..StateItem::default() }))
    }

    async fn set(&self, request: &SetRequest) -> Result<(), ComponentError> {
        self.call(&request.key)
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<(), ComponentError> {
        self.call(&request.key)
    }

    fn transactional(&self) -> Option<&dyn TransactionalStore> {
        Some(self)
    }
}

#[async_trait]
impl TransactionalStore for Fake {
    async fn transact(&self, request: &TransactionRequest) -> Result<(), ComponentError> {
        for operation in &request.operations {
            match operation {
                StateOperation::Upsert(set) => self.call(&set.key)?,
                StateOperation::Delete(delete) => self.call(&delete.key)?,
            }
        }
        Ok(())
    }

    fn max_operations(&self) -> Option<usize> {
        self.max
    }
}

fn stores(fake: Fake) -> (StateStores, Arc<Fake>) {
    let fake = Arc::new(fake);
    let stores = StateStores::new("app", None);
    stores.add("s", fake.clone(), &Metadata::default()).unwrap();
    (stores, fake)
}

fn set(key: &str) -> SetItem {
    SetItem { key: key.into(), value: Bytes::from_static(b"v"), ..SetItem::default() }
}

fn delete(key: &str) -> DeleteItem {
    DeleteItem { key: key.into(), ..DeleteItem::default() }
}

#[tokio::test]
async fn components_see_prefixed_keys_and_apps_their_own() {
    let (stores, fake) = stores(Fake { transactional: true, ..Fake::default() });
    stores.get("s", "a", Consistency::Strong, BTreeMap::new()).await.unwrap().unwrap();
    stores.save("s", vec![set("b")]).await.unwrap();
    stores.save("s", vec![set("c"), set("d")]).await.unwrap();
    stores.delete("s", delete("e")).await.unwrap();
    stores.bulk_delete("s", vec![delete("f"), delete("g")]).await.unwrap();
    stores.transact("s", vec![Operation::Upsert(set("h")), Operation::Delete(delete("i"))], BTreeMap::new()).await.unwrap();
    let items = stores.bulk_get("s", &["j".into(), "k".into()], &BTreeMap::new()).await.unwrap();
    assert_eq!(items.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), ["j", "k"]);
    let expected: Vec<String> = "abcdefghijk".chars().map(|key| format!("app||{key}")).collect();
    assert_eq!(*fake.seen.lock(), expected);
}

#[tokio::test]
async fn unknown_stores_are_named_with_the_app() {
    let none = StateStores::new("app", None);
    let error = none.save("s", vec![]).await.unwrap_err();
    assert_eq!((error.spec.code, error.http, error.message.as_str()), ("ERR_STATE_STORE_NOT_CONFIGURED", 500, "state store s is not configured"));
    let (stores, _) = stores(Fake::default());
    let error = stores.get("t", "a", Consistency::default(), BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http, error.message.as_str()), ("ERR_STATE_STORE_NOT_FOUND", 400, "state store t is not found"));
    let metadata = Some(BTreeMap::from([("appID".to_owned(), "app".to_owned())]));
    assert_eq!(error.details, [ErrorDetail::ErrorInfo { reason: "DAPR_STATE_NOT_FOUND".into(), metadata }]);
}

#[tokio::test]
async fn a_key_with_the_separator_is_refused_before_the_component_is_called() {
    let (stores, fake) = stores(Fake::default());
    let error = stores.save("s", vec![set("ok"), set("a||b")]).await.unwrap_err();
    assert_eq!((error.spec.code, error.http, error.grpc), ("ERR_MALFORMED_REQUEST", 400, GrpcCode::InvalidArgument));
    assert_eq!(error.message, "api error: code = InvalidArgument desc = input key/keyPrefix 'a||b' can't contain '||'");
    assert!(matches!(error.details[0], ErrorDetail::BadRequest(_)));
    assert!(matches!(error.details[1], ErrorDetail::ResourceInfo { .. }));
    assert!(fake.seen.lock().is_empty());
}

#[tokio::test]
async fn etag_errors_have_their_own_statuses_except_in_transactions() {
    for (kind, http, grpc) in [
        (ErrorKind::ETagMismatch, 409, GrpcCode::Aborted),
        (ErrorKind::ETagInvalid, 400, GrpcCode::InvalidArgument),
        (ErrorKind::Unavailable, 500, GrpcCode::Internal),
    ] {
        let (stores, _) = stores(Fake { failure: Some(kind), transactional: true, ..Fake::default() });
        let saved = stores.save("s", vec![set("a")]).await.unwrap_err();
        assert_eq!((saved.http, saved.grpc, saved.message.as_str()), (http, grpc, "failed saving state in state store s: boom"));
        let deleted = stores.delete("s", delete("a")).await.unwrap_err();
        assert_eq!((deleted.http, deleted.grpc, deleted.message.as_str()), (http, grpc, "failed deleting state with key a: boom"));
        let transacted = stores.transact("s", vec![Operation::Upsert(set("a"))], BTreeMap::new()).await.unwrap_err();
        assert_eq!((transacted.http, transacted.message.as_str()), (500, "error while executing state transaction: boom"));
    }
}

#[tokio::test]
async fn transactions_need_a_store_that_has_them_and_respect_its_limit() {
    let (plain, _) = stores(Fake::default());
    let error = plain.transact("s", vec![], BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.message.as_str()), ("ERR_STATE_STORE_NOT_SUPPORTED", "state store s doesn't support transactions"));
    assert!(matches!(error.details[0], ErrorDetail::Help(_)));

    let (limited, fake) = stores(Fake { transactional: true, max: Some(1), ..Fake::default() });
    let operations = vec![Operation::Upsert(set("a")), Operation::Delete(delete("b"))];
    let error = limited.transact("s", operations, BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", 400));
    assert!(fake.seen.lock().is_empty());
}

#[test]
fn a_store_that_asks_for_encryption_is_refused() {
    let metadata = Metadata::new([("primaryEncryptionKey", "00")]);
    let error = StateStores::new("app", None).add("s", Arc::new(Fake::default()), &metadata).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("primaryEncryptionKey"), "{error}");
}

#[tokio::test]
async fn options_reach_a_real_store() {
    let context = pillion_contract::InitContext {
        name: "s".into(),
        component_type: "state.in-memory".into(),
        version: "v1".into(),
        metadata: Metadata::default(),
        app_id: "app".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir(),
        log: pillion_core::log::Logger::silent(),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    let store = pillion_builtin::state_in_memory::create(context).await.unwrap();
    let stores = StateStores::new("app", None);
    stores.add("s", store, &Metadata::default()).unwrap();
    let first_write = SetItem { concurrency: Concurrency::FirstWrite, ..set("k") };
    stores.save("s", vec![first_write.clone()]).await.unwrap();
    assert_eq!(stores.save("s", vec![first_write]).await.unwrap_err().http, 409);
    let etag = stores.get("s", "k", Consistency::default(), BTreeMap::new()).await.unwrap().unwrap().etag;
    stores.delete("s", DeleteItem { etag, ..delete("k") }).await.unwrap();
    assert_eq!(stores.get("s", "k", Consistency::default(), BTreeMap::new()).await.unwrap(), None);
}

#[test]
fn metadata_of_the_request_wins() {
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(merge_metadata(map(&[("a", "1"), ("b", "1")]), &map(&[("b", "2")])), map(&[("a", "1"), ("b", "2")]));
}
