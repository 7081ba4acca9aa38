//! Access control: who may call what of an application, with and without identities, and all ways around it that were tried.
//!
//! With identities both sidecars get them from a sentry. `PILLION_BIN_SENTRY` names that of the original when the sidecar is
//! the original's.

mod attacks;
mod crafted;
mod identities;
mod plain;

use std::io::Write as _;

use pillion_proto::common::v1::http_extension::Verb;
use pillion_proto::common::v1::{HttpExtension, InvokeRequest};
use pillion_proto::runtime::v1::InvokeServiceRequest;
use pillion_proto::runtime::v1::dapr_client::DaprClient;
use pillion_testkit::{Answer, FakeApp, Recorded, Sidecar, SidecarOptions};
use tempfile::NamedTempFile;
use tonic::Status;

use crate::fixture::unique;
use crate::sentry::Sentry;

/// A Configuration with these access rules.
fn rules(spec: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let head = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: rules}\nspec:\n  accessControl:\n";
    write!(file, "{head}").unwrap();
    for line in spec.trim_matches('\n').lines() {
        writeln!(file, "    {line}").unwrap();
    }
    file
}

async fn sentry() -> Sentry {
    let directory = tempfile::tempdir().unwrap();
    // The original does not start without the file.
    let settings = directory.path().join("empty.yaml");
    std::fs::write(&settings, "").unwrap();
    Sentry::start(directory, &[&format!("-config={}", settings.display())]).await
}

fn secured(app_id: &str, sentry: &Sentry) -> SidecarOptions {
    SidecarOptions::new(app_id)
        .flag("--enable-mtls")
        .flag(&format!("--sentry-address=127.0.0.1:{}", sentry.port))
        .environment("DAPR_TRUST_ANCHORS", &std::fs::read_to_string(sentry.roots()).unwrap())
}

/// An HTTP application that says which path came.
async fn http_app() -> FakeApp {
    FakeApp::start(|request: &Recorded, _| Answer::text(format!("{} {}", request.method, request.path))).await.unwrap()
}

/// Calls through `InvokeService`; the body of the answer as text.
async fn invoke(caller: &Sidecar, callee: &str, method: &str, verb: Verb) -> Result<String, Status> {
    let mut client = DaprClient::connect(format!("http://127.0.0.1:{}", caller.grpc)).await.unwrap();
    let message = InvokeRequest {
        method: method.to_owned(),
        http_extension: Some(HttpExtension { verb: verb.into(), querystring: String::new() }),
        ..InvokeRequest::default()
    };
    let request = InvokeServiceRequest { id: callee.to_owned(), message: Some(message) };
    let answer = client.invoke_service(request).await?.into_inner();
    Ok(String::from_utf8_lossy(&answer.data.unwrap_or_default().value).into_owned())
}

fn path(callee: &str, method: &str) -> String {
    format!("/v1.0/invoke/{callee}/method/{method}")
}

/// What a caller gets that is denied.
fn denial(identity: &str, operation: &str, verb: &str) -> String {
    format!("access control policy has denied access to id: {identity} operation: {operation} verb: {verb}")
}

/// A callee with rules for a caller, both with identities.
struct Secured {
    caller: Sidecar,
    callee: Sidecar,
    sentry: Sentry,
    _rules: NamedTempFile,
}

impl Secured {
    /// `spec` gets the caller's id in the place of `CALLER`.
    async fn start(app_port: u16, protocol: &str, spec: &str) -> Self {
        let sentry = sentry().await;
        let (calling, called) = (unique("caller"), unique("callee"));
        let rules = rules(&spec.replace("CALLER", &calling));
        let callee = secured(&called, &sentry).app_port(app_port).app_protocol(protocol).configuration(rules.path());
        let callee = callee.start().await.unwrap();
        let caller = secured(&calling, &sentry).start().await.unwrap();
        Self { caller, callee, sentry, _rules: rules }
    }

    fn identity(&self) -> String {
        format!("spiffe://public/ns/default/{}", self.caller.app_id())
    }
}

/// Nothing is allowed but one path.
const PUBLIC_ONLY: &str = "
defaultAction: deny
trustDomain: public
policies:
- appId: CALLER
  defaultAction: deny
  trustDomain: public
  namespace: default
  operations:
  - {name: /public, httpVerb: ['*'], action: allow}
";
