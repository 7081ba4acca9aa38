//! A topic event as a consumer sees it: a CloudEvent whose `data` is a tenant or a bare number.

use axum::Json;
use serde::Deserialize;
use serde_json::{Value, json};

/// The part of a CloudEvent the consumers look at.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// The event's own id, unique per publish.
    #[serde(default)]
    pub id: String,
    /// What was published.
    #[serde(default)]
    pub data: Value,
}

impl Event {
    /// The tenant's id: `data.id`, the number itself when the payload is one, else the event's id.
    #[must_use]
    pub fn tenant_id(&self) -> String {
        let id = self.data.get("id").unwrap_or(&self.data);
        match id {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => self.id.clone(),
        }
    }

    /// A text field of the payload, empty when it has none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.data.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The answer that acknowledges an event.
pub fn success() -> Json<Value> {
    Json(json!({ "status": "SUCCESS" }))
}

/// The answer that gives an event up: the body was no CloudEvent, so another try cannot help.
pub fn drop_event() -> Json<Value> {
    Json(json!({ "status": "DROP" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(event: &str) -> String {
        serde_json::from_str::<Event>(event).expect("JSON of the test").tenant_id()
    }

    #[test]
    fn the_id_comes_from_an_object_a_number_or_the_event() {
        assert_eq!(id_of(r#"{"id":"e","data":{"id":"17","name":"Acme"}}"#), "17");
        assert_eq!(id_of(r#"{"id":"e","data":{"id":17}}"#), "17");
        assert_eq!(id_of(r#"{"id":"e","data":417}"#), "417");
        assert_eq!(id_of(r#"{"id":"e","data":{"name":"Acme"}}"#), "e");
        assert_eq!(id_of(r#"{"id":"e"}"#), "e");
    }
}
