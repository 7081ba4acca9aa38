//! Details of a gRPC app's status in the JSON mapping of Protocol Buffers.
//!
//! *Neighbours:* [`super`] puts them into the answer of an HTTP caller. *Invariant:* as in the original, only the types of
//! `google/rpc/error_details.proto` have a JSON form here.

use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc;
use serde_json::{Map, Value, json};

/// A detail as an object with its type; `None` for a type that is not known here, or for bytes that are not of the type.
pub(super) fn to_json(any: &Any) -> Option<Value> {
    let fields = match any.type_name().strip_prefix("google.rpc.")? {
        "ErrorInfo" => {
            let info: rpc::ErrorInfo = decode(any)?;
            let metadata: Map<String, Value> =
                info.metadata.into_iter().map(|(key, text)| (key, text.into())).collect();
            json!({"reason": info.reason, "domain": info.domain, "metadata": metadata})
        }
        "RetryInfo" => {
            let info: rpc::RetryInfo = decode(any)?;
            json!({"retryDelay": info.retry_delay.map(duration)})
        }
        "DebugInfo" => {
            let info: rpc::DebugInfo = decode(any)?;
            json!({"stackEntries": info.stack_entries, "detail": info.detail})
        }
        "QuotaFailure" => {
            let failure: rpc::QuotaFailure = decode(any)?;
            let violation = |one: rpc::quota_failure::Violation| {
                filled(json!({"subject": one.subject, "description": one.description}))
            };
            json!({"violations": failure.violations.into_iter().map(violation).collect::<Vec<_>>()})
        }
        "PreconditionFailure" => {
            let failure: rpc::PreconditionFailure = decode(any)?;
            let violation = |one: rpc::precondition_failure::Violation| {
                filled(json!({"type": one.r#type, "subject": one.subject, "description": one.description}))
            };
            json!({"violations": failure.violations.into_iter().map(violation).collect::<Vec<_>>()})
        }
        "BadRequest" => {
            let bad: rpc::BadRequest = decode(any)?;
            json!({"fieldViolations": bad.field_violations.into_iter().map(field_violation).collect::<Vec<_>>()})
        }
        "RequestInfo" => {
            let info: rpc::RequestInfo = decode(any)?;
            json!({"requestId": info.request_id, "servingData": info.serving_data})
        }
        "ResourceInfo" => {
            let info: rpc::ResourceInfo = decode(any)?;
            json!({
                "resourceType": info.resource_type, "resourceName": info.resource_name, "owner": info.owner,
                "description": info.description,
            })
        }
        "Help" => {
            let help: rpc::Help = decode(any)?;
            let link = |one: rpc::help::Link| filled(json!({"description": one.description, "url": one.url}));
            json!({"links": help.links.into_iter().map(link).collect::<Vec<_>>()})
        }
        "LocalizedMessage" => localized(decode(any)?),
        _ => return None,
    };
    let Value::Object(mut fields) = filled(fields) else { return None };
    fields.insert("@type".to_owned(), any.type_url.as_str().into());
    Some(Value::Object(fields))
}

fn decode<M: prost::Message + prost::Name + Default>(any: &Any) -> Option<M> {
    any.to_message().ok().flatten()
}

fn field_violation(one: rpc::bad_request::FieldViolation) -> Value {
    filled(json!({
        "field": one.field, "description": one.description, "reason": one.reason,
        "localizedMessage": one.localized_message.map(localized),
    }))
}

fn localized(message: rpc::LocalizedMessage) -> Value {
    filled(json!({"locale": message.locale, "message": message.message}))
}

/// Seconds, with three, six or nine decimals when there are any.
fn duration(length: prost_types::Duration) -> String {
    let sign = if length.seconds < 0 || length.nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (length.seconds.unsigned_abs(), length.nanos.unsigned_abs());
    match nanos {
        0 => format!("{sign}{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{sign}{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => format!("{sign}{seconds}.{:06}s", nanos / 1_000),
        _ => format!("{sign}{seconds}.{nanos:09}s"),
    }
}

/// Without the fields that are at their zero value.
fn filled(object: Value) -> Value {
    let Value::Object(mut fields) = object else { return object };
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        // A message that is there is shown, even an empty one; a map is not.
        Value::Object(_) | Value::Bool(_) | Value::Number(_) => true,
    });
    if fields.get("metadata").is_some_and(|map| map.as_object().is_some_and(Map::is_empty)) {
        fields.remove("metadata");
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_have_their_json_form() {
        let violation = rpc::bad_request::FieldViolation { field: "name".into(), ..Default::default() };
        let bad = rpc::BadRequest { field_violations: vec![violation] };
        assert_eq!(
            to_json(&Any::from_message(&bad)).unwrap(),
            json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "name"}]})
        );
        let info = rpc::ErrorInfo { reason: "R".into(), ..Default::default() };
        assert_eq!(
            to_json(&Any::from_message(&info)).unwrap(),
            json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R"})
        );
        let delay = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
        let retry = rpc::RetryInfo { retry_delay: Some(delay) };
        assert_eq!(to_json(&Any::from_message(&retry)).unwrap()["retryDelay"], "1.500s");
    }

    #[test]
    fn other_types_have_none() {
        for type_url in ["", "type.googleapis.com/my.Type", "type.googleapis.com/google.rpc.Unknown"] {
            assert!(to_json(&Any { type_url: type_url.into(), value: bytes::Bytes::new() }).is_none());
        }
    }
}
