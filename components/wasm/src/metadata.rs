//! Metadata of `middleware.http.wasm`.
//!
//! *Source:* components-contrib `common/wasm/wasm.go`, `middleware/http/wasm/httpwasm.go`.

use pillion_contract::{ComponentError, ErrorKind, Metadata};

/// Where a guest comes from and how it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where the module is.
    pub(crate) location: Location,
    /// What `get_config` gives to the guest.
    pub(crate) guest_config: Vec<u8>,
    /// Fake clocks and random numbers, sleeping takes no time.
    pub(crate) strict_sandbox: bool,
}

/// Where a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A path, relative ones from the working directory.
    File(String),
    /// An address to fetch from.
    Http(http::Uri),
}

impl Settings {
    /// Reads the metadata.
    ///
    /// # Errors
    /// `InvalidRequest` that says what is wrong with `url`.
    pub(crate) fn parse(metadata: &Metadata) -> Result<Self, ComponentError> {
        let url = metadata.get("url").unwrap_or_default();
        Ok(Self {
            location: location(url).map_err(|problem| {
                ComponentError::new(ErrorKind::InvalidRequest, format!("wasm: failed to parse metadata: {problem}"))
            })?,
            guest_config: metadata.get("guestConfig").unwrap_or_default().as_bytes().to_vec(),
            strict_sandbox: metadata.bool("strictSandbox"),
        })
    }
}

fn location(url: &str) -> Result<Location, String> {
    if url.is_empty() {
        return Err("missing url; expected file://path, http://… or https://…".to_owned());
    }
    let (scheme, rest) = url.split_once(':').ok_or_else(|| format!("invalid URL: {url}"))?;
    match scheme {
        "file" => match rest.strip_prefix("//") {
            Some(path) if !path.is_empty() => Ok(Location::File(path.to_owned())),
            _ => Err(format!("invalid URL: {url}; expected file:// and a path")),
        },
        "http" | "https" => match url.parse::<http::Uri>() {
            Ok(uri) if uri.host().is_some() => Ok(Location::Http(uri)),
            Ok(_) => Err(format!("invalid URL: {url}; it has no host")),
            Err(problem) => Err(format!("invalid URL: {url}: {problem}")),
        },
        _ => Err(format!("unsupported URL scheme: {scheme}; expected file, http or https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let file = |path: &str| Ok(Location::File(path.to_owned()));
        for (url, expected) in [
            ("file://guest.wasm", file("guest.wasm")),
            ("file:///opt/guest.wasm", file("/opt/guest.wasm")),
            ("https://host/a.wasm", Ok(Location::Http("https://host/a.wasm".parse().unwrap()))),
            ("", Err("missing url")),
            ("guest.wasm", Err("invalid URL: guest.wasm")),
            ("file://", Err("invalid URL: file://;")),
            ("http:///x", Err("invalid URL")),
            ("oci://image", Err("unsupported URL scheme: oci")),
        ] {
            match (location(url), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{url}: {found}"),
                (found, expected) => panic!("{url}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn names_match_without_case() {
        let pairs = [("URL", "file://a"), ("guestconfig", "x"), ("strictSandbox", "true")];
        let settings = Settings::parse(&Metadata::new(pairs)).unwrap();
        assert_eq!((settings.guest_config.as_slice(), settings.strict_sandbox), (b"x".as_slice(), true));
        let missing = Settings::parse(&Metadata::default()).unwrap_err().to_string();
        assert!(missing.starts_with("wasm: failed to parse metadata: missing url"), "{missing}");
    }
}
