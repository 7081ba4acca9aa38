//! What identity providers are asked: documents and forms, over the client of the house.
//!
//! *Neighbours:* `bearer` reads documents with it, `token_endpoint` posts forms.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use pillion_http_client::{Client, Error, Limits, request_to};

/// Time: *Source:* the limit of the original for the discovery document. Bytes: documents and tokens have a few kilobytes.
const LIMITS: Limits = Limits { time: Duration::from_secs(30), body_bytes: 1 << 20 };
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, */*");

/// A client with the limits of a provider.
pub(crate) fn client() -> Client {
    Client::new(LIMITS)
}

/// `GET`, following redirects.
pub(crate) async fn get(client: &Client, url: &str) -> Result<Response<Bytes>, Error> {
    let mut request = request_to(url)?;
    request.headers_mut().insert(ACCEPT, ACCEPTED);
    client.get(request).await
}

/// `POST` of a form.
pub(crate) async fn post_form(
    client: &Client,
    url: &str,
    form: String,
    authorization: Option<HeaderValue>,
) -> Result<Response<Bytes>, Error> {
    let mut request = request_to(url)?.map(|_| Bytes::from(form));
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, ACCEPTED);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, value);
    }
    client.send(request).await
}
