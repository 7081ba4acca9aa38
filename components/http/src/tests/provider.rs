//! An OpenID Connect and OAuth2 provider on a local port, as small as the tests need it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// What was asked: `VERB target`, the `authorization` header, the body.
pub(super) type Asked = (String, String, String);
type Answer = Box<dyn Fn(&Asked) -> (u16, &'static str, String) + Send + Sync>;

pub(super) struct Provider {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    /// Serves what `answer` says: status, content type, body. It gets the provider's URL first.
    pub(super) async fn start<F>(make: impl FnOnce(&str) -> F) -> Self
    where
        F: Fn(&Asked) -> (u16, &'static str, String) + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer: Arc<Answer> = Arc::new(Box::new(make(&url)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, all) = (answer.clone(), all.clone());
                let service = service_fn(move |request| respond(request, answer.clone(), all.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, asked }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<Answer>,
    all: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let authorization = parts.headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
    let asked = (format!("{} {}", parts.method, parts.uri), authorization, String::from_utf8_lossy(&body).into_owned());
    all.lock().push(asked.clone());
    let (status, kind, text) = answer(&asked);
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(if status == 302 { "location" } else { "content-type" }, kind.parse().unwrap());
    Ok(response)
}
