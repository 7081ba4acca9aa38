//! Ways around the rules, each of which has to end where the rules say.
//!
//! *Source:* the original's advisories on path traversal in method names (v1.16.14, v1.17.5) and the cases of its suite for
//! reserved characters, by their facts; and what else an application server might read otherwise than the rules do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use pillion_proto::common::v1::http_extension::Verb;
use pillion_testkit::{Binary, GrpcApp};
use tonic::Code;

use super::{PUBLIC_ONLY, Secured, http_app, invoke, path, secured};
use crate::fixture::unique;

/// Status and body of a request that goes out as it is written, whatever a client library would think of it.
async fn raw(port: u16, verb: &str, target: &str, headers: &str) -> (u16, String) {
    let request = format!(
        "{verb} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n"
    );
    let read = move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::task::spawn_blocking(read).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

#[tokio::test]
async fn paths_to_an_http_application() {
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", PUBLIC_ONLY).await;
    let called = pair.callee.app_id();
    let cases = [
        ("public", 200, "/public"),
        ("PUBLIC", 200, "/PUBLIC"),
        ("public/extra", 200, "/public/extra"),
        ("public///extra", 200, "/public/extra"),
        ("..%2Fpublic", 200, "/public"),
        ("admin%2F..%2Fpublic", 200, "/public"),
        ("admin%2F..%2F..%2Fpublic", 200, "/public"),
        ("admin%2Fsecret%2F..%2F..%2Fpublic", 200, "/public"),
        ("public%2F..%2Fpublic", 200, "/public"),
        ("a%2Fb%2Fc%2F..%2F..%2F..%2Fpublic", 200, "/public"),
        ("admin", 403, ""),
        ("ADMIN", 403, ""),
        ("%61dmin", 403, ""),
        ("/admin", 403, ""),
        ("//admin", 403, ""),
        ("./admin", 403, ""),
        ("admin/", 403, ""),
        ("publicadmin", 403, ""),
        ("admin?bypass", 403, ""),
        ("admin?/public", 403, ""),
        ("admin;/../public;", 403, ""),
        ("public/../admin", 403, ""),
        ("public/%2e%2e/admin", 403, ""),
        ("public/.%2E/admin", 403, ""),
        ("public%2F..%2Fadmin", 403, ""),
        ("public%2f%2e%2e%2fadmin", 403, ""),
        ("public%2F..%2Funauthorized", 403, ""),
        ("public%23../../admin", 403, ""),
        ("public%23/../admin", 403, ""),
        ("public%3F/../admin", 403, ""),
        ("public%0D/../admin", 403, ""),
        ("public%23%2F..%2Fadmin", 403, ""),
        ("public%3F%2F..%2Fadmin", 403, ""),
        ("public%23%2F..%2F..%2Fsecret%2Fadmin", 403, ""),
        ("public%23%00%2F..%2Fadmin", 403, ""),
        ("public%25%2F..%2Fadmin", 403, ""),
        ("public%25/../admin", 403, ""),
        ("admin%25stream", 403, ""),
        ("admin%22stream", 403, ""),
        ("admin%2Astream", 403, ""),
        ("%2A", 403, ""),
        ("%2A%2A", 403, ""),
        ("admin%5Cstream", 403, ""),
        ("admin%5C..%5Cpublic", 403, ""),
        ("admin%2F..%5C..%2Fpublic", 403, ""),
        ("admin\"stream", 403, ""),
        ("admin*stream", 403, ""),
        ("admin\\stream", 403, ""),
        ("%EF%BC%8Fpublic", 403, ""),
        ("admin%3Fignored", 500, ""),
        ("admin%00public", 500, ""),
        ("public%00", 500, ""),
        ("public%0a", 500, ""),
        ("public%7f", 500, ""),
        ("admin%23%3F%25bypass", 500, ""),
        ("public%23", 500, ""),
    ];
    // Twice: the first call goes over gRPC, later ones may go another way between sidecars of one make.
    for round in 0..2 {
        for (method, wanted, seen) in cases {
            let (status, body) = raw(pair.caller.http, "GET", &path(called, method), "").await;
            assert_eq!(status, wanted, "round {round}: {method}: {body}");
            if wanted == 200 {
                assert!(body.contains(&format!("GET {seen}")), "{method}: {body}");
            }
        }
    }
    // No UTF-8, which nothing between the sidecars can carry: refused here or there.
    let (status, body) = raw(pair.caller.http, "GET", &path(called, "admin%C0%AF..%C0%AFpublic"), "").await;
    assert!(status == 403 || status == 500, "{status}: {body}");
    // Escapes of escapes: the application would read what the rules do not allow. The original lets them through.
    if Binary::find().unwrap().is_ours() {
        for method in ["public/%252e%252e/admin", "public%252F..%252Fadmin", "public/x/%252E./%252e./admin"] {
            let (status, body) = raw(pair.caller.http, "GET", &path(called, method), "").await;
            assert_eq!(status, 403, "{method}: {body}");
        }
    }
    for reached in ["/admin", "/ADMIN", "/unauthorized", "/secret/admin", "/publicadmin"] {
        assert!(app.requests(reached).is_empty(), "{reached} was reached");
    }
}

#[tokio::test]
async fn other_forms_of_address_and_verbs() {
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", &PUBLIC_ONLY.replace("'*'", "GET, POST")).await;
    let called = pair.callee.app_id();
    let header = format!("dapr-app-id: {called}\r\n");
    let user = format!("dapr-app-id:{called}");
    let basic = format!("authorization: Basic {}\r\n", base64(user.as_bytes()));
    for _ in 0..2 {
        for (verb, target, headers, wanted) in [
            ("GET", "/public", header.as_str(), 200),
            ("GET", "/admin", header.as_str(), 403),
            ("GET", "/public/../admin", header.as_str(), 403),
            ("GET", "/public%2F..%2Fadmin", header.as_str(), 403),
            ("GET", "/v1.0/invoke/x/method/public", header.as_str(), 403), // the header wins; all of it is the method
            ("GET", "/public", basic.as_str(), 200),
            ("GET", "/admin", basic.as_str(), 403),
            ("GET", &format!("//v1.0//invoke//{called}/method/admin"), "", 403),
            ("GET", &format!("/v1.0/invoke/{called}.default/method/admin"), "", 403),
            ("GET", &format!("/v1.0/invoke/{called}/method/public/method/../../admin"), "", 403),
            ("get", &path(called, "public"), "", 200),
            ("PUT", &path(called, "public"), "", 403),
            ("put", &path(called, "public"), "", 403),
            ("PROPFIND", &path(called, "public"), "", 200), // travels as POST
            ("PROPFIND", &path(called, "admin"), "", 403),
            ("PUT", &path(called, "public"), "x-http-method-override: GET\r\n", 403),
        ] {
            let (status, body) = raw(pair.caller.http, verb, target, headers).await;
            assert_eq!(status, wanted, "{verb} {target} {headers}: {body}");
            assert!(!body.contains("/admin\n") && !body.starts_with("GET /admin"), "{body}");
        }
    }
    assert!(app.requests("/admin").is_empty());
    assert!(app.requests("/public").iter().all(|request| request.method == "GET" || request.method == "POST"));
}

#[tokio::test]
async fn what_a_caller_says_of_itself_does_not_count() {
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", PUBLIC_ONLY).await;
    let (called, known) = (pair.callee.app_id(), pair.caller.app_id());
    let stranger = secured(&unique("stranger"), &pair.sentry).start().await.unwrap();
    let forged = format!(
        "dapr-caller-app-id: {known}\r\nsource-app-id: {known}\r\ndapr-caller-namespace: default\r\ndapr-callee-app-id: {called}\r\ndestination-app-id: other\r\nx-forwarded-client-cert: URI=spiffe://public/ns/default/{known}\r\nx-forwarded-for: 127.0.0.1\r\n"
    );
    for _ in 0..3 {
        let (status, body) = raw(stranger.http, "GET", &path(called, "public"), &forged).await;
        assert_eq!(status, 403, "{body}");
    }
    assert!(app.requests("/public").is_empty());
    let (status, body) = raw(pair.caller.http, "GET", &path(called, "public"), "").await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn names_sent_over_grpc_to_an_http_application() {
    let app = http_app().await;
    let pair = Secured::start(app.port(), "http", PUBLIC_ONLY).await;
    let called = pair.callee.app_id();
    for _ in 0..2 {
        for (method, seen) in [
            ("public", "GET /public"),
            ("/public", "GET /public"),
            ("/admin/../public", "GET /public"),
            ("public%20x/../public", "GET /public"),
        ] {
            assert_eq!(invoke(&pair.caller, called, method, Verb::Get).await.unwrap(), seen, "{method}");
        }
        for method in [
            "/unauthorized",
            "/public%23/../unauthorized",
            "/public%3F/../unauthorized",
            "/public%23/../../unauthorized",
            "/public/sub%23/../../unauthorized",
            "/public/../unauthorized",
            "admin%2F..%2Fpublic",
            "admin%2F..%2F..%2Fpublic",
            "admin%2Fsecret%2F..%2F..%2Fpublic",
            "\\public/..\\..\\admin",
        ] {
            let status = invoke(&pair.caller, called, method, Verb::Get).await.expect_err(method);
            assert_eq!(status.code(), Code::Internal, "{method}: {status}");
            assert!(status.message().contains("access control policy has denied"), "{method}: {status}");
        }
        for method in ["/public\r/../unauthorized", "admin#stream", "admin?stream", "admin\0public", "\u{7f}public"] {
            let status = invoke(&pair.caller, called, method, Verb::Get).await.expect_err(method);
            assert!(status.message().contains("invalid method: method contains"), "{method:?}: {status}");
        }
    }
    if Binary::find().unwrap().is_ours() {
        for method in ["public/%2e%2e/admin", "public%2f..%2fadmin", "/public/%2E%2E/%61dmin"] {
            let status = invoke(&pair.caller, called, method, Verb::Get).await.expect_err(method);
            assert!(status.message().contains("access control policy has denied"), "{method}: {status}");
        }
    }
    // Without a verb an application that speaks HTTP cannot be called; the rules come first.
    let status = invoke(&pair.caller, called, "public", Verb::None).await.unwrap_err();
    assert!(status.message().contains("verb: NONE"), "{status}");
    for reached in ["/unauthorized", "/admin", "/../admin"] {
        assert!(app.requests(reached).is_empty(), "{reached} was reached");
    }
}

#[tokio::test]
async fn names_sent_to_a_grpc_application() {
    let app = GrpcApp::start(Vec::new()).await.unwrap();
    let pair = Secured::start(app.port(), "grpc", PUBLIC_ONLY).await;
    let called = pair.callee.app_id();
    let mut wanted = Vec::new();
    for (method, seen) in [
        ("public", "public"),
        ("admin/../public", "public"),
        ("admin/../../public", "public"),
        ("/admin%09/../public", "/public"),
        ("/admin%0A/../public", "/public"),
        ("/admin%0D/../public", "/public"),
        ("admin%2Fsecret/../public", "public"),
        ("//public//", "/public"),
    ] {
        invoke(&pair.caller, called, method, Verb::Get).await.unwrap_or_else(|status| panic!("{method}: {status}"));
        wanted.push(seen.to_owned());
    }
    for method in [
        "admin",
        "Public",
        "admin%stream",
        "public/../unauthorized",
        "public%/../admin",
        "admin%2F..%2Fpublic",
        "admin\\..\\public",
        "/admin\\..\\public",
        "/public;../../admin",
        "/admin\u{ff0f}..\u{ff0f}public",
        "admin%2Fpublic",
        "admin%2F..%2F..%2Fpublic",
        "public/../admin%2Fsecret",
        "%70ublic",
    ] {
        let status = invoke(&pair.caller, called, method, Verb::Get).await.expect_err(method);
        assert_eq!(status.code(), Code::Internal, "{method}: {status}");
        assert!(status.message().contains("access control policy has denied"), "{method}: {status}");
    }
    for method in
        ["admin#stream", "admin?stream", "public#/../admin", "public?/../admin", "admin\0public", "/admin\t/../public"]
    {
        let status = invoke(&pair.caller, called, method, Verb::Get).await.expect_err(method);
        assert!(status.message().contains("invalid method: method contains"), "{method:?}: {status}");
    }
    // From HTTP the escapes are read first.
    for (method, status) in [
        ("public", 200),
        ("unauthorized", 403),
        ("public%23/../unauthorized", 403),
        ("public%2F..%2Funauthorized", 403),
        ("public%25/../unauthorized", 403),
        ("public%0D/../unauthorized", 403),
        ("unauthorized%2F..%2Fpublic", 200),
    ] {
        let (found, body) = raw(pair.caller.http, "GET", &path(called, method), "").await;
        assert_eq!(found, status, "{method}: {body}");
        if status == 200 {
            wanted.push("public".to_owned());
        }
    }
    assert_eq!(app.methods(), wanted);
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            out.push(if index > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    out
}
