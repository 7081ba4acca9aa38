//! The binding against a server that keeps what it was asked.

use pillion_contract::Metadata;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

/// Answers one connection; the task's result is what was asked.
async fn serve(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (url, asked)
}

async fn binding(fields: &[(&str, &str)]) -> Result<Arc<dyn OutputBinding>, ComponentError> {
    create(InitContext {
        name: "web".into(),
        component_type: "bindings.http".into(),
        version: "v1".into(),
        metadata: Metadata::new(fields.iter().copied()),
        app_id: "app".into(),
        namespace: "default".into(),
        data_dir: std::path::PathBuf::new(),
        log: Logger::silent(),
        cancel: CancellationToken::new(),
    })
    .await
}

fn request(operation: &str, data: &'static str, metadata: &[(&str, &str)]) -> BindingRequest {
    let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    BindingRequest { operation: operation.into(), data: data.into(), metadata }
}

const FINE: &str = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\nx-two: a\r\nx-two: b\r\n\r\nok";
const LOST: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno";

#[tokio::test]
async fn a_call_has_path_headers_and_token() {
    let (url, asked) = serve(FINE).await;
    let fields = [("url", url.as_str()), ("securityToken", "s3cret"), ("securityTokenHeader", "X-Token")];
    let binding = binding(&fields).await.unwrap();
    let metadata = [
        ("path", "/orders?x=1"),
        ("X-Mine", "1"),
        ("x-not", "1"),
        ("Host", "elsewhere"),
        ("Content-Length", "7"),
        ("Traceparent", "mine"),
        ("traceparent", "00-1"),
    ];
    let answer = binding.invoke(&request("create", "{}", &metadata)).await.unwrap().unwrap();
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /base/orders?x=1 HTTP/1.1\r\n"), "{asked}");
    for line in [
        "\r\nx-token: s3cret\r\n",
        "\r\nx-mine: 1\r\n",
        "\r\ntraceparent: 00-1\r\n",
        "\r\ncontent-type: application/json; charset=utf-8\r\n",
        "\r\naccept: application/json; charset=utf-8\r\n",
        "\r\nhost: 127.0.0.1:",
        "\r\ncontent-length: 2\r\n",
    ] {
        assert!(asked.contains(line), "{line:?} in {asked}");
    }
    assert!(!asked.contains("x-not") && !asked.contains("elsewhere"), "{asked}");
    assert_eq!(answer.data, "ok");
    let told = |name: &str| answer.metadata.get(name).map(String::as_str);
    assert_eq!(
        [told("statusCode"), told("status"), told("X-Two"), told("Content-Length")],
        [Some("201"), Some("201 Created"), Some("a, b"), Some("2")]
    );
}

#[tokio::test]
async fn a_bad_status_is_an_error_unless_told_otherwise() {
    for (field, asked, fails) in
        [("", "", true), ("false", "", false), ("", "false", false), ("false", "true", true), ("nonsense", "", false)]
    {
        let (url, _) = serve(LOST).await;
        let binding = binding(&[("url", &url), ("errorIfNot2XX", field)]).await.unwrap();
        let answered = binding.invoke(&request("get", "", &[("errorIfNot2XX", asked)])).await;
        match answered {
            Ok(answer) => {
                assert!(!fails);
                assert_eq!(answer.unwrap().data, "no");
            }
            Err(error) => {
                assert!(fails);
                assert_eq!(error.to_string(), "received status code 404");
                assert_eq!(error.metadata.unwrap()["statusCode"], "404");
            }
        }
    }
}

#[tokio::test]
async fn fields_that_cannot_be_used_are_named() {
    for (field, value, problem) in [
        ("maxResponseBodySize", "many", "\"maxResponseBodySize\": invalid quantity"),
        ("responseTimeout", "soon", "\"responseTimeout\": invalid duration"),
        ("MTLSRenegotiation", "Sometimes", "invalid renegotiation value: Sometimes"),
        ("MTLSRootCA", "/none/ca.pem", "\"MTLSRootCA\" value is neither a valid file path"),
        ("MTLSRootCA", "-----BEGIN NOTHING-----", "\"MTLSRootCA\""),
    ] {
        let error = binding(&[("url", "http://x"), (field, value)]).await.err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let (url, _) = serve(FINE).await;
    let small = binding(&[("url", &url), ("maxResponseBodySize", "1")]).await.unwrap();
    let error = small.invoke(&request("get", "", &[])).await.unwrap_err().to_string();
    assert!(error.contains("more than 1 bytes"), "{error}");
    let unlimited = binding(&[("url", &serve(FINE).await.0), ("maxResponseBodySize", "-1")]).await.unwrap();
    assert_eq!(unlimited.invoke(&request("get", "", &[])).await.unwrap().unwrap().data, "ok");
    let nowhere = binding(&[("url", "nowhere")]).await.unwrap();
    assert!(nowhere.invoke(&request("get", "", &[])).await.is_err());
    let error = nowhere.invoke(&request("steal", "", &[])).await.unwrap_err().to_string();
    assert_eq!(error, "invalid operation: steal");
    pillion_conformance::bindings::output(nowhere).await;
}

#[tokio::test]
async fn a_server_that_is_slow_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let binding = binding(&[("url", &url), ("responseTimeout", "50ms")]).await.unwrap();
    let error = binding.invoke(&request("get", "", &[])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    drop(listener);
}
