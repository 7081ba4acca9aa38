//! One problem of a manifest, as told to the user.

use std::fmt;
use std::path::PathBuf;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is ignored or read differently than it looks; loading goes on.
    Warning,
    /// The value cannot be used: the document is skipped, or the part that needs it will fail.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One problem: where it is, what was expected, and what to do.
///
/// Displays as `file:line: field: message; suggestion`, leaving out the parts that are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Error or warning.
    pub severity: Severity,
    /// File or directory.
    pub file: PathBuf,
    /// 1-based line; 0 = the file as a whole.
    pub line: usize,
    /// Path of the field, for example `spec.metadata[0].value`; empty = the document.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do; empty when the message says it all.
    pub suggestion: String,
}

impl Finding {
    /// Whether the severity is [`Severity::Error`].
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.suggestion.is_empty() {
            write!(f, "; {}", self.suggestion)?;
        }
        Ok(())
    }
}
