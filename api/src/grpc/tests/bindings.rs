//! Output bindings over gRPC.

use super::*;

/// What the system behind a binding says is in the head also when it refuses; an answer of trailers alone has none for most clients.
#[tokio::test]
async fn a_refusal_of_a_binding_has_its_metadata_in_the_head() {
    let fixture = fixture(None, ApiRules::default()).await;
    let mut client = DaprClient::new(fixture.channel.clone());
    let mut asked = tonic::Request::new(pb::InvokeBindingRequest {
        name: "web".into(),
        operation: "get".into(),
        metadata: [("mine".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    });
    asked.metadata_mut().insert("mine", "2".parse().unwrap());
    asked.metadata_mut().insert("other", "3".parse().unwrap());
    asked.metadata_mut().insert("baggage", "a=1".parse().unwrap());
    let status = client.invoke_binding(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "error invoking output binding web: received status code 404");
    assert_eq!(info(&status).reason, "ERR_INVOKE_OUTPUT_BINDING");
    let told = |key: &str| status.metadata().get(format!("metadata.{key}")).map(|value| value.to_str().unwrap());
    assert_eq!(
        [told("statuscode"), told("mine"), told("other"), told("baggage")],
        [Some("404"), Some("1"), Some("3"), Some("a=1")]
    );
    assert_eq!(told("traceparent"), Some("00-00000000000000000000000000000000-0000000000000000-00"));
    for (operation, name, text) in [
        ("", "web", "operation field is missing from request"),
        ("put", "web", "binding web does not support operation put. supported operations:get"),
        ("get", "none", "couldn't find output binding none"),
    ] {
        let asked = pb::InvokeBindingRequest { name: name.into(), operation: operation.into(), ..Default::default() };
        let status = client.invoke_binding(asked).await.unwrap_err();
        assert_eq!(status.message(), format!("error invoking output binding {name}: {text}"));
    }
}
