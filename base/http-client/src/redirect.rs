//! Where a redirect leads.

use http::Uri;

use crate::Error;

/// The target of a `Location` that was answered for `from`.
pub(crate) fn join(from: &Uri, location: &str) -> Result<Uri, Error> {
    let scheme = from.scheme_str().unwrap_or("http");
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let full = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    match full.parse::<Uri>() {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(uri),
        _ => Err(Error::Url(location.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_whole_or_parts() {
        let from: Uri = "https://host:1/a/b.wasm".parse().unwrap();
        let cases = [
            ("c", "https://host:1/a/c"),
            ("/c?d", "https://host:1/c?d"),
            ("//other/c", "https://other/c"),
            ("http://other/c", "http://other/c"),
        ];
        for (location, expected) in cases {
            assert_eq!(join(&from, location).unwrap().to_string(), expected);
        }
        assert!(join(&from, "file:///etc/passwd").is_err());
    }
}
