//! What proves to sentry who asks for an identity. *Source:* `pkg/security/token` of the original.

use std::path::{Path, PathBuf};

use pillion_proto::sentry::v1::sign_certificate_request::TokenValidator;

use crate::Error;

/// Where Kubernetes puts the token of a pod, the present place first.
const KUBERNETES: [&str; 2] =
    ["/var/run/secrets/dapr.io/sentrytoken/token", "/var/run/secrets/kubernetes.io/serviceaccount/token"];

/// Where a token comes from; it is read anew for every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenSource {
    /// No token: sentry takes its default validator.
    #[default]
    None,
    /// A file with a token for the validator `jwks`, or in Kubernetes for that of Kubernetes.
    File {
        /// Where it is.
        path: PathBuf,
        /// For the validator of Kubernetes.
        kubernetes: bool,
    },
    /// The token of the pod, if there is one.
    Pod,
}

impl TokenSource {
    /// As the variable `DAPR_SENTRY_TOKEN_FILE` says.
    ///
    /// # Errors
    /// When it is set and empty.
    pub fn of_variable(file: Option<&str>, kubernetes: bool) -> Result<Self, Error> {
        match file {
            Some("") => Err(Error::new(
                "sentry_token",
                "environmental variable DAPR_SENTRY_TOKEN_FILE is set with an empty value: \
                 set it to the path of a token, or leave it out",
            )),
            Some(path) => Ok(Self::File { path: path.into(), kubernetes }),
            None if kubernetes => Ok(Self::Pod),
            None => Ok(Self::None),
        }
    }

    /// The token and the validator it is for.
    pub(crate) async fn read(&self) -> Result<(String, TokenValidator), Error> {
        match self {
            Self::None => Ok((String::new(), TokenValidator::Unknown)),
            Self::File { path, kubernetes } => {
                let validator = if *kubernetes { TokenValidator::Kubernetes } else { TokenValidator::Jwks };
                Ok((content(path).await?, validator))
            }
            Self::Pod => {
                for path in KUBERNETES {
                    if let Ok(token) = content(Path::new(path)).await {
                        return Ok((token, TokenValidator::Kubernetes));
                    }
                }
                Ok((String::new(), TokenValidator::Unknown))
            }
        }
    }
}

async fn content(path: &Path) -> Result<String, Error> {
    let told = |reason: &dyn std::fmt::Display| {
        Error::new(
            "sentry_token",
            format!(
                "error obtaining token: failed to read token at path '{}': {reason}; check DAPR_SENTRY_TOKEN_FILE",
                path.display()
            ),
        )
    };
    let token = tokio::fs::read_to_string(path).await.map_err(|error| told(&error))?;
    if token.is_empty() { Err(told(&"it is empty")) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokens_come_with_their_validator() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "abc").unwrap();
        let path = file.to_str().unwrap();
        let read = async |kubernetes| TokenSource::of_variable(Some(path), kubernetes).unwrap().read().await.unwrap();
        assert_eq!(read(false).await, ("abc".to_owned(), TokenValidator::Jwks));
        assert_eq!(read(true).await, ("abc".to_owned(), TokenValidator::Kubernetes));
        let none = TokenSource::of_variable(None, false).unwrap().read().await.unwrap();
        assert_eq!(none, (String::new(), TokenValidator::Unknown));
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let source = TokenSource::of_variable(file.to_str(), false).unwrap();
        assert!(source.read().await.unwrap_err().to_string().contains("token"));
        std::fs::write(&file, "").unwrap();
        assert!(source.read().await.unwrap_err().to_string().contains("empty"));
        assert!(TokenSource::of_variable(Some(""), false).unwrap_err().to_string().contains("DAPR_SENTRY_TOKEN_FILE"));
    }
}
