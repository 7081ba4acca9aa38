//! What guests see and change.

use super::*;

#[tokio::test]
async fn a_guest_that_only_goes_on_changes_nothing() {
    let (middleware, _) = guest(&format!("{GO_ON} {NO_RESPONSE}")).await;
    let (seen, got) = send(&*middleware, request("POST", "/a%2Fb?c=d", "body"), answer()).await;
    let seen = seen.unwrap();
    assert_eq!((seen.method.as_str(), seen.uri.as_str(), seen.body.as_str()), ("POST", "/a%2Fb?c=d", "body"));
    assert_eq!((seen.header("x-in"), seen.header("content-length")), ("1".into(), "4".into()));
    assert_eq!((got.status, got.body.as_str(), got.header("x-next")), (StatusCode::OK, "from next", "1".into()));
}

#[tokio::test]
async fn request_headers_method_and_uri_are_rewritten() {
    let (middleware, _) = guest(&format!(
        r#"(data (i32.const 0) "PUT/v1.0/hello?name=teddyX-NewvalueX-In")
        (func (export "handle_request") (result i64)
          (call $set_method (i32.const 0) (i32.const 3))
          (call $set_uri (i32.const 3) (i32.const 22))
          (call $set_header_value (i32.const 0) (i32.const 25) (i32.const 5) (i32.const 30) (i32.const 5))
          (call $add_header_value (i32.const 0) (i32.const 25) (i32.const 5) (i32.const 30) (i32.const 2))
          (call $remove_header (i32.const 0) (i32.const 35) (i32.const 4))
          (i64.const 1))
        {NO_RESPONSE}"#
    ))
    .await;
    let seen = send(&*middleware, request("GET", "/v1.0/hi", ""), answer()).await.0.unwrap();
    assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("PUT", "/v1.0/hello?name=teddy"));
    assert_eq!((seen.header("x-new"), seen.header("x-in")), ("value,va".into(), String::new()));
}

/// Writes all that can be read of a request into the response.
const ECHO: &str = r#"
  (func $say (param $length i32) (call $write_body (i32.const 1) (i32.const 64) (local.get $length)))
  (data (i32.const 0) "x-in")
  (func (export "handle_request") (result i64)
    (call $say (call $get_method (i32.const 64) (i32.const 900)))
    (call $say (call $get_uri (i32.const 64) (i32.const 900)))
    (call $say (call $get_protocol_version (i32.const 64) (i32.const 900)))
    (call $say (call $get_source_addr (i32.const 64) (i32.const 900)))
    (call $say (call $size (call $get_header_names (i32.const 0) (i32.const 64) (i32.const 900))))
    (call $say (call $size (call $get_header_values (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 64) (i32.const 900))))
    (call $say (call $get_config (i32.const 64) (i32.const 900)))
    (i64.const 0))"#;

#[tokio::test]
async fn an_early_response_ends_the_chain() {
    let (middleware, _) = guest(&format!("{ECHO} {NO_RESPONSE}")).await;
    let mut request = request("GET", "/a?b", "");
    request.headers_mut().append("x-in", "2".parse().unwrap());
    let (seen, got) = send(&*middleware, request, answer()).await;
    assert!(seen.is_none());
    assert_eq!(got.body, "GET/a?bHTTP/1.11.2.3.4:5content-length\x00host\x00x-in\x001\x002\x00secret");
    assert_eq!((got.status, got.header("content-length")), (StatusCode::OK, got.body.len().to_string()));
}

#[tokio::test]
async fn an_early_response_with_status_and_header() {
    let (middleware, _) = guest(&format!(
        r#"(data (i32.const 0) "WWW-AuthenticateBasicno")
        (func (export "handle_request") (result i64)
          (call $set_header_value (i32.const 1) (i32.const 0) (i32.const 16) (i32.const 16) (i32.const 5))
          (call $set_header_value (i32.const 3) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5))
          (call $set_status_code (i32.const 401))
          (call $write_body (i32.const 1) (i32.const 21) (i32.const 1))
          (call $write_body (i32.const 1) (i32.const 22) (i32.const 1))
          (i64.const 0))
        {NO_RESPONSE}"#
    ))
    .await;
    let (seen, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert!(seen.is_none());
    assert_eq!((got.status, got.body.as_str()), (StatusCode::UNAUTHORIZED, "no"));
    assert_eq!((got.header("www-authenticate"), &got.trailers["www"]), ("Basic".into(), &"Basic".parse().unwrap()));
}

/// Reads the request body in pieces of three bytes and replaces it by its reading with a dash after each piece.
const DASHES: &str = r#"
  (data (i32.const 60) "-")
  (func (export "handle_request") (result i64)
    (local $read i64)
    (loop $more
      (local.set $read (call $read_body (i32.const 0) (i32.const 64) (i32.const 3)))
      (call $write_body (i32.const 0) (i32.const 64) (call $size (local.get $read)))
      (call $write_body (i32.const 0) (i32.const 60) (i32.const 1))
      (br_if $more (i64.eqz (i64.shr_u (local.get $read) (i64.const 32)))))
    (i64.const 1))"#;

#[tokio::test]
async fn a_streaming_request_body_is_rewritten() {
    let (middleware, _) = guest(&format!("{DASHES} {NO_RESPONSE}")).await;
    let mut request = request("POST", "/", "");
    *request.body_mut() = pieces(&["a", "bcd", "efghi"]);
    let seen = send(&*middleware, request, answer()).await.0.unwrap();
    // That the body ended is known one read later, as the stream has to say so.
    assert_eq!((seen.body.as_str(), seen.header("content-length")), ("abc-def-ghi--", "13".into()));
    assert_eq!(seen.trailers["x-end"], "yes");
}

/// Reads two bytes of the request body with these features.
fn peek(features: u32) -> String {
    format!(
        r#"(func (export "handle_request") (result i64)
          (drop (call $enable_features (i32.const {features})))
          (drop (call $read_body (i32.const 0) (i32.const 64) (i32.const 2)))
          (i64.const 1))
        {NO_RESPONSE}"#
    )
}

#[tokio::test]
async fn a_read_request_body_goes_on_when_it_is_buffered() {
    let (middleware, _) = guest(&peek(1)).await;
    let seen = send(&*middleware, request("POST", "/", "body"), answer()).await.0.unwrap();
    assert_eq!((seen.body.as_str(), seen.header("content-length")), ("body", "4".into()));

    let (middleware, _) = guest(&peek(0)).await;
    let seen = send(&*middleware, request("POST", "/", "body"), answer()).await.0.unwrap();
    assert_eq!((seen.body.as_str(), seen.header("content-length")), ("dy", String::new()));
}

#[tokio::test]
async fn a_buffered_response_is_rewritten() {
    let (middleware, _) = guest(
        r#"(data (i32.const 0) "X-Next<>x-end")
        (func (export "handle_request") (result i64)
          (drop (call $enable_features (i32.const 6)))
          (i64.const 0x700000001))
        (func (export "handle_response") (param $mark i32) (param $error i32)
          (local $length i32)
          (if (i32.ne (local.get $mark) (i32.const 7)) (then unreachable))
          (if (local.get $error) (then unreachable))
          (call $set_status_code (i32.add (call $get_status_code) (i32.const 1)))
          (local.set $length (call $size (call $read_body (i32.const 1) (i32.const 64) (i32.const 900))))
          (call $write_body (i32.const 1) (i32.const 6) (i32.const 1))
          (call $write_body (i32.const 1) (i32.const 64) (local.get $length))
          (call $write_body (i32.const 1) (i32.const 7) (i32.const 1))
          (call $set_header_value (i32.const 1) (i32.const 0) (i32.const 6) (i32.const 6) (i32.const 2))
          (call $set_header_value (i32.const 3) (i32.const 8) (i32.const 5) (i32.const 6) (i32.const 2)))"#,
    )
    .await;
    let mut answer = answer();
    *answer.body_mut() = pieces(&["one", "two"]);
    let (_, got) = send(&*middleware, request("GET", "/", ""), answer).await;
    assert_eq!((got.status, got.body.as_str()), (StatusCode::CREATED, "<onetwo>"));
    assert_eq!((got.header("x-next"), got.header("content-length")), ("<>".into(), "8".into()));
    assert_eq!(got.trailers["x-end"], "<>");
}

#[tokio::test]
async fn a_response_is_seen_without_buffering_but_not_changed() {
    let functions = |change: &str| {
        format!(
            r#"{GO_ON} (data (i32.const 0) "x-next")
            (func (export "handle_response") (param i32 i32)
              (if (i32.ne (call $get_status_code) (i32.const 200)) (then unreachable))
              (drop (call $get_header_values (i32.const 1) (i32.const 0) (i32.const 6) (i32.const 64) (i32.const 9)))
              (if (i32.ne (i32.load8_u (i32.const 64)) (i32.const 49)) (then unreachable))
              {change})"#
        )
    };
    let (middleware, _) = guest(&functions("")).await;
    let (_, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert_eq!((got.status, got.body.as_str()), (StatusCode::OK, "from next"));

    let (middleware, lines) = guest(&functions("(call $set_status_code (i32.const 201))")).await;
    let (_, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert_eq!(got.status, StatusCode::INTERNAL_SERVER_ERROR);
    let expected = "wasm: handle_response: can't set status code after next handler unless buffer_response is enabled";
    assert_eq!(got.body, expected);
    assert!(lines.text().contains(expected), "{}", lines.text());
}

#[tokio::test]
async fn headers_set_before_next_join_the_response() {
    let (middleware, _) = guest(&format!(
        r#"(data (i32.const 0) "x-nextx-mineguest")
        (func (export "handle_request") (result i64)
          (call $set_header_value (i32.const 1) (i32.const 0) (i32.const 6) (i32.const 12) (i32.const 5))
          (call $set_header_value (i32.const 1) (i32.const 6) (i32.const 6) (i32.const 12) (i32.const 5))
          (i64.const 1))
        {NO_RESPONSE}"#
    ))
    .await;
    let (_, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
    assert_eq!((got.header("x-next"), got.header("x-mine")), ("1".into(), "guest".into()));
}

#[tokio::test]
async fn a_body_written_before_next_comes_first() {
    for features in [0, 2] {
        let (middleware, _) = guest(&format!(
            r#"(data (i32.const 0) "guest, ")
            (func (export "handle_request") (result i64)
              (drop (call $enable_features (i32.const {features})))
              (call $write_body (i32.const 1) (i32.const 0) (i32.const 7))
              (i64.const 1))
            {NO_RESPONSE}"#
        ))
        .await;
        let (_, got) = send(&*middleware, request("GET", "/", ""), answer()).await;
        let length = if features == 0 { "" } else { "16" };
        assert_eq!((got.body.as_str(), got.header("content-length").as_str()), ("guest, from next", length));
    }
}

#[tokio::test]
async fn log_lines_have_the_guests_level() {
    let (middleware, lines) = guest(&format!(
        r#"(data (i32.const 0) "hello")
        (func (export "handle_request") (result i64)
          (if (i32.eqz (call $log_enabled (i32.const -1))) (then unreachable))
          (if (call $log_enabled (i32.const 3)) (then unreachable))
          (call $log (i32.const 1) (i32.const 0) (i32.const 5))
          (call $log (i32.const 3) (i32.const 0) (i32.const 4))
          (i64.const 1))
        {NO_RESPONSE}"#
    ))
    .await;
    send(&*middleware, request("GET", "/", ""), answer()).await;
    assert!(lines.text().contains("level=warning msg=hello"), "{}", lines.text());
    assert_eq!(lines.text().lines().count(), 1);
}

#[test]
fn uris() {
    for (text, expected) in [
        ("", Some("/")),
        ("/a?b=c", Some("/a?b=c")),
        ("/simple%26clean", Some("/simple%26clean")),
        ("/with space?q=\"x\"", Some("/with%20space?q=%22x%22")),
        ("http://host/a", Some("/a")),
        ("no-slash", None),
    ] {
        let found = crate::host::parse_uri(text.as_bytes()).map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }
}
