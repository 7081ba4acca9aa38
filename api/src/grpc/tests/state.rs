//! State over gRPC: the calls, and the form of their errors.

use super::*;

#[tokio::test]
async fn state_goes_in_and_out() {
    let mut client = fixture(None, ApiRules::default()).await.client();
    let states = vec![item("a", b"1"), item("b", b"2")];
    client.save_state(pb::SaveStateRequest { store_name: "store".into(), states }).await.unwrap();
    let get = |key: &str| pb::GetStateRequest { store_name: "store".into(), key: key.into(), ..Default::default() };
    let found = client.get_state(get("a")).await.unwrap().into_inner();
    assert_eq!(found.data, "1");
    assert!(!found.etag.is_empty());
    assert_eq!(client.get_state(get("none")).await.unwrap().into_inner(), pb::GetStateResponse::default());

    let bulk = pb::GetBulkStateRequest {
        store_name: "store".into(),
        keys: vec!["b".into(), "none".into()],
        ..Default::default()
    };
    let items = client.get_bulk_state(bulk).await.unwrap().into_inner().items;
    assert_eq!(
        (items[0].key.as_str(), &items[0].data[..], items[1].key.as_str(), &items[1].data[..]),
        ("b", &b"2"[..], "none", &b""[..])
    );

    let step = |kind: &str, item| pb::TransactionalStateOperation { operation_type: kind.into(), request: Some(item) };
    let operations = vec![step("upsert", item("c", b"3")), step("delete", item("a", b""))];
    client
        .execute_state_transaction(pb::ExecuteStateTransactionRequest {
            store_name: "store".into(),
            operations,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(client.get_state(get("c")).await.unwrap().into_inner().data, "3");
    assert!(client.get_state(get("a")).await.unwrap().into_inner().data.is_empty());

    client
        .delete_bulk_state(pb::DeleteBulkStateRequest {
            store_name: "store".into(),
            states: vec![item("b", b""), item("c", b"")],
        })
        .await
        .unwrap();
    assert!(client.get_state(get("c")).await.unwrap().into_inner().data.is_empty());
}

#[tokio::test]
async fn state_errors_have_their_grpc_form() {
    let mut client = fixture(None, ApiRules::default()).await.client();
    let get = |store: &str, key: &str| pb::GetStateRequest {
        store_name: store.into(),
        key: key.into(),
        ..Default::default()
    };
    let status = client.get_state(get("other", "a")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "state store other is not found"));
    assert_eq!((info(&status).reason.as_str(), info(&status).metadata.len()), ("DAPR_STATE_NOT_FOUND", 0));

    let status = client.get_state(get("store", "a||b")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "input key/keyPrefix 'a||b' can't contain '||'")
    );

    let save = |item| pb::SaveStateRequest { store_name: "store".into(), states: vec![item] };
    let status = client.save_state(save(item("", b"1"))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "state key cannot be empty"));

    let etag = Some(pillion_proto::common::v1::Etag { value: "stale".into() });
    let status = client.save_state(save(StateItem { etag, ..item("a", b"1") })).await.unwrap_err();
    assert_eq!((status.code(), info(&status).reason.as_str()), (Code::Aborted, "ERR_STATE_SAVE"));

    let operations = vec![pb::TransactionalStateOperation { operation_type: "replace".into(), request: None }];
    let transaction =
        pb::ExecuteStateTransactionRequest { store_name: "store".into(), operations, ..Default::default() };
    let status = client.execute_state_transaction(transaction).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "operation type replace not supported"));
}
