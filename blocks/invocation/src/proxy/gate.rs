//! What is looked at before a proxied call reaches the app: its path, and whether the caller may use it.

use http::Uri;
use pillion_runtime::message::normalize_method;
use pillion_security::SpiffeId;
use tonic::Status;

use super::status;
use crate::access::{AccessControl, Asked};

/// The rules of the app, and who calls.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a> {
    pub(crate) access: Option<&'a AccessControl>,
    /// As its certificate says; `None` without mutual TLS.
    pub(crate) peer: Option<&'a SpiffeId>,
}

impl Gate<'_> {
    /// Checks the path of a call; what the app gets is the path that was checked, or none.
    ///
    /// # Errors
    /// `InvalidArgument` for what no path of a call has, `Unimplemented` for one that is not its own clean form, which no
    /// app serves under that name, `PermissionDenied` when the rules do not allow it.
    pub(super) fn pass(self, uri: &Uri) -> Result<(), Status> {
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let method = normalize_method(path).map_err(|error| Status::invalid_argument(error.0))?;
        if let Some(access) = self.access {
            access.check(self.peer, &method, Asked::Service).map_err(status::from_peer)?;
        }
        if method != path {
            return Err(Status::unimplemented(format!("malformed method name: {path:?}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn only_a_clean_path_reaches_the_app() {
        let gate = Gate { access: None, peer: None };
        assert!(gate.pass(&"/pkg.Service/Method".parse().unwrap()).is_ok());
        for (path, code) in [
            ("/pkg.Service/Method?x", Code::InvalidArgument),
            ("/pkg.Service//Method", Code::Unimplemented),
            ("/other/../pkg.Service/Method", Code::Unimplemented),
            ("/pkg.Service/Method/", Code::Unimplemented),
        ] {
            let status = gate.pass(&path.parse().unwrap()).unwrap_err();
            assert_eq!(status.code(), code, "{path}: {status}");
        }
    }
}
