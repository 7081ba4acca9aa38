//! A stand-in for the sidecar: listens on both ports, keeps metadata, answers calls with what it got, ends on SIGTERM with 0.
//!
//! `FAKE_DAPRD=fail` makes it end at once with an error; `FAKE_DAPRD=stubborn` makes it ignore SIGTERM.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

type Metadata = Rc<RefCell<BTreeMap<String, String>>>;

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let value = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).cloned()
    };
    if arguments.iter().any(|argument| argument == "--version" || argument == "--build-info") {
        println!("9.9.9");
        return ExitCode::SUCCESS;
    }
    if std::env::var("FAKE_DAPRD").is_ok_and(|how| how == "fail") {
        println!("level=fatal msg=\"the fake gives up\"");
        return ExitCode::FAILURE;
    }
    println!("arguments: {}", arguments.join(" "));
    let id = value("--app-id").unwrap_or_default();
    let port = |name: &str| value(name).and_then(|port| port.parse::<u16>().ok()).unwrap_or(0);
    let (http, grpc) = (port("--dapr-http-port"), port("--dapr-grpc-port"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate()).expect("signals");
        let _grpc = TcpListener::bind(("127.0.0.1", grpc)).await.expect("the gRPC port");
        let listener = TcpListener::bind(("127.0.0.1", http)).await.expect("the HTTP port");
        tokio::task::spawn_local(serve(listener, id));
        loop {
            terminate.recv().await;
            if !std::env::var("FAKE_DAPRD").is_ok_and(|how| how == "stubborn") {
                return;
            }
        }
    });
    println!("the fake ends in good order");
    ExitCode::SUCCESS
}

async fn serve(listener: TcpListener, id: String) {
    let metadata = Metadata::default();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(answer(stream, id.clone(), Rc::clone(&metadata)));
    }
}

/// One request on one connection.
async fn answer(mut stream: TcpStream, id: String, metadata: Metadata) {
    let mut request = Vec::new();
    let head = loop {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()).unwrap_or(0);
    while request.len() < head + 4 + length {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let line = String::from_utf8_lossy(&request[..head]).lines().next().unwrap_or_default().to_owned();
    let body = String::from_utf8_lossy(&request[head + 4..]).into_owned();
    let (status, answer) = respond(&line, &body, &id, &metadata);
    let response =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
    let _ = stream.write_all(response.as_bytes()).await; // the caller has gone
}

fn respond(line: &str, body: &str, id: &str, metadata: &Metadata) -> (&'static str, String) {
    println!("{line} {body}");
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if path == "/v1.0/metadata" {
        let extended = metadata.borrow().clone();
        return ("200 OK", serde_json::json!({"id": id, "extended": extended}).to_string());
    }
    if let Some(key) = path.strip_prefix("/v1.0/metadata/").filter(|_| method == "PUT") {
        metadata.borrow_mut().insert(key.to_owned(), body.to_owned());
        return ("204 No Content", String::new());
    }
    match path {
        _ if path.starts_with("/v1.0/invoke/missing/") || path.ends_with("/method/nowhere") => {
            ("404 Not Found", String::new())
        }
        _ if path.starts_with("/v1.0/invoke/") => ("200 OK", format!("{method} {path} {body}")),
        _ if path.starts_with("/v1.0/publish/ps/") => ("204 No Content", String::new()),
        _ if path.starts_with("/v1.0/publish/") => {
            ("400 Bad Request", "{\"errorCode\":\"ERR_PUBSUB_NOT_FOUND\"}".to_owned())
        }
        _ => ("204 No Content", String::new()),
    }
}
