//! Calls through two sidecars over real sockets, and through one to its own app.

mod fixture;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status};

use fixture::{Fixture, LIMIT, Raw, eventually, policies, to};

const ONE: Bytes = Bytes::from_static(b"one");

fn from_channel(receiver: mpsc::Receiver<Bytes>) -> impl Stream<Item = Bytes> {
    futures_util::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|next| (next, receiver)) })
}

#[tokio::test]
async fn a_unary_call_passes_with_headers_and_trailers() {
    let fixture = Fixture::new().await;
    for app in ["callee", "callee.default", "caller"] {
        let mut request = to(app, ONE);
        request.metadata_mut().insert("x-mine", "yes".parse().unwrap());
        request.metadata_mut().insert_bin("x-some-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));
        request.metadata_mut().insert("dapr-api-token", "callers".parse().unwrap());
        request.metadata_mut().insert("dapr-caller-app-id", "somebody-else".parse().unwrap());
        let response = fixture.unary("/t.T/Echo", request).await.unwrap();
        assert_eq!(response.metadata().get("x-head").unwrap(), "first");
        assert_eq!(response.metadata().get("x-trailer").unwrap(), "last");
        assert_eq!(response.into_inner(), ONE);
        let seen = fixture.seen.calls.lock().pop().unwrap();
        assert_eq!((seen["x-mine"].as_bytes(), seen["x-some-bin"].as_bytes()), (&b"yes"[..], &b"AP8"[..]));
        assert_eq!((seen.get("dapr-app-id"), seen["te"].as_bytes()), (None, &b"trailers"[..]));
        assert_eq!(seen.get_all("dapr-api-token").iter().collect::<Vec<_>>(), ["app-token"]);
        if app != "caller" {
            assert_eq!(seen.get_all("dapr-caller-app-id").iter().collect::<Vec<_>>(), ["caller"]);
            assert_eq!(seen.get_all("dapr-callee-app-id").iter().collect::<Vec<_>>(), ["callee"]);
        }
    }
}

#[tokio::test]
async fn the_callee_in_the_metadata_is_looked_at_first() {
    let fixture = Fixture::new().await;
    let mut request = to("nobody", ONE);
    request.metadata_mut().insert("dapr-callee-app-id", "callee".parse().unwrap());
    assert_eq!(fixture.unary("/t.T/Echo", request).await.unwrap().into_inner(), ONE);
}

#[tokio::test]
async fn a_status_passes_with_its_details() {
    let fixture = Fixture::new().await;
    for app in ["callee", "caller"] {
        let status = fixture.unary("/t.T/Fail", to(app, ONE)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Aborted, "told to: ünd 100%"));
        assert_eq!(status.details(), b"\x08\x0a details");
        let status = fixture.unary("/t.T/Late", to(app, ONE)).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let status = fixture.unary("/t.T/NoGrpc", to(app, ONE)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("503"), "{status}");
    }
}

#[tokio::test]
async fn calls_that_cannot_be_passed_say_why() {
    let fixture = Fixture::new().await;
    let status = fixture.unary("/t.T/Echo", Request::new(ONE)).await.unwrap_err();
    let text = "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found";
    assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    let cases =
        [("nobody", "couldn't find service: nobody"), ("a.b.c", "invalid app id a.b.c"), ("", "app id is empty")];
    for (app, text) in cases {
        let status = fixture.unary("/t.T/Echo", to(app, ONE)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    }
    fixture.announce("gone", "127.0.0.1:1");
    let status = fixture.unary("/t.T/Echo", to("gone", ONE)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("127.0.0.1:1"), "{status}");
    fixture.app.cancel();
    eventually("the app is gone", || fixture.app.is_cancelled()).await;
    for app in ["callee", "caller"] {
        let status = fixture.unary("/t.T/Echo", to(app, ONE)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
}

#[tokio::test]
async fn the_app_streams() {
    let fixture = Fixture::new().await;
    for app in ["callee", "caller"] {
        let mut client = fixture.client().await;
        let answer = client.server_streaming(to(app, ONE), PathAndQuery::from_static("/t.T/Many"), Raw).await.unwrap();
        let mut messages = answer.into_inner();
        for number in 0..100u8 {
            assert_eq!(messages.message().await.unwrap().unwrap(), vec![number; 1000]);
        }
        assert_eq!(messages.message().await.unwrap(), None);
        assert_eq!(messages.trailers().await.unwrap().unwrap().get("x-trailer").unwrap(), "last");
    }
}

#[tokio::test]
async fn the_caller_streams() {
    let fixture = Fixture::new().await;
    for app in ["callee", "caller"] {
        let messages = futures_util::stream::iter((0..200).map(|_| Bytes::from(vec![3; 50_000])));
        let path = PathAndQuery::from_static("/t.T/Count");
        let answer = fixture.client().await.client_streaming(to(app, messages), path, Raw).await.unwrap();
        assert_eq!(answer.into_inner(), (200u64 * 50_005).to_be_bytes().to_vec());
    }
}

#[tokio::test]
async fn both_stream_in_turns() {
    let fixture = Fixture::new().await;
    for app in ["callee", "caller"] {
        let (sender, receiver) = mpsc::channel(1);
        let path = PathAndQuery::from_static("/t.T/Echo");
        let answer = fixture.client().await.streaming(to(app, from_channel(receiver)), path, Raw).await.unwrap();
        let mut messages = answer.into_inner();
        for number in 0..50u8 {
            sender.send(Bytes::from(vec![number; 10])).await.unwrap();
            assert_eq!(messages.next().await.unwrap().unwrap(), vec![number; 10]);
        }
        drop(sender);
        assert!(messages.next().await.is_none());
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_app_back() {
    let fixture = Fixture::new().await;
    let path = PathAndQuery::from_static("/t.T/Flood");
    let answer = fixture.client().await.server_streaming(to("callee", ONE), path, Raw).await.unwrap();
    let mut before = 0;
    let flooded = || fixture.seen.flooded.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if before == flooded() {
            break;
        }
        before = flooded();
    }
    assert!(before < 32 << 20, "{before} bytes are under way though nobody reads");
    let mut messages = answer.into_inner();
    for _ in 0..(before / 65_541) + 10 {
        messages.message().await.unwrap().unwrap();
    }
    assert!(flooded() > before);
    drop(messages);
    eventually("the app stops", || fixture.seen.dropped.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_caller_that_gives_up_is_noticed_by_the_app() {
    let fixture = Fixture::new().await;
    for (app, calls) in [("callee", 1), ("caller", 2)] {
        let call = fixture.unary("/t.T/Silent", to(app, ONE));
        assert!(tokio::time::timeout(Duration::from_millis(300), call).await.is_err());
        eventually("the app is told", || fixture.seen.dropped.load(Ordering::Relaxed) == calls).await;
    }
}

#[tokio::test]
async fn a_deadline_is_passed_on_and_kept() {
    let fixture = Fixture::new().await;
    for (app, calls) in [("callee", 1), ("caller", 2)] {
        let mut request = to(app, ONE);
        request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
        let start = Instant::now();
        let status = fixture.unary("/t.T/Silent", request).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
        assert!(start.elapsed() < Duration::from_secs(3));
        let seen = fixture.seen.calls.lock().pop().unwrap();
        let left: u64 = seen["grpc-timeout"].to_str().unwrap().trim_end_matches('u').parse().unwrap();
        assert!((100_000..300_000).contains(&left), "{left}");
        eventually("the app is told", || fixture.seen.dropped.load(Ordering::Relaxed) == calls).await;
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let fixture = Fixture::new().await;
    for app in ["callee", "caller"] {
        let whole = Bytes::from(vec![0; LIMIT]);
        assert_eq!(fixture.unary("/t.T/Echo", to(app, whole.clone())).await.unwrap().into_inner(), whole);
        let text = "grpc: received message larger than max (1048577 vs. 1048576)";
        let status = fixture.unary("/t.T/Silent", to(app, Bytes::from(vec![0; LIMIT + 1]))).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));
        let status = fixture.unary("/t.T/Long", to(app, ONE)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_ends_with_a_status() {
    let fixture = Fixture::new().await;
    for app in ["callee", "caller"] {
        let path = PathAndQuery::from_static("/t.T/Cut");
        let mut messages = fixture.client().await.server_streaming(to(app, ONE), path, Raw).await.unwrap().into_inner();
        assert_eq!(messages.message().await.unwrap().unwrap(), ONE);
        let status = messages.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
    }
}

#[tokio::test]
async fn a_killed_app_or_peer_ends_the_call() {
    let fixture = Fixture::new().await;
    let call = fixture.unary("/t.T/Silent", to("callee", ONE));
    let kill = async {
        eventually("the call arrives", || fixture.seen.count() == 1).await;
        fixture.app.cancel();
    };
    let (answer, ()) = tokio::join!(call, kill);
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);

    let fixture = Fixture::new().await;
    let (stall, address) = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    };
    fixture.announce("dying", &address);
    let accept = async {
        let mut connection = h2::server::handshake(stall.accept().await.unwrap().0).await.unwrap();
        let _call = connection.accept().await.unwrap().unwrap();
    };
    let (answer, ()) = tokio::join!(fixture.unary("/t.T/Silent", to("dying", ONE)), accept);
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    drop(stall);
    let status = fixture.unary("/t.T/Silent", to("dying", ONE)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    fixture.callee.abort();
}

#[tokio::test]
async fn a_unary_call_is_tried_again_until_it_works() {
    let fixture = Fixture::with(&policies("", Some(3), "", "")).await;
    let response = fixture.unary("/t.T/Flaky", to("callee", ONE)).await.unwrap();
    assert_eq!(response.into_inner(), ONE);
    assert_eq!(fixture.seen.count(), 3);
}

#[tokio::test]
async fn the_last_answer_is_the_answer_and_codes_decide() {
    let fixture = Fixture::with(&policies("", Some(2), "10,12", "")).await;
    let status = fixture.unary("/t.T/Fail", to("callee", ONE)).await.unwrap_err();
    assert_eq!((status.code(), status.details()), (Code::Aborted, &b"\x08\x0a details"[..]));
    assert_eq!(fixture.seen.count(), 3);
    let status = fixture.unary("/t.T/NoGrpc", to("callee", ONE)).await.unwrap_err();
    assert_eq!((status.code(), fixture.seen.count()), (Code::Unavailable, 4));
    let status = fixture.unary("/t.T/Late", to("callee", ONE)).await.unwrap_err();
    assert_eq!((status.code(), fixture.seen.count()), (Code::FailedPrecondition, 5));
}

#[tokio::test]
async fn own_calls_have_no_policy() {
    let mut resiliency = policies("", Some(2), "", "");
    let names = resiliency[0].apps["callee"].clone();
    resiliency[0].apps.insert("caller".into(), names);
    let fixture = Fixture::with(&resiliency).await;
    fixture.unary("/t.T/Fail", to("caller", ONE)).await.unwrap_err();
    assert_eq!(fixture.seen.count(), 1);
}

#[tokio::test]
async fn a_second_message_does_not_go_with_retries() {
    let fixture = Fixture::with(&policies("", Some(2), "", "")).await;
    let (sender, receiver) = mpsc::channel(1);
    sender.send(ONE).await.unwrap();
    let path = PathAndQuery::from_static("/t.T/Echo");
    let mut messages =
        fixture.client().await.streaming(to("callee", from_channel(receiver)), path, Raw).await.unwrap().into_inner();
    assert_eq!(messages.next().await.unwrap().unwrap(), ONE);
    sender.send(ONE).await.unwrap();
    let status: Status = messages.next().await.unwrap().unwrap_err();
    let text = "cannot use resiliency policies with retries on streaming RPCs";
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, text));
    assert_eq!(fixture.seen.count(), 1);
}

#[tokio::test]
async fn a_declared_stream_is_free_of_timeout_and_retries() {
    let fixture = Fixture::with(&policies("100ms", Some(2), "", "")).await;
    let (sender, receiver) = mpsc::channel(1);
    let mut request = to("callee", from_channel(receiver));
    request.metadata_mut().insert("dapr-stream", "True".parse().unwrap());
    let path = PathAndQuery::from_static("/t.T/Echo");
    let mut messages = fixture.client().await.streaming(request, path, Raw).await.unwrap().into_inner();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        sender.send(ONE).await.unwrap();
        assert_eq!(messages.next().await.unwrap().unwrap(), ONE);
    }
    let mut request = to("gone", ONE);
    request.metadata_mut().insert("dapr-stream", "1".parse().unwrap());
    fixture.announce("gone", "127.0.0.1:1");
    assert_eq!(fixture.unary("/t.T/Echo", request).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_timeout_ends_attempts_before_and_after_the_first_message() {
    let fixture = Fixture::with(&policies("150ms", None, "", "")).await;
    let status = fixture.unary("/t.T/Silent", to("callee", ONE)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "context deadline exceeded"));
    assert!(fixture.seen.calls.lock()[0].contains_key("grpc-timeout"), "the app is told how long it has");
    eventually("the app is told", || fixture.seen.dropped.load(Ordering::Relaxed) == 1).await;

    let (sender, receiver) = mpsc::channel(1);
    sender.send(ONE).await.unwrap();
    let path = PathAndQuery::from_static("/t.T/Echo");
    let mut messages =
        fixture.client().await.streaming(to("callee", from_channel(receiver)), path, Raw).await.unwrap().into_inner();
    assert_eq!(messages.next().await.unwrap().unwrap(), ONE);
    assert_eq!(messages.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_breaker_that_tripped_lets_nothing_through() {
    let fixture = Fixture::with(&policies("", None, "", "consecutiveFailures >= 2")).await;
    for _ in 0..2 {
        assert_eq!(fixture.unary("/t.T/Fail", to("callee", ONE)).await.unwrap_err().code(), Code::Aborted);
    }
    let status = fixture.unary("/t.T/Fail", to("callee", ONE)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "circuit breaker is open"));
    assert_eq!(fixture.seen.count(), 2);
    assert!(fixture.unary("/t.T/Echo", to("callee", ONE)).await.is_ok(), "every method has a breaker of its own");
}
