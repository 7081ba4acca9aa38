//! Calls to a small server, with the function alone and within policies.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::policy::Policy;

/// Answers each connection with the text that the path names; counts them.
async fn server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let json = |body: &str| {
                    let head =
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\nx-a: 1\r\nx-a: 2\r\n";
                    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
                };
                let answer = match request.split(' ').nth(1).unwrap() {
                    "/json" => json(r#"{"user": "joe"}"#),
                    "/echo" => json(&serde_json::to_string(&request).unwrap()),
                    "/text" => "HTTP/1.1 404 x\r\ncontent-length: 4\r\n\r\n[1] ".to_owned(),
                    "/moved" => "HTTP/1.1 302 x\r\nlocation: /json\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    "/second" if number > 0 => json("2"),
                    "/second" => String::new(),
                    "/long" => format!(
                        "HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n{}",
                        ANSWER_LIMIT + 1,
                        "x".repeat(ANSWER_LIMIT + 1)
                    ),
                    _ => {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        String::new()
                    }
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (url, count)
}

async fn call(request: Json) -> Value {
    let request = Value::from_json_str(&request.to_string()).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    let mut sender = Sender::new(Shared::new(Logger::silent()), Handle::current(), end, CancellationToken::new());
    tokio::task::spawn_blocking(move || sender.send(&[request])).await.unwrap()
}

async fn answer(request: Json) -> Json {
    serde_json::from_str(&call(request).await.to_string()).unwrap()
}

#[tokio::test]
async fn answers_as_objects() {
    let (url, _) = server().await;
    let found = answer(json!({"method": "get", "url": format!("{url}/json")})).await;
    let headers =
        json!({"content-type": ["application/json; charset=utf-8"], "content-length": ["15"], "x-a": ["1", "2"]});
    let expected = json!({"status": "200 OK", "status_code": 200, "headers": headers,
        "raw_body": r#"{"user": "joe"}"#, "body": {"user": "joe"}});
    assert_eq!(found, expected);
    let text = format!("{url}/text");
    let found = answer(json!({"method": "GET", "url": text})).await;
    assert_eq!(
        (&found["status"], &found["body"], &found["raw_body"]),
        (&json!("404 Not Found"), &json!(null), &json!("[1] "))
    );
    let forced = answer(json!({"method": "GET", "url": text, "force_json_decode": true})).await;
    assert_eq!(forced["body"], json!([1]));
}

#[tokio::test]
async fn what_is_sent() {
    let (url, _) = server().await;
    let echo = format!("{url}/echo");
    let sent = async |more: Json| {
        let mut request = json!({"method": "post", "url": echo});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        answer(request).await["body"].as_str().unwrap().to_owned()
    };
    let json = sent(json!({"body": {"a": [1]}, "headers": {"X-One": "1", "Host": "other.example"}})).await;
    assert!(json.starts_with("POST /echo HTTP/1.1\r\n") && json.ends_with("\r\n\r\n{\"a\":[1]}"), "{json}");
    assert!(json.contains("x-one: 1\r\n") && json.contains("host: other.example\r\n"), "{json}");
    let raw = sent(json!({"raw_body": "plain", "body": {"a": 1}})).await;
    assert!(raw.ends_with("\r\n\r\nplain"), "{raw}");
}

#[tokio::test]
async fn redirects_and_repetitions() {
    let (url, count) = server().await;
    let moved = format!("{url}/moved");
    assert_eq!(answer(json!({"method": "GET", "url": moved})).await["status_code"], 302);
    let followed = answer(json!({"method": "GET", "url": moved, "enable_redirect": true})).await;
    assert_eq!(followed["body"]["user"], "joe");
    count.store(0, Ordering::Relaxed);
    let second = format!("{url}/second");
    let found = answer(json!({"method": "GET", "url": second, "max_retry_attempts": 1})).await;
    assert_eq!((&found["body"], count.load(Ordering::Relaxed)), (&json!(2), 2));
}

#[tokio::test]
async fn problems_are_undefined_or_values() {
    let (url, _) = server().await;
    let cases = [
        (json!({"url": format!("{url}/slow"), "timeout": "30ms"}), "network", "request timed out"),
        (json!({"url": format!("{url}/slow"), "timeout": 30_000_000}), "network", "request timed out"),
        (json!({"url": "http://127.0.0.1:1/"}), "network", "connecting to 127.0.0.1:1"),
        (json!({"url": format!("{url}/long")}), "network", "more than 8388608 bytes"),
        (json!({"url": "no url"}), "internal", "no url"),
        (json!({"url": url, "other": 1}), "internal", "invalid request parameter \"other\""),
        (json!({"url": 1}), "internal", "\"url\" must be a string"),
        (json!({"url": url, "timeout": "soon"}), "internal", "invalid timeout value"),
        (json!({"url": url, "headers": {"a": 1}}), "internal", "invalid type for headers value"),
        (json!({"url": url, "tls_ca_cert": "no"}), "internal", "tls_ca_cert: no certificate"),
        (json!({"url": url, "tls_ca_cert_file": "/nowhere"}), "internal", "tls_ca_cert_file /nowhere"),
        (json!({"url": url, "force_yaml_decode": true}), "internal", "force_yaml_decode is not supported"),
    ];
    for (mut request, code, text) in cases {
        request["method"] = json!("GET");
        assert_eq!(call(request.clone()).await, Value::Undefined, "{request}");
        request["raise_error"] = json!(false);
        let found = answer(request.clone()).await;
        assert_eq!(found["status_code"], 0, "{request}");
        assert_eq!(found["error"]["code"], format!("eval_http_send_{code}_error"), "{found}");
        assert!(found["error"]["message"].as_str().unwrap().contains(text), "{found}");
    }
    assert_eq!(call(json!({"url": url, "raise_error": false})).await.as_object().unwrap().len(), 2, "no method");
}

async fn ask(policy: &Policy) -> Result<Value, String> {
    policy.ask(Value::from_json_str(r#"{"request": {"path": "/"}}"#).unwrap()).await
}

fn policy(rules: &str) -> Policy {
    Policy::compile(&format!("package http\n{rules}"), Logger::silent()).unwrap()
}

#[tokio::test]
async fn a_policy_asks_once_per_question_and_never_at_the_start() {
    let (url, count) = server().await;
    let send = format!(r#"http.send({{"method": "GET", "url": "{url}/json"}})"#);
    let policy =
        policy(&format!("default allow = false\nallow {{ {send}.body.user == \"joe\"; {send}.status_code == 200 }}"));
    assert_eq!(count.load(Ordering::Relaxed), 0);
    for asked in 1..=3 {
        assert_eq!(ask(&policy).await, Ok(Value::from(true)));
        assert_eq!(count.load(Ordering::Relaxed), asked);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_no_async_thread() {
    let (url, _) = server().await;
    let policy = policy(&format!(
        "default allow = false\nallow {{ http.send({{\"method\": \"GET\", \"url\": \"{url}/slow\", \"timeout\": \"300ms\"}}) }}"
    ));
    let started = Instant::now();
    let questions = futures(&policy);
    let ticks = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    };
    let (answers, ticked) = tokio::join!(questions, ticks);
    assert!(answers.iter().all(|answer| *answer == Ok(Value::from(false))), "{answers:?}");
    assert!(ticked < Duration::from_millis(250), "{ticked:?}");
    assert!(started.elapsed() < Duration::from_millis(900), "one after the other: {:?}", started.elapsed());
}

/// Four questions at once.
async fn futures(policy: &Policy) -> [Result<Value, String>; 4] {
    tokio::join!(ask(policy), ask(policy), ask(policy), ask(policy)).into()
}

#[tokio::test]
async fn a_question_nobody_waits_for_ends() {
    let (url, _) = server().await;
    let policy = policy(&format!("allow {{ http.send({{\"method\": \"GET\", \"url\": \"{url}/slow\"}}) }}"));
    let given_up = tokio::time::timeout(Duration::from_millis(50), ask(&policy)).await;
    assert!(given_up.is_err());
    let started = Instant::now();
    // All turns come back long before the call would have timed out.
    while policy.free_turns() < 64 {
        assert!(started.elapsed() < Duration::from_secs(2), "the call goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
