//! Typed metadata of the SQLite components.
//!
//! *Job:* names, aliases, defaults and limits of the fields that `state.sqlite` and `nameresolution.sqlite` share.
//! *Neighbours:* `connection` turns [`SqliteSettings`] into an open database. *Invariant:* a value of these types is usable;
//! every complaint names the field.
//!
//! *Source:* spec components/state.sqlite.tsv and nameresolution.sqlite.tsv.

use std::time::Duration;

use pillion_contract::{ComponentError, ErrorKind, Metadata};

/// What every SQLite component can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqliteSettings {
    /// `connectionString` or `url`: a path, or a `file:` URI with SQLite parameters, `_pragma` and `_txlock`.
    pub(crate) connection_string: String,
    /// `timeout` or `timeoutInSeconds`: limit of one operation, queueing included.
    pub(crate) timeout: Duration,
    /// `busyTimeout`: how long SQLite waits for the lock of another process; zero is not at all.
    pub(crate) busy_timeout: Duration,
    /// `disableWAL`: for files on a network file system.
    pub(crate) disable_wal: bool,
    /// `tableName`.
    pub(crate) table: String,
    /// `metadataTableName`: schema level and time of the last cleanup.
    pub(crate) metadata_table: String,
    /// `cleanupInterval` or `cleanupIntervalInSeconds`; `None` is off.
    pub(crate) cleanup_interval: Option<Duration>,
}

/// The defaults in which the two components differ.
pub(crate) struct Defaults {
    pub(crate) timeout: Duration,
    pub(crate) busy_timeout: Duration,
    pub(crate) table: &'static str,
    pub(crate) cleanup_interval: Option<Duration>,
}

impl SqliteSettings {
    /// Reads and checks the fields.
    ///
    /// # Errors
    /// `InvalidRequest` for a missing connection string, a time that is none or too short, or a table name that is no identifier.
    pub(crate) fn read(metadata: &Metadata, defaults: &Defaults) -> Result<Self, ComponentError> {
        let connection_string = first_present(metadata, &["connectionString", "url"]).map_or("", |(_, text)| text);
        if connection_string.is_empty() {
            return Err(invalid("missing connection string"));
        }
        let timeout = duration(metadata, &["timeout", "timeoutInSeconds"])?.unwrap_or(defaults.timeout);
        if timeout < Duration::from_secs(1) {
            return Err(invalid("invalid value for 'timeout': must be at least 1s"));
        }
        let cleanup_interval = duration(metadata, &["cleanupInterval", "cleanupIntervalInSeconds"])?;
        Ok(Self {
            connection_string: connection_string.to_owned(),
            timeout,
            busy_timeout: duration(metadata, &["busyTimeout"])?.unwrap_or(defaults.busy_timeout),
            disable_wal: metadata.bool("disableWAL"),
            table: identifier(metadata, "tableName", defaults.table)?,
            metadata_table: identifier(metadata, "metadataTableName", "metadata")?,
            cleanup_interval: cleanup_interval
                .map_or(defaults.cleanup_interval, |every| Some(every).filter(|every| !every.is_zero())),
        })
    }
}

fn invalid(message: impl Into<String>) -> ComponentError {
    ComponentError::new(ErrorKind::InvalidRequest, message)
}

/// The first name that is there: an alias counts only when the names before it are absent.
fn first_present<'a>(metadata: &'a Metadata, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|name| metadata.get(name).map(|value| (*name, value)))
}

/// A Go duration or a number of seconds; the original's fields may be negative, which means the same as zero.
pub(crate) fn duration(metadata: &Metadata, names: &[&'static str]) -> Result<Option<Duration>, ComponentError> {
    let Some((name, text)) = first_present(metadata, names).filter(|(_, text)| !text.is_empty()) else {
        return Ok(None);
    };
    let (is_negative, size) = text.strip_prefix('-').map_or((false, text), |size| (true, size));
    let value = match Metadata::new([(name, size)]).duration(name) {
        Ok(Some(value)) => value,
        _ => {
            let form = "expected a Go duration such as 500ms, 5s or 1h30m, or a whole number of seconds";
            return Err(invalid(format!("metadata field {name:?}: invalid duration {text:?}: {form}")));
        }
    };
    Ok(Some(if is_negative { Duration::ZERO } else { value }))
}

/// A name that can stand in an SQL statement as it is.
fn identifier(metadata: &Metadata, field: &str, default: &str) -> Result<String, ComponentError> {
    let name = metadata.get(field).unwrap_or(default);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let form = "only ASCII letters, digits and underscores are allowed";
        return Err(invalid(format!("metadata field {field:?}: invalid identifier: {name}: {form}")));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults {
        timeout: Duration::from_secs(20),
        busy_timeout: Duration::from_secs(2),
        table: "state",
        cleanup_interval: None,
    };

    fn read(pairs: &[(&str, &str)]) -> Result<SqliteSettings, ComponentError> {
        SqliteSettings::read(&Metadata::new(pairs.iter().copied()), &DEFAULTS)
    }

    #[test]
    fn a_connection_string_is_enough() {
        let wanted = SqliteSettings {
            connection_string: "data.db".into(),
            timeout: Duration::from_secs(20),
            busy_timeout: Duration::from_secs(2),
            disable_wal: false,
            table: "state".into(),
            metadata_table: "metadata".into(),
            cleanup_interval: None,
        };
        assert_eq!(read(&[("connectionstring", "data.db")]).unwrap(), wanted);
    }

    #[test]
    fn every_field_has_its_aliases_and_units() {
        let settings = read(&[
            ("URL", "data.db"),
            ("timeoutInSeconds", "1200"),
            ("busyTimeout", "-1"),
            ("disableWal", "yes"),
            ("tableName", "T_1"),
            ("metadataTableName", "meta"),
            ("cleanupIntervalInSeconds", "22"),
        ]);
        let wanted = SqliteSettings {
            connection_string: "data.db".into(),
            timeout: Duration::from_secs(1200),
            busy_timeout: Duration::ZERO,
            disable_wal: true,
            table: "T_1".into(),
            metadata_table: "meta".into(),
            cleanup_interval: Some(Duration::from_secs(22)),
        };
        assert_eq!(settings.unwrap(), wanted);
        let both = read(&[
            ("connectionString", "a"),
            ("url", "b"),
            ("cleanupInterval", "1m"),
            ("cleanupIntervalInSeconds", "5"),
        ])
        .unwrap();
        assert_eq!((both.connection_string.as_str(), both.cleanup_interval), ("a", Some(Duration::from_secs(60))));
        for off in ["0", "0s", "-1s", "-5"] {
            assert_eq!(read(&[("url", "a"), ("cleanupInterval", off)]).unwrap().cleanup_interval, None, "{off}");
        }
    }

    #[test]
    fn bad_metadata_is_refused_with_the_field_name() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], "missing connection string"),
            (&[("connectionString", "")], "missing connection string"),
            (&[("url", "a"), ("timeout", "500ms")], "invalid value for 'timeout': must be at least 1s"),
            (
                &[("url", "a"), ("timeout", "soon")],
                "metadata field \"timeout\": invalid duration \"soon\": expected a Go duration",
            ),
            (&[("url", "a"), ("busyTimeout", "-x")], "metadata field \"busyTimeout\": invalid duration \"-x\""),
            (
                &[("url", "a"), ("tableName", "not.valid")],
                "metadata field \"tableName\": invalid identifier: not.valid",
            ),
            (&[("url", "a"), ("metadataTableName", "")], "metadata field \"metadataTableName\": invalid identifier: "),
        ];
        for (pairs, wanted) in cases {
            let error = read(pairs).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidRequest);
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }
}
