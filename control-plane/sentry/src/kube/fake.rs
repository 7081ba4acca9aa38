//! A fake API server: resources by path, which may be written back, and token reviews.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use super::KubeClient;

/// What the server holds and was asked.
#[derive(Clone, Default)]
pub(crate) struct FakeKube(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    resources: HashMap<String, Json>,
    reviews: HashMap<String, Json>,
    writes: Vec<String>,
    last_review: Json,
}

impl FakeKube {
    /// Puts a resource or list at a path.
    pub(crate) fn with(self, path: &str, resource: Json) -> Self {
        self.0.lock().resources.insert(path.to_owned(), resource);
        self
    }

    /// Answers the review of a token with a status.
    pub(crate) fn with_review(self, token: &str, status: Json) -> Self {
        self.0.lock().reviews.insert(token.to_owned(), status);
        self
    }

    pub(crate) fn get(&self, path: &str) -> Json {
        self.0.lock().resources.get(path).cloned().unwrap_or_default()
    }

    /// Paths that were written, in order.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.0.lock().writes.clone()
    }

    pub(crate) fn last_review(&self) -> Json {
        self.0.lock().last_review.clone()
    }

    /// Serves for the rest of the test.
    pub(crate) async fn client(&self) -> Arc<KubeClient> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let fake = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let fake = fake.clone();
                let service = service_fn(move |request| {
                    let fake = fake.clone();
                    async move { Ok::<_, Infallible>(fake.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Arc::new(KubeClient::plain(server))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let mut state = self.0.lock();
        let found = if parts.headers[header::AUTHORIZATION] != "Bearer secret" {
            None
        } else if parts.method == Method::GET {
            state.resources.get(&path).cloned()
        } else {
            assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
            let sent: Json = serde_json::from_slice(&body).unwrap();
            state.writes.push(path.clone());
            if parts.method == Method::PUT {
                state.resources.insert(path, sent.clone());
                Some(sent)
            } else {
                state.last_review = sent["spec"].clone();
                let token = sent["spec"]["token"].as_str().unwrap_or_default();
                state.reviews.get(token).map(|status| json!({"status": status}))
            }
        };
        let mut response = Response::new(Full::from(found.clone().unwrap_or_default().to_string()));
        if found.is_none() {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response
    }
}
