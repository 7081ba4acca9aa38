//! Component metadata: the `spec.metadata` list after secrets, environment references and templates are resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pillion_core::duration;
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;

use crate::{ComponentError, ErrorKind};

/// Metadata of one component; keys match without regard to case, as in the original.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    values: BTreeMap<String, (String, String)>,
}

impl Metadata {
    /// Takes name/value pairs; a later duplicate wins.
    pub fn new<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let values = pairs
            .into_iter()
            .map(|(key, value)| {
                let key = key.into();
                (key.to_ascii_lowercase(), (key, value.into()))
            })
            .collect();
        Self { values }
    }

    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_ascii_lowercase()).map(|(_, value)| value.as_str())
    }

    /// The value of the first of several alias keys that is present and not empty.
    pub fn first_of(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name).filter(|value| !value.is_empty()))
    }

    /// All pairs, with the names as written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.values().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A required value.
    ///
    /// # Errors
    /// `InvalidRequest` that names the field.
    pub fn required(&self, name: &str) -> Result<&str, ComponentError> {
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            ComponentError::new(ErrorKind::InvalidRequest, format!("metadata field {name:?} is required but missing"))
        })
    }

    /// A boolean: `1 t true y yes on` in any case are true; missing or anything else is false (the original's rule).
    pub fn bool(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes" | "on")
        })
    }

    /// A duration: Go form, or a bare number in seconds when `name` ends in `InSeconds`.
    ///
    /// # Errors
    /// `InvalidRequest` that names the field and the accepted form.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, ComponentError> {
        let Some(text) = self.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let bare_seconds = text.parse::<u64>().ok().map(Duration::from_secs);
        match bare_seconds.map_or_else(|| duration::parse_go(text), Ok) {
            Ok(value) => Ok(Some(value)),
            Err(problem) => {
                Err(ComponentError::new(ErrorKind::InvalidRequest, format!("metadata field {name:?}: {problem}")))
            }
        }
    }
}

/// What a component gets when it is made.
#[derive(Clone, Debug)]
pub struct InitContext {
    /// `metadata.name` of the manifest.
    pub name: String,
    /// `spec.type`, for example `state.sqlite`.
    pub component_type: String,
    /// `spec.version`; never empty.
    pub version: String,
    /// Resolved metadata.
    pub metadata: Metadata,
    /// The app this sidecar belongs to.
    pub app_id: String,
    /// `NAMESPACE`, or `default`.
    pub namespace: String,
    /// Directory for data of embedded components, shared by all sidecars of this user on this machine.
    pub data_dir: PathBuf,
    /// Where to log.
    pub log: Logger,
    /// Cancelled when the component must stop its background work.
    pub cancel: CancellationToken,
}
