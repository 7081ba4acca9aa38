//! `pathFilter`: the regular expression of the paths a middleware handles.

use pillion_contract::{ComponentError, ErrorKind, InitContext};
use regex::Regex;

use crate::form;

/// Which requests a middleware handles; without an expression, all.
pub(crate) struct PathFilter(Option<Regex>);

impl PathFilter {
    /// Reads the metadata field `pathFilter`.
    ///
    /// # Errors
    /// `InvalidRequest` when it is not a regular expression.
    pub(crate) fn new(context: &InitContext) -> Result<Self, ComponentError> {
        let Some(text) = context.metadata.get("pathFilter").filter(|text| !text.is_empty()) else {
            return Ok(Self(None));
        };
        let expression = Regex::new(text).map_err(|error| {
            let message = format!("metadata field \"pathFilter\": {text:?} is not a valid regex");
            ComponentError::caused(ErrorKind::InvalidRequest, message, error)
        })?;
        Ok(Self(Some(expression)))
    }

    /// Whether the decoded path matches.
    pub(crate) fn matches(&self, uri: &http::Uri) -> bool {
        self.0.as_ref().is_none_or(|expression| expression.is_match(&form::decode_path(uri.path())))
    }
}
