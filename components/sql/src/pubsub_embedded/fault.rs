//! The error of this component: cheap to clone, because one failed commit answers many callers.

use std::path::Path;

use pillion_contract::{ComponentError, ErrorKind};
use rusqlite::ErrorCode;

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    /// Nothing will work again before a restart.
    pub(super) is_final: bool,
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message, is_final: false }
    }

    pub(super) fn closed() -> Self {
        Self { is_final: true, ..Self::new(ErrorKind::Unavailable, "component is closed".to_owned()) }
    }

    /// Somebody deleted or replaced the database below the running process.
    pub(super) fn lost(path: &Path) -> Self {
        let message = format!(
            "the broker database {} was removed or replaced while in use; restart this sidecar",
            path.display()
        );
        Self { is_final: true, ..Self::new(ErrorKind::Unavailable, message) }
    }

    /// An error of SQLite while doing something to the database, with what to do about it.
    pub(super) fn sqlite(doing: &str, path: &Path, error: &rusqlite::Error) -> Self {
        let (kind, advice) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => (ErrorKind::Unavailable, "free some space on that disk"),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
                ErrorKind::Unavailable,
                "make the directory and its files writable for this user, or set metadata field \"directory\"",
            ),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
                ErrorKind::Internal,
                "the file is damaged or no broker database; move it away or set metadata field \"directory\"",
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (ErrorKind::Unavailable, "another process held it for too long; try again")
            }
            Some(ErrorCode::SystemIoFailure) => (ErrorKind::Unavailable, "the disk does not answer properly"),
            Some(ErrorCode::TooBig) => (ErrorKind::InvalidRequest, "a message may have at most 1 GB"),
            _ => (ErrorKind::Internal, "this should not happen"),
        };
        Self::new(kind, format!("cannot {doing} {}: {error} ({advice})", path.display()))
    }
}

impl From<Fault> for ComponentError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind, fault.message)
    }
}
