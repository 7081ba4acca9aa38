//! Making the component, and what WASI gives to a guest.

use super::*;

async fn refused(wat: &str) -> String {
    component(&wat::parse_str(wat).unwrap(), &[]).await.err().unwrap().to_string()
}

#[tokio::test]
async fn what_is_no_guest_is_refused() {
    let found = component(b"package main", &[]).await.err().unwrap().to_string();
    assert!(found.starts_with("wasm: error compiling guest: invalid magic number"), "{found}");
    assert_eq!(refused("(module)").await, "wasm: guest doesn't export func[handle_request]");
    let wrong = r#"(module (func (export "handle_request")))"#;
    assert_eq!(
        refused(wrong).await,
        "wasm: guest exports the wrong signature for func[handle_request]. should be () -> (i64)"
    );
    assert_eq!(refused(&format!("(module {GO_ON})")).await, "wasm: guest doesn't export func[handle_response]");
    let no_memory = format!("(module {GO_ON} {NO_RESPONSE})");
    assert_eq!(refused(&no_memory).await, "wasm: guest doesn't export memory[memory]");
    let import = format!(r#"(module (import "env" "x" (func)) (memory (export "memory") 1) {GO_ON} {NO_RESPONSE})"#);
    assert!(refused(&import).await.starts_with("wasm: error instantiating guest: "));
    let trap = format!(r#"(module {HEAD} {GO_ON} {NO_RESPONSE} (func (export "_start") unreachable))"#);
    assert!(refused(&trap).await.starts_with("wasm: error instantiating guest: "));
    let early = format!(
        r#"(module {HEAD} {GO_ON} {NO_RESPONSE} (func (export "_start") (call $set_status_code (i32.const 200))))"#
    );
    assert!(refused(&early).await.contains("no request at hand"));
}

#[tokio::test]
async fn features_enabled_at_the_start_hold_for_each_request() {
    let (middleware, _) = guest(
        r#"(start $main) (func $main (drop (call $enable_features (i32.const 2))))
        (data (i32.const 0) "new")
        (func (export "handle_request") (result i64) (i64.const 1))
        (func (export "handle_response") (param i32 i32) (call $write_body (i32.const 1) (i32.const 0) (i32.const 3)))"#,
    )
    .await;
    for _ in 0..2 {
        assert_eq!(send(&*middleware, request("GET", "/", ""), answer()).await.1.body, "new");
    }
}

/// Answers with 8 bytes of each clock and of randomness, after a sleep of a millisecond.
const CLOCKS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "started to stderr")
  (data (i32.const 32) "\00\00\00\00\07\00\00\00\08\00\00\00\09\00\00\00")
  (func (export "_start")
    (drop (call $fd_write (i32.const 2) (i32.const 32) (i32.const 2) (i32.const 48)))
    (if (i32.ne (i32.load (i32.const 48)) (i32.const 16)) (then unreachable))
    (if (i32.ne (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 48)) (i32.const 8)) (then unreachable))
    (if (i32.ne (call $shutdown (i32.const 3) (i32.const 0)) (i32.const 52)) (then unreachable))
    (call $exit (i32.const 0)))
  (func (export "handle_request") (result i64)
    ;; a subscription at 128: user data 9, a clock of its kind 1, one millisecond from now
    (i64.store (i32.const 128) (i64.const 9))
    (i32.store (i32.const 144) (i32.const 1))
    (i64.store (i32.const 152) (i64.const 1000000))
    (if (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 48)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 48)) (i32.const 1)) (then unreachable))
    (if (i64.ne (i64.load (i32.const 256)) (i64.const 9)) (then unreachable))
    (drop (call $environ (i32.const 300) (i32.const 304)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 64)))
    (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 72)))
    (drop (call $random (i32.const 80) (i32.const 8)))
    (i32.store8 (i32.const 88) (i32.eqz (i64.eqz (i64.load (i32.const 64)))))
    (i32.store8 (i32.const 89) (i64.eq (i64.load (i32.const 72)) (i64.const 1000000)))
    (i32.store8 (i32.const 90) (i64.ge_u (i64.load (i32.const 72)) (i64.const 1000000)))
    (call $write_body (i32.const 1) (i32.const 88) (i32.const 3))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))"#;

#[tokio::test]
async fn wasi_output_clocks_and_sleep() {
    let wasm = wat::parse_str(CLOCKS).unwrap();
    let (middleware, lines) = component(&wasm, &[]).await.unwrap();
    assert!(lines.text().contains(r#"level=debug msg="wasm stderr: startedto stderr"#), "{}", lines.text());
    let (_, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert_eq!(got.body, "\u{1}\0\u{1}");

    let (middleware, _) = component(&wasm, &[("strictSandbox", "true")]).await.unwrap();
    let (_, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert_eq!(got.body, "\u{1}\u{1}\u{1}");
}
