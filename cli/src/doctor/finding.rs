//! One thing that was looked at.

use serde_json::{Value as Json, json};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Good,
    /// Not wrong, but what one should know.
    Notable,
    Wrong,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Notable => "warning",
            Self::Wrong => "error",
        }
    }
}

/// What was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) state: State,
    /// What was looked at: `port 3500`, `app cart`.
    pub(super) subject: String,
    pub(super) message: String,
    /// RFC 3339; empty = not known.
    pub(super) since: String,
    /// Empty = none.
    pub(super) last_error: String,
    /// Empty when nothing has to be done.
    pub(super) what_to_do: String,
}

impl Finding {
    pub(super) fn good(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(State::Good, subject, message, "")
    }

    pub(super) fn notable(
        subject: impl Into<String>,
        message: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self::new(State::Notable, subject, message, what_to_do)
    }

    pub(super) fn wrong(subject: impl Into<String>, message: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self::new(State::Wrong, subject, message, what_to_do)
    }

    fn new(
        state: State,
        subject: impl Into<String>,
        message: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            state,
            subject: subject.into(),
            message: message.into(),
            since: String::new(),
            last_error: String::new(),
            what_to_do: what_to_do.into(),
        }
    }

    /// `subject: message (since …); last error: …; what to do`.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}: {}", self.subject, self.message);
        if !self.since.is_empty() {
            text += &format!(" (since {})", self.since);
        }
        if !self.last_error.is_empty() {
            text += &format!("; last error: {}", self.last_error);
        }
        if !self.what_to_do.is_empty() {
            text += &format!("; {}", self.what_to_do);
        }
        text
    }

    pub(super) fn to_json(&self) -> Json {
        json!({
            "severity": self.state.word(),
            "subject": self.subject,
            "message": self.message,
            "since": self.since,
            "lastError": self.last_error,
            "whatToDo": self.what_to_do,
        })
    }
}
