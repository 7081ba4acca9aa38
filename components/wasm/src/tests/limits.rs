//! A guest that misbehaves harms its own request only.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn an_endless_loop_is_stopped_and_others_run_meanwhile() {
    let (middleware, _) = guest(&format!(
        r#"(func (export "handle_request") (result i64) (loop $forever (br $forever)) unreachable) {NO_RESPONSE}"#
    ))
    .await;
    // The test's runtime has one thread: the clock only goes on because the guest yields.
    let ticks = async {
        let mut interval = tokio::time::interval(Duration::from_millis(5));
        for _ in 0..10 {
            interval.tick().await;
        }
    };
    tokio::select! {
        _ = send(&*middleware, request("GET", "/", ""), answer()) => panic!("the loop ended before 50 ms"),
        () = ticks => {}
    }
    let (seen, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert!(seen.is_none());
    assert!(got.body.contains("ran longer than a call may"), "{}", got.body);
}

#[tokio::test]
async fn memory_has_an_end() {
    // Grows by 16 MiB until it gets no more, and answers with the number of times.
    let (middleware, _) = guest(&format!(
        r#"(func (export "handle_request") (result i64)
          (local $times i32)
          (loop $more
            (if (i32.ne (memory.grow (i32.const 256)) (i32.const -1))
              (then (local.set $times (i32.add (local.get $times) (i32.const 1))) (br $more))))
          (i32.store8 (i32.const 0) (i32.add (local.get $times) (i32.const 32)))
          (call $write_body (i32.const 1) (i32.const 0) (i32.const 1))
          (i64.const 0))
        {NO_RESPONSE}"#
    ))
    .await;
    let (_, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert_eq!(got.body.as_bytes(), [15 + 32]);
}

#[tokio::test]
async fn headers_and_bodies_have_an_end() {
    let endless = |call: &str| {
        format!(
            r#"(data (i32.const 0) "x-h") (func (export "handle_request") (result i64) (loop $more {call} (br $more)) unreachable) {NO_RESPONSE}"#
        )
    };
    for (call, problem) in [
        ("(call $add_header_value (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3))", "header"),
        ("(call $write_body (i32.const 0) (i32.const 0) (i32.const 65536))", "bytes cannot be buffered"),
        ("(call $write_body (i32.const 1) (i32.const 0) (i32.const 65536))", "bytes cannot be buffered"),
        ("(call $write_body (i32.const 1) (i32.const 65530) (i32.const 100))", "out of memory reading body"),
        ("(call $write_body (i32.const 2) (i32.const 0) (i32.const 1))", "unsupported body kind: 2"),
        ("(drop (call $read_body (i32.const 0) (i32.const 0) (i32.const 0)))", "buf_limit==0"),
        ("(drop (call $get_method (i32.const 65535) (i32.const 9)))", "out of memory"),
        ("(call $set_method (i32.const 0) (i32.const 0))", "HTTP method cannot be empty"),
        ("(call $set_status_code (i32.const 1))", "invalid status code: 1"),
        ("(call $remove_header (i32.const 9) (i32.const 0) (i32.const 3))", "unsupported header kind: 9"),
    ] {
        let (middleware, _) = guest(&endless(call)).await;
        let (seen, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
        assert!(seen.is_none());
        assert_eq!(got.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(got.body.starts_with("wasm: handle_request: ") && got.body.contains(problem), "{call}: {}", got.body);
    }
}

/// Counts its requests, and traps when the method is not GET.
const COUNTER: &str = r#"
  (global $count (mut i32) (i32.const 48))
  (func (export "handle_request") (result i64)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (drop (call $get_method (i32.const 8) (i32.const 9)))
    (if (i32.ne (i32.load8_u (i32.const 8)) (i32.const 71)) (then unreachable))
    (i32.store8 (i32.const 0) (global.get $count))
    (call $write_body (i32.const 1) (i32.const 0) (i32.const 1))
    (i64.const 0))"#;

#[tokio::test]
async fn guests_are_used_again_unless_they_trapped() {
    let (middleware, _) = guest(&format!("{COUNTER} {NO_RESPONSE}")).await;
    let count = async |method| send(&*middleware, request(method, "/", ""), answer()).await.1.body;
    assert_eq!((count("GET").await, count("GET").await), ("1".into(), "2".into()));
    assert!(count("PUT").await.starts_with("wasm: handle_request: "));
    assert_eq!(count("GET").await, "1");
}

#[tokio::test]
async fn requests_at_the_same_time_have_guests_of_their_own() {
    let (middleware, _) = guest(&format!("{GO_ON} {NO_RESPONSE}")).await;
    let inner = middleware.clone();
    let end = |_| async move { inner.handle(request("GET", "/", ""), Next::end(|_| async { answer() })).await };
    let response = middleware.handle(request("GET", "/", ""), Next::end(end)).await;
    assert_eq!(collect(response.into_body()).await.0, "from next");
}
