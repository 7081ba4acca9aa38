//! HTTP middleware of the API (`httpPipeline`) and in front of the application (`appHttpPipeline`).

use http::{Method, StatusCode};
use pillion_testkit::{Answer, Binary, FakeApp, Recorded, ResourceDir, Sidecar, SidecarOptions};
use serde_json::json;

use crate::fixture::unique;

const RSA_MODULUS: &str = "m2pgn3N6XD6ZGA0l8QCTqLR4j8ZLASXPpHNRn-CEzmjMmnJFjHsUTu3bSPYljRS1YF_AqbIDKStJedlhLua873k1GKuYMXhcXmlY\
    _l4HRf5yJffRw8NCrJJPBPWuB0G5zw7zWNw3OUT1NIhPe0CSTXZkkHsyDLQLMgKGvPUxQtY7eW4ePQVkZBkzawpiwJukpn-\
    f1Ygh_3-nE6ctxrEmX_P069LoMazLAueQevKxsPqCiP3u6ihaQHtfhodwkJM-\
    MN011yqOnzT7a1zNG7YPgTb-8fTVXDf4LmEUL9beq7_HDQLAQh0fGJGWZPShIGWgWDcFZ-UOG6XHPzWaGY2yaQ";
/// Signed with OpenSSL by the key above: issuer `https://issuer`, audience `me`, no end.
const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciIsImF1ZCI6Im1lIn0.D2B8mTyPBojZ72N\
    Bc7p7w4SBCuT2ugSWKoGN6vAWXNHfITQ02ZuQKwAWhSRZgEytmh0O6xCPYkExpu6cuj9P44_xSAl25oUkUdphxEsLAwQhwzT_bdg\
    Gk_oT4COtryOBNaNDTyePmuXpVbyaFZIflhUQ5_otLxOgLNIG0fkujWbi5Zz_SdnuNCw1fLRvjfa0sIzinvS4fDoW7pHSiRWCrWE\
    GN59XhyFLVPb0nt_lnPMsDSdmrvRajZCT569fm52NWiZexvDfILXDlfxxUvkrW5lnLZIix3yiTEXQqQr9SU683lY7GYnbmbWRnuD\
    ZjFgjr5RX5xqzRlb1AFVBqxpWTg";

/// A component of type `middleware.http.<kind>`; metadata as a flow list.
fn component(name: &str, kind: &str, metadata: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: middleware.http.{kind}\n  version: v1\n  metadata: [{metadata}]\n---\n"
    )
}

/// A Configuration with one pipeline of `name: kind` handlers.
fn configuration(pipeline: &str, handlers: &[(&str, &str)]) -> String {
    let handlers: Vec<String> =
        handlers.iter().map(|(name, kind)| format!("{{name: {name}, type: middleware.http.{kind}}}")).collect();
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{{pipeline}: {{handlers: [{}]}}}}\n",
        handlers.join(", ")
    )
}

struct Setup {
    app: FakeApp,
    sidecar: Sidecar,
    _files: (ResourceDir, ResourceDir),
}

impl Setup {
    /// A sidecar with its application, which answers `path?query:header:body`.
    async fn start(pipeline: &str, handlers: &[(&str, &str)], components: &str) -> Self {
        let app = FakeApp::start(|request, _| echo(request)).await.unwrap();
        let resources = ResourceDir::new().unwrap().with("components.yaml", components).unwrap();
        let config = ResourceDir::new().unwrap().with("c.yaml", &configuration(pipeline, handlers)).unwrap();
        let options = SidecarOptions::new(&unique("middleware"))
            .app_port(app.port())
            .resources(resources.path())
            .configuration(&config.path().join("c.yaml"));
        let sidecar = options.start().await.unwrap();
        Self { app, sidecar, _files: (resources, config) }
    }

    fn path(&self, method: &str) -> String {
        format!("/v1.0/invoke/{}/method/{method}", self.sidecar.app_id())
    }

    async fn call(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let reply = self.sidecar.send(Method::POST, path, headers, body.to_owned()).await.unwrap();
        (reply.status.as_u16(), reply.text())
    }
}

fn echo(request: &Recorded) -> Answer {
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let body = String::from_utf8_lossy(&request.body);
    Answer::text(format!("{}{query}:{}:{body}", request.path, request.header("x-token")))
}

#[tokio::test]
async fn handlers_of_the_api_run_in_their_order() {
    let components = component("first", "routeralias", "{name: routes, value: '{\"/hello\": \"/other\"}'}")
        + &component("upper", "uppercase", "");
    let second = |id: &str| {
        component(
            "second",
            "routeralias",
            &format!("{{name: routes, value: '{{\"/other\": \"/v1.0/invoke/{id}/method/abc\"}}'}}"),
        )
    };
    // The id of the sidecar is known only once it is made: the alias goes to the id in the header instead.
    let setup = Setup::start(
        "httpPipeline",
        &[("first", "routeralias"), ("second", "routeralias"), ("upper", "uppercase")],
        &(components + &second("nobody")),
    )
    .await;
    let id = setup.sidecar.app_id().to_owned();
    let (status, text) = setup.call("/hello", &[("dapr-app-id", &id)], "body").await;
    assert_eq!((status, text.as_str()), (200, "/v1.0/invoke/nobody/method/abc::BODY"));
    assert_eq!(setup.call(&setup.path("foo"), &[], "straße").await, (200, "/foo::STRAßE".to_owned()));
}

#[tokio::test]
async fn handlers_before_the_application_run_in_their_order() {
    let components =
        component("one", "routeralias", "{name: routes, value: '{\"/helloworld\": \"/foobar\", \"/xyz\": \"/abc\"}'}")
            + &component(
                "two",
                "routeralias",
                "{name: routes, value: '{\"/helloworld\": \"/xyz\", \"/foobar\": \"/abc\"}'}",
            )
            + &component("upper", "uppercase", "{name: direction, value: both}");
    let handlers = [("one", "routeralias"), ("two", "routeralias"), ("upper", "uppercase")];
    let setup = Setup::start("appHttpPipeline", &handlers, &components).await;
    assert_eq!(setup.call(&setup.path("helloworld?x=1"), &[], "body").await, (200, "/ABC?X=1::BODY".to_owned()));
    let other = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let reply = other.post(&setup.path("plain"), "body").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "/PLAIN::BODY".to_owned()));
}

#[tokio::test]
async fn a_handler_that_is_not_loaded_is_left_out() {
    let handlers = [("missing", "uppercase"), ("upper", "uppercase")];
    let setup = Setup::start("httpPipeline", &handlers, &component("upper", "uppercase", "")).await;
    assert_eq!(setup.call(&setup.path("foo"), &[], "body").await, (200, "/foo::BODY".to_owned()));
    if Binary::find().unwrap().is_ours() {
        setup.sidecar.wait_for_log("spec.httpPipeline: the handler missing is left out").await;
    }
}

#[tokio::test]
async fn a_handler_that_cannot_start_stops_the_sidecar() {
    let files = ResourceDir::new().unwrap();
    let wrong = component("limit", "ratelimit", "{name: maxRequestsPerSecond, value: \"-1\"}");
    let files = files.with("c.yaml", &wrong).unwrap();
    let mut sidecar = SidecarOptions::new(&unique("refused")).resources(files.path()).spawn().unwrap();
    let status = sidecar.wait_for_exit(std::time::Duration::from_secs(20)).await;
    assert_ne!(status.and_then(|status| status.code()), Some(0), "{}", sidecar.log());
    let log = sidecar.log();
    assert!(log.contains("error creating HTTP middleware middleware.http.ratelimit/v1"), "{log}");
    assert!(log.contains("maxRequestsPerSecond must be a positive value"), "{log}");
}

#[tokio::test]
async fn tokens_are_asked_for_and_too_many_requests_refused() {
    let keys = json!({"keys": [{"kty": "RSA", "kid": "rsa", "n": RSA_MODULUS, "e": "AQAB"}]});
    let provider = FakeApp::start(move |_, _| Answer::json(&keys)).await.unwrap();
    let components = component(
        "bearer",
        "bearer",
        &format!(
            "{{name: issuer, value: \"https://issuer\"}}, {{name: audience, value: me}}, {{name: jwksURL, value: \"http://127.0.0.1:{}/keys\"}}",
            provider.port()
        ),
    ) + &component("limit", "ratelimit", "{name: maxRequestsPerSecond, value: \"1\"}")
        + &component("check", "routerchecker", "{name: rule, value: \"^/v1.0/(invoke|healthz)\"}");
    let handlers = [("check", "routerchecker"), ("bearer", "bearer"), ("limit", "ratelimit")];
    let app = FakeApp::start(|request, _| echo(request)).await.unwrap();
    let resources = ResourceDir::new().unwrap().with("components.yaml", &components).unwrap();
    let config = ResourceDir::new().unwrap().with("c.yaml", &configuration("httpPipeline", &handlers)).unwrap();
    let options = SidecarOptions::new(&unique("bearer")).app_port(app.port());
    let options = options.resources(resources.path()).configuration(&config.path().join("c.yaml"));
    let sidecar = options.spawn().unwrap();
    sidecar.wait_for_log("dapr initialized. Status: Running").await;

    let path = format!("/v1.0/invoke/{}/method/foo", sidecar.app_id());
    let send =
        async |path: &str, headers: &[(&str, &str)]| sidecar.send(Method::POST, path, headers, "body").await.unwrap();
    let refused = send(&path, &[]).await;
    assert_eq!((refused.status, refused.text().as_str()), (StatusCode::UNAUTHORIZED, "Unauthorized"));
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(send(&path, &[("authorization", &format!("{bearer}x"))]).await.status, StatusCode::UNAUTHORIZED);
    let passed = send(&path, &headers).await;
    assert_eq!((passed.status, passed.text().as_str()), (StatusCode::OK, "/foo::body"));
    assert_eq!(passed.header("x-rate-limit-limit"), "1.00");
    assert!(passed.header("x-rate-limit-request-remote-addr").starts_with("127.0.0.1:"), "{passed:?}");
    let limited = send(&path, &headers).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.text(), "You have reached maximum request limit.");
    let unknown = send("/v1.0/metadata", &headers).await;
    assert_eq!((unknown.status, unknown.text().as_str()), (StatusCode::BAD_REQUEST, "invalid router"));
    assert_eq!(app.requests("/foo").len(), 1);
}

#[tokio::test]
async fn the_application_gets_a_token_of_the_client() {
    let provider = FakeApp::start(|_, _| {
        Answer::json(&json!({"access_token": "abc", "token_type": "bearer", "expires_in": 3600}))
    })
    .await
    .unwrap();
    let fields = [
        ("clientID", "id"),
        ("clientSecret", "secret"),
        ("scopes", "a,b"),
        ("headerName", "x-token"),
        ("tokenURL", &format!("http://127.0.0.1:{}/token", provider.port())),
    ];
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{{name: {name}, value: \"{value}\"}}")).collect();
    let components = component("client", "oauth2clientcredentials", &fields.join(", "));
    let setup = Setup::start("appHttpPipeline", &[("client", "oauth2clientcredentials")], &components).await;
    for _ in 0..2 {
        assert_eq!(setup.call(&setup.path("foo"), &[], "body").await, (200, "/foo:Bearer abc:body".to_owned()));
    }
    let asked = provider.requests("/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), "Basic aWQ6c2VjcmV0");
    assert_eq!(asked[0].body, "grant_type=client_credentials&scope=a+b");
    assert!(!setup.app.requests("/foo").is_empty());
}

#[tokio::test]
async fn a_browser_is_sent_to_sign_in_and_comes_back() {
    let provider = FakeApp::start(|_, _| Answer::json(&json!({"access_token": "abc"}))).await.unwrap();
    let fields = [
        ("clientID", "id"),
        ("clientSecret", "secret"),
        ("authHeaderName", "x-token"),
        ("authURL", "https://provider/authorize"),
        ("tokenURL", &format!("http://127.0.0.1:{}/token", provider.port())),
        ("redirectURL", "http://localhost/back"),
        ("pathFilter", "/v1.0/invoke"),
    ];
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{{name: {name}, value: \"{value}\"}}")).collect();
    let components = component("browser", "oauth2", &fields.join(", "));
    let setup = Setup::start("httpPipeline", &[("browser", "oauth2")], &components).await;
    let path = setup.path("foo");
    let get = async |path: &str, cookie: &str| {
        setup.sidecar.send(Method::GET, path, &[("cookie", cookie)], "").await.unwrap()
    };
    let first = get(&path, "").await;
    assert_eq!(first.status, StatusCode::FOUND);
    let location = first.header("location");
    assert!(location.starts_with("https://provider/authorize?access_type=offline&client_id=id&"), "{location}");
    let state = location.split("state=").nth(1).unwrap();
    let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
    let back = get(&format!("{path}?code=c&state={state}"), &cookie).await;
    assert_eq!((back.status, back.header("location")), (StatusCode::FOUND, path.as_str()));
    // Ours gives the session a new name after signing in; the original keeps it.
    let cookie =
        back.header("set-cookie").split(';').next().filter(|text| !text.is_empty()).unwrap_or(&cookie).to_owned();
    let signed_in = get(&path, &cookie).await;
    assert_eq!((signed_in.status, signed_in.text().as_str()), (StatusCode::OK, "/foo:Bearer abc:"));
}

#[tokio::test]
async fn sentinel_stops_what_is_too_much() {
    let id = unique("sentinel");
    let rules = format!(
        r#"[{{"resource": "POST:/v1.0/invoke/{id}/method/foo", "threshold": 2, "tokenCalculateStrategy": 0, "controlBehavior": 0}}]"#
    );
    let components =
        component("guard", "sentinel", &format!("{{name: appName, value: a}}, {{name: flowRules, value: '{rules}'}}"));
    let app = FakeApp::start(|request, _| echo(request)).await.unwrap();
    let resources = ResourceDir::new().unwrap().with("components.yaml", &components).unwrap();
    let config =
        ResourceDir::new().unwrap().with("c.yaml", &configuration("httpPipeline", &[("guard", "sentinel")])).unwrap();
    let options = SidecarOptions::new(&id).app_port(app.port()).resources(resources.path());
    let sidecar = options.configuration(&config.path().join("c.yaml")).start().await.unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        let reply = sidecar.post(&format!("/v1.0/invoke/{id}/method/foo"), "body").await.unwrap();
        refused += u32::from(reply.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused >= 10, "{refused} of 20");
    assert_eq!(sidecar.get(&format!("/v1.0/invoke/{id}/method/foo")).await.unwrap().status, StatusCode::OK);
}
