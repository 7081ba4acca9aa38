//! Every error a client can provoke, over HTTP and gRPC: status, body, details. The same expectations hold for the original.
//!
//! A case is a call and what it answers, as JSON. `<app>` in an expectation is the sidecar's app id; a text that ends with
//! `…` is compared up to there, because what follows is the wording of a JSON reader or of an operating system.

mod grpc;
mod http;
mod limits;
mod refused;

use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc;
use pillion_testkit::{Reply, ResourceDir, Sidecar, SidecarOptions};
use prost::Message as _;
use serde_json::{Map, Value, json};
use tonic::Status;

use crate::fixture::{STATE, unique};

const PUBSUB: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mypub}
spec:
  type: pubsub.in-memory
  version: v1
  metadata:
  - {name: protectedTopics, value: secret}
";

/// A sidecar with a store, a broker and secrets of which one is denied. The directories live as long as it.
pub(super) struct Loaded {
    pub(super) sidecar: Sidecar,
    _dirs: [ResourceDir; 2],
}

impl Loaded {
    pub(super) async fn start(flags: &[&str]) -> Self {
        let configuration = "
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: scoped}
spec:
  secrets:
    scopes:
    - {storeName: mysecrets, deniedSecrets: [two]}
";
        let data = ResourceDir::new().unwrap().with("secrets.json", r#"{"one":"1","two":"2"}"#).unwrap();
        let data = data.with("config.yaml", configuration).unwrap();
        let secrets = format!(
            "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: mysecrets}}
spec:
  type: secretstores.local.file
  version: v1
  metadata:
  - {{name: secretsFile, value: '{}'}}
",
            data.path().join("secrets.json").display()
        );
        let dir = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap().with("pubsub.yaml", PUBSUB).unwrap();
        let dir = dir.with("secrets.yaml", &secrets).unwrap();
        let mut options = SidecarOptions::new(&unique("errors")).resources(dir.path());
        options = options.configuration(&data.path().join("config.yaml"));
        for flag in flags {
            options = options.flag(flag);
        }
        Self { sidecar: options.start().await.unwrap(), _dirs: [data, dir] }
    }
}

/// What differs, collected so that one run shows everything.
#[derive(Default)]
pub(super) struct Differences(Vec<String>);

impl Differences {
    pub(super) fn compare(&mut self, app_id: &str, what: &str, expected: &Value, answer: &Value) {
        let expected: Value = serde_json::from_str(&expected.to_string().replace("<app>", app_id)).unwrap();
        if !fits(&expected, answer) {
            self.0.push(format!("{what}\n  expected {expected}\n  answered {answer}"));
        }
    }

    pub(super) fn none(self) {
        assert!(self.0.is_empty(), "{} cases differ:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn fits(expected: &Value, answer: &Value) -> bool {
    match (expected, answer) {
        (Value::String(expected), Value::String(answer)) => match expected.strip_suffix('…') {
            Some(beginning) => answer.starts_with(beginning),
            None => expected == answer,
        },
        (Value::Array(expected), Value::Array(answer)) => {
            expected.len() == answer.len()
                && expected.iter().zip(answer).all(|(expected, answer)| fits(expected, answer))
        }
        (Value::Object(expected), Value::Object(answer)) => {
            expected.len() == answer.len()
                && expected.iter().all(|(key, value)| answer.get(key).is_some_and(|answer| fits(value, answer)))
        }
        _ => expected == answer,
    }
}

/// Status and body; a body that is not JSON is shown as text.
pub(super) fn shown_reply(reply: &Reply) -> Value {
    let body = serde_json::from_slice(&reply.body).unwrap_or_else(|_| Value::String(reply.text()));
    json!([reply.status.as_u16(), reply.header("content-type"), body])
}

/// Code, message and details of a status.
pub(super) fn shown_status(status: &Status) -> Value {
    let code = format!("{:?}", status.code());
    let decoded = rpc::Status::decode(status.details()).unwrap_or_default();
    let details: Vec<Value> = decoded.details.iter().map(shown_detail).collect();
    json!([code, status.message(), details])
}

fn shown_detail(any: &Any) -> Value {
    let name = any.type_url.rsplit('.').next().unwrap_or_default();
    match name {
        "ErrorInfo" => {
            let info = rpc::ErrorInfo::decode(&any.value[..]).unwrap();
            let metadata: Map<String, Value> =
                info.metadata.into_iter().map(|(key, value)| (key, value.into())).collect();
            json!({"ErrorInfo": info.reason, "domain": info.domain, "metadata": metadata})
        }
        "ResourceInfo" => {
            let info = rpc::ResourceInfo::decode(&any.value[..]).unwrap();
            json!({"ResourceInfo": info.resource_name, "type": info.resource_type, "owner": info.owner, "description": info.description})
        }
        "BadRequest" => {
            let bad = rpc::BadRequest::decode(&any.value[..]).unwrap();
            let violations =
                bad.field_violations.into_iter().map(|violation| json!([violation.field, violation.description]));
            json!({"BadRequest": violations.collect::<Vec<_>>()})
        }
        "Help" => {
            let help = rpc::Help::decode(&any.value[..]).unwrap();
            json!({"Help": help.links.into_iter().map(|link| json!([link.description, link.url])).collect::<Vec<_>>()})
        }
        other => json!(other),
    }
}

/// `ErrorInfo` as HTTP shows it.
pub(super) fn info(reason: &str, metadata: Value) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "dapr.io", "metadata": metadata})
}

/// `ResourceInfo` as HTTP shows it.
pub(super) fn resource(resource_type: &str, name: &str, description: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ResourceInfo", "resource_type": resource_type, "resource_name": name,
        "owner": "", "description": description,
    })
}
