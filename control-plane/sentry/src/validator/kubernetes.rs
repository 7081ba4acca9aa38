//! Callers prove themselves with the service account token of their pod; Kubernetes reviews it.

use std::sync::Arc;

use async_trait::async_trait;
use pillion_core::log::Logger;
use pillion_proto::sentry::v1::SignCertificateRequest;
use pillion_security::jwt::claims_unverified;
use pillion_security::{SpiffeId, TrustDomain};
use serde_json::{Value as Json, json};

use super::{Validator, check};
use crate::kube::KubeClient;

/// The audience of tokens before 1.12.
const LEGACY_AUDIENCE: &str = "dapr.io/sentry";
const APP_ID: &str = "dapr.io/app-id";
const CONFIGURATION: &str = "dapr.io/config";
const CONTROL_PLANE: &str = "dapr.io/control-plane";
const SERVICES: &[&str] = &["operator", "placement", "injector", "sentry", "scheduler"];

/// The validator `kubernetes`.
pub(crate) struct Kubernetes {
    client: Arc<KubeClient>,
    sentry: SpiffeId,
    log: Logger,
}

impl Kubernetes {
    pub(crate) fn new(client: Arc<KubeClient>, sentry: SpiffeId, log: &Logger) -> Self {
        Self { client, sentry, log: log.scope("dapr.sentry.identity.kubernetes") }
    }

    /// Namespace and name of the service account of a token.
    async fn review(&self, token: &str) -> Result<(String, String), String> {
        let sentry = self.sentry.to_string();
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {"creationTimestamp": null},
            "spec": {"token": token, "audiences": [LEGACY_AUDIENCE, sentry]},
        });
        let answer = self.client.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
        let answer = answer.map_err(|error| format!("token review failed: {error}"))?;
        let status = answer.get("status").cloned().unwrap_or_default();
        if let Some(error) = status.get("error").and_then(Json::as_str).filter(|error| !error.is_empty()) {
            return Err(format!("invalid token: {error}"));
        }
        if status.get("authenticated").and_then(Json::as_bool) != Some(true) {
            return Err("authentication failed".to_owned());
        }
        // A server that knows of audiences names those it found; one that does not has checked the token for itself.
        let found = status.get("audiences").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        if !found.is_empty() && !found.iter().any(|one| *one == LEGACY_AUDIENCE || *one == sentry) {
            return Err(format!("invalid token: it is for other audiences, expected {sentry}"));
        }
        let user = status.pointer("/user/username").and_then(Json::as_str).unwrap_or_default();
        match user.split(':').collect::<Vec<_>>()[..] {
            ["system", _, namespace, account] => Ok((namespace.to_owned(), account.to_owned())),
            _ => Err("provided token is not a properly structured service account token".to_owned()),
        }
    }

    /// The id a pod may have, and whether it is a service of the control plane.
    fn expected_id(&self, pod: &Json, namespace: &str, name: &str) -> Result<(String, bool), String> {
        let Some(service) = annotation(pod, CONTROL_PLANE) else {
            return Ok((annotation(pod, APP_ID).unwrap_or(name).to_owned(), false));
        };
        if namespace != self.sentry.namespace() {
            return Err(format!("control plane service in namespace '{namespace}' is not allowed"));
        }
        if !SERVICES.contains(&service) {
            return Err(format!("unknown control plane service '{name}'"));
        }
        if annotation(pod, APP_ID).is_some() {
            return Err(format!("control plane service '{service}' cannot have annotation '{APP_ID}'"));
        }
        Ok((format!("dapr-{service}"), true))
    }

    /// The trust domain of an application: that of its Configuration, else `public`.
    async fn trust_domain(&self, pod: &Json, namespace: &str) -> Result<TrustDomain, String> {
        let Some(name) = annotation(pod, CONFIGURATION) else { return Ok(TrustDomain::public()) };
        let found = self.client.find("/apis/dapr.io/v1alpha1/configurations", namespace, name).await;
        let configuration = found.map_err(|error| {
            self.log.error(format_args!("Failed to get configuration {name:?}: {error}"));
            "failed to get configuration".to_owned()
        })?;
        match configuration.pointer("/spec/accessControl/trustDomain").and_then(Json::as_str) {
            None | Some("") => Ok(TrustDomain::public()),
            Some(text) => {
                TrustDomain::parse(text).map_err(|error| format!("failed to parse trust domain {text:?}: {error}"))
            }
        }
    }
}

#[async_trait]
impl Validator for Kubernetes {
    async fn validate(&self, request: &SignCertificateRequest) -> Result<TrustDomain, String> {
        check(request)?; // the trust domain that is asked for does not count
        let (namespace, account) = self.review(&request.token).await?;
        let claims =
            claims_unverified(&request.token).map_err(|error| format!("failed to parse Kubernetes token: {error}"))?;
        let name = claims
            .pointer("/kubernetes.io/pod/name")
            .and_then(Json::as_str)
            .filter(|name| !name.is_empty())
            .ok_or("kubernetes.io/pod/name claim is missing from Kubernetes token")?;
        let pod = self.client.find("/api/v1/pods", &namespace, name).await.map_err(|error| {
            self.log.error(format_args!("Failed to get pod {namespace}/{name} for requested identity: {error}"));
            "failed to get pod of identity".to_owned()
        })?;
        if namespace != request.namespace {
            return Err(format!("namespace mismatch; received namespace: {}", request.namespace));
        }
        if pod.pointer("/spec/serviceAccountName").and_then(Json::as_str) != Some(&account) {
            self.log.error(format_args!("Service account on pod {namespace}/{name} does not match token"));
            return Err("pod service account mismatch".to_owned());
        }
        let (expected, control_plane) = self.expected_id(&pod, &namespace, name)?;
        if expected != request.id {
            return Err(format!("app-id mismatch. expected: {expected}, received: {}", request.id));
        }
        if control_plane {
            return Ok(self.sentry.trust_domain().clone());
        }
        self.trust_domain(&pod, &namespace).await
    }
}

fn annotation<'a>(pod: &'a Json, name: &str) -> Option<&'a str> {
    pod.pointer("/metadata/annotations").and_then(|annotations| annotations.get(name)).and_then(Json::as_str)
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
