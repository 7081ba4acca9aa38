//! `middleware.http.oauth2clientcredentials`: fetches a token with the client's own credentials and puts it into a header.
//!
//! *Source:* components-contrib `middleware/http/oauth2clientcredentials`. One difference: when no token can be had the original
//! answers an empty 200; here it is a 500. *Invariant:* at most one token is being fetched at a time.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, StatusCode};
use pillion_contract::{
    ComponentError, ErrorKind, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Metadata, Next,
};
use pillion_core::log::Logger;
use pillion_core::secret::Secret;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::path_filter::PathFilter;
use crate::token_endpoint::{AuthStyle, TokenEndpoint, TokenError};
use crate::{form, respond};

struct ClientCredentials {
    endpoint: TokenEndpoint,
    fields: Vec<(String, String)>,
    header: HeaderName,
    filter: PathFilter,
    token: Mutex<Option<Cached>>,
    log: Logger,
}

struct Cached {
    header: HeaderValue,
    /// `None` when the provider does not say.
    until: Option<Instant>,
}

/// Makes the middleware.
///
/// # Errors
/// `InvalidRequest` that names every missing or wrong field.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let metadata = &context.metadata;
    let filter = PathFilter::new(&context)?;
    let (header, style) = check(metadata).map_err(|problems| {
        ComponentError::new(ErrorKind::InvalidRequest, format!("metadata errors: {}", problems.join(" ")))
    })?;
    let text = |name: &str| metadata.get(name).unwrap_or_default().to_owned();
    let scopes = text("scopes").split(',').collect::<Vec<_>>().join(" ");
    let mut fields = vec![("grant_type".to_owned(), "client_credentials".to_owned()), ("scope".to_owned(), scopes)];
    for (name, value) in form::parse(&text("endpointParamsQuery")) {
        if name == "grant_type" {
            fields.retain(|(field, _)| field != "grant_type");
        }
        fields.push((name, value));
    }
    Ok(Arc::new(ClientCredentials {
        endpoint: TokenEndpoint::new(text("tokenURL"), text("clientID"), Secret::new(text("clientSecret")), style),
        fields,
        header,
        filter,
        token: Mutex::new(None),
        log: context.log,
    }))
}

/// All problems at once. *Source:* the original's texts.
fn check(metadata: &Metadata) -> Result<(HeaderName, AuthStyle), Vec<String>> {
    let mut problems: Vec<String> = ["headerName", "clientID", "clientSecret", "scopes", "tokenURL"]
        .into_iter()
        .filter(|name| metadata.get(name).is_none_or(str::is_empty))
        .map(|name| format!("Parameter '{name}' needs to be set."))
        .collect();
    let style = match metadata.get("authStyle").unwrap_or_default() {
        "" | "0" => AuthStyle::Auto,
        "1" => AuthStyle::Body,
        "2" => AuthStyle::Header,
        other => {
            problems.push(format!("Parameter 'authStyle' can only have the values 0,1,2. Received: '{other}'."));
            AuthStyle::Auto
        }
    };
    let name = metadata.get("headerName").unwrap_or_default();
    match HeaderName::try_from(name) {
        Ok(header) if problems.is_empty() => return Ok((header, style)),
        Err(_) if !name.is_empty() => problems.push(format!("Parameter 'headerName': '{name}' is no header name.")),
        _ => {}
    }
    Err(problems)
}

impl ClientCredentials {
    async fn header(&self) -> Result<HeaderValue, TokenError> {
        let mut cached = self.token.lock().await;
        if let Some(Cached { header, until }) = &*cached
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(header.clone());
        }
        self.log.info("Cached token not found, attempting to retrieve a new one");
        let token = self.endpoint.token(&self.fields).await?;
        let mut header = HeaderValue::from_str(token.header.expose())
            .map_err(|_| TokenError::Unreadable("the token cannot be put into a header".to_owned()))?;
        header.set_sensitive(true);
        if let Some(time) = token.expires_in {
            self.log.info(format_args!("Token expires in {}", pillion_core::duration::format_go(time)));
        }
        let until = token.expires_in.and_then(|time| Instant::now().checked_add(time));
        *cached = Some(Cached { header: header.clone(), until });
        Ok(header)
    }
}

#[async_trait]
impl HttpMiddleware for ClientCredentials {
    async fn handle(&self, mut request: HttpRequest, next: Next<'_>) -> HttpResponse {
        if self.filter.matches(request.uri()) {
            match self.header().await {
                Ok(value) => drop(request.headers_mut().append(&self.header, value)),
                Err(error) => {
                    self.log.error(format_args!("Error acquiring token: {error}"));
                    return respond::status(StatusCode::INTERNAL_SERVER_ERROR);
                }
            }
        }
        next.run(request).await
    }
}
