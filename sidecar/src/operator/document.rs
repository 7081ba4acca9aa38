//! One object of Kubernetes as a manifest.
//!
//! *Job:* bring the JSON an operator sends into the form of a manifest on disk, which is checked and decoded in one place for both.
//! *Invariant:* nothing here waits. *Source:* the JSON of Go writes every field of a kind, set or not; secrets of the cluster's own
//! store come as the BASE64 of their bytes in `value`, beside the reference.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Kind;

/// The store whose secrets the operator looks up itself.
const KUBERNETES_STORE: &str = "kubernetes";

/// An object by name, as the text of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) text: String,
}

impl Document {
    /// Reads one object.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn read(kind: Kind, object: &[u8]) -> Result<Self, String> {
        let mut value: Value = serde_json::from_slice(object).map_err(|error| error.to_string())?;
        let is_inlined = {
            let store = value["auth"]["secretStore"].as_str().unwrap_or_default();
            store.is_empty() || store == KUBERNETES_STORE
        };
        tidy(&mut value, is_inlined)?;
        let Value::Object(fields) = &mut value else { return Err("expected an object".to_owned()) };
        let meta = |field: &str| fields.get("metadata").and_then(|meta| meta[field].as_str()).unwrap_or_default();
        let (name, namespace) = (meta("name").to_owned(), meta("namespace").to_owned());
        if name.is_empty() {
            return Err("metadata.name is empty".to_owned());
        }
        // All else in it changes without a change of the resource.
        let metadata =
            if namespace.is_empty() { json!({"name": name}) } else { json!({"name": name, "namespace": namespace}) };
        fields.insert("metadata".to_owned(), metadata);
        fields.insert("kind".to_owned(), kind.name().into());
        let version = if kind == Kind::Subscription { "dapr.io/v2alpha1" } else { "dapr.io/v1alpha1" };
        fields.insert("apiVersion".to_owned(), version.into());
        fields.remove("status");
        if is_inlined {
            fields.remove("auth"); // what the operator did not find is nowhere else
        }
        let text = serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?;
        Ok(Self { name, text })
    }

    /// What it is called in messages, in the place of a file.
    pub(super) fn origin(&self, kind: Kind) -> PathBuf {
        PathBuf::from(format!("kubernetes/{}/{}", kind.name(), self.name))
    }
}

/// Takes out what is not set, and puts secrets the operator looked up where values are.
fn tidy(value: &mut Value, is_inlined: bool) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| tidy(item, is_inlined)),
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            secret(fields, is_inlined)?;
            fields.values_mut().try_for_each(|field| tidy(field, is_inlined))
        }
        _ => Ok(()),
    }
}

fn secret(fields: &mut Map<String, Value>, is_inlined: bool) -> Result<(), String> {
    if fields.get("envRef").is_some_and(|variable| variable == "") {
        fields.remove("envRef");
    }
    let Some(name) = fields.get("secretKeyRef").map(|reference| reference["name"].as_str().unwrap_or_default()) else {
        return Ok(());
    };
    if name.is_empty() {
        fields.remove("secretKeyRef");
        return Ok(());
    }
    if let (true, Some(encoded)) = (is_inlined, fields.get("value").and_then(Value::as_str)) {
        let problem = || format!("the value of secret {name:?} is not the BASE64 of a text");
        let bytes = STANDARD.decode(encoded).map_err(|_| problem())?;
        let text = String::from_utf8(bytes).map_err(|_| problem())?;
        fields.insert("value".to_owned(), text.into());
        fields.remove("secretKeyRef");
    }
    Ok(())
}
