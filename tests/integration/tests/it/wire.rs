//! What a client sees byte by byte: what is no request, questions about the server itself, line ends of JSON, events of the own
//! app, and the names of endpoints in the API log.

use std::fs;
use std::time::Duration;

use http::Method;
use pillion_testkit::{Answer, FakeApp, ResourceDir, Sidecar, SidecarOptions, chunked, eventually, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{STATE, unique};

const LIMIT: Duration = Duration::from_secs(10);
const SECRETS: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mysecrets}
spec: {type: secretstores.local.env, version: v1}
";

async fn sidecar(environment: &[(&str, &str)]) -> (Sidecar, ResourceDir) {
    let resources = ResourceDir::new().unwrap().with("a.yaml", STATE).unwrap().with("b.yaml", SECRETS).unwrap();
    let options = SidecarOptions::new(&unique("wire")).resources(resources.path());
    let options = environment.iter().fold(options, |options, (name, value)| options.environment(name, value));
    (options.start().await.unwrap(), resources)
}

/// Sends bytes and reads until the server closes; gives the lines of the heads and the bodies, without dates.
async fn raw(sidecar: &Sidecar, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.http)).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut read = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut read)).await.expect("the server closes").unwrap();
    let text = String::from_utf8(read).unwrap();
    let lines = text.split("\r\n").filter(|line| !line.to_lowercase().starts_with("date:"));
    lines.collect::<Vec<_>>().join("\n")
}

fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status}\nContent-Type: text/plain; charset=utf-8\nConnection: close\n\n{status}")
}

#[tokio::test]
async fn what_is_no_request_is_told_in_text() {
    let (sidecar, _resources) = sidecar(&[]).await;
    let get = |headers: &str| format!("GET /v1.0/healthz HTTP/1.1\r\n{headers}\r\n\r\n");
    let host = |headers: &str| get(&format!("Host: a\r\n{headers}"));
    for (sent, status) in [
        ("hello\r\n\r\n".to_owned(), "400 Bad Request"),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), "400 Bad Request"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400 Bad Request"),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400 Bad Request"),
        (
            "GET / HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(),
            "505 HTTP Version Not Supported: unsupported protocol version",
        ),
        (host("no colon"), "400 Bad Request"),
        (host("a b: c"), "400 Bad Request: invalid header name"),
        (host("Content-Length: x"), "400 Bad Request"),
        (host("Host: b"), "400 Bad Request"),
        (get("a: b"), "400 Bad Request: missing required Host header"),
        (get("Host: a b"), "400 Bad Request: malformed Host header"),
        (host(&format!("a: {}", "b".repeat(9000))), "431 Request Header Fields Too Large"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(200_000)), "431 Request Header Fields Too Large"),
    ] {
        let shown = &sent[..sent.len().min(60)];
        assert_eq!(raw(&sidecar, sent.as_bytes()).await, refusal(status), "{shown:?}");
    }
    // The same behind a good request.
    let answers = raw(&sidecar, format!("{}hello\r\n\r\n", host("x: y")).as_bytes()).await;
    assert!(
        answers.starts_with("HTTP/1.1 204 No Content\n") && answers.ends_with(&refusal("400 Bad Request")),
        "{answers}"
    );
    let coded = host("Transfer-Encoding: gzip, chunked");
    let answer = raw(&sidecar, coded.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 501 ") && answer.ends_with("\n\nUnsupported transfer encoding"), "{answer}");
    let answer = raw(&sidecar, host("Expect: wonders").as_bytes()).await.to_lowercase();
    assert!(
        answer.starts_with("http/1.1 417 expectation failed\n") && answer.contains("\nconnection: close\n"),
        "{answer}"
    );
    // Many headers are none too many while they are short.
    let many: String = (0..400).map(|number| format!("a{number}: b\r\n")).collect();
    let answer = raw(&sidecar, host(&format!("{many}Connection: close")).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

#[tokio::test]
async fn a_question_about_the_server_is_answered_without_a_body() {
    let (sidecar, _resources) = sidecar(&[("DAPR_API_TOKEN", "secret")]).await;
    for sent in [
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    ] {
        let answer = raw(&sidecar, sent.as_bytes()).await.to_lowercase();
        let mut lines: Vec<&str> = answer.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["", "connection: close", "content-length: 0", "http/1.1 200 ok"], "{sent:?}");
    }
    let other = raw(&sidecar, b"GET * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 401 "), "{other}");
}

#[tokio::test]
async fn json_ends_with_a_line_and_is_safe_in_a_page() {
    let (sidecar, _resources) = sidecar(&[("WIRE_SECRET", "a<b>&c")]).await;
    let put = sidecar.post("/v1.0/state/mystore", r#"[{"key":"a","value":1}]"#).await.unwrap();
    assert_eq!(put.status, 204);
    let bulk = sidecar.post("/v1.0/state/mystore/bulk", r#"{"keys":["b"]}"#).await.unwrap();
    assert_eq!(bulk.text(), "[{\"key\":\"b\"}]\n");
    let secret = sidecar.get("/v1.0/secrets/mysecrets/WIRE_SECRET").await.unwrap();
    assert_eq!(secret.text(), "{\"WIRE_SECRET\":\"a\\u003cb\\u003e\\u0026c\"}\n");
    for path in ["/v1.0/metadata", "/v1.0/secrets/mysecrets/bulk"] {
        let answer = sidecar.get(path).await.unwrap();
        assert!(answer.status == 200 && answer.text().ends_with("}\n"), "{path}: {}", answer.text());
    }
    // Values are as they were saved, and errors end with their last brace.
    assert_eq!(sidecar.get("/v1.0/state/mystore/a").await.unwrap().text(), "1");
    for path in ["/v1.0/state/none/a", "/v1.0/secrets/none/a", "/v1.0/invoke/a", "/v1.0/actors/a/b/state/c"] {
        let answer = sidecar.get(path).await.unwrap();
        assert!(answer.status.as_u16() >= 400 && answer.text().ends_with('}'), "{path}: {}", answer.text());
    }
    let answer = sidecar.get("/v1.0/state/a%3Cb/c").await.unwrap();
    assert!(answer.text().contains("a\\u003cb"), "{}", answer.text());
}

#[tokio::test]
async fn events_of_the_own_app_are_passed_on_as_they_are() {
    let app = FakeApp::start(|request, _| {
        let code = if request.path == "/refused" { 404 } else { 200 };
        let answer = Answer::text("data: 1\n\n").with_status(http::StatusCode::from_u16(code).unwrap());
        match request.header("x-type") {
            "" => answer,
            kind => answer.with_header("content-type", kind),
        }
    })
    .await
    .unwrap();
    let callee = SidecarOptions::new(&unique("callee")).app_port(app.port()).start().await.unwrap();
    let caller = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let headers = |kind: &'static str| [("accept", "text/event-stream"), ("x-type", kind)];
    for kind in ["application/json", "text/event-stream"] {
        for (method, code) in [("x", 200), ("refused", 404)] {
            let path = format!("/v1.0/invoke/{}/method/{method}", callee.app_id());
            let answer = request(callee.http, Method::GET, &path, &headers(kind), "").await.unwrap();
            let told = (answer.status.as_u16(), answer.header("content-type"), answer.header("cache-control"));
            assert_eq!(told, (code, kind, ""), "{path}");
        }
    }
    let path = format!("/v1.0/invoke/{}/method/x", callee.app_id());
    let answer = request(caller.http, Method::GET, &path, &headers("application/json"), "").await.unwrap();
    assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("text/event-stream", "no-cache"));
    // A body that streams has no second try, and its answer is passed on as events whatever it says.
    let refused = format!("/v1.0/invoke/{}/method/refused", callee.app_id());
    let answer =
        chunked(callee.http, Method::POST, &refused, &headers("application/json"), vec!["a".into()]).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, "text/event-stream"));
}

#[tokio::test]
async fn the_log_names_endpoints_and_the_type_of_actors() {
    for (metrics, invoked) in
        [("", "InvokeActor/T.i"), ("  metric: {http: {increasedCardinality: false}}\n", "InvokeActor/T")]
    {
        let resources = ResourceDir::new().unwrap();
        let configuration = resources.path().join("config.yaml.txt");
        let text = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: a}}\nspec:\n  logging: {{apiLogging: {{enabled: true, obfuscateURLs: true}}}}\n{metrics}"
        );
        fs::write(&configuration, text).unwrap();
        let sidecar = SidecarOptions::new(&unique("wire")).configuration(&configuration).start().await.unwrap();
        let mut wanted = Vec::new();
        for (verb, path, name) in [
            (Method::PUT, "method/m", invoked),
            (Method::POST, "state", "ExecuteActorStateTransaction"),
            (Method::GET, "state/k", "GetActorState"),
            (Method::POST, "reminders/n", "RegisterActorReminder"),
            (Method::GET, "reminders/n", "GetActorReminder"),
            (Method::DELETE, "reminders/n", "UnregisterActorReminder"),
            (Method::POST, "timers/n", "RegisterActorTimer"),
            (Method::DELETE, "timers/n", "UnregisterActorTimer"),
        ] {
            request(sidecar.http, verb, &format!("/v1.0/actors/T/i/{path}"), &[], "[]").await.unwrap();
            wanted.push(name.to_owned());
        }
        let named = |log: &str| -> Vec<String> {
            let lines = log.lines().filter(|line| line.contains("HTTP API Called"));
            let names = lines
                .filter_map(|line| Some(line.split_once("method=")?.1.split(' ').next()?.trim_matches('"').to_owned()));
            names.filter(|name| name != "Healthz").collect()
        };
        eventually(&format!("{wanted:?} in the log"), LIMIT, || async {
            (named(&sidecar.log()) == wanted).then_some(())
        })
        .await;
    }
}
