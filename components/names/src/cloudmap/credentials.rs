//! Where the keys of AWS come from.
//!
//! *Job:* the keys of the metadata, else those of the first place of AWS's default chain that has some: variables, a role for a
//! web identity token (EKS), the shared credentials file, the container's endpoint (ECS, EKS), the instance's metadata
//! service; a role to assume on top of them. *Invariant:* temporary keys are renewed [`RENEW_BEFORE`] their end.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pillion_core::secret::Secret;
use pillion_http_client::{Client, Limits, request_to};
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;

use super::sign::{Keys, Scope, sign};
use crate::environment::Environment;

const LIMITS: Limits = Limits { time: Duration::from_secs(5), body_bytes: 1 << 20 };
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// *Source:* the address of the metadata service in AWS's documentation, and that of ECS.
const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";
/// *Source:* the component's documented default.
const SESSION: &str = "DaprDefaultSession";

/// See the module text.
pub(super) struct Credentials {
    client: Client,
    environment: Environment,
    given: Option<Keys>,
    /// A role to assume with whatever keys are found, and the name of the session.
    role: Option<(String, String)>,
    region: String,
    /// Where STS is, when not at AWS.
    sts: Option<String>,
    kept: Mutex<Option<(Keys, Option<SystemTime>)>>,
}

type Found = (Keys, Option<SystemTime>);

impl Credentials {
    pub(super) fn new(environment: Environment, given: Option<Keys>, role: Option<String>, session: &str) -> Self {
        let session = if session.is_empty() { SESSION } else { session };
        let sts = environment.get("AWS_ENDPOINT_URL_STS").map(str::to_owned);
        Self {
            client: Client::new(LIMITS),
            environment,
            given,
            role: role.map(|role| (role, session.to_owned())),
            region: String::new(),
            sts,
            kept: Mutex::default(),
        }
    }

    /// The same for a region, which STS is asked in.
    pub(super) fn in_region(self, region: &str) -> Self {
        Self { region: region.to_owned(), ..self }
    }

    /// The region of the process or of the instance it runs on.
    pub(super) async fn region(&self) -> Option<String> {
        let variable = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| self.environment.get(name));
        match variable {
            Some(region) => Some(region.to_owned()),
            None => self.instance("/latest/meta-data/placement/region").await.ok().filter(|text| !text.is_empty()),
        }
    }

    /// Keys that can be used now.
    ///
    /// # Errors
    /// Says where keys were looked for.
    pub(super) async fn keys(&self) -> Result<Keys, String> {
        if let Some(keys) = &self.given {
            return Ok(keys.clone());
        }
        let mut kept = self.kept.lock().await;
        if let Some((keys, ends)) = &*kept
            && ends.is_none_or(|ends| SystemTime::now() + RENEW_BEFORE < ends)
        {
            return Ok(keys.clone());
        }
        let found = self.find().await?;
        let found = match &self.role {
            Some((role, session)) => self.assume(&found.0, role, session).await?,
            None => found,
        };
        Ok(kept.insert(found).0.clone())
    }

    async fn find(&self) -> Result<Found, String> {
        let variable = |name: &str| self.environment.get(name).map(str::to_owned);
        if let (Some(access_key), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            let session_token = variable("AWS_SESSION_TOKEN").map(Secret::new);
            return Ok((Keys { access_key, secret_key: Secret::new(secret), session_token }, None));
        }
        if let (Some(file), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
            return self.web_identity(&file, &role).await;
        }
        if let Some(keys) = self.shared_file().await {
            return Ok((keys, None));
        }
        let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
        if let Some(url) = relative.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            return self.container(&url).await;
        }
        self.instance_keys().await.map_err(|problem| {
            format!(
                "no AWS credentials found: not in accessKey and secretKey of spec.nameResolution.configuration, not in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, not in the shared credentials file, and this is no container or instance with a role ({problem})"
            )
        })
    }

    async fn shared_file(&self) -> Option<Keys> {
        let home = || self.environment.get("HOME").map(|home| format!("{home}/.aws/credentials"));
        let file = self.environment.get("AWS_SHARED_CREDENTIALS_FILE").map(str::to_owned).or_else(home)?;
        let text = tokio::fs::read_to_string(file).await.ok()?;
        profile(&text, self.environment.get("AWS_PROFILE").unwrap_or("default"))
    }

    async fn container(&self, url: &str) -> Result<Found, String> {
        let mut request = request_to(url).map_err(|error| error.to_string())?;
        let token = match self.environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(read(file).await?),
            None => self.environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
        };
        if let Some(token) = token {
            let token = HeaderValue::try_from(token.trim()).map_err(|error| error.to_string())?;
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        keys_of(&self.text(request).await?)
    }

    async fn instance_keys(&self) -> Result<Found, String> {
        if self.environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Err("AWS_EC2_METADATA_DISABLED is set".to_owned());
        }
        let path = "/latest/meta-data/iam/security-credentials/";
        let role = self.instance(path).await?;
        let role = role.lines().next().unwrap_or_default().trim();
        keys_of(&self.instance(&format!("{path}{role}")).await?)
    }

    /// Asks the metadata service in its second version: with a token.
    async fn instance(&self, path: &str) -> Result<String, String> {
        let base = self.environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE).trim_end_matches('/');
        let mut request = request_to(&format!("{base}/latest/api/token")).map_err(|error| error.to_string())?;
        *request.method_mut() = Method::PUT;
        request.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", HeaderValue::from_static("21600"));
        let asked = self.client.send_within(request, Duration::from_secs(1)).await; // where there is none, nobody answers
        let token = asked.map_err(|error| error.to_string())?.into_body();
        let mut request = request_to(&format!("{base}{path}")).map_err(|error| error.to_string())?;
        let token = HeaderValue::from_bytes(&token).map_err(|error| error.to_string())?;
        request.headers_mut().insert("x-aws-ec2-metadata-token", token);
        self.text(request).await
    }

    async fn web_identity(&self, file: &str, role: &str) -> Result<Found, String> {
        let session = self.environment.get("AWS_ROLE_SESSION_NAME").unwrap_or(SESSION);
        let token = read(file).await?;
        let fields = [("RoleArn", role), ("RoleSessionName", session), ("WebIdentityToken", token.trim())];
        self.sts("AssumeRoleWithWebIdentity", &fields, None).await
    }

    async fn assume(&self, keys: &Keys, role: &str, session: &str) -> Result<Found, String> {
        self.sts("AssumeRole", &[("RoleArn", role), ("RoleSessionName", session)], Some(keys)).await
    }

    async fn sts(&self, action: &str, fields: &[(&str, &str)], keys: Option<&Keys>) -> Result<Found, String> {
        let url = self.sts.clone().unwrap_or_else(|| format!("https://sts.{}.amazonaws.com/", self.region));
        let mut body = format!("Action={action}&Version=2011-06-15");
        for (name, value) in fields {
            body.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
        let mut request = request_to(&url).map_err(|error| error.to_string())?.map(|_| Bytes::from(body));
        *request.method_mut() = Method::POST;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        if let Some(keys) = keys {
            let scope = Scope { region: &self.region, service: "sts", now: SystemTime::now() };
            sign(&mut request, keys, scope)?;
        }
        let text = self.text(request).await.map_err(|problem| format!("{action}: {problem}"))?;
        let field = |name: &str| {
            let (_, behind) = text.split_once(&format!("<{name}>"))?;
            behind.split_once(&format!("</{name}>")).map(|(value, _)| value.to_owned())
        };
        let missing = || format!("{action}: {url} answered without keys");
        let keys = Keys {
            access_key: field("AccessKeyId").ok_or_else(missing)?,
            secret_key: Secret::new(field("SecretAccessKey").ok_or_else(missing)?),
            session_token: field("SessionToken").map(Secret::new),
        };
        Ok((keys, field("Expiration").and_then(|text| time_of(&text))))
    }

    async fn text(&self, request: Request<Bytes>) -> Result<String, String> {
        let url = request.uri().to_string();
        let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        if !answer.status().is_success() {
            return Err(format!("{url} answered {}: {}", answer.status(), text.chars().take(300).collect::<String>()));
        }
        Ok(text)
    }
}

async fn read(file: &str) -> Result<String, String> {
    tokio::fs::read_to_string(file).await.map_err(|error| format!("cannot read {file}: {error}"))
}

/// The keys a container's or instance's endpoint answers.
fn keys_of(text: &str) -> Result<Found, String> {
    let json: Json =
        serde_json::from_str(text).map_err(|error| format!("the answer with the keys is no JSON: {error}"))?;
    let field = |name: &str| json.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let missing = || "the answer has no keys".to_owned();
    let keys = Keys {
        access_key: field("AccessKeyId").ok_or_else(missing)?,
        secret_key: Secret::new(field("SecretAccessKey").ok_or_else(missing)?),
        session_token: field("Token").map(Secret::new),
    };
    Ok((keys, field("Expiration").and_then(|text| time_of(&text))))
}

fn time_of(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// The keys of a profile in a shared credentials file.
fn profile(text: &str, wanted: &str) -> Option<Keys> {
    let (mut is_wanted, mut access_key, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_wanted = name.trim() == wanted;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_wanted) {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => access_key = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Keys { access_key: access_key?, secret_key: Secret::new(secret?), session_token: token.map(Secret::new) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_in_a_file() {
        let text = "[a]\naws_access_key_id = 1\n\n[ b ]\n# more\naws_access_key_id=2\naws_secret_access_key = s=\naws_session_token=t\n";
        let keys = profile(text, "b").unwrap();
        assert_eq!((keys.access_key.as_str(), keys.secret_key.expose().as_str()), ("2", "s="));
        assert_eq!(keys.session_token.unwrap().expose(), "t");
        assert!(profile(text, "a").is_none() && profile(text, "c").is_none());
    }

    #[test]
    fn an_endpoint_answers_keys_with_an_end() {
        let text = r#"{"AccessKeyId":"a","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-01T00:00:00Z"}"#;
        let (keys, ends) = keys_of(text).unwrap();
        assert_eq!((keys.access_key.as_str(), ends), ("a", time_of("2030-01-01T00:00:00Z")));
        assert!(ends.is_some() && keys_of("{}").is_err() && keys_of("<").is_err());
    }

    #[tokio::test]
    async fn the_first_place_with_keys_counts() {
        let variables = [("AWS_ACCESS_KEY_ID", "v"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "r")];
        let found = Credentials::new(Environment::from(variables), None, None, "");
        assert_eq!(found.keys().await.unwrap().access_key, "v");
        assert_eq!(found.region().await.unwrap(), "r");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        let file = folder.path().join(".aws/credentials");
        std::fs::write(file, "[default]\naws_access_key_id=f\naws_secret_access_key=s\n").unwrap();
        let home = Environment::from([("HOME", folder.path().to_str().unwrap())]);
        assert_eq!(Credentials::new(home, None, None, "").keys().await.unwrap().access_key, "f");
        let nothing = Environment::from([("AWS_EC2_METADATA_DISABLED", "true")]);
        let problem = Credentials::new(nothing, None, None, "").keys().await.unwrap_err();
        assert!(problem.starts_with("no AWS credentials found: "), "{problem}");
    }
}
