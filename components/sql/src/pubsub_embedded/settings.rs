//! The component's metadata as typed values; `docs/pubsub-embedded.md` has the table.

use std::path::PathBuf;
use std::time::Duration;

use pillion_contract::{ComponentError, ErrorKind, InitContext, Metadata};

const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const POLL_INTERVAL: Duration = Duration::from_millis(500);
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(10);
const MAX_IN_FLIGHT: usize = 32;
const MAX_IN_FLIGHT_LIMIT: usize = 10_000;
const SECONDS_PER_DAY: u64 = 24 * 3600;

/// How hard a commit is pushed to the disk. A killed process loses nothing in any mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronous {
    /// Never waits: a power failure may damage the database.
    Off,
    /// Waits at checkpoints: a power failure may lose the last moments.
    Normal,
    /// Each publish waits for the disk.
    Full,
}

/// Where a group starts that has never been there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InitialOffset {
    /// With the next message.
    Newest,
    /// With the oldest message that is still stored.
    Oldest,
}

/// See the module text.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) directory: PathBuf,
    pub(super) consumer_id: String,
    pub(super) retention: Duration,
    pub(super) max_in_flight: usize,
    pub(super) poll_interval: Duration,
    pub(super) synchronous: Synchronous,
    pub(super) initial_offset: InitialOffset,
}

impl Settings {
    /// Reads all fields.
    ///
    /// # Errors
    /// `InvalidRequest` that names every wrong field with the accepted form.
    pub(super) fn read(context: &InitContext) -> Result<Self, ComponentError> {
        let metadata = &context.metadata;
        let mut problems = Vec::new();
        let settings = Self {
            directory: match metadata.first_of(&["directory"]) {
                Some(directory) => directory.into(),
                None => context.data_dir.join("pubsub").join(folder_name(&context.name)),
            },
            consumer_id: metadata.first_of(&["consumerID"]).unwrap_or(&context.app_id).to_owned(),
            retention: take(&mut problems, duration(metadata, "retention", Duration::from_millis(1)), RETENTION),
            max_in_flight: take(&mut problems, max_in_flight(metadata), MAX_IN_FLIGHT),
            poll_interval: take(&mut problems, duration(metadata, "pollInterval", POLL_INTERVAL_MIN), POLL_INTERVAL),
            synchronous: take(&mut problems, word(metadata, "synchronous", &SYNCHRONOUS), Synchronous::Normal),
            initial_offset: take(
                &mut problems,
                word(metadata, "initialOffset", &INITIAL_OFFSET),
                InitialOffset::Newest,
            ),
        };
        match problems.is_empty() {
            true => Ok(settings),
            false => Err(ComponentError::new(ErrorKind::InvalidRequest, problems.join("; "))),
        }
    }
}

const SYNCHRONOUS: [(&str, Synchronous); 3] =
    [("normal", Synchronous::Normal), ("full", Synchronous::Full), ("off", Synchronous::Off)];
const INITIAL_OFFSET: [(&str, InitialOffset); 2] =
    [("newest", InitialOffset::Newest), ("oldest", InitialOffset::Oldest)];

fn take<T>(problems: &mut Vec<String>, value: Result<Option<T>, String>, default: T) -> T {
    match value {
        Ok(value) => value.unwrap_or(default),
        Err(problem) => {
            problems.push(problem);
            default
        }
    }
}

/// A Go duration, bare seconds, or whole days such as `7d`.
fn duration(metadata: &Metadata, name: &str, least: Duration) -> Result<Option<Duration>, String> {
    let days = metadata.get(name).and_then(|text| text.trim().strip_suffix('d')?.trim().parse::<u64>().ok());
    let value = match days {
        Some(days) => Some(Duration::from_secs(days.saturating_mul(SECONDS_PER_DAY))),
        None => metadata.duration(name).map_err(|error| error.to_string())?,
    };
    match value {
        Some(value) if value < least => {
            Err(format!("metadata field {name:?}: {value:?} is too short: expected at least {least:?}"))
        }
        value => Ok(value),
    }
}

fn max_in_flight(metadata: &Metadata) -> Result<Option<usize>, String> {
    let Some(text) = metadata.first_of(&["maxInFlight"]) else { return Ok(None) };
    match text.trim().parse::<usize>() {
        Ok(number) if (1..=MAX_IN_FLIGHT_LIMIT).contains(&number) => Ok(Some(number)),
        _ => Err(format!(
            "metadata field \"maxInFlight\": {text:?} is wrong: expected a number from 1 to {MAX_IN_FLIGHT_LIMIT}"
        )),
    }
}

fn word<T: Copy>(metadata: &Metadata, name: &str, words: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(text) = metadata.first_of(&[name]) else { return Ok(None) };
    match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let accepted: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(format!("metadata field {name:?}: {text:?} is wrong: expected one of {}", accepted.join(", ")))
        }
    }
}

/// A folder for any component name: letters, digits, `-`, `_` and inner dots stay, the rest is percent-encoded.
fn folder_name(name: &str) -> String {
    let mut folder = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && index > 0) {
            folder.push(char::from(byte));
        } else {
            folder.push_str(&format!("%{byte:02X}"));
        }
    }
    if folder.is_empty() { "%".to_owned() } else { folder }
}

#[cfg(test)]
mod tests {
    use super::super::tests::context;
    use super::*;

    fn read(metadata: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(&context("my bus/..", "/data".as_ref(), metadata)).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let settings = read(&[("retention", ""), ("unknown", "x"), ("directory", "")]).unwrap();
        assert_eq!(settings.directory, PathBuf::from("/data/pubsub/my%20bus%2F.."));
        assert_eq!(settings.consumer_id, "test-app");
        assert_eq!(settings.retention, Duration::from_secs(7 * 86400));
        assert_eq!((settings.max_in_flight, settings.poll_interval), (32, Duration::from_millis(500)));
        assert_eq!((settings.synchronous, settings.initial_offset), (Synchronous::Normal, InitialOffset::Newest));
    }

    #[test]
    fn values() {
        let fields = [
            ("Retention", "2d"),
            ("consumerId", "team"),
            ("directory", "/x"),
            ("maxInFlight", "1"),
            ("synchronous", "FULL"),
        ];
        let settings = read(&fields).unwrap();
        assert_eq!((settings.directory.as_path(), settings.consumer_id.as_str()), ("/x".as_ref(), "team"));
        assert_eq!(
            (settings.retention.as_secs(), settings.max_in_flight, settings.synchronous),
            (172_800, 1, Synchronous::Full)
        );
        assert_eq!(read(&[("retention", "24h")]).unwrap().retention.as_secs(), 86_400);
        assert_eq!(read(&[("retention", "90")]).unwrap().retention.as_secs(), 90);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let fields = [
            ("retention", "soon"),
            ("maxInFlight", "0"),
            ("synchronous", "maybe"),
            ("pollInterval", "1ms"),
            ("initialOffset", "1"),
        ];
        let problem = read(&fields).unwrap_err();
        for (name, _) in fields {
            assert!(problem.contains(&format!("{name:?}")), "{problem}");
        }
        assert!(read(&[("retention", "0")]).unwrap_err().contains("too short"));
    }
}
