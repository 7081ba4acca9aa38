//! SPIFFE ids of Dapr: `spiffe://<trust domain>/ns/<namespace>/<app id>`.
//!
//! *Source:* spec internals.md §5.1; the characters are those of the SPIFFE standard.

use std::fmt;

use crate::Error;

/// The trust domain of applications that say nothing else.
pub const PUBLIC: &str = "public";
/// Longest SPIFFE id. *Source:* the SPIFFE standard, §2.
const MAX_ID_BYTES: usize = 2048;
/// Longest trust domain. *Source:* the SPIFFE standard, §2.1.
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// Name of a trust domain: lower-case letters, digits, dots, dashes and underscores.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Reads a name, or takes the one of a SPIFFE id.
    ///
    /// # Errors
    /// Names the text and the accepted characters.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let name = match text.strip_prefix("spiffe://") {
            Some(rest) => rest.split('/').next().unwrap_or_default(),
            None => text,
        };
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if name.is_empty() {
            return Err(Error::Spiffe("trust domain is missing".to_owned()));
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES || !name.bytes().all(good) {
            return Err(Error::Spiffe(format!(
                "invalid trust domain {text:?}: trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores"
            )));
        }
        Ok(Self(name.to_owned()))
    }

    /// The domain `public`.
    #[must_use]
    pub fn public() -> Self {
        Self(PUBLIC.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of an application or of a service of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: String,
    app_id: String,
}

impl SpiffeId {
    /// Puts an id together.
    ///
    /// # Errors
    /// Names the part with a character that has no place in a path segment.
    pub fn new(trust_domain: TrustDomain, namespace: &str, app_id: &str) -> Result<Self, Error> {
        for (what, segment) in [("namespace", namespace), ("app ID", app_id)] {
            check_segment(segment).map_err(|reason| Error::Spiffe(format!("invalid {what} {segment:?}: {reason}")))?;
        }
        let id = Self { trust_domain, namespace: namespace.to_owned(), app_id: app_id.to_owned() };
        if id.to_string().len() > MAX_ID_BYTES {
            return Err(Error::Spiffe(format!("SPIFFE id is longer than {MAX_ID_BYTES} bytes")));
        }
        Ok(id)
    }

    /// Reads `spiffe://<trust domain>/ns/<namespace>/<app id>`.
    ///
    /// # Errors
    /// Names the text and the form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let other = || {
            Error::Spiffe(format!(
                "{text:?} is not an identity of Dapr: expected spiffe://<trust domain>/ns/<namespace>/<app id>"
            ))
        };
        let rest = text.strip_prefix("spiffe://").ok_or_else(other)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "ns", namespace, app_id] = parts[..] else { return Err(other()) };
        Self::new(TrustDomain::parse(trust_domain)?, namespace, app_id)
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The app id, or the name of a service of the control plane such as `dapr-sentry`.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/{}", self.trust_domain, self.namespace, self.app_id)
    }
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    match segment {
        "" => Err("path cannot contain empty segments"),
        "." | ".." => Err("path cannot contain dot segments"),
        _ if segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) => Ok(()),
        _ => Err("path segment characters are limited to letters, numbers, dots, dashes, and underscores"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        let text = "spiffe://public/ns/default/my-app_1.x";
        let id = SpiffeId::parse(text).unwrap();
        assert_eq!((id.trust_domain().as_str(), id.namespace(), id.app_id()), ("public", "default", "my-app_1.x"));
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn other_ids_are_refused() {
        for text in [
            "",
            "public/ns/a/b",
            "spiffe://public/ns/a",
            "spiffe://public/ns/a/b/c",
            "spiffe://public/sa/a/b",
            "spiffe:///ns/a/b",
            "spiffe://Public/ns/a/b",
            "spiffe://public/ns//b",
            "spiffe://public/ns/../b",
            "spiffe://public/ns/a/b?x",
            "spiffe://public/ns/a/b%2f",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
        assert!(SpiffeId::new(TrustDomain::public(), "a", "b/c").is_err());
        assert!(SpiffeId::new(TrustDomain::public(), &"n".repeat(2000), &"b".repeat(64)).is_err());
    }

    #[test]
    fn a_trust_domain_may_come_from_an_id() {
        assert_eq!(TrustDomain::parse("spiffe://cluster.local/ns/a/b").unwrap().as_str(), "cluster.local");
        assert!(TrustDomain::parse("a b").is_err());
        assert!(TrustDomain::parse(&"a".repeat(256)).is_err());
    }
}
