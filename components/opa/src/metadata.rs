//! Metadata of `middleware.http.opa`.
//!
//! *Source:* components-contrib `middleware/http/opa/middleware.go`.

use http::header::HeaderName;
use pillion_contract::{ComponentError, ErrorKind, Metadata};

/// How requests are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The policy.
    pub(crate) rego: String,
    /// Status of a refusal that names none.
    pub(crate) default_status: u16,
    /// Headers that the policy sees.
    pub(crate) included_headers: Vec<HeaderName>,
    /// Whether the policy sees the body.
    pub(crate) read_body: bool,
}

impl Settings {
    /// Reads the metadata.
    ///
    /// # Errors
    /// `InvalidRequest` that names the field.
    pub(crate) fn parse(metadata: &Metadata) -> Result<Self, ComponentError> {
        let rego = metadata.required("rego")?.to_owned();
        let default_status = match metadata.get("defaultStatus").filter(|value| !value.is_empty()) {
            None => 403,
            Some(text) => text.trim().parse().ok().filter(is_status).ok_or_else(|| {
                ComponentError::new(
                    ErrorKind::InvalidRequest,
                    format!(
                        "metadata field \"defaultStatus\": {text:?} is not a status; expected a number from 100 to 599"
                    ),
                )
            })?,
        };
        let names = metadata.get("includedHeaders").unwrap_or_default();
        // As in the original, blanks inside a name are dropped too. A name that no header can have matches none.
        let included_headers = names
            .split(',')
            .map(|name| name.replace(' ', ""))
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect();
        Ok(Self { rego, default_status, included_headers, read_body: metadata.bool("readBody") })
    }
}

/// Whether a number can be the status of a response.
pub(crate) fn is_status(status: &u16) -> bool {
    (100..600).contains(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let pairs = pairs.iter().copied().chain([("rego", "package http")]);
        Settings::parse(&Metadata::new(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn statuses() {
        assert_eq!(parse(&[]).unwrap().default_status, 403);
        assert_eq!(parse(&[("defaultStatus", "100")]).unwrap().default_status, 100);
        for wrong in ["600", "99", "2.9", "null", "[]"] {
            assert!(parse(&[("defaultStatus", wrong)]).unwrap_err().contains("from 100 to 599"), "{wrong}");
        }
        let missing = Settings::parse(&Metadata::default()).unwrap_err().to_string();
        assert_eq!(missing, "metadata field \"rego\" is required but missing");
    }

    #[test]
    fn header_names() {
        let settings = parse(&[("includedHeaders", "x-my-custom-header, X-JWT-Header,,ä")]).unwrap();
        assert_eq!(settings.included_headers, ["x-my-custom-header", "x-jwt-header"]);
    }
}
