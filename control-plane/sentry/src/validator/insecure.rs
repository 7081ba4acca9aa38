//! Takes everybody at their word: for machines whose users trust each other.

use async_trait::async_trait;
use pillion_proto::sentry::v1::SignCertificateRequest;
use pillion_security::TrustDomain;

use super::{Validator, check};

/// The validator `insecure`.
pub(crate) struct Insecure;

#[async_trait]
impl Validator for Insecure {
    async fn validate(&self, request: &SignCertificateRequest) -> Result<TrustDomain, String> {
        check(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_problems_are_told() {
        let error = Insecure.validate(&SignCertificateRequest::default()).await.unwrap_err();
        assert_eq!(error, "invalid request: parameter app-id cannot be empty\nCSR is required\nnamespace is required");
        let mut request = SignCertificateRequest {
            id: "a".to_owned(),
            namespace: "n".to_owned(),
            certificate_signing_request: "x".into(),
            ..SignCertificateRequest::default()
        };
        assert_eq!(Insecure.validate(&request).await.unwrap().as_str(), "public");
        request.trust_domain = "example.org".to_owned();
        assert_eq!(Insecure.validate(&request).await.unwrap().as_str(), "example.org");
        request.id = "a.b".repeat(40);
        let error = Insecure.validate(&request).await.unwrap_err();
        assert!(error.contains("dots") && error.contains("64 characters"), "{error}");
    }
}
