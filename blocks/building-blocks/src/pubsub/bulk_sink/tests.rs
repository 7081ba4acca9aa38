//! Envelopes and answers of bulk delivery, as tables.

use std::sync::Arc;

use serde_json::json;

use super::*;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn item(entry_id: &str, cloud_event: Value, raw: Option<&'static str>) -> Arc<BulkItem> {
    let cloud_event = cloud_event.as_object().unwrap().clone();
    Arc::new(BulkItem {
        entry_id: entry_id.into(),
        cloud_event,
        raw: raw.map(Into::into),
        content_type: None,
        metadata: BTreeMap::new(),
    })
}

fn bulk(items: Vec<Arc<BulkItem>>) -> BulkEvent {
    let metadata = BTreeMap::from([("pubsubName".to_owned(), "bus".to_owned())]);
    BulkEvent { id: "id".into(), topic: "orders".into(), pubsub_name: "bus".into(), path: "/x".into(), metadata, items }
}

#[test]
fn http_apps_get_one_envelope() {
    let event = json!({"id": "1", "data": {"n": 1}, "traceid": TRACE});
    let bulk = bulk(vec![item("a", event.clone(), None), item("b", json!({}), Some("raw"))]);
    let expected = json!({
        "id": "id", "type": "com.dapr.event.sent.bulk", "topic": "orders", "pubsubname": "bus", "metadata": {"pubsubName": "bus"},
        "entries": [
            {"entryId": "a", "event": event, "metadata": {}, "contentType": "application/cloudevents+json"},
            {"entryId": "b", "event": "cmF3", "metadata": {}, "contentType": "application/octet-stream"},
        ],
    });
    assert_eq!(serde_json::to_value(envelope_json(&bulk)).unwrap(), expected);
    assert_eq!(headers(&bulk, TraceContext::parse(TRACE))["traceparent"], TRACE);
    assert_eq!(headers(&bulk, None)["pubsubname"], "bus");
}

#[test]
fn grpc_apps_get_events_and_bytes_and_what_cannot_be_sent_is_told() {
    let text = json!({"id": "1", "source": "s", "type": "t", "specversion": "1.0", "datacontenttype": "text/plain", "data": "x", "more": 1});
    let broken = json!({"id": "2", "datacontenttype": "text/plain", "data": {"no": "text"}});
    let (message, unreadable) =
        envelope_proto(&bulk(vec![item("a", broken, None), item("b", text, None), item("c", json!({}), Some("raw"))]));
    assert_eq!(unreadable.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0]);
    assert_eq!(
        (message.r#type.as_str(), message.path.as_str(), message.entries.len()),
        ("com.dapr.event.sent.bulk", "/x", 2)
    );
    let Some(EntryEvent::CloudEvent(event)) = &message.entries[0].event else { panic!("{message:?}") };
    assert_eq!((event.id.as_str(), &event.data[..]), ("1", &b"x"[..]));
    assert_eq!(event.extensions.as_ref().unwrap().fields.keys().collect::<Vec<_>>(), ["more"]);
    assert_eq!(message.entries[1].event, Some(EntryEvent::Bytes("raw".into())));
}

#[test]
fn events_are_judged_by_their_entry_id() {
    let bulk = bulk(["a", "b", "c", "d", "e"].map(|id| item(id, json!({}), None)).to_vec());
    let body = br#"{"statuses":[{"entryId":"a","status":"SUCCESS"},{"entryId":"b","status":"DROP"},{"entryId":"c"},
        {"entryId":"d","status":"WHAT"},{"entryId":"stranger","status":"SUCCESS"}]} trailing"#;
    let results = judge(&Logger::silent(), &bulk, parse_answer(body).unwrap());
    let kinds: Vec<&str> = results
        .iter()
        .map(|result| match result {
            DeliveryResult::Success => "success",
            DeliveryResult::Drop | DeliveryResult::Untaken | DeliveryResult::Ignored => "drop",
            DeliveryResult::Retry(failure) => failure.message.split(' ').next().unwrap_or_default(),
        })
        .collect();
    assert_eq!(kinds, ["success", "drop", "RETRY", "unknown", "response"]);
    for body in ["", "<html>", "1"] {
        assert!(parse_answer(body.as_bytes()).is_err(), "{body}");
    }
    assert!(parse_answer(b"{}").unwrap().is_empty());
}
