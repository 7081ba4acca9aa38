//! `middleware.http.routerchecker`: refuses requests whose path and query do not match a regular expression.
//!
//! *Source:* components-contrib `middleware/http/routerchecker`.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use pillion_contract::{ComponentError, ErrorKind, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next};
use regex::Regex;

use crate::respond;

struct RouterChecker(Regex);

/// Makes the middleware.
///
/// # Errors
/// `InvalidRequest` when `rule` is not a regular expression.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let rule = context.metadata.get("rule").unwrap_or_default();
    if rule.is_empty() {
        context.log.warn(format_args!(
            "middleware.http.routerchecker {}: metadata field \"rule\" is empty, so that every path passes",
            context.name
        ));
    }
    let expression = Regex::new(rule)
        .map_err(|error| ComponentError::caused(ErrorKind::InvalidRequest, "failed to compile rule regexp", error))?;
    Ok(Arc::new(RouterChecker(expression)))
}

#[async_trait]
impl HttpMiddleware for RouterChecker {
    async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        if !self.0.is_match(target) {
            return respond::text(StatusCode::BAD_REQUEST, "invalid router");
        }
        next.run(request).await
    }
}
