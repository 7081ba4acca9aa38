//! `secretstores.local.file`: secrets from a JSON file, read at the start and whenever it has changed.
//!
//! *Job:* flatten nested objects and arrays into single values (`a:b:0`), or with `multiValued` give each top level object
//! as one secret of several keys. *Invariant:* a file that cannot be read any more changes nothing. *Differs from the original*,
//! which reads once, so that secrets can be rotated; and where that prints Go's formatting errors: numbers and booleans read as
//! their JSON text and null as an empty text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use pillion_contract::{ComponentError, ErrorKind, InitContext, SecretBundle, SecretStore};
use pillion_core::log::Logger;
use serde_json::Value;
use tokio::sync::Mutex;

const DEFAULT_SEPARATOR: &str = ":";

/// The component; see the module text.
pub struct FileSecrets {
    source: Source,
    log: Logger,
    /// Held while the file is read, so that it is read once.
    held: Mutex<Held>,
}

type Secrets = BTreeMap<String, SecretBundle>;

/// Where the secrets are and how they are told apart.
struct Source {
    file: String,
    separator: String,
    multi_valued: bool,
}

struct Held {
    secrets: Arc<Secrets>,
    stamp: Option<Stamp>,
}

/// What shows that a file has changed: time, length and number.
type Stamp = (SystemTime, u64, u64);

/// Reads the file named by metadata `secretsFile`.
///
/// # Errors
/// `InvalidRequest` that names the file and what is wrong: not named, not readable, not JSON, not an object.
pub async fn create(context: InitContext) -> Result<Arc<dyn SecretStore>, ComponentError> {
    let file = context.metadata.get("secretsFile").unwrap_or_default().to_owned();
    if file.is_empty() {
        return Err(invalid(
            "missing local secrets file in metadata: set secretsFile to the path of a JSON file".to_owned(),
        ));
    }
    let separator =
        context.metadata.get("nestedSeparator").filter(|text| !text.is_empty()).unwrap_or(DEFAULT_SEPARATOR).to_owned();
    let source = Source { file, separator, multi_valued: context.metadata.bool("multiValued") };
    let stamp = source.stamp().await;
    let secrets = Arc::new(source.read(&context.log).await?);
    Ok(Arc::new(FileSecrets { source, log: context.log, held: Mutex::new(Held { secrets, stamp }) }))
}

impl FileSecrets {
    /// The secrets as the file has them now.
    async fn secrets(&self) -> Arc<Secrets> {
        let mut held = self.held.lock().await;
        let stamp = self.source.stamp().await;
        if stamp.is_some() && stamp != held.stamp {
            held.stamp = stamp;
            match self.source.read(&self.log).await {
                Ok(secrets) => held.secrets = Arc::new(secrets),
                Err(error) => self.log.warn(format!("the secrets stay as they were: {error}")),
            }
        }
        held.secrets.clone()
    }
}

impl Source {
    async fn stamp(&self) -> Option<Stamp> {
        let metadata = tokio::fs::metadata(&self.file).await.ok()?;
        Some((metadata.modified().ok()?, metadata.len(), number(&metadata)))
    }

    async fn read(&self, log: &Logger) -> Result<Secrets, ComponentError> {
        let Self { file, separator, .. } = self;
        let text = tokio::fs::read(file).await.map_err(|error| {
            let seen_from =
                std::env::current_dir().map(|directory| directory.display().to_string()).unwrap_or_default();
            let place = if file.starts_with('/') { String::new() } else { format!(" (relative to {seen_from})") };
            ComponentError::caused(ErrorKind::InvalidRequest, format!("cannot read secretsFile {file:?}{place}"), error)
        })?;
        let json: Value = serde_json::from_slice(&text).map_err(|error| {
            ComponentError::caused(ErrorKind::InvalidRequest, format!("secretsFile {file:?} is not valid JSON"), error)
        })?;
        let Value::Object(top) = json else {
            return Err(invalid(format!("secretsFile {file:?}: expected a JSON object of secrets at the top level")));
        };
        let mut clashes = Vec::new();
        let secrets = if self.multi_valued {
            several_keys(&top, separator, &mut clashes)
        } else {
            single_values(&top, separator, &mut clashes)
        };
        for name in clashes {
            log.warn(format!("secretsFile {file:?} gives the secret {name:?} twice; the first one is used"));
        }
        Ok(secrets)
    }
}

/// Of the file itself, so that one that was renamed over another in the same moment shows.
#[cfg(unix)]
fn number(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_: &std::fs::Metadata) -> u64 {
    0
}

fn invalid(message: String) -> ComponentError {
    ComponentError::new(ErrorKind::InvalidRequest, message)
}

fn single_values(
    top: &serde_json::Map<String, Value>,
    separator: &str,
    clashes: &mut Vec<String>,
) -> BTreeMap<String, SecretBundle> {
    let mut flat = BTreeMap::new();
    for (name, value) in top {
        flatten(name, value, separator, &mut flat, clashes);
    }
    flat.into_iter().map(|(name, value)| (name.clone(), BTreeMap::from([(name, value)]))).collect()
}

/// Top level values that are neither a string nor an object are left out, as in the original.
fn several_keys(
    top: &serde_json::Map<String, Value>,
    separator: &str,
    clashes: &mut Vec<String>,
) -> BTreeMap<String, SecretBundle> {
    let mut secrets = BTreeMap::new();
    for (name, value) in top {
        let bundle = match value {
            Value::String(text) => BTreeMap::from([(name.clone(), text.clone())]),
            Value::Object(keys) => {
                let mut flat = BTreeMap::new();
                for (key, value) in keys {
                    flatten(key, value, separator, &mut flat, clashes);
                }
                flat
            }
            _ => continue,
        };
        secrets.insert(name.clone(), bundle);
    }
    secrets
}

fn flatten(path: &str, value: &Value, separator: &str, flat: &mut BTreeMap<String, String>, clashes: &mut Vec<String>) {
    let text = match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&format!("{path}{separator}{key}"), value, separator, flat, clashes);
            }
            return;
        }
        Value::Array(entries) => {
            for (index, value) in entries.iter().enumerate() {
                flatten(&format!("{path}{separator}{index}"), value, separator, flat, clashes);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    if flat.contains_key(path) {
        clashes.push(path.to_owned());
    } else {
        flat.insert(path.to_owned(), text);
    }
}

#[async_trait]
impl SecretStore for FileSecrets {
    async fn get(&self, name: &str, _metadata: &BTreeMap<String, String>) -> Result<SecretBundle, ComponentError> {
        let missing = || ComponentError::new(ErrorKind::NotFound, format!("secret {name} not found"));
        self.secrets().await.get(name).cloned().ok_or_else(missing)
    }

    async fn bulk_get(
        &self,
        _metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, SecretBundle>, ComponentError> {
        Ok(Secrets::clone(&*self.secrets().await))
    }

    fn multiple_keys(&self) -> bool {
        self.source.multi_valued
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::context;

    async fn open(json: &str, metadata: &[(&str, &str)]) -> Result<Arc<dyn SecretStore>, ComponentError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        let path = file.path().to_str().unwrap();
        create(context("secretstores.local.file", &[&[("secretsFile", path)], metadata].concat())).await
    }

    async fn values(store: &Arc<dyn SecretStore>) -> Vec<(String, String)> {
        let all = store.bulk_get(&BTreeMap::new()).await.unwrap();
        all.into_values().flatten().collect()
    }

    #[tokio::test]
    async fn conforms() {
        let store = open(r#"{"conftestsecret": "abcd", "secondsecret": "efgh"}"#, &[]).await.unwrap();
        pillion_conformance::secrets::run(store, false).await;
    }

    #[tokio::test]
    async fn nested_values_are_joined_with_the_separator() {
        let json = r#"{"a": {"b": ["x", {"c": "y"}], "n": 1.50, "t": true, "z": null}, "d": "e"}"#;
        let wanted = [("a:b:0", "x"), ("a:b:1:c", "y"), ("a:n", "1.50"), ("a:t", "true"), ("a:z", ""), ("d", "e")];
        let wanted: Vec<_> = wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let store = open(json, &[]).await.unwrap();
        assert_eq!(values(&store).await, wanted);
        assert!(!store.multiple_keys());
        let dotted = open(json, &[("nestedSeparator", ".")]).await.unwrap();
        assert_eq!(dotted.get("a.b.1.c", &BTreeMap::new()).await.unwrap()["a.b.1.c"], "y");
    }

    #[tokio::test]
    async fn multi_valued_gives_objects_as_bundles() {
        let store = open(
            r#"{"db": {"user": "u", "deep": {"er": "v"}}, "plain": "p", "number": 1}"#,
            &[("multiValued", "true")],
        )
        .await
        .unwrap();
        assert!(store.multiple_keys());
        let bundle = store.get("db", &BTreeMap::new()).await.unwrap();
        assert_eq!(bundle, BTreeMap::from([("deep:er".into(), "v".into()), ("user".into(), "u".into())]));
        assert_eq!(store.get("plain", &BTreeMap::new()).await.unwrap()["plain"], "p");
        assert_eq!(store.get("number", &BTreeMap::new()).await.unwrap_err().to_string(), "secret number not found");
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_the_file() {
        let text = |result: Result<_, ComponentError>| result.map(|_| ()).unwrap_err().to_string();
        let none = create(context("secretstores.local.file", &[])).await;
        assert!(text(none).starts_with("missing local secrets file in metadata"));
        let absent = text(create(context("secretstores.local.file", &[("secretsFile", "no/such.json")])).await);
        assert!(absent.starts_with(r#"cannot read secretsFile "no/such.json" (relative to "#), "{absent}");
        assert!(absent.contains("No such file"), "{absent}");
        let broken = text(open("{\"a\": ", &[]).await);
        assert!(broken.contains("is not valid JSON: EOF while parsing a value at line 1 column 6"), "{broken}");
        let list = text(open("[]", &[]).await);
        assert!(list.contains("expected a JSON object of secrets at the top level"), "{list}");
    }

    #[tokio::test]
    async fn a_file_that_changes_is_read_again_when_it_can_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"a": "one"}"#).unwrap();
        let path = file.path().to_str().unwrap();
        let store = create(context("secretstores.local.file", &[("secretsFile", path)])).await.unwrap();
        let read = async || store.get("a", &BTreeMap::new()).await.unwrap()["a"].clone();
        assert_eq!(read().await, "one");
        std::fs::write(file.path(), r#"{"a": "another"}"#).unwrap();
        assert_eq!(read().await, "another");
        for broken in ["", "{\"a\": ", "[]"] {
            std::fs::write(file.path(), broken).unwrap();
            assert_eq!(read().await, "another", "{broken:?}");
        }
        let beside = file.path().with_extension("new");
        std::fs::write(&beside, r#"{"a": "third"}"#).unwrap();
        std::fs::rename(&beside, file.path()).unwrap();
        assert_eq!(read().await, "third");
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(read().await, "third", "gone");
    }

    #[tokio::test]
    async fn a_name_given_twice_reads_as_the_first() {
        let store = open(r#"{"a": {"b": "nested"}, "a:b": "flat"}"#, &[]).await.unwrap();
        assert_eq!(store.get("a:b", &BTreeMap::new()).await.unwrap()["a:b"], "nested");
    }
}
