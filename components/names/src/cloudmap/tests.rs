use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::tests::{context, question, registration};

/// What was asked: action, body, whether it was signed, and by whom.
type Asked = Arc<Mutex<Vec<(String, Json, String)>>>;

/// A Cloud Map with the namespaces `other` and, on the second page, `prod`, and the services `shop` and `empty`.
async fn cloud_map() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let mut buffer = [0; 4096];
            let body = loop {
                let length = stream.read(&mut buffer).await.unwrap();
                text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && let Ok(json) = serde_json::from_str::<Json>(body)
                {
                    break json;
                }
            };
            let header = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                line.trim_start_matches(": ").to_owned()
            };
            let action = header("x-amz-target").replace("Route53AutoNaming_v20170314.", "");
            let (status, answer) = answer(&action, &body);
            seen.lock().unwrap().push((action, body, header("authorization")));
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all((head + &answer).as_bytes()).await.unwrap();
        }
    });
    (endpoint, asked)
}

fn answer(action: &str, body: &Json) -> (u16, Json) {
    let instance = |id: &str, attributes: Json| json!({"InstanceId": id, "Attributes": attributes});
    match (action, body["ServiceName"].as_str()) {
        ("ListNamespaces", _) if body.get("NextToken").is_none() => {
            (200, json!({"Namespaces": [{"Name": "other", "Id": "ns-1"}], "NextToken": "2"}))
        }
        ("ListNamespaces", _) => (200, json!({"Namespaces": [{"Name": "prod", "Id": "ns-2"}]})),
        ("GetNamespace", _) if body["Id"] == "ns-2" => (200, json!({"Namespace": {"Name": "prod", "Id": "ns-2"}})),
        ("GetNamespace", _) => (400, json!({"__type": "NamespaceNotFound", "Message": "ns?"})),
        ("DiscoverInstances", Some("shop")) => (
            200,
            json!({"Instances": [
                instance("1", json!({"AWS_INSTANCE_IPV4": "10.0.0.1", "DAPR_PORT": "41001"})),
                instance("2", json!({"AWS_INSTANCE_IPV6": "fd00::2"})),
                instance("3", json!({"AWS_INSTANCE_CNAME": "three.example", "DAPR_PORT": "x"})),
                instance("4", json!({"DAPR_PORT": "1"})),
            ]}),
        ),
        ("DiscoverInstances", Some("empty")) => (200, json!({"Instances": []})),
        ("DiscoverInstances", Some("denied")) => (400, json!({"__type": "a#AccessDeniedException", "message": "no"})),
        _ => (400, json!({"__type": "ServiceNotFound", "Message": "service?"})),
    }
}

const KEYS: [(&str, &str); 3] = [("accessKey", "AK"), ("secretKey", "SK"), ("region", "eu-central-1")];

async fn made(endpoint: &str, fields: &[(&str, &str)]) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let fields = [&KEYS, &[("endpoint", endpoint)][..], fields].concat();
    make(context("nameresolution.aws.cloudmap", &fields), Environment::default()).await
}

#[tokio::test]
async fn healthy_instances_are_answered_and_remembered() {
    let (endpoint, asked) = cloud_map().await;
    let resolver = made(&endpoint, &[("namespaceName", "prod"), ("defaultDaprPort", "3500")]).await.unwrap();
    resolver.register(registration("me", 1)).await.unwrap();
    for _ in 0..3 {
        let found = resolver.resolve(&question("shop")).await.unwrap();
        assert_eq!(found, ["10.0.0.1:41001", "[fd00::2]:3500", "three.example:3500"]);
    }
    resolver.report_failure(&question("shop"), "10.0.0.1:41001");
    resolver.resolve(&question("shop")).await.unwrap();
    let asked = asked.lock().unwrap();
    let actions: Vec<&str> = asked.iter().map(|(action, ..)| action.as_str()).collect();
    assert_eq!(actions, ["ListNamespaces", "ListNamespaces", "DiscoverInstances", "DiscoverInstances"]);
    assert_eq!(asked[2].1, json!({"NamespaceName": "prod", "ServiceName": "shop", "HealthStatus": "HEALTHY"}));
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=";
    let by = asked[2].2.as_str();
    assert!(by.starts_with("AWS4-HMAC-SHA256 Credential=AK/") && by.contains(signed), "{by}");
    assert!(by.contains("/eu-central-1/servicediscovery/aws4_request"), "{by}");
}

#[tokio::test]
async fn a_namespace_may_be_given_by_its_id() {
    let (endpoint, asked) = cloud_map().await;
    let resolver = made(&endpoint, &[("namespaceId", "ns-2")]).await.unwrap();
    let found = resolver.resolve(&question("shop")).await.unwrap();
    assert_eq!(found[1], "[fd00::2]:50002", "the port by default");
    assert_eq!(asked.lock().unwrap()[1].1["NamespaceName"], "prod");
}

#[tokio::test]
async fn failures_say_what_was_asked_and_where() {
    let (endpoint, _) = cloud_map().await;
    let place = format!("AWS Cloud Map at {endpoint}, region eu-central-1");
    let error = made(&endpoint, &[("namespaceName", "test")]).await.err().unwrap().to_string();
    let wanted = format!("failed to validate CloudMap access: namespace not found: test (asked {place}); check ");
    assert!(error.starts_with(&wanted), "{error}");
    let error = made(&endpoint, &[("namespaceId", "ns-9")]).await.err().unwrap().to_string();
    let wanted = "failed to validate CloudMap access: failed to get namespace with ID ns-9: GetNamespace of ";
    assert!(error.starts_with(wanted) && error.ends_with("400 Bad Request NamespaceNotFound ns?"), "{error}");
    let resolver = made(&endpoint, &[("namespaceName", "prod")]).await.unwrap();
    for (app_id, kind, wanted) in [
        ("empty", ErrorKind::NotFound, "no healthy instances found for service empty in namespace prod (asked AWS "),
        ("gone", ErrorKind::NotFound, "failed to discover CloudMap instances of service gone in namespace prod: "),
        ("denied", ErrorKind::Unauthorized, "failed to discover CloudMap instances of service denied in "),
    ] {
        let error = resolver.resolve(&question(app_id)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().starts_with(wanted), "{error}");
    }
    let bad = [
        (vec![], "invalid metadata: either namespaceName or namespaceId must be provided"),
        (vec![("namespaceName", "prod"), ("defaultDaprPort", "x")], "defaultDaprPort: \"x\" is no port"),
        (vec![("namespaceName", "prod"), ("trustAnchorArn", "x")], "trustAnchorArn: IAM Roles Anywhere"),
    ];
    for (fields, wanted) in bad {
        let error = made(&endpoint, &fields).await.err().unwrap().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}

/// Against a real implementation: `PILLION_MOTO` is the address of a moto server with the namespace `prod` and an instance
/// of its service `shop`, made by `scripts/cloudmap-test`.
#[tokio::test]
async fn moto_is_understood() {
    let Ok(endpoint) = std::env::var("PILLION_MOTO") else { return };
    let resolver = made(&endpoint, &[("namespaceName", "prod")]).await.unwrap();
    assert_eq!(resolver.resolve(&question("shop")).await.unwrap(), ["10.0.0.1:41001"]);
    let error = resolver.resolve(&question("nobody")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}
