//! `middleware.http.opa`: a policy in front of what comes next.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use pillion_contract::{
    ComponentError, ErrorKind, HttpBody, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next, full_body,
};
use pillion_core::log::Logger;

use crate::input;
use crate::metadata::Settings;
use crate::policy::Policy;
use crate::verdict::Verdict;

/// Says that the refusal comes from a policy that failed.
const ERROR_HEADER: &str = "x-dapr-opa-error";
/// The longest body that `readBody` keeps; the front has its own limit, which is lower by default.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// The component.
struct OpaMiddleware {
    settings: Settings,
    default_status: StatusCode,
    policy: Policy,
    log: Logger,
}

/// Makes the component.
///
/// # Errors
/// The metadata is wrong, or the policy does not compile.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let settings = Settings::parse(&context.metadata)?;
    let (rego, log) = (settings.rego.clone(), context.log.clone());
    let compiled = tokio::task::spawn_blocking(move || Policy::compile(&rego, log)).await;
    let policy =
        compiled.map_err(|error| ComponentError::caused(ErrorKind::Internal, "compiling the policy", error))?.map_err(
            |problem| ComponentError::new(ErrorKind::InvalidRequest, format!("metadata field \"rego\": {problem}")),
        )?;
    let default_status = StatusCode::from_u16(settings.default_status).map_err(|error| {
        ComponentError::caused(ErrorKind::InvalidRequest, "metadata field \"defaultStatus\"", error)
    })?;
    Ok(Arc::new(OpaMiddleware { settings, default_status, policy, log: context.log }))
}

#[async_trait]
impl HttpMiddleware for OpaMiddleware {
    async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse {
        let (mut parts, mut body) = request.into_parts();
        let mut text = String::new();
        if self.settings.read_body {
            match whole(body).await {
                Ok(bytes) => {
                    text = String::from_utf8_lossy(&bytes).into_owned();
                    body = full_body(bytes);
                }
                Err(response) => return response,
            }
        }
        let input = input::document(&parts, &self.settings.included_headers, &text);
        let answer = self.policy.ask(input).await;
        match answer.and_then(|answer| Verdict::parse(&answer, self.default_status)) {
            Ok(Verdict::Allow(headers)) => {
                for (name, value) in &headers {
                    parts.headers.insert(name, value.clone());
                }
                next.run(HttpRequest::from_parts(parts, body)).await
            }
            Ok(Verdict::Deny(status, headers)) => {
                let mut response = refusal(status);
                for (name, value) in &headers {
                    response.headers_mut().insert(name, value.clone());
                }
                response
            }
            Err(problem) => {
                self.log.warn(format_args!("Error processing rego policy: {problem}"));
                let mut response = refusal(self.default_status);
                response.headers_mut().insert(ERROR_HEADER, HeaderValue::from_static("true"));
                response
            }
        }
    }
}

/// A whole body, or the refusal that it is too long or broke off.
async fn whole(mut body: HttpBody) -> Result<Bytes, HttpResponse> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| plain(StatusCode::BAD_REQUEST, format!("reading the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_LIMIT {
            let problem = format!("the request body is longer than the {BODY_LIMIT} bytes a policy can read");
            return Err(plain(StatusCode::PAYLOAD_TOO_LARGE, problem));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The status with its name as the text; one without a name is a 500. *Source:* components-contrib `common/httputils`.
fn refusal(status: StatusCode) -> HttpResponse {
    let status = if status.canonical_reason().is_some() { status } else { StatusCode::INTERNAL_SERVER_ERROR };
    plain(status, status.canonical_reason().unwrap_or_default().to_owned())
}

fn plain(status: StatusCode, text: String) -> HttpResponse {
    let mut response = http::Response::new(full_body(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
