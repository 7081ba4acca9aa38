//! Policies in front of a handler; the cases of the original's tests and more.

use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use pillion_contract::{HttpMiddleware, HttpRequest, HttpResponse, InitContext, Metadata, Next, full_body, read_body};
use pillion_core::log::Logger;

async fn component(metadata: &[(&str, &str)]) -> Result<Arc<dyn HttpMiddleware>, String> {
    let context = InitContext {
        name: "test".into(),
        component_type: "middleware.http.opa".into(),
        version: "v1".into(),
        metadata: Metadata::new(metadata.iter().copied()),
        app_id: "test".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir(),
        log: Logger::silent(),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    crate::create(context).await.map_err(|error| error.to_string())
}

/// Sends a request through: what the caller got, and the request that came next, if it did.
async fn send(middleware: &dyn HttpMiddleware, request: HttpRequest) -> (HttpResponse, Option<HttpRequest>) {
    let seen = Mutex::new(None);
    let end = |request| async {
        *seen.lock() = Some(request);
        http::Response::new(full_body("from next"))
    };
    let response = middleware.handle(request, Next::end(end)).await;
    (response, seen.into_inner())
}

fn request(uri: &str, headers: &[(&'static str, &'static str)], body: &'static str) -> HttpRequest {
    let mut request = http::Request::new(full_body(body));
    *request.uri_mut() = uri.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// Status and text for a policy; a request that went on has status 200 and the handler's text.
async fn outcome(rego: &str, metadata: &[(&str, &str)], request: HttpRequest) -> (u16, String) {
    let metadata: Vec<_> = metadata.iter().copied().chain([("rego", rego)]).collect();
    let middleware = component(&metadata).await.unwrap_or_else(|problem| panic!("{problem}\n{rego}"));
    let (response, seen) = send(&*middleware, request).await;
    assert_eq!(seen.is_some(), response.status() == StatusCode::OK, "{rego}");
    let (parts, body) = response.into_parts();
    let mut text = String::from_utf8(read_body(body, 1000).await.unwrap().to_vec()).unwrap();
    if let Some(location) = parts.headers.get("location") {
        text += &format!(" {}", location.to_str().unwrap());
    }
    if parts.headers.contains_key("x-dapr-opa-error") {
        text += " error";
    }
    (parts.status.as_u16(), text)
}

/// Rules, metadata, a request, and the outcome.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], HttpRequest, (u16, &'a str));

#[tokio::test]
async fn answers() {
    let default_allow = r#"default allow = true
        allow = { "status_code": 403 } { input.request.path_parts[0] = "forbidden" }"#;
    let by_header = r#"default allow = true
        allow = { "status_code": 403 } { input.request.headers["X-Bad-Header"] = "1" }"#;
    let by_headers = r#"default allow = false
        allow = { "allow": true } {
          input.request.headers["X-Jwt-Header"]
          input.request.headers["X-My-Custom-Header"]
        }"#;
    let by_body = r#"default allow = false
        allow = { "allow": true } { input.request.body == "allow" }"#;
    let redirect = r#"allow = { "allow": false, "status_code": 301, "additional_headers": { "location": "https://my.site/login" } }"#;
    let by_token = r#"default allow = false
        allow = true { [_, token] := split(input.request.headers["Authorization"], " ")
          [_, payload, _] := io.jwt.decode(token)
          payload.sub == "joe" }"#;
    let by_signature = r#"default allow = false
        allow = true { [_, token] := split(input.request.headers["Authorization"], " ")
          io.jwt.verify_hs256(token, "secret")
          [true, _, payload] := io.jwt.decode_verify(token, {"secret": "secret", "alg": "HS256"})
          payload.sub == "joe" }"#;
    let signed = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqb2UifQ.7Mh8CM7Pc_60w7hWubLoR0O-lXRXsP-RTUdXIjzNE_4";
    let by_digest = r#"allow { crypto.md5("abc") == "900150983cd24fb0d6963f7d28e17f72"
          crypto.hmac.equal(crypto.hmac.sha1("a", "b"), crypto.hmac.sha1("a", "b"))
          not crypto.x509.parse_certificates("no")
          [false, []] == crypto.x509.parse_and_verify_certificates("no") }"#;
    let plain = || request("/", &[], "");
    let bad_header = || request("/", &[("x-bad-header", "1")], "");
    let two = || request("/", &[("x-jwt-header", "1"), ("x-my-custom-header", "2")], "");
    let token = |value| request("/", &[("authorization", value)], "");
    let joe = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqb2UiLCJuIjoxfQ.AP8";
    let yes = (200, "from next");
    let no = (403, "Forbidden");
    let cases: Vec<Case<'_>> = vec![
        ("allow = true", &[], plain(), yes),
        ("allow = false", &[], plain(), no),
        (r#"allow = { "allow": false, "status_code": 301 }"#, &[], plain(), (301, "Moved Permanently")),
        (redirect, &[], plain(), (301, "Moved Permanently https://my.site/login")),
        (default_allow, &[], request("/allowed", &[], ""), yes),
        (default_allow, &[], request("/forbidden", &[], ""), no),
        (by_header, &[], bad_header(), yes),
        (by_header, &[("includedHeaders", "x-bad-header")], bad_header(), no),
        (by_headers, &[("includedHeaders", "x-my-custom-header, x-jwt-header")], two(), yes),
        (by_headers, &[("includedHeaders", "x-my-custom-header, x-jwt-header")], bad_header(), no),
        ("allow = 1", &[], plain(), (403, "Forbidden error")),
        ("other = true", &[], plain(), (403, "Forbidden error")),
        ("allow { input.request.method == \"PUT\" }", &[], plain(), (403, "Forbidden error")),
        ("allow { input.request.method == \"GET\" }", &[], plain(), yes),
        ("allow = true { true }\nallow = false { true }", &[], plain(), (403, "Forbidden error")),
        ("allow = false", &[("defaultStatus", "500")], plain(), (500, "Internal Server Error")),
        ("allow = 1", &[("defaultStatus", "401")], plain(), (401, "Unauthorized error")),
        (r#"allow = { "status_code": 301 }"#, &[("defaultStatus", "500")], plain(), (301, "Moved Permanently")),
        (r#"allow = { "status_code": 599 }"#, &[], plain(), (500, "Internal Server Error")),
        (by_body, &[("readBody", "true")], request("/", &[], "allow"), yes),
        (by_body, &[], request("/", &[], "allow"), no),
        (by_token, &[("includedHeaders", "authorization")], token(joe), yes),
        (by_token, &[("includedHeaders", "authorization")], token("Bearer x.y.z"), no),
        (by_signature, &[("includedHeaders", "authorization")], token(joe), (403, "Forbidden")),
        (by_signature, &[("includedHeaders", "authorization")], token(signed), yes),
        (by_digest, &[], plain(), yes),
        ("allow { io.jwt.verify_es512(\"a\", \"b\") }", &[], plain(), (403, "Forbidden error")),
        ("import rego.v1\nallow if input.request.path == \"/\"", &[], plain(), yes),
        ("allow if { some part in input.request.path_parts; part == \"b\" }", &[], request("/a/b", &[], ""), yes),
        ("default allow = false\nallow { to_number(input.request.body) > 1 }", &[], plain(), no),
        (
            "allow { time.now_ns() > 0; regex.match(`^/$`, input.request.path); glob.match(\"/*\", [], \"/x\") }",
            &[],
            plain(),
            yes,
        ),
    ];
    for (rules, metadata, request, (status, text)) in cases {
        let rego = format!("package http\n{rules}");
        assert_eq!(outcome(&rego, metadata, request).await, (status, text.to_owned()), "{rego}");
    }
    let elsewhere = "package http.authz\nallow = true";
    assert_eq!(outcome(elsewhere, &[], plain()).await, (403, "Forbidden error".to_owned()));
}

#[tokio::test]
async fn an_allowed_request_gets_headers_and_keeps_its_body() {
    let rego = r#"package http
        allow = { "allow": true, "additional_headers": { "x-user": input.request.body } }"#;
    let middleware = component(&[("rego", rego), ("readBody", "true")]).await.unwrap();
    let (_, seen) = send(&*middleware, request("/", &[("x-user", "forged")], "joe")).await;
    let seen = seen.unwrap();
    assert_eq!(seen.headers().get_all("x-user").iter().collect::<Vec<_>>(), ["joe"]);
    assert_eq!(read_body(seen.into_body(), 10).await.unwrap(), "joe");
}

#[tokio::test]
async fn a_policy_that_is_not_rego_stops_the_start() {
    assert!(component(&[]).await.err().unwrap().contains("\"rego\""));
    let found = component(&[("rego", "package http\nallow = {")]).await.err().unwrap();
    assert!(found.contains("metadata field \"rego\"") && found.contains("inline.rego"), "{found}");
}

#[tokio::test]
async fn many_requests_ask_one_policy() {
    let rego = "package http\ndefault allow = false\nallow { input.request.path_parts[0] == \"yes\" }";
    let middleware = component(&[("rego", rego)]).await.unwrap();
    for round in 0..200 {
        let (path, expected) =
            if round % 2 == 0 { ("/yes/a", StatusCode::OK) } else { ("/no/a", StatusCode::FORBIDDEN) };
        assert_eq!(send(&*middleware, request(path, &[], "")).await.0.status(), expected);
    }
}

#[tokio::test]
async fn a_slow_policy_does_not_hold_the_thread() {
    let rego = "package http
        default allow = true
        allow = false { input.request.path == \"/slow\"
          count([x | x := numbers.range(1, 400)[_]; y := numbers.range(1, 400)[_]; x == y]) == 400 }";
    let middleware = component(&[("rego", rego)]).await.unwrap();
    for _ in 0..3 {
        // A quick answer, so that the next question begins on the async thread.
        assert_eq!(send(&*middleware, request("/", &[], "")).await.0.status(), StatusCode::OK);
    }
    let started = std::time::Instant::now();
    let ticks = async {
        let mut interval = tokio::time::interval(std::time::Duration::from_millis(2));
        for _ in 0..10 {
            interval.tick().await;
        }
        started.elapsed()
    };
    let ((response, _), ticked) = tokio::join!(send(&*middleware, request("/slow", &[], "")), ticks);
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(!response.headers().contains_key("x-dapr-opa-error"));
    assert!(started.elapsed() > ticked, "the ticks waited for the policy");
}
