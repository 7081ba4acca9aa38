//! The middleware as a pipeline runs it, with a provider of identities on a local port.

mod provider;
mod sign_in;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode};
use pillion_contract::{
    ComponentError, HttpMiddleware, HttpResponse, InitContext, Metadata, Next, RemoteAddress, empty_body, full_body,
    read_body,
};
use pillion_core::log::Logger;

/// A context as the sidecar would pass it.
pub(crate) fn context(metadata: &[(&str, &str)]) -> InitContext {
    InitContext {
        name: "test".into(),
        component_type: "middleware.http.test".into(),
        version: "v1".into(),
        metadata: Metadata::new(metadata.iter().copied()),
        app_id: "test-app".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir(),
        log: Logger::silent(),
        cancel: tokio_util::sync::CancellationToken::new(),
    }
}

fn request(method: Method, uri: &str, headers: &[(&str, &str)], body: &str) -> Request<pillion_contract::HttpBody> {
    let mut request = Request::new(if body.is_empty() { empty_body() } else { full_body(body.to_owned()) });
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    request
}

/// Answers with what reached the end: `VERB target|headers of interest|body`.
async fn echo(request: Request<pillion_contract::HttpBody>) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let told: Vec<String> = ["authorization", "x-token", "x-forwarded-for"]
        .iter()
        .flat_map(|name| parts.headers.get_all(*name))
        .map(|value| value.to_str().unwrap().to_owned())
        .collect();
    let body = read_body(body, 1 << 20).await.unwrap();
    let text = format!("{} {}|{}|{}", parts.method, parts.uri, told.join(","), String::from_utf8_lossy(&body));
    Response::new(full_body(text))
}

async fn get(middleware: &Arc<dyn HttpMiddleware>, uri: &str, headers: &[(&str, &str)]) -> HttpResponse {
    middleware.handle(request(Method::GET, uri, headers, ""), Next::end(echo)).await
}

async fn text(response: HttpResponse) -> String {
    String::from_utf8(read_body(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

fn header<'a>(response: &'a HttpResponse, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn problem(made: Result<Arc<dyn HttpMiddleware>, ComponentError>) -> String {
    made.err().expect("it must not start").to_string()
}

#[tokio::test]
async fn uppercase_changes_what_it_is_told_to() {
    let send = async |direction: &str| {
        let made = crate::uppercase::create(context(&[("direction", direction)])).await.unwrap();
        let sent = request(Method::POST, "/a", &[("content-length", "9")], "straße ǆ");
        text(made.handle(sent, Next::end(echo)).await).await
    };
    assert_eq!(send("").await, "POST /a||STRAßE Ǆ");
    assert_eq!(send("request").await, "POST /a||STRAßE Ǆ");
    assert_eq!(send("Response").await, "POST /A||STRAßE Ǆ");
    assert_eq!(send("both").await, "POST /A||STRAßE Ǆ");
}

#[tokio::test]
async fn uppercase_keeps_streams_and_split_characters() {
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    struct Stream(mpsc::Receiver<Bytes>);
    impl http_body::Body for Stream {
        type Data = Bytes;
        type Error = pillion_contract::HttpBodyError;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(http_body::Frame::data(chunk))))
        }
    }

    let made = crate::uppercase::create(context(&[])).await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let sent = Request::new(Stream(receiver).boxed());
    let end = async |request: Request<pillion_contract::HttpBody>| {
        let mut body = request.into_body();
        let mut chunks = Vec::new();
        sender.send(Bytes::from_static(b"a\xc3")).await.unwrap();
        chunks.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
        sender.send(Bytes::from_static(b"\xbcb\xff")).await.unwrap();
        chunks.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
        sender.send(Bytes::from_static(b"\xe2\x82")).await.unwrap();
        drop(sender);
        chunks.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
        assert!(body.frame().await.is_none());
        Response::new(full_body(chunks.join(&b'|')))
    };
    assert_eq!(text(made.handle(sent, Next::end(end)).await).await, "A|ÜB\u{fffd}|\u{fffd}");
}

#[tokio::test]
async fn routerchecker_looks_at_path_and_query() {
    let made = crate::router_checker::create(context(&[("rule", "^[A-Za-z0-9/._-]+$")])).await.unwrap();
    assert_eq!(
        text(get(&made, "/v1.0/invoke/qcg.default/method", &[]).await).await,
        "GET /v1.0/invoke/qcg.default/method||"
    );
    let refused = get(&made, "/v1.0/invoke/qcg.default/%20method?x=1", &[]).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(header(&refused, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(text(refused).await, "invalid router");
    assert!(
        problem(crate::router_checker::create(context(&[("rule", "(")])).await)
            .contains("failed to compile rule regexp")
    );
}

#[tokio::test]
async fn routeralias_gives_routes_other_paths() {
    let pairs = [
        ("/v1.0/mall/activity/info", "/v1.0/invoke/srv.default/method/mall/activity/info"),
        ("/v1.0/hello/activity/{id}/info", "/v1.0/invoke/srv.default/method/hello/activity/info"),
        ("/v1.0/hello/activity/{id:[0-9]{2}}/user", "/v1.0/invoke/srv.default/method/hello/activity/user"),
    ];
    let json = serde_json::to_string(&pairs.iter().copied().collect::<std::collections::BTreeMap<_, _>>()).unwrap();
    let yaml: String = pairs.iter().map(|(route, path)| format!("\"{route}\": {path}\n")).collect();
    for metadata in [pairs.to_vec(), vec![("routes", json.as_str())], vec![("routes", yaml.as_str())]] {
        let made = crate::router_alias::create(context(&metadata)).await.unwrap();
        for (asked, reached) in [
            ("/v1.0/mall/activity/info?id=123", "/v1.0/invoke/srv.default/method/mall/activity/info?id=123"),
            ("/v1.0/hello/activity/1/info", "/v1.0/invoke/srv.default/method/hello/activity/info?id=1"),
            ("/v1.0/hello/activity/a%20b/info", "/v1.0/invoke/srv.default/method/hello/activity/info?id=a+b"),
            (
                "/v1.0/hello/activity/12/user?userid=123&a=%20",
                "/v1.0/invoke/srv.default/method/hello/activity/user?a=+&id=12&userid=123",
            ),
            ("/v1.0/hello/activity/123/user", "/v1.0/hello/activity/123/user"),
            ("/v1.0/invoke/srv.default", "/v1.0/invoke/srv.default"),
        ] {
            assert_eq!(text(get(&made, asked, &[]).await).await, format!("GET {reached}||"));
        }
    }
    assert!(problem(crate::router_alias::create(context(&[("routes", "[1]")])).await).contains("as JSON or YAML"));
    assert!(
        problem(crate::router_alias::create(context(&[("routes", "{\"/a/{b\": \"/c\"}")])).await)
            .contains("route \"/a/{b\"")
    );
}

#[tokio::test]
async fn ratelimit_refuses_what_is_too_much() {
    let made = crate::rate_limit::create(context(&[("maxRequestsPerSecond", "1")])).await.unwrap();
    let from = |port: u16| {
        let mut request = request(Method::GET, "/a", &[], "");
        request.extensions_mut().insert(RemoteAddress(([127, 0, 0, 1], port).into()));
        request
    };
    let first = made.handle(from(1), Next::end(echo)).await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(header(&first, "x-rate-limit-limit"), "1.00");
    assert_eq!(header(&first, "x-rate-limit-request-remote-addr"), "127.0.0.1:1");
    assert_eq!(header(&first, "ratelimit-remaining"), "0");
    assert_eq!(text(first).await, "GET /a||");
    let second = made.handle(from(2), Next::end(echo)).await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&second, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(text(second).await, "You have reached maximum request limit.");
    // Another path, and another client: each counts for itself.
    assert_eq!(get(&made, "/b", &[("x-forwarded-for", "127.0.0.1")]).await.status(), StatusCode::OK);
    assert_eq!(text(get(&made, "/c", &[]).await).await, "GET /c|0.0.0.0|");
    for (value, told) in
        [("0", "positive value"), ("-2", "positive value"), ("foo-bar", "as float"), ("NaN", "positive value")]
    {
        let told_by = problem(crate::rate_limit::create(context(&[("maxRequestsPerSecond", value)])).await);
        assert!(told_by.contains(told), "{told_by}");
    }
}

#[tokio::test(start_paused = true)]
async fn sentinel_limits_rate_and_concurrency() {
    let flow = r#"[{"resource":"GET:/a","threshold":2,"tokenCalculateStrategy":0,"controlBehavior":0}]"#;
    let isolation = r#"[{"resource":"GET:/b","metricType":0,"threshold":1},{"resource":"","threshold":1}]"#;
    let breakers = r#"[{"resource":"GET:/c","strategy":0,"retryTimeoutMs":3000,"minRequestAmount":1,
                       "statIntervalMs":10000,"maxAllowedRtMs":50,"threshold":0.5},
                      {"resource":"GET:/c","strategy":2,"retryTimeoutMs":1,"statIntervalMs":1}]"#;
    let metadata = [("flowRules", flow), ("isolationRules", isolation), ("circuitBreakerRules", breakers)];
    let made = crate::sentinel::create(context(&metadata)).await.unwrap();
    let status = async |uri: &str| get(&made, uri, &[]).await.status().as_u16();
    let statuses = [status("/a?x=1").await, status("/a").await, status("/a").await, status("/other").await];
    assert_eq!(statuses, [200, 200, 429, 200]);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert_eq!(status("/a").await, 200);

    // A request is under way until the end of its body.
    let held = get(&made, "/b", &[]).await;
    assert_eq!(status("/b").await, 429);
    drop(held);
    assert_eq!(status("/b").await, 200);

    let slow = async |request| {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        echo(request).await
    };
    assert_eq!(made.handle(request(Method::GET, "/c", &[], ""), Next::end(slow)).await.status(), StatusCode::OK);
    assert_eq!(status("/c").await, 429);
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    assert_eq!([status("/c").await, status("/c").await], [200, 200]);

    let told = problem(crate::sentinel::create(context(&[("flowRules", "{}")])).await);
    assert!(told.contains("fail to load sentinel flow rules '{}'") && told.contains("flowRules"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn sentinel_system_rules_count_all_that_comes_in() {
    let rules = r#"[{"metricType":3,"triggerCount":3},{"metricType":2,"triggerCount":2}]"#;
    let made = crate::sentinel::create(context(&[("systemRules", rules)])).await.unwrap();
    let held = [get(&made, "/a", &[]).await, get(&made, "/b", &[]).await];
    assert_eq!(get(&made, "/c", &[]).await.status(), StatusCode::TOO_MANY_REQUESTS, "concurrency");
    drop(held);
    assert_eq!(get(&made, "/c", &[]).await.status(), StatusCode::OK);
    assert_eq!(get(&made, "/d", &[]).await.status(), StatusCode::TOO_MANY_REQUESTS, "rate");
}
