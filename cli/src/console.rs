//! What the commands say: status lines with a glyph, or one JSON object each with `--log-as-json`.
//!
//! *Invariant:* a line leaves in one write, so that lines of several applications never mix.

use std::io::{IsTerminal, Write};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where status lines and forwarded output go.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    json: bool,
    color: bool,
}

/// What kind of status a line tells. *Source:* words and glyphs that test suites of users compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    Failure,
    Warning,
    Pending,
    Info,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Warning => "warning",
            Self::Pending => "pending",
            Self::Info => "info",
        }
    }

    fn glyph(self) -> &'static str {
        match self {
            _ if cfg!(windows) => "",
            Self::Success => "✅  ",
            Self::Failure => "❌  ",
            Self::Warning => "⚠  ",
            Self::Pending => "⌛  ",
            Self::Info => "ℹ️  ",
        }
    }
}

impl Console {
    pub(crate) fn new(json: bool, no_color: bool) -> Self {
        Self { json, color: !no_color && std::io::stdout().is_terminal() }
    }

    pub(crate) fn success(&self, text: &str) {
        self.status(Status::Success, text);
    }

    pub(crate) fn failure(&self, text: &str) {
        self.status(Status::Failure, text);
    }

    pub(crate) fn warning(&self, text: &str) {
        self.status(Status::Warning, text);
    }

    pub(crate) fn pending(&self, text: &str) {
        self.status(Status::Pending, text);
    }

    pub(crate) fn info(&self, text: &str) {
        self.status(Status::Info, text);
    }

    fn status(&self, status: Status, text: &str) {
        let line = status_line(self.json, status, text, OffsetDateTime::now_utc());
        if status == Status::Failure { error(&line) } else { output(&line) }
    }

    /// A blank line between the output of applications and ours; nothing in JSON.
    pub(crate) fn blank(&self) {
        if !self.json {
            output("\n");
        }
    }

    /// The prefix of forwarded lines: blue on a terminal.
    pub(crate) fn prefix(&self, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\u{1b}[94m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn status_line(json: bool, status: Status, text: &str, now: OffsetDateTime) -> String {
    if json {
        let time = now.format(&Rfc3339).unwrap_or_default();
        let line = serde_json::json!({"time": time, "status": status.word(), "msg": text});
        return format!("{line}\n");
    }
    format!("{}{text}\n", status.glyph())
}

/// Writes to standard output as it is. A reader that has gone away is no reason to stop.
pub(crate) fn output(text: &str) {
    output_bytes(text.as_bytes());
}

/// As [`output`], for bytes that may not be UTF-8.
pub(crate) fn output_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush()); // nobody reads any more
}

/// Writes to standard error as it is.
pub(crate) fn error(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes()); // nobody reads any more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_suites_compare_them() {
        let line = |status, text| status_line(false, status, text, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(line(Status::Success, "Exited App successfully"), "✅  Exited App successfully\n");
        assert_eq!(line(Status::Failure, "x"), "❌  x\n");
        assert_eq!(
            status_line(true, Status::Pending, "a \"b\"", OffsetDateTime::UNIX_EPOCH),
            "{\"msg\":\"a \\\"b\\\"\",\"status\":\"pending\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
    }
}
