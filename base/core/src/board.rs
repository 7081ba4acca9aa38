//! The board on which the parts of a sidecar tell what keeps them: what they wait for, since when, the last error, what to do.
//!
//! *Job:* one place that `/v1.0/metadata` and `doctor` read. *Neighbours:* blocks and the sidecar's own parts write, each with a
//! clone of the value that the sidecar made; nothing here is global. *Invariant:* a part that is well is not on the board, so
//! that the way of a request never touches it; the board never holds more than [`LIMIT`] parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Parts kept at most; what comes after them is not shown.
pub const LIMIT: usize = 1000;
/// Characters of an error kept at most.
const ERROR_LIMIT: usize = 500;

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has not come so far yet and goes on by itself when what it waits for comes.
    Waiting,
    /// It worked, or should work, and does not.
    Unhealthy,
}

impl Trouble {
    /// The word of the metadata API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A part on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `app`, `component`, `subscription`, `sentry`, …
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// Waiting or unhealthy.
    pub trouble: Trouble,
    /// What it waits for, or what it cannot do; completes "waits for …" or is a sentence of its own.
    pub reason: String,
    /// Since when it has been in this state.
    pub since: OffsetDateTime,
    /// The last error; empty = none yet.
    pub last_error: String,
    /// What the user can do.
    pub advice: String,
}

impl Part {
    /// `since` as RFC 3339, in whole seconds.
    #[must_use]
    pub fn since_text(&self) -> String {
        self.since.replace_nanosecond(0).unwrap_or(self.since).format(&Rfc3339).unwrap_or_default()
    }
}

type Key = (&'static str, String);

/// Where parts report. Cheap to clone; all clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<Key, Part>>>);

impl Board {
    /// A part waits, until the answer is dropped. For waits that can be cancelled: they leave the board whatever ends them.
    #[must_use = "the part leaves the board when this is dropped"]
    pub fn wait(
        &self,
        kind: &'static str,
        name: impl Into<String>,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Wait {
        let name = name.into();
        self.waiting(kind, name.clone(), reason, "", advice);
        Wait { board: self.clone(), kind, name }
    }

    /// A part waits until [`Self::clear`]. Told again it keeps its `since`.
    pub fn waiting(
        &self,
        kind: &'static str,
        name: impl Into<String>,
        reason: impl Into<String>,
        error: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.put(kind, name.into(), Trouble::Waiting, reason.into(), error.into(), advice.into());
    }

    /// A part does not work until [`Self::clear`]. Told again it keeps its `since`.
    pub fn unhealthy(
        &self,
        kind: &'static str,
        name: impl Into<String>,
        reason: impl Into<String>,
        error: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.put(kind, name.into(), Trouble::Unhealthy, reason.into(), error.into(), advice.into());
    }

    /// The last error of a part on the board; nothing for one that is not.
    pub fn failed(&self, kind: &'static str, name: &str, error: impl Into<String>) {
        if let Some(part) = self.0.lock().get_mut(&(kind, name.to_owned())) {
            part.last_error = shorten(error.into());
        }
    }

    /// The part is well, or is no more.
    pub fn clear(&self, kind: &'static str, name: &str) {
        self.0.lock().remove(&(kind, name.to_owned()));
    }

    /// All parts of a kind are no more.
    pub fn clear_kind(&self, kind: &'static str) {
        self.0.lock().retain(|(other, _), _| *other != kind);
    }

    /// Everything on the board, by kind and name.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        self.0.lock().values().cloned().collect()
    }

    fn put(
        &self,
        kind: &'static str,
        name: String,
        trouble: Trouble,
        reason: String,
        last_error: String,
        advice: String,
    ) {
        let mut parts = self.0.lock();
        let key = (kind, name.clone());
        let before = parts.get(&key).filter(|part| part.trouble == trouble);
        let since = before.map_or_else(OffsetDateTime::now_utc, |part| part.since);
        if parts.len() < LIMIT || parts.contains_key(&key) {
            let last_error = shorten(last_error);
            parts.insert(key, Part { kind, name, trouble, reason, since, last_error, advice });
        }
    }
}

/// A part that waits; dropping it takes the part from the board.
#[derive(Debug)]
pub struct Wait {
    board: Board,
    kind: &'static str,
    name: String,
}

impl Wait {
    /// An attempt failed; the wait goes on.
    pub fn failed(&self, error: impl Into<String>) {
        self.board.failed(self.kind, &self.name, error);
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.board.clear(self.kind, &self.name);
    }
}

fn shorten(error: String) -> String {
    match error.char_indices().nth(ERROR_LIMIT) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_shown_while_it_lasts() {
        let board = Board::default();
        let wait = board.wait("app", "cart", "the app to listen on port 80", "start it");
        wait.failed("connection refused");
        let parts = board.parts();
        assert_eq!((parts[0].kind, parts[0].name.as_str(), parts[0].trouble), ("app", "cart", Trouble::Waiting));
        assert_eq!(parts[0].last_error, "connection refused");
        assert!(parts[0].since_text().ends_with('Z') && !parts[0].since_text().contains('.'));
        drop(wait);
        assert_eq!(board.parts(), []);
        board.failed("app", "cart", "late");
        assert_eq!(board.parts(), []);
    }

    #[test]
    fn told_again_it_keeps_its_time_until_the_trouble_changes() {
        let board = Board::default();
        board.waiting("component", "a", "one", "", "");
        let since = board.parts()[0].since;
        std::thread::sleep(std::time::Duration::from_millis(2));
        board.waiting("component", "a", "two", "e", "");
        assert_eq!((board.parts()[0].since, board.parts()[0].reason.as_str()), (since, "two"));
        board.unhealthy("component", "a", "three", "", "");
        assert_ne!(board.parts()[0].since, since);
        board.clone().clear("component", "a");
        assert_eq!(board.parts(), []);
    }

    #[test]
    fn it_is_bounded() {
        let board = Board::default();
        (0..LIMIT + 5).for_each(|number| board.waiting("x", format!("{number:05}"), "", "ä".repeat(600), ""));
        assert_eq!(board.parts().len(), LIMIT);
        assert_eq!(board.parts()[0].last_error.chars().count(), ERROR_LIMIT + 1);
    }
}
