use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::state::{CallTrace, DeleteItem, Operation, SetItem};

mod relaying;

fn item(key: &str, value: &str, metadata: &[(&str, &str)]) -> SetItem {
    SetItem {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        value_is_json: true,
        is_document: true,
        metadata: metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..SetItem::default()
    }
}

fn event(payload: &SetItem, attributes: &SetItem) -> Value {
    let trace = CallTrace { parent: "00-1-2-01".to_owned(), state: "a=b".to_owned() };
    let announcement = Announcement {
        id: "outbox-1",
        app_id: "app",
        pubsub_name: "bus",
        payload,
        attributes: &attributes.metadata,
        trace: &trace,
    };
    serde_json::from_slice(&announcement.to_event().unwrap()).unwrap()
}

#[test]
fn settings_need_both_names() {
    let of = |pairs: &[(&str, &str)]| Settings::of(&Metadata::new(pairs.iter().copied()));
    let both = [("outboxPublishPubsub", "bus"), ("outboxPublishTopic", "orders")];
    assert!(
        of(&both[..1]).is_none() && of(&both[1..]).is_none() && of(&[("outboxPublishPubsub", ""), both[1]]).is_none()
    );
    let settings = of(&both).unwrap();
    assert_eq!((settings.outbox_pubsub.as_str(), settings.discard_when_missing_state), ("bus", false));
    let settings =
        of(&[both[0], both[1], ("outboxPubsub", "inner"), ("outboxDiscardWhenMissingState", "Yes")]).unwrap();
    assert_eq!((settings.outbox_pubsub.as_str(), settings.discard_when_missing_state), ("inner", true));
}

#[test]
fn projections_leave_the_transaction_wherever_they_stand() {
    let projection = |key: &str, value: &str| Operation::Upsert(item(key, value, &[("outbox.projection", "true")]));
    let (kept, projections) = split(vec![
        projection("a", "1"),
        projection("a", "2"),
        Operation::Upsert(item("a", "3", &[])),
        Operation::Upsert(item("b", "4", &[("outbox.projection", "no")])),
        projection("c", "5"),
        Operation::Delete(DeleteItem { key: "d".to_owned(), ..DeleteItem::default() }),
    ]);
    assert_eq!(kept.iter().map(Operation::key).collect::<Vec<_>>(), ["a", "b", "d"]);
    assert_eq!((projections.len(), &projections["a"].value[..]), (2, &b"2"[..]));
}

#[test]
fn markers_are_new_each_time_and_hold_what_the_original_writes() {
    let marker = marker();
    assert!(marker.key.starts_with("outbox-") && marker.key.len() == "outbox-".len() + 36);
    assert_ne!(marker.key, super::marker().key);
    assert_eq!((&marker.value[..], marker.value_is_json), (&b"\"0\""[..], true));
}

#[test]
fn an_event_has_the_fields_of_the_original() {
    let mut event = event(&item("1", "\"2\"", &[]), &item("1", "\"2\"", &[]));
    assert!(event.as_object_mut().unwrap().remove("time").is_some());
    let wanted = json!({
        "id": "outbox-1", "specversion": "1.0", "datacontenttype": "text/plain", "source": "app",
        "type": "com.dapr.event.sent", "topic": "", "pubsubname": "bus", "data": "2",
        "traceid": "00-1-2-01", "traceparent": "00-1-2-01", "tracestate": "a=b",
    });
    assert_eq!(event, wanted);
}

#[test]
fn data_follows_the_content_type() {
    let data = |payload: &SetItem| {
        let event = event(payload, &item("1", "0", &[]));
        (event.get("data").or_else(|| event.get("data_base64")).cloned(), event["datacontenttype"].clone())
    };
    let json_type = [("contentType", "application/json")];
    assert_eq!(
        data(&item("1", r#"{"b":1,"a":2}"#, &json_type)),
        (Some(json!({"a": 2, "b": 1})), json!("application/json"))
    );
    assert_eq!(data(&item("1", "\"text\"", &json_type)).0, Some(json!("text")));
    assert_eq!(data(&item("1", r#"{"a":1}"#, &[])), (Some(json!(r#"{"a":1}"#)), json!("text/plain")));
    assert_eq!(data(&item("1", "12", &[])).0, Some(json!("12")));
    let bytes = SetItem { is_document: false, value_is_json: false, ..item("1", "\"2\"", &[]) };
    assert_eq!(data(&bytes).0, Some(json!("\"2\"")));
    let octets = [("contentType", "application/octet-stream")];
    assert_eq!(data(&item("1", "\"text\"", &octets)).0, Some(json!("dGV4dA==")));
    let beside = SetItem { content_type: Some("application/json".to_owned()), ..item("1", "[1]", &octets) };
    assert_eq!(data(&beside).0, Some(json!([1])));
}

#[test]
fn metadata_of_the_written_item_are_attributes_of_the_event() {
    let written = item(
        "1",
        "0",
        &[("outbox.cloudevent.myapp", "m"), ("data", "a"), ("id", "b"), ("source", "s"), ("ttlInSeconds", "9")],
    );
    let event = event(&item("1", "\"3\"", &[("outbox.projection", "true"), ("x", "y")]), &written);
    assert_eq!((&event["data"], &event["id"]), (&json!("3"), &json!("outbox-1")));
    assert_eq!((&event["outbox.cloudevent.myapp"], &event["source"]), (&json!("m"), &json!("s")));
    assert_eq!(event["ttlInSeconds"], "9");
    assert!(event.get("x").is_none() && event.get("outbox.projection").is_none());
}
