//! YAML files as JSON values, for what has no typed form: the Configuration's `spec.mtls` and kubeconfig files.

use std::path::Path;

use pillion_resources::{Node, Scalar, Value, read_document};
use serde_json::{Map, Value as Json};

/// The first document of a text; `None` when there is none.
pub(crate) fn read(file: &Path, text: &str) -> Result<Option<Json>, String> {
    let (node, _) = read_document(file, text).map_err(|finding| finding.to_string())?;
    Ok(node.map(|node| to_json(&node)))
}

fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { resolved, text } => match resolved {
            Scalar::Null => Json::Null,
            Scalar::Bool(value) => Json::Bool(*value),
            _ => Json::String(text.clone()), // numbers keep their text: all we read here are texts
        },
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            let entries = entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
    }
}

/// A text at a path; `None` when it is missing or empty.
pub(crate) fn text<'a>(json: &'a Json, path: &str) -> Option<&'a str> {
    json.pointer(path).and_then(Json::as_str).filter(|text| !text.is_empty())
}
