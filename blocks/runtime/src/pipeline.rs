//! Runs HTTP middleware around a request of the sidecar.
//!
//! *Neighbours:* the HTTP front, the app channel and calls to HTTPEndpoints ask [`HttpPipeline::is_empty`] first and come here only
//! with middleware. *Invariant:* a body no middleware touches is passed on as it is, a stream stays a stream.

use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use pillion_contract::{HttpBody, HttpPipeline};

use crate::body::Body;

/// Sends a request through the middleware and on to `end`; what `end` fails with is returned whatever the middleware made of it.
///
/// Middleware sees the URI in origin form and the host as a header.
///
/// # Errors
/// Those of `end`.
pub async fn through<E, F, Fut>(pipeline: &HttpPipeline, request: Request<Body>, end: F) -> Result<Response<Body>, E>
where
    E: Send,
    F: FnOnce(Request<Body>) -> Fut + Send,
    Fut: Future<Output = Result<Response<Body>, E>> + Send,
{
    let (mut parts, body) = request.into_parts();
    if let Some(authority) = parts.uri.authority()
        && !parts.headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
    if let Some(target) = parts.uri.path_and_query() {
        parts.uri = Uri::from(target.clone());
    }
    let mut failed = None;
    let failure = &mut failed;
    let end = |request: Request<HttpBody>| async move {
        match end(request.map(own)).await {
            Ok(response) => response.map(HttpBody::new),
            Err(error) => {
                *failure = Some(error);
                let mut response = Response::new(HttpBody::new(Body::empty()));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    };
    let response = pipeline.run(Request::from_parts(parts, HttpBody::new(body)), end).await;
    match failed {
        Some(error) => Err(error),
        None => Ok(response.map(own)),
    }
}

fn own(body: HttpBody) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::boxed(body) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pillion_contract::{HttpMiddleware, HttpRequest, HttpResponse, Next, full_body};

    use super::*;

    struct Answers(bool);

    #[async_trait::async_trait]
    impl HttpMiddleware for Answers {
        async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse {
            assert_eq!(request.uri(), "/a?b=c");
            assert_eq!(request.headers()[HOST], "host:1");
            if self.0 { next.run(request).await } else { Response::new(full_body("mine")) }
        }
    }

    async fn send(passes: bool, end: Result<&'static str, &'static str>) -> Result<String, &'static str> {
        let pipeline = HttpPipeline::new([Arc::new(Answers(passes)) as Arc<dyn HttpMiddleware>]);
        let mut request = Request::new(Body::full("question"));
        *request.uri_mut() = Uri::from_static("http://host:1/a?b=c");
        let end = |request: Request<Body>| async move {
            assert_eq!(request.into_body().collect(0).await.unwrap(), "question");
            end.map(|text| Response::new(Body::full(text)))
        };
        let body = through(&pipeline, request, end).await?.into_body().collect(0).await.unwrap();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_come_from_middleware_or_from_the_end() {
        assert_eq!(send(true, Ok("theirs")).await.unwrap(), "theirs");
        assert_eq!(send(true, Err("unreachable")).await, Err("unreachable"));
        assert_eq!(send(false, Err("not asked")).await.unwrap(), "mine");
    }
}
