//! All forms in which a call can name its target, and who is told what of the other side.

use http::Method;
use pillion_testkit::{Answer, Binary, FakeApp, Recorded, Sidecar, SidecarOptions};

use crate::fixture::unique;

async fn app() -> FakeApp {
    FakeApp::start(|request: &Recorded, _| match request.path.as_str() {
        "/hops" => Answer::text("x")
            .with_header("connection", "x-mine")
            .with_header("x-mine", "dropped")
            .with_header("keep-alive", "timeout=5")
            .with_header("proxy-authenticate", "Basic")
            .with_header("trailer", "x-late")
            .with_header("x-kept", "yes")
            .with_header("x-twice", "1")
            .with_header("x-twice", "2"),
        _ => Answer::text(format!("{} {}?{}", request.method, request.path, request.query)),
    })
    .await
    .unwrap()
}

async fn pair(port: u16) -> (Sidecar, Sidecar) {
    let callee = SidecarOptions::new(&unique("callee")).app_port(port).start().await.unwrap();
    (SidecarOptions::new(&unique("caller")).start().await.unwrap(), callee)
}

#[tokio::test]
async fn every_form_of_a_url() {
    let app = app().await;
    let (caller, callee) = pair(app.port()).await;
    let id = callee.app_id();
    for _ in 0..2 {
        for (path, seen) in [
            (format!("/v1.0/invoke/{id}/method/a/b?q=1&q=2"), "GET /a/b?q=1&q=2"),
            (format!("/v1.0/invoke/{id}/method/"), "GET /?"),
            (format!("/v1.0/invoke/{id}/method//"), "GET /?"),
            (format!("/v1.0/invoke/{id}/method/a//b/"), "GET /a/b?"),
            (format!("/v1.0/invoke/{id}/method/a/method/b"), "GET /a/method/b?"),
            (format!("/v1.0/invoke/{id}.default/method/a"), "GET /a?"),
            (format!("//v1.0//invoke/{id}/method/a?x=%2F%20"), "GET /a?x=%2F%20"),
            (format!("/v1.0/invoke/{id}/method/%C3%BC%20b"), "GET /%C3%BC%20b?"),
        ] {
            let reply = caller.get(&path).await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, seen), "{path}");
        }
    }
    for (path, status) in [
        (format!("/v1.0/invoke/{id}/method"), 404),
        (format!("/v1.0/invoke/{id}"), 404),
        (format!("/v1.0/invoke/{id}.a.b/method/x"), 500),
    ] {
        let reply = caller.get(&path).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.error_code()), (status, "ERR_DIRECT_INVOKE".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn one_name_in_two_namespaces() {
    if !Binary::find().unwrap().is_ours() {
        return; // on one machine the original finds any of them
    }
    let (one, two, id) = (app().await, app().await, unique("callee"));
    let start = async |port: u16, namespace: &str| {
        SidecarOptions::new(&id).app_port(port).environment("NAMESPACE", namespace).start().await.unwrap()
    };
    let (first, _second) = (start(one.port(), "ns-one").await, start(two.port(), "ns-two").await);
    for _ in 0..4 {
        for namespace in ["ns-one", "ns-two"] {
            let reply = first.get(&format!("/v1.0/invoke/{id}.{namespace}/method/{namespace}")).await.unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
    assert_eq!((one.requests("/ns-one").len(), one.requests("/ns-two").len()), (4, 0));
    assert_eq!((two.requests("/ns-one").len(), two.requests("/ns-two").len()), (0, 4));
    assert_eq!(two.requests("/ns-two")[0].header("dapr-caller-namespace"), "ns-one");
}

#[tokio::test]
async fn a_call_to_oneself() {
    let app = app().await;
    let (_, own) = pair(app.port()).await;
    let id = own.app_id();
    let forged = [("dapr-caller-app-id", "somebody"), ("dapr-callee-app-id", "somebody")];
    for target in [id.to_owned(), format!("{id}.default")] {
        let reply = own.send(Method::PUT, &format!("/v1.0/invoke/{target}/method/own"), &forged, "x").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "PUT /own?"));
    }
    for seen in app.requests("/own") {
        if !Binary::find().unwrap().is_ours() {
            break; // the original believes its own app
        }
        assert_eq!((seen.header("dapr-caller-app-id"), seen.header("dapr-callee-app-id")), (id, id));
        assert!(seen.headers.get("destination-app-id").is_none());
        assert_eq!(seen.body, "x");
    }
}

#[tokio::test]
async fn headers_that_end_at_a_hop_and_headers_that_do_not() {
    let app = app().await;
    let (caller, callee) = pair(app.port()).await;
    let sent = [
        ("connection", "x-hop, close"),
        ("x-hop", "dropped"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "keep-alive"),
        ("upgrade-insecure-requests", "1"),
        ("destination-app-id", "forged"),
        ("x-some-bin", "AAEC"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("cookie", "a=b"),
        ("authorization", "Bearer x"),
        ("x-forwarded-for", "10.0.0.9"),
    ];
    for _ in 0..2 {
        let reply = caller.send(Method::GET, &format!("/v1.0/invoke/{}/method/hops", callee.app_id()), &sent, "").await;
        let reply = reply.unwrap();
        for name in ["x-mine", "keep-alive", "proxy-authenticate", "trailer"] {
            assert!(reply.headers.get(name).is_none(), "{name}: {:?}", reply.headers);
        }
        assert_eq!(reply.header("x-kept"), "yes");
        assert_eq!(reply.headers.get_all("x-twice").iter().count(), 2);
    }
    for seen in app.requests("/hops") {
        for name in
            ["x-hop", "keep-alive", "te", "proxy-authorization", "proxy-connection", "destination-app-id", "x-some-bin"]
        {
            assert!(seen.headers.get(name).is_none(), "{name}: {:?}", seen.headers);
        }
        for (name, value) in [
            ("cookie", "a=b"),
            ("authorization", "Bearer x"),
            ("dapr-caller-app-id", caller.app_id()),
            ("dapr-callee-app-id", callee.app_id()),
        ] {
            assert_eq!(seen.header(name), value);
        }
        assert_eq!(seen.headers.get_all("x-twice").iter().count(), 2, "{:?}", seen.headers);
        let forwarded: Vec<&str> =
            seen.headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap()).collect();
        assert!(forwarded.join(",").starts_with("10.0.0.9,") && !seen.header("forwarded").is_empty(), "{forwarded:?}");
    }
}
