//! The token endpoint of an OAuth2 provider: sends a grant, reads a token.
//!
//! *Source:* what Go's `golang.org/x/oauth2` sends and accepts, which the original uses: client credentials in the `Authorization`
//! header first, in the body when that fails, and whichever worked from then on.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response};
use pillion_core::secret::Secret;
use pillion_http_client::Client;
use serde_json::Value as Json;

use crate::client::{client, post_form};
use crate::form;

/// How client id and secret are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AuthStyle {
    /// Find out.
    Auto = 0,
    /// `client_id` and `client_secret` in the body.
    Body = 1,
    /// HTTP basic authentication.
    Header = 2,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Client(#[from] pillion_http_client::Error),
    #[error("cannot fetch token: {status}: {body}")]
    Refused { status: http::StatusCode, body: String },
    #[error("cannot parse the token: {0}")]
    Unreadable(String),
}

/// A token as it is put into a header.
pub(crate) struct Token {
    /// `Bearer …`
    pub(crate) header: Secret<String>,
    /// How long it can be used; `None` when the provider does not say.
    pub(crate) expires_in: Option<Duration>,
}

/// A provider's token endpoint with the client's credentials.
pub(crate) struct TokenEndpoint {
    client: Client,
    url: String,
    client_id: String,
    client_secret: Secret<String>,
    /// An [`AuthStyle`]; `Auto` until one has worked.
    style: AtomicU8,
}

impl TokenEndpoint {
    pub(crate) fn new(url: String, client_id: String, client_secret: Secret<String>, style: AuthStyle) -> Self {
        Self { client: client(), url, client_id, client_secret, style: AtomicU8::new(style as u8) }
    }

    /// Asks for a token with the fields of a grant.
    ///
    /// # Errors
    /// [`TokenError`]: the provider is not reached, refuses, or answers something that is no token.
    pub(crate) async fn token(&self, fields: &[(String, String)]) -> Result<Token, TokenError> {
        let style = match self.style.load(Ordering::Relaxed) {
            1 => AuthStyle::Body,
            2 => AuthStyle::Header,
            _ => AuthStyle::Auto,
        };
        if style != AuthStyle::Auto {
            return self.ask(fields, style).await;
        }
        let mut used = AuthStyle::Header;
        let mut token = self.ask(fields, used).await;
        if token.is_err() {
            used = AuthStyle::Body;
            token = self.ask(fields, used).await;
        }
        if token.is_ok() {
            self.style.store(used as u8, Ordering::Relaxed);
        }
        token
    }

    async fn ask(&self, fields: &[(String, String)], style: AuthStyle) -> Result<Token, TokenError> {
        let mut fields = fields.to_vec();
        let mut authorization = None;
        if style == AuthStyle::Header {
            let pair = format!("{}:{}", form::escape(&self.client_id), form::escape(self.client_secret.expose()));
            let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
                .map_err(|error| TokenError::Unreadable(error.to_string()))?;
            value.set_sensitive(true);
            authorization = Some(value);
        } else {
            fields.push(("client_id".to_owned(), self.client_id.clone()));
            if !self.client_secret.expose().is_empty() {
                fields.push(("client_secret".to_owned(), self.client_secret.expose().clone()));
            }
        }
        read(&post_form(&self.client, &self.url, form::encode(fields), authorization).await?)
    }
}

/// Gives the value of a field of an answer.
type Field = Box<dyn Fn(&str) -> Option<String>>;

fn read(response: &Response<Bytes>) -> Result<Token, TokenError> {
    let text = String::from_utf8_lossy(response.body());
    if !response.status().is_success() {
        let body = text.chars().take(500).collect();
        return Err(TokenError::Refused { status: response.status(), body });
    }
    let kind = response.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let field: Field = if matches!(kind, "application/x-www-form-urlencoded" | "text/plain") {
        let pairs = form::parse(&text);
        Box::new(move |name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    } else {
        let json: Json = serde_json::from_str(&text).map_err(|error| TokenError::Unreadable(error.to_string()))?;
        Box::new(move |name| match json.get(name)? {
            Json::String(text) => Some(text.clone()),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    if let Some(error) = field("error").filter(|error| !error.is_empty()) {
        return Err(TokenError::Refused { status: response.status(), body: error });
    }
    let token = field("access_token").filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| TokenError::Unreadable("server response missing access_token".to_owned()))?;
    let kind = field("token_type").unwrap_or_default();
    let kind = match kind.to_ascii_lowercase().as_str() {
        "" | "bearer" => "Bearer",
        "mac" => "MAC",
        "basic" => "Basic",
        _ => &kind,
    };
    let seconds = field("expires_in").and_then(|text| text.parse::<f64>().ok());
    let expires_in =
        seconds.filter(|seconds| *seconds >= 1.0).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Token { header: Secret::new(format!("{kind} {token}")), expires_in })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: &str, body: &'static str) -> Result<Token, TokenError> {
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        read(&response)
    }

    #[test]
    fn tokens_are_read_as_json_and_as_forms() {
        let json = r#"{"access_token":"abc","token_type":"bearer","expires_in":3600}"#;
        let token = answer("application/json; charset=utf-8", json).unwrap();
        assert_eq!((token.header.expose().as_str(), token.expires_in), ("Bearer abc", Some(Duration::from_secs(3600))));
        let token = answer("text/plain", "access_token=x+y&token_type=Custom&expires_in=5").unwrap();
        assert_eq!((token.header.expose().as_str(), token.expires_in), ("Custom x y", Some(Duration::from_secs(5))));
        assert!(answer("application/json", r#"{"access_token":"a","expires_in":"0"}"#).unwrap().expires_in.is_none());
        assert!(
            answer("application/json", "{}").is_err_and(|error| error.to_string().contains("missing access_token"))
        );
        assert!(answer("application/json", r#"{"error":"invalid_grant"}"#).is_err());
    }
}
