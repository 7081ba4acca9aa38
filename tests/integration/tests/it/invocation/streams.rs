//! Bodies on their way: passed on as they come, held back when nobody reads, never collected, ended when a side ends.

use std::time::Duration;

use http::Method;
use pillion_testkit::{Binary, Sidecar, SidecarOptions, chunked, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::fixture::{resident, unique};

const LIMIT: Duration = Duration::from_secs(20);

/// An application that hands out its connections after the head of each request.
struct RawApp {
    port: u16,
    calls: mpsc::Receiver<(String, TcpStream)>,
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).to_lowercase())
}

impl RawApp {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, calls) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let Some(head) = head(&mut stream).await else { return };
                    if head.starts_with("get /dapr/") {
                        let _ = stream
                            .write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                            .await;
                        return;
                    }
                    let _ = sender.send((head, stream)).await; // the test may be over
                });
            }
        });
        Self { port, calls }
    }

    async fn call(&mut self) -> (String, TcpStream) {
        tokio::time::timeout(LIMIT, self.calls.recv()).await.expect("a call of the application").unwrap()
    }
}

async fn pair(port: u16, flags: &[&str]) -> (Sidecar, Sidecar) {
    let with = |options: SidecarOptions| flags.iter().fold(options, |options, flag| options.flag(flag));
    let callee = with(SidecarOptions::new(&unique("callee")).app_port(port)).start().await.unwrap();
    (with(SidecarOptions::new(&unique("caller"))).start().await.unwrap(), callee)
}

/// A connection to a sidecar on which a request has been begun.
async fn begin(sidecar: &Sidecar, callee: &str, verb: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.http)).await.unwrap();
    let head = format!("{verb} /v1.0/invoke/{callee}/method/stream HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads until `text` has come.
async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    let reading = async {
        while !read.contains(text) {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "ended without {text:?}: {read}");
            read.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    let done = tokio::time::timeout(LIMIT, reading).await;
    assert!(done.is_ok(), "waited for {text:?} in vain: {read}");
    read
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_comes() {
    let mut app = RawApp::start().await;
    let (caller, callee) = pair(app.port, &[]).await;
    for (from, remote) in [(&caller, true), (&callee, false)] {
        for (accept, kind) in [("*/*", "text/plain"), ("text/event-stream", "text/event-stream")] {
            let mut client = begin(from, callee.app_id(), "GET", &format!("accept: {accept}\r\n")).await;
            let (_, mut stream) = app.call().await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for number in 0..5 {
                let event = format!("data: {number}\n\n");
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
                let read = until(&mut client, &event).await;
                if number == 0 && remote && kind == "text/event-stream" {
                    let read = read.to_lowercase();
                    assert!(
                        read.contains("content-type: text/event-stream") && read.contains("cache-control: no-cache"),
                        "{read}"
                    );
                }
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
            until(&mut client, "0\r\n\r\n").await;
        }
    }
}

#[tokio::test]
async fn a_request_is_passed_on_as_it_comes() {
    let mut app = RawApp::start().await;
    let (caller, callee) = pair(app.port, &[]).await;
    for from in [&caller, &callee] {
        let mut client = begin(from, callee.app_id(), "POST", "transfer-encoding: chunked\r\n").await;
        client.write_all(b"7\r\nfirst 1\r\n").await.unwrap();
        let (head, mut stream) = app.call().await;
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        until(&mut stream, "first 1").await;
        client.write_all(b"8\r\nsecond 2\r\n").await.unwrap();
        until(&mut stream, "second 2").await;
        client.write_all(b"0\r\n\r\n").await.unwrap();
        until(&mut stream, "0\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
        until(&mut client, "done").await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_call_of_the_application() {
    let mut app = RawApp::start().await;
    let (caller, callee) = pair(app.port, &[]).await;
    for from in [&caller, &callee] {
        let mut client = begin(from, callee.app_id(), "GET", "accept: text/event-stream\r\n").await;
        let (_, mut stream) = app.call().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
        until(&mut client, "one").await;
        drop(client);
        // The application notices by writing, or by the end of its connection.
        let gone = async {
            loop {
                if stream.write_all(b"3\r\ntwo\r\n").await.is_err() {
                    return;
                }
                let mut byte = [0];
                if matches!(
                    tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await,
                    Ok(Ok(0) | Err(_))
                ) {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, gone).await.expect("the application notices");
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_application_back() {
    let mut app = RawApp::start().await;
    let (caller, callee) = pair(app.port, &[]).await;
    let mut client = begin(&caller, callee.app_id(), "GET", "").await;
    let (_, mut stream) = app.call().await;
    // The original holds the head back until there is something of the body.
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nbegin").await.unwrap();
    until(&mut client, "begin").await;
    let block = vec![b'x'; 64 * 1024];
    let mut sent = 0_usize;
    // Nobody reads: after the buffers on the way the application has to wait.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), stream.write(&block)).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "{sent} bytes taken and nobody reads");
    }
    drop(stream);
    let mut read = 0_usize;
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_secs(2), client.read(&mut buffer)).await {
        if count == 0 {
            break;
        }
        read += count;
    }
    assert!(read >= sent, "all that was sent comes: {read} of {sent}");
}

#[tokio::test]
async fn a_body_that_streams_is_never_sent_again() {
    let mut app = RawApp::start().await;
    let callee = SidecarOptions::new(&unique("callee")).app_port(app.port).start().await.unwrap();
    let policy = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: it}}\nspec:\n  policies:\n    retries: {{some: {{policy: constant, duration: 10ms, maxRetries: 3}}}}\n  targets:\n    apps:\n      {}: {{retry: some}}\n",
        callee.app_id()
    );
    let dir = pillion_testkit::ResourceDir::new().unwrap().with("r.yaml", &policy).unwrap();
    let caller = SidecarOptions::new(&unique("caller")).resources(dir.path()).start().await.unwrap();
    let path = format!("/v1.0/invoke/{}/method/x", callee.app_id());
    let refused = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
    for (streams, calls) in [(true, 1), (false, 4)] {
        let sending = async {
            if streams {
                chunked(caller.http, Method::POST, &path, &[], vec!["body".into()]).await.unwrap()
            } else {
                caller.send(Method::POST, &path, &[], "body").await.unwrap()
            }
        };
        let answering = async {
            for _ in 0..calls {
                let (_, mut stream) = app.call().await;
                until(&mut stream, "body").await; // whole each time
                stream.write_all(refused).await.unwrap();
            }
        };
        let (reply, ()) = tokio::join!(sending, answering);
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (503, "no"));
        let more = tokio::time::timeout(Duration::from_millis(300), app.calls.recv()).await;
        assert!(more.is_err(), "one call more than allowed");
    }
}

/// `PILLION_BODY_MIB` chooses the size; the figures of the project are for 1024.
#[tokio::test]
async fn a_large_body_needs_no_memory() {
    let size = std::env::var("PILLION_BODY_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(64_usize) << 20;
    let mut app = RawApp::start().await;
    let (caller, callee) = pair(app.port, &["--max-body-size=2Gi"]).await;
    let block = vec![b'x'; 1 << 20];
    for round in 0..2 {
        let before = [resident(&caller), resident(&callee)];
        let mut most = before;
        let mut look = || {
            most = [most[0].max(resident(&caller)), most[1].max(resident(&callee))];
        };
        // Up, with a length and chunked in turns; the application reads it all.
        let framing = if round == 0 {
            "transfer-encoding: chunked\r\n".to_owned()
        } else {
            format!("content-length: {size}\r\n")
        };
        let client = begin(&caller, callee.app_id(), "POST", &framing).await;
        let (mut reader, mut writer) = client.into_split();
        let (chunks, data) = (round == 0, block.clone());
        let sending = tokio::spawn(async move {
            for _ in 0..size >> 20 {
                if chunks {
                    writer.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await.unwrap();
                }
                writer.write_all(&data).await.unwrap();
                if chunks {
                    writer.write_all(b"\r\n").await.unwrap();
                }
            }
            if chunks {
                writer.write_all(b"0\r\n\r\n").await.unwrap();
            }
            writer
        });
        let (_, mut stream) = app.call().await;
        let mut buffer = vec![0; 1 << 20];
        let mut read = 0;
        while read < size {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the body broke off after {read}");
            read += buffer[..count].iter().filter(|byte| **byte == b'x').count();
            look();
        }
        let _writer = sending.await.unwrap();
        // And down.
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").as_bytes()).await.unwrap();
        let data = block.clone();
        let answering = tokio::spawn(async move {
            for _ in 0..size >> 20 {
                stream.write_all(&data).await.unwrap();
            }
            stream
        });
        let mut down = 0;
        while down < size {
            let count = reader.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the answer broke off after {down}");
            down += buffer[..count].iter().filter(|byte| **byte == b'x').count();
            look();
        }
        let _stream = answering.await.unwrap();
        let grown: Vec<u64> = before.iter().zip(&most).map(|(before, most)| most - before).collect();
        println!("round {round}: {} MiB up and down, caller and callee grew by {grown:?} KiB", size >> 20);
        // The original keeps a body with a length for its retries.
        let ours = Binary::find().unwrap().is_ours();
        assert!(!ours || grown.iter().all(|grown| *grown < 16 * 1024), "{grown:?} KiB");
    }
    eventually("both still answer", LIMIT, || async { caller.get("/v1.0/healthz").await.ok().map(drop) }).await;
}
