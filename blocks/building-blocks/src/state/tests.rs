use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pillion_contract::{
    Concurrency, DeleteRequest, ErrorKind, SetRequest, StateOperation, TransactionRequest, TransactionalStore,
};
use pillion_core::error::{ErrorDetail, GrpcCode};
use pillion_core::log::Logger;
use pillion_resources::types::{CircuitBreakerSpec, ComponentPolicyNames, PolicyNames, Resiliency, RetrySpec};

use super::*;

mod encrypted;

/// Remembers the keys it saw; fails every call with `failure` when there is one.
#[derive(Default)]
struct Fake {
    seen: Mutex<Vec<String>>,
    failure: Option<ErrorKind>,
    transactional: bool,
    max: Option<usize>,
    /// Failures of a key before it succeeds.
    flaky: Mutex<HashMap<String, u32>>,
    /// Calls do not come back.
    stuck: bool,
}

impl Fake {
    fn call(&self, key: &str) -> Result<(), ComponentError> {
        self.seen.lock().push(key.to_owned());
        if let Some(left) = self.flaky.lock().get_mut(key).filter(|left| **left > 0) {
            *left -= 1;
            return Err(ComponentError::new(ErrorKind::Unavailable, "not now"));
        }
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
        if self.stuck {
            std::future::pending::<()>().await;
        }
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

    async fn max_operations(&self) -> Option<usize> {
        self.max
    }
}

fn none() -> Arc<Policies> {
    Arc::new(Policies::none(&Logger::silent()))
}

fn stores(fake: Fake) -> (StateStores, Arc<Fake>) {
    let fake = Arc::new(fake);
    let stores = StateStores::new("app", None, none());
    stores.add("s", fake.clone(), &Metadata::default(), &[]).unwrap();
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
    stores
        .transact(
            "s",
            vec![Operation::Upsert(set("h")), Operation::Delete(delete("i"))],
            BTreeMap::new(),
            CallTrace::default,
        )
        .await
        .unwrap();
    let items = stores.bulk_get("s", &["j".into(), "k".into()], &BTreeMap::new()).await.unwrap();
    assert_eq!(items.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), ["j", "k"]);
    let expected: Vec<String> = "abcdefghijk".chars().map(|key| format!("app||{key}")).collect();
    assert_eq!(*fake.seen.lock(), expected);
}

#[tokio::test]
async fn unknown_stores_are_named_with_the_app() {
    let none = StateStores::new("app", None, none());
    let error = none.save("s", vec![]).await.unwrap_err();
    assert_eq!(
        (error.spec.code, error.http, error.message.as_str()),
        ("ERR_STATE_STORE_NOT_CONFIGURED", 500, "state store s is not configured")
    );
    let (stores, _) = stores(Fake::default());
    let error = stores.get("t", "a", Consistency::default(), BTreeMap::new()).await.unwrap_err();
    assert_eq!(
        (error.spec.code, error.http, error.message.as_str()),
        ("ERR_STATE_STORE_NOT_FOUND", 400, "state store t is not found")
    );
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
        assert_eq!(
            (saved.http, saved.grpc, saved.message.as_str()),
            (http, grpc, "failed saving state in state store s: boom")
        );
        let deleted = stores.delete("s", delete("a")).await.unwrap_err();
        assert_eq!(
            (deleted.http, deleted.grpc, deleted.message.as_str()),
            (http, grpc, "failed deleting state with key a: boom")
        );
        let transacted = stores
            .transact("s", vec![Operation::Upsert(set("a"))], BTreeMap::new(), CallTrace::default)
            .await
            .unwrap_err();
        assert_eq!(
            (transacted.http, transacted.message.as_str()),
            (500, "error while executing state transaction: boom")
        );
    }
}

#[tokio::test]
async fn transactions_need_a_store_that_has_them_and_respect_its_limit() {
    let (plain, _) = stores(Fake::default());
    let error = plain.transact("s", vec![], BTreeMap::new(), CallTrace::default).await.unwrap_err();
    assert_eq!(
        (error.spec.code, error.message.as_str()),
        ("ERR_STATE_STORE_NOT_SUPPORTED", "state store s doesn't support transactions")
    );
    assert!(matches!(error.details[0], ErrorDetail::Help(_)));

    let (limited, fake) = stores(Fake { transactional: true, max: Some(1), ..Fake::default() });
    let operations = vec![Operation::Upsert(set("a")), Operation::Delete(delete("b"))];
    let error = limited.transact("s", operations, BTreeMap::new(), CallTrace::default).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", 400));
    assert!(fake.seen.lock().is_empty());
}

#[test]
fn a_store_with_a_key_no_secret_names_is_refused() {
    let metadata = Metadata::new([("primaryEncryptionKey", "00")]);
    let error = StateStores::new("app", None, none()).add("s", Arc::new(Fake::default()), &metadata, &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
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
    let stores = StateStores::new("app", None, none());
    stores.add("s", store, &Metadata::default(), &[]).unwrap();
    let first_write = SetItem { concurrency: Concurrency::FirstWrite, ..set("k") };
    stores.save("s", vec![first_write.clone()]).await.unwrap();
    assert_eq!(stores.save("s", vec![first_write]).await.unwrap_err().http, 409);
    let etag = stores.get("s", "k", Consistency::default(), BTreeMap::new()).await.unwrap().unwrap().etag;
    stores.delete("s", DeleteItem { etag, ..delete("k") }).await.unwrap();
    assert_eq!(stores.get("s", "k", Consistency::default(), BTreeMap::new()).await.unwrap(), None);
}

#[test]
fn metadata_of_the_request_wins() {
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(merge_metadata(map(&[("a", "1"), ("b", "1")]), &map(&[("b", "2")])), map(&[("a", "1"), ("b", "2")]));
}

/// A store `s` with a policy of the named parts, which are `1s`, `twice` and `second`.
fn guarded_stores(fake: Fake, timeout: &str, retry: &str, breaker: &str) -> (StateStores, Arc<Fake>) {
    let mut resource = Resiliency { name: "r".into(), ..Resiliency::default() };
    resource.timeouts.insert("1s".into(), "1s".into());
    resource
        .retries
        .insert("twice".into(), RetrySpec { duration: "1s".into(), max_retries: Some(2), ..RetrySpec::default() });
    let spec = CircuitBreakerSpec {
        trip: "consecutiveFailures >= 2".into(),
        timeout: "30s".into(),
        ..CircuitBreakerSpec::default()
    };
    resource.circuit_breakers.insert("second".into(), spec);
    let outbound = PolicyNames {
        timeout: timeout.into(),
        retry: retry.into(),
        circuit_breaker: breaker.into(),
        ..PolicyNames::default()
    };
    resource.components.insert("s".into(), ComponentPolicyNames { outbound, ..ComponentPolicyNames::default() });
    let fake = Arc::new(fake);
    let stores = StateStores::new("app", None, Arc::new(Policies::compile(&[resource], &Logger::silent())));
    stores.add("s", fake.clone(), &Metadata::default(), &[]).unwrap();
    (stores, fake)
}

#[tokio::test(start_paused = true)]
async fn calls_are_retried_as_the_policy_says() {
    let flaky = Mutex::new(HashMap::from([("app||a".to_owned(), 2), ("app||b".to_owned(), 3)]));
    let (stores, fake) = guarded_stores(Fake { flaky, ..Fake::default() }, "", "twice", "");
    assert!(stores.get("s", "a", Consistency::default(), BTreeMap::new()).await.unwrap().is_some());
    assert_eq!(fake.seen.lock().len(), 3);
    let error = stores.save("s", vec![set("b")]).await.unwrap_err();
    assert_eq!(
        (error.spec.code, error.message.as_str()),
        ("ERR_STATE_SAVE", "failed saving state in state store s: not now")
    );
    assert_eq!(fake.seen.lock().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_stale_etag_is_not_retried() {
    let (stores, fake) =
        guarded_stores(Fake { failure: Some(ErrorKind::ETagMismatch), ..Fake::default() }, "", "twice", "");
    assert_eq!(stores.delete("s", delete("a")).await.unwrap_err().http, 409);
    assert_eq!(fake.seen.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_repeats_only_the_items_that_failed_when_etags_are_at_stake() {
    let flaky = Mutex::new(HashMap::from([("app||b".to_owned(), 1)]));
    let (stores, fake) = guarded_stores(Fake { flaky, ..Fake::default() }, "", "twice", "");
    let with_etag = |key| SetItem { etag: Some("1".into()), ..set(key) };
    stores.save("s", vec![with_etag("a"), with_etag("b"), with_etag("c")]).await.unwrap();
    assert_eq!(*fake.seen.lock(), ["app||a", "app||b", "app||c", "app||b"]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_store_times_out_and_an_open_breaker_keeps_calls_away() {
    let (stores, fake) = guarded_stores(Fake { stuck: true, ..Fake::default() }, "1s", "", "second");
    for text in ["context deadline exceeded", "context deadline exceeded", "circuit breaker is open"] {
        let error = stores.get("s", "a", Consistency::default(), BTreeMap::new()).await.unwrap_err();
        assert_eq!(error.message, format!("fail to get a from state store s: {text}"));
    }
    assert_eq!(fake.seen.lock().len(), 2);
}
