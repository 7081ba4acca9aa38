//! As much of a Kubernetes API server as sentry speaks with: the objects it reads and writes, and reviews of tokens.
//!
//! It does what the real one does where it matters: objects have versions, and one of an old version is not taken; lists are
//! narrowed by a field selector; a token is good for the audiences it names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use pillion_testkit::{Answer, FakeApp, Recorded};
use serde_json::{Value as Json, json};

/// Namespace of the control plane.
pub(crate) const SYSTEM: &str = "dapr-system";
pub(crate) const SECRET: &str = "/api/v1/namespaces/dapr-system/secrets/dapr-trust-bundle";
pub(crate) const MAP: &str = "/api/v1/namespaces/dapr-system/configmaps/dapr-trust-bundle";
const CONFIGURATION: &str = "/apis/dapr.io/v1alpha1/namespaces/dapr-system/configurations/daprsystem";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// What sentry shows to the API server.
const BEARER: &str = "Bearer of-sentry";

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Json>,
    pods: Vec<Json>,
    configurations: Vec<Json>,
    /// Paths that were written.
    written: Vec<String>,
    reviewed: Json,
    /// Paths that answer with this failure.
    broken: BTreeMap<String, (u16, String)>,
}

#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    /// As the Helm chart leaves it: Secret and ConfigMap are there and empty.
    pub(crate) fn installed() -> Self {
        let cluster = Self::default();
        for path in [SECRET, MAP] {
            cluster.put(path, json!({"metadata": {"name": "dapr-trust-bundle", "namespace": SYSTEM}}));
        }
        let spec = json!({"mtls": {"enabled": true, "workloadCertTTL": "24h", "allowedClockSkew": "15m"}});
        cluster.put(CONFIGURATION, json!({"metadata": {"name": "daprsystem", "namespace": SYSTEM}, "spec": spec}));
        cluster
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Puts an object in place, as somebody with `kubectl` does.
    pub(crate) fn put(&self, path: &str, mut object: Json) {
        let mut state = self.state();
        let version = state.objects.get(path).map_or(0, version) + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        state.objects.insert(path.to_owned(), object);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// Fills the Secret.
    pub(crate) fn put_secret(&self, root: &str, issuer: &str, key: &str) {
        let encoded = |text: &str| STANDARD.encode(text);
        let data = json!({"ca.crt": encoded(root), "issuer.crt": encoded(issuer), "issuer.key": encoded(key)});
        self.put(SECRET, json!({"metadata": {"name": "dapr-trust-bundle", "namespace": SYSTEM}, "data": data}));
    }

    /// A part of the Secret, decoded.
    pub(crate) fn secret(&self, key: &str) -> Option<String> {
        let encoded = self.state().objects[SECRET]["data"][key].as_str()?.to_owned();
        Some(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
    }

    /// All of the ConfigMap.
    pub(crate) fn map(&self) -> Json {
        self.state().objects[MAP]["data"].clone()
    }

    pub(crate) fn written(&self) -> Vec<String> {
        self.state().written.clone()
    }

    /// The audiences of the last review.
    pub(crate) fn reviewed(&self) -> Json {
        self.state().reviewed["spec"]["audiences"].clone()
    }

    pub(crate) fn add_pod(&self, namespace: &str, name: &str, account: &str, annotations: &Json) {
        self.state().pods.push(json!({
            "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
            "spec": {"serviceAccountName": account},
        }));
    }

    pub(crate) fn add_configuration(&self, namespace: &str, name: &str, trust_domain: &str) {
        let spec = json!({"accessControl": {"trustDomain": trust_domain}});
        self.state().configurations.push(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}));
    }

    /// Has a path answer with a failure, until [`Cluster::repair`].
    pub(crate) fn break_path(&self, path: &str, status: u16, message: &str) {
        self.state().broken.insert(path.to_owned(), (status, message.to_owned()));
    }

    pub(crate) fn repair(&self) {
        self.state().broken.clear();
    }

    pub(crate) async fn serve(&self) -> FakeApp {
        self.serve_on(0).await
    }

    pub(crate) async fn serve_on(&self, port: u16) -> FakeApp {
        let cluster = self.clone();
        FakeApp::listen(port, move |request, _| cluster.answer(request)).await.unwrap()
    }

    fn answer(&self, request: &Recorded) -> Answer {
        let mut state = self.state();
        if request.header("authorization") != BEARER {
            return failure(401, "Unauthorized");
        }
        if let Some((status, message)) = state.broken.get(&request.path) {
            return failure(*status, message);
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", REVIEWS) => state.review(&request.json()),
            ("GET", "/api/v1/pods") => list(&state.pods, &request.query),
            ("GET", "/apis/dapr.io/v1alpha1/configurations") => list(&state.configurations, &request.query),
            ("GET", path) => match state.objects.get(path) {
                Some(object) => Answer::json(object),
                None => failure(404, &format!("{path} not found")),
            },
            ("PUT", path) => state.replace(path, request),
            _ => failure(405, "the fake server does not know this"),
        }
    }
}

impl State {
    fn replace(&mut self, path: &str, request: &Recorded) -> Answer {
        if request.header("content-type") != "application/json" {
            return failure(415, "not JSON");
        }
        let mut object = request.json();
        let before = self.objects.get(path).map(version);
        if before.is_none() || before != Some(version(&object)) {
            return failure(409, "the object has been modified; please apply your changes to the latest version");
        }
        object["metadata"]["resourceVersion"] = (version(&object) + 1).to_string().into();
        self.written.push(path.to_owned());
        self.objects.insert(path.to_owned(), object.clone());
        Answer::json(&object)
    }

    fn review(&mut self, review: &Json) -> Answer {
        self.reviewed = review.clone();
        let status =
            reviewed(review).unwrap_or_else(|error| json!({"authenticated": false, "error": error, "user": {}}));
        Answer::json(&json!({"kind": "TokenReview", "status": status})).with_status(StatusCode::CREATED)
    }
}

fn version(object: &Json) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The status of a review: of a token that is for one of the audiences.
fn reviewed(review: &Json) -> Result<Json, String> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let parts: Vec<&str> = token.split('.').collect();
    let [_, claims, "signed"] = parts[..] else { return Err("invalid bearer token".to_owned()) };
    let claims: Json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let asked = review["spec"]["audiences"].as_array().cloned().unwrap_or_default();
    let own = claims["aud"].as_array().cloned().unwrap_or_default();
    let shared: Vec<&Json> = own.iter().filter(|one| asked.contains(one)).collect();
    if shared.is_empty() {
        return Err(format!(
            "[invalid bearer token, token audiences {own:?} is invalid for the target audiences {asked:?}]"
        ));
    }
    Ok(json!({"authenticated": true, "user": {"username": claims["sub"]}, "audiences": shared}))
}

fn list(items: &[Json], query: &str) -> Answer {
    let selector = query.replace("%3D", "=").replace("%2C", ",");
    let wanted = |item: &&Json| {
        let [namespace, name] = ["namespace", "name"].map(|key| item["metadata"][key].as_str().unwrap_or_default());
        selector == format!("fieldSelector=metadata.namespace={namespace},metadata.name={name}")
    };
    Answer::json(&json!({"kind": "List", "items": items.iter().filter(wanted).collect::<Vec<_>>()}))
}

fn failure(status: u16, message: &str) -> Answer {
    let body = json!({"kind": "Status", "status": "Failure", "code": status, "message": message});
    Answer::json(&body).with_status(StatusCode::from_u16(status).unwrap())
}

/// A token as the kubelet projects it into a pod.
pub(crate) fn token(namespace: &str, account: &str, pod: &str, audience: &str) -> String {
    let claims = json!({
        "aud": [audience],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "kubernetes.io": {"namespace": namespace, "pod": {"name": pod}, "serviceaccount": {"name": account}},
    });
    format!("e30.{}.signed", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A kubeconfig file's text.
pub(crate) fn kubeconfig(server: &str, cluster: &Json) -> String {
    let mut cluster = cluster.clone();
    cluster["server"] = server.into();
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "fake", "user": "sentry"}}],
        "clusters": [{"name": "fake", "cluster": cluster}],
        "users": [{"name": "sentry", "user": {"token": "of-sentry"}}],
    })
    .to_string()
}

/// How often somebody tried to write an object, with success or not.
pub(crate) fn writes(app: &FakeApp, path: &str) -> usize {
    app.requests(path).iter().filter(|request| request.method == Method::PUT).count()
}
