//! A store with encryption keys, as the block and as the component see it.

use pillion_contract::{Querier, QueryRequest};
use pillion_resources::types::NameValue;

use super::*;

/// Keeps one value, whatever its key.
#[derive(Default)]
struct One(Mutex<Option<SetRequest>>);

#[async_trait]
impl StateStore for One {
    fn capability(&self) -> StateCapability {
        StateCapability { transactional: true, query: true, ..StateCapability::default() }
    }

    async fn get(&self, _: &GetRequest) -> Result<Option<StateItem>, ComponentError> {
        Ok(self.0.lock().as_ref().map(|set| StateItem { data: set.value.clone(), ..StateItem::default() }))
    }

    async fn set(&self, request: &SetRequest) -> Result<(), ComponentError> {
        *self.0.lock() = Some(request.clone());
        Ok(())
    }

    async fn delete(&self, _: &DeleteRequest) -> Result<(), ComponentError> {
        Ok(())
    }

    fn transactional(&self) -> Option<&dyn TransactionalStore> {
        Some(self)
    }

    fn querier(&self) -> Option<&dyn Querier> {
        Some(self)
    }
}

#[async_trait]
impl TransactionalStore for One {
    async fn transact(&self, request: &TransactionRequest) -> Result<(), ComponentError> {
        for operation in &request.operations {
            if let StateOperation::Upsert(set) = operation {
                self.set(set).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Querier for One {
    async fn query(&self, _: &QueryRequest) -> Result<QueryResponse, ComponentError> {
        panic!("an encrypted store is not searched");
    }
}

fn encrypted() -> (StateStores, Arc<One>) {
    let metadata = Metadata::new([("primaryEncryptionKey", "000102030405060708090a0b0c0d0e0f")]);
    let item = NameValue {
        name: "primaryEncryptionKey".to_owned(),
        secret_key_ref: Some(("k".to_owned(), "k".to_owned())),
        ..NameValue::default()
    };
    let (stores, one) = (StateStores::new("app", None, none()), Arc::new(One::default()));
    stores.add("s", one.clone(), &metadata, &[item]).unwrap();
    (stores, one)
}

#[tokio::test]
async fn values_are_opened_as_they_were_closed() {
    let (stores, one) = encrypted();
    // (value, whether HTTP brought it, what comes back)
    let cases: [(&'static [u8], bool, &[u8]); 5] = [
        (b"\"a\\n\\u00e9\"", true, "a\né".as_bytes()),
        (b"{\"a\":[1]}", true, b"{\"a\":[1]}"),
        (b"null", true, b"null"),
        (b"\"a\"", false, b"\"a\""),
        (b"\x00\xff", false, b"\x00\xff"),
    ];
    for (value, is_document, wanted) in cases {
        for in_transaction in [false, true] {
            let value = Bytes::from_static(value);
            let item = SetItem { value, is_document, value_is_json: is_document, ..set("k") };
            if in_transaction {
                stores.transact("s", vec![Operation::Upsert(item)], BTreeMap::new(), CallTrace::default).await.unwrap();
            } else {
                stores.save("s", vec![item]).await.unwrap();
            }
            let stored = one.0.lock().clone().unwrap();
            assert!(stored.value.ends_with(b"||k") && !stored.value_is_json, "{stored:?}");
            let found = stores.get("s", "k", Consistency::default(), BTreeMap::new()).await.unwrap().unwrap();
            assert_eq!(found.data, wanted);
            let found = stores.bulk_get("s", &["k".to_owned()], &BTreeMap::new()).await.unwrap();
            assert_eq!(found[0].item.as_ref().unwrap().data, wanted);
        }
    }
}

#[tokio::test]
async fn what_is_in_clear_is_an_error_of_its_key() {
    let (stores, one) = encrypted();
    *one.0.lock() = Some(SetRequest { value: Bytes::from_static(b"clear"), ..SetRequest::default() });
    let cause = "could not decrypt data for state store s: encryption key name not found on record";
    let error = stores.get("s", "k", Consistency::default(), BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_STATE_GET", 500));
    assert_eq!(error.message, format!("fail to get k from state store s: {cause}"));
    let found = stores.bulk_get("s", &["k".to_owned()], &BTreeMap::new()).await.unwrap();
    assert_eq!((found[0].item.is_none(), found[0].error.as_deref()), (true, Some(cause)));
}

#[tokio::test]
async fn queries_are_refused() {
    let error = encrypted().0.query("s", "{}", BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.spec.code, error.http), ("ERR_STATE_QUERY", 500));
    assert!(error.message.ends_with("cannot query encrypted store"), "{}", error.message);
}
