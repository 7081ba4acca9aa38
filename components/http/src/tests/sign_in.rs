//! Bearer tokens, client credentials and the authorization code flow against a provider.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::provider::Provider;
use super::*;
use crate::form;

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn key(&self, kid: &str) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","alg":"EdDSA","x":"{x}"}}"#)
    }

    fn token(&self, kid: &str, claims: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#));
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes())))
    }
}

fn discovery(issuer: &str, keys: String) -> impl Fn(&super::provider::Asked) -> (u16, &'static str, String) + use<> {
    let issuer = issuer.to_owned();
    move |(target, ..)| match target.as_str() {
        "GET /.well-known/openid-configuration" => {
            (200, "application/json", format!(r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/moved"}}"#))
        }
        "GET /moved" => (302, "/keys", String::new()),
        "GET /keys" => (200, "application/json", keys.clone()),
        _ => (404, "text/plain", String::new()),
    }
}

#[tokio::test]
async fn bearer_lets_signed_tokens_through() {
    let (signer, other) = (Signer::new(), Signer::new());
    let keys = format!(r#"{{"keys":[{}]}}"#, signer.key("one"));
    let provider = Provider::start(|url| discovery(url, keys)).await;
    let made = crate::bearer::create(context(&[("issuerURL", &provider.url), ("clientID", "me")])).await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = |audience: &str, expires: u64| {
        format!(r#"{{"iss":"{}","aud":"{audience}","exp":{expires},"iat":{now}}}"#, provider.url)
    };
    let good = signer.token("one", &claims("me", now + 60));
    let status = async |value: &str| get(&made, "/a", &[("authorization", value)]).await.status().as_u16();
    assert_eq!(status(&format!("Bearer {good}")).await, 200);
    assert_eq!(status(&format!("bEARER {good}")).await, 200);
    for bad in [
        String::new(),
        "Bearer ".to_owned(),
        format!("Basic {good}"),
        format!("Bearer {good}x"),
        format!("Bearer {}", signer.token("one", &claims("you", now + 60))),
        format!("Bearer {}", signer.token("one", &claims("me", now - 400))),
        format!("Bearer {}", other.token("one", &claims("me", now + 60))),
        format!("Bearer {}", signer.token("", &claims("me", now + 60))),
    ] {
        assert_eq!(status(&bad).await, 401, "{bad}");
    }
    let refused = get(&made, "/a", &[]).await;
    assert_eq!(text(refused).await, "Unauthorized");
}

#[tokio::test]
async fn bearer_tells_why_it_cannot_start() {
    for (metadata, told) in [
        (vec![], "metadata property 'issuer' is required"),
        (vec![("issuer", "http://127.0.0.1:1")], "metadata property 'audience' is required"),
        (
            vec![("issuer", "http://127.0.0.1:1"), ("audience", "a")],
            "failed to retrieve OpenID Configuration document: connecting to 127.0.0.1:1",
        ),
        (vec![("issuer", "i"), ("audience", "a"), ("jwksURL", "ftp://x")], "failed to fetch JWKS"),
    ] {
        let told_by = problem(crate::bearer::create(context(&metadata)).await);
        assert!(told_by.contains(told), "{told_by}");
    }
    let provider = Provider::start(|_| discovery("https://issuer", "{}".to_owned())).await;
    let told = problem(crate::bearer::create(context(&[("issuer", &provider.url), ("audience", "a")])).await);
    assert!(told.contains("('https://issuer') doesn't match the one provided"), "{told}");
}

#[tokio::test]
async fn client_credentials_are_exchanged_once() {
    let provider = Provider::start(|_| {
        |asked: &super::provider::Asked| match asked.1.is_empty() {
            // Wants the credentials in the body.
            false => (401, "application/json", r#"{"error":"invalid_client"}"#.to_owned()),
            true => {
                (200, "application/json", r#"{"access_token":"t1","token_type":"bearer","expires_in":60}"#.to_owned())
            }
        }
    })
    .await;
    let url = format!("{}/token", provider.url);
    let metadata = [
        ("clientID", "id"),
        ("clientSecret", "s&cret"),
        ("scopes", "a,b"),
        ("tokenURL", &url),
        ("headerName", "x-token"),
        ("endpointParamsQuery", "audience=api"),
        ("pathFilter", "^/private"),
    ];
    let made = crate::oauth2_client_credentials::create(context(&metadata)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(text(get(&made, "/private/x", &[]).await).await, "GET /private/x|Bearer t1|");
    }
    assert_eq!(text(get(&made, "/public", &[]).await).await, "GET /public||");
    let form = "audience=api&grant_type=client_credentials&scope=a+b";
    let basic = format!("Basic {}", STANDARD.encode("id:s%26cret"));
    let in_body = "audience=api&client_id=id&client_secret=s%26cret&grant_type=client_credentials&scope=a+b";
    let asked = |authorization: &str, form: &str| ("POST /token".to_owned(), authorization.to_owned(), form.to_owned());
    assert_eq!(provider.asked(), [asked(&basic, form), asked("", in_body)]);

    let unreachable = [
        ("clientID", "id"),
        ("clientSecret", "s"),
        ("scopes", "a"),
        ("tokenURL", "http://127.0.0.1:1"),
        ("headerName", "x"),
    ];
    let made = crate::oauth2_client_credentials::create(context(&unreachable)).await.unwrap();
    assert_eq!(get(&made, "/", &[]).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let told =
        problem(crate::oauth2_client_credentials::create(context(&[("authStyle", "3"), ("clientID", "i")])).await);
    for text in ["Parameter 'headerName' needs to be set.", "values 0,1,2. Received: '3'."] {
        assert!(told.contains(text), "{told}");
    }
    assert!(
        problem(crate::oauth2_client_credentials::create(context(&[("pathFilter", "(")])).await)
            .contains("not a valid regex")
    );
}

#[tokio::test]
async fn a_browser_signs_in_and_goes_on() {
    let provider = Provider::start(|_| {
        |asked: &super::provider::Asked| match asked.2.contains("code=good") {
            true => (200, "application/json", r#"{"access_token":"t1"}"#.to_owned()),
            false => (400, "application/json", r#"{"error":"invalid_grant"}"#.to_owned()),
        }
    })
    .await;
    let url = format!("{}/token", provider.url);
    let metadata = [
        ("clientID", "id"),
        ("clientSecret", "secret"),
        ("scopes", "openid,email"),
        ("authURL", "https://provider/authorize"),
        ("tokenURL", &url),
        ("redirectURL", "http://me/back"),
        ("pathFilter", "^/v1.0/invoke|^/back"),
    ];
    let made = crate::oauth2::create(context(&metadata)).await.unwrap();
    assert_eq!(text(get(&made, "/v1.0/healthz", &[]).await).await, "GET /v1.0/healthz||");

    let first =
        get(&made, "/v1.0/invoke/app/method/a?x=1", &[("cookie", "gosessionsid-test=chosen-by-somebody")]).await;
    assert_eq!(first.status(), StatusCode::FOUND);
    let location = header(&first, "location").to_owned();
    let query = form::parse(location.strip_prefix("https://provider/authorize?").unwrap());
    let value = |name: &str| query.iter().find(|(key, _)| key == name).unwrap().1.clone();
    assert_eq!(value("scope"), "openid email");
    assert_eq!(value("redirect_uri"), "http://me/back");
    assert_eq!(
        (value("response_type"), value("access_type"), value("client_id")),
        ("code".into(), "offline".into(), "id".into())
    );
    let cookie = header(&first, "set-cookie").split(';').next().unwrap().to_owned();
    assert!(!cookie.contains("chosen"), "{cookie}");
    assert!(header(&first, "set-cookie").contains("HttpOnly"));

    let state = value("state");
    let back = async |query: &str, cookie: &str| get(&made, &format!("/back?{query}"), &[("cookie", cookie)]).await;
    assert_eq!(back(&format!("state={state}&code=good"), "").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text(back("state=other&code=good", &cookie).await).await, "invalid state");
    assert_eq!(text(back(&format!("state={state}"), &cookie).await).await, "code not found");
    let failed = back(&format!("state={state}&code=bad"), &cookie).await;
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);

    let done = back(&format!("state={state}&code=good"), &cookie).await;
    assert_eq!((done.status(), header(&done, "location")), (StatusCode::FOUND, "/v1.0/invoke/app/method/a?x=1"));
    let new_cookie = header(&done, "set-cookie").split(';').next().unwrap().to_owned();
    assert_ne!(new_cookie, cookie, "the session from before signing in is over");
    let both = format!("other=1; {new_cookie}");
    assert_eq!(
        text(get(&made, "/v1.0/invoke/app/method/a", &[("cookie", &both)]).await).await,
        "GET /v1.0/invoke/app/method/a|Bearer t1|"
    );
    assert_eq!(get(&made, "/v1.0/invoke/app/method/a", &[("cookie", &cookie)]).await.status(), StatusCode::FOUND);
    let sent = provider.asked().pop().unwrap().2;
    assert_eq!(sent, "code=good&grant_type=authorization_code&redirect_uri=http%3A%2F%2Fme%2Fback");
    assert!(problem(crate::oauth2::create(context(&[])).await).contains("\"clientID\" is required"));
}
