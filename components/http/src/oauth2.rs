//! `middleware.http.oauth2`: signs a browser in with the authorization code flow and puts the token into a header.
//!
//! *Source:* components-contrib `middleware/http/oauth2`. Differences, all of them hidden from who signs in: each component has a
//! cookie of its own, bound to the host; an unknown cookie gets a new session instead of the one it names, and a new one after
//! signing in, so that nobody can be given a session that somebody else knows. *Invariant:* sessions are bounded in number and time.

mod sessions;

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use pillion_contract::{ComponentError, ErrorKind, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next};
use pillion_core::log::Logger;
use pillion_core::secret::Secret;

use self::sessions::{Session, Sessions};
use crate::path_filter::PathFilter;
use crate::token_endpoint::{AuthStyle, TokenEndpoint};
use crate::{form, respond};

struct OAuth2 {
    authorize: String,
    client_id: String,
    scopes: String,
    redirect_url: String,
    force_https: bool,
    header: HeaderName,
    filter: PathFilter,
    cookie: String,
    endpoint: TokenEndpoint,
    sessions: Sessions,
    log: Logger,
}

/// Makes the middleware.
///
/// # Errors
/// `InvalidRequest` for a missing or wrong field.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let metadata = &context.metadata;
    let text = |name: &str| metadata.get(name).unwrap_or_default().to_owned();
    let header = metadata.first_of(&["authHeaderName"]).unwrap_or("Authorization");
    let header = HeaderName::try_from(header).map_err(|_| {
        let message = format!("metadata field \"authHeaderName\": {header:?} is not a header name");
        ComponentError::new(ErrorKind::InvalidRequest, message)
    })?;
    let (client_id, token_url) = (metadata.required("clientID")?.to_owned(), metadata.required("tokenURL")?.to_owned());
    let secret = Secret::new(text("clientSecret"));
    Ok(Arc::new(OAuth2 {
        authorize: metadata.required("authURL")?.to_owned(),
        endpoint: TokenEndpoint::new(token_url, client_id.clone(), secret, AuthStyle::Auto),
        client_id,
        scopes: text("scopes").replace(',', " "),
        redirect_url: text("redirectURL"),
        force_https: metadata.bool("forceHTTPS"),
        header,
        filter: PathFilter::new(&context)?,
        cookie: format!("gosessionsid-{}", context.name),
        sessions: Sessions::default(),
        log: context.log.clone(),
    }))
}

#[async_trait]
impl HttpMiddleware for OAuth2 {
    async fn handle(&self, mut request: HttpRequest, next: Next<'_>) -> HttpResponse {
        if !self.filter.matches(request.uri()) {
            return next.run(request).await;
        }
        let id = cookie(request.headers(), &self.cookie).filter(|id| self.sessions.has(id));
        if let Some(value) = id.as_deref().and_then(|id| self.sessions.token(id)) {
            request.headers_mut().append(&self.header, value);
            return next.run(request).await;
        }
        let query = form::parse(request.uri().query().unwrap_or_default());
        let parameter = |name: &str| {
            query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        match parameter("state") {
            None => self.send_to_provider(id, &request),
            Some(state) => self.come_back(id.as_deref(), state, parameter("code")).await,
        }
    }
}

impl OAuth2 {
    /// Remembers where the browser wanted to go and sends it to the provider.
    fn send_to_provider(&self, id: Option<String>, request: &HttpRequest) -> HttpResponse {
        let state = uuid::Uuid::new_v4().to_string();
        let (id, is_new) = match id {
            Some(id) => (id, false),
            None => match sessions::new_id() {
                Ok(id) => (id, true),
                Err(problem) => {
                    self.log.error(problem);
                    return respond::status(StatusCode::INTERNAL_SERVER_ERROR);
                }
            },
        };
        let pending = Session::Pending { state: state.clone(), target: self.target(request.uri(), request.headers()) };
        self.sessions.put(id.clone(), pending);
        let mut response = respond::redirect(&self.authorize_url(&state));
        if is_new {
            self.set_cookie(&mut response, &id);
        }
        response
    }

    /// Where to go after signing in. *Difference:* the original forgets the host when it forces https.
    fn target(&self, uri: &Uri, headers: &HeaderMap) -> String {
        let path = uri.path_and_query().map_or("/", |target| target.as_str());
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match host {
            Some(host) if self.force_https => format!("https://{host}{path}"),
            // Two slashes at the start would name another host.
            _ => format!("/{}", path.trim_start_matches('/')),
        }
    }

    fn authorize_url(&self, state: &str) -> String {
        let mut fields = vec![("access_type", "offline"), ("client_id", &self.client_id), ("response_type", "code")];
        fields.push(("state", state));
        let more = [("redirect_uri", self.redirect_url.as_str()), ("scope", self.scopes.as_str())];
        fields.extend(more.into_iter().filter(|(_, value)| !value.is_empty()));
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let joint = if self.authorize.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", self.authorize, form::encode(fields))
    }

    /// The provider has sent the browser back with a code.
    async fn come_back(&self, id: Option<&str>, state: &str, code: Option<&str>) -> HttpResponse {
        let Some((id, expected, target)) = id.and_then(|id| self.sessions.pending(id).map(|(s, t)| (id, s, t))) else {
            self.log.error("a browser came back from signing in without the session it left with");
            return respond::status(StatusCode::INTERNAL_SERVER_ERROR);
        };
        if state != expected {
            return respond::text(StatusCode::BAD_REQUEST, "invalid state");
        }
        let Some(code) = code else { return respond::text(StatusCode::BAD_REQUEST, "code not found") };
        let mut fields =
            vec![("grant_type".to_owned(), "authorization_code".to_owned()), ("code".to_owned(), code.to_owned())];
        if !self.redirect_url.is_empty() {
            fields.push(("redirect_uri".to_owned(), self.redirect_url.clone()));
        }
        let failed = |problem: &dyn std::fmt::Display| {
            self.log.error(format_args!("Failed to exchange token: {problem}"));
            respond::status(StatusCode::INTERNAL_SERVER_ERROR)
        };
        let token = match self.endpoint.token(&fields).await {
            Ok(token) => token,
            Err(error) => return failed(&error),
        };
        let Ok(mut value) = HeaderValue::from_str(token.header.expose()) else {
            return failed(&"the token cannot be put into a header");
        };
        value.set_sensitive(true);
        let new_id = match sessions::new_id() {
            Ok(id) => id,
            Err(problem) => return failed(&problem),
        };
        self.sessions.remove(id);
        self.sessions.put(new_id.clone(), Session::SignedIn(value));
        let mut response = respond::redirect(&target);
        self.set_cookie(&mut response, &new_id);
        response
    }

    fn set_cookie(&self, response: &mut HttpResponse, id: &str) {
        let seconds = sessions::LIFETIME.as_secs();
        let value = format!("{}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax", self.cookie);
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().append(SET_COOKIE, value);
        }
    }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').to_owned())
}
