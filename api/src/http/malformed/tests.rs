//! Heads and requests, good and bad.

use http_body_util::Empty;

use super::*;

fn judged(lines: &[&str]) -> Result<usize, Refusal> {
    judge(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
}

#[test]
fn good_heads_pass() {
    for (lines, count) in [
        (&["GET / HTTP/1.1", "Host: a"][..], 1),
        (&["GET / HTTP/1.0"], 0),
        (&["GET http://a/b?c HTTP/1.1", "host: a:80", "x:", "y: \u{e9}\tz"], 3),
        (&["OPTIONS * HTTP/1.1", "Host:"], 1),
        (&["CONNECT a:1 HTTP/1.1"], 0),
        (&["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked", "Content-Length: x"], 3),
        (&["POST / HTTP/1.1", "Host: a", "Content-Length: 1", "content-length: 1"], 3),
        (&["PRI * HTTP/2.0"], 0),
    ] {
        assert_eq!(judged(lines), Ok(count), "{lines:?}");
    }
    assert_eq!(judge(b"GET / HTTP/1.1\nHost: a\n\n"), Ok(1));
}

#[test]
fn bad_heads_are_told_apart() {
    let host = "Host: a";
    for (lines, refusal) in [
        (&["hello"][..], Refusal::BAD_REQUEST),
        (&["GET /"], Refusal::BAD_REQUEST),
        (&["GET /a b HTTP/1.1", host], Refusal::BAD_REQUEST),
        (&["G@T / HTTP/1.1", host], Refusal::BAD_REQUEST),
        (&["GET a HTTP/1.1", host], Refusal::BAD_REQUEST),
        (&["GET /%zz HTTP/1.1", host], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1", host], Refusal::BAD_REQUEST),
        (&["GET / HTTP/9.9", host], Refusal::VERSION),
        (&["GET / HTTP/1.1", host, "nocolon"], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1.1", host, ": a"], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1.1", host, " a: b"], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1.1", host, "a: \u{1}"], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1.1", host, "a b: c"], Refusal::HEADER_NAME),
        (&["GET / HTTP/1.1", host, "a : c"], Refusal::HEADER_NAME),
        (&["GET / HTTP/1.1"], Refusal::NO_HOST),
        (&["GET / HTTP/1.1", host, host], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1.1", "Host: a/b"], Refusal::HOST),
        (&["GET / HTTP/1.1", host, "Content-Length: -1"], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1.1", host, "Content-Length: 1", "Content-Length: 2"], Refusal::BAD_REQUEST),
        (&["GET / HTTP/1.1", host, "Transfer-Encoding: gzip"], Refusal::CODING),
        (&["GET / HTTP/1.1", host, "Transfer-Encoding: gzip, chunked"], Refusal::CODING),
        (&["GET / HTTP/1.1", host, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], Refusal::CODING),
        (&["GET / HTTP/1.0", "Transfer-Encoding: chunked"], Refusal::BAD_REQUEST),
    ] {
        assert_eq!(judged(lines), Err(refusal), "{lines:?}");
    }
}

#[test]
fn answers_have_the_reason_twice_and_no_length() {
    assert_eq!(
        Refusal::NO_HOST.bytes(),
        "HTTP/1.1 400 Bad Request: missing required Host header\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Connection: close\r\n\r\n400 Bad Request: missing required Host header"
    );
    let response = Refusal::CODING.response();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["connection"]),
        (501, &HeaderValue::from_static("close"))
    );
}

#[test]
fn requests_that_get_no_further() {
    let request = |verb: Method, target: &str, version: Version, host: &str| {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = verb;
        *request.uri_mut() = target.parse().unwrap();
        *request.version_mut() = version;
        if !host.is_empty() {
            request.headers_mut().insert(HOST, HeaderValue::from_str(host).unwrap());
        }
        early(&request).map(|response| response.status().as_u16())
    };
    for (verb, target, version, host, code) in [
        (Method::GET, "/", Version::HTTP_11, "a", None),
        (Method::GET, "/", Version::HTTP_11, "", Some(400)),
        (Method::GET, "/", Version::HTTP_10, "", None),
        (Method::GET, "/", Version::HTTP_11, "a b", Some(400)),
        (Method::GET, "/%4", Version::HTTP_2, "", Some(400)),
        (Method::GET, "a", Version::HTTP_11, "a", Some(400)),
        (Method::CONNECT, "a:1", Version::HTTP_11, "", None),
        (Method::OPTIONS, "*", Version::HTTP_11, "a", Some(200)),
        (Method::OPTIONS, "*", Version::HTTP_2, "", None),
        (Method::OPTIONS, "/", Version::HTTP_11, "a", None),
        (Method::GET, "*", Version::HTTP_11, "a", None),
    ] {
        assert_eq!(request(verb.clone(), target, version, host), code, "{verb} {target} {version:?} {host:?}");
    }
}
