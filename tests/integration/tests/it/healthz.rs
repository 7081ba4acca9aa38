//! `/v1.0/healthz` and `/v1.0/healthz/outbound`.

use pillion_testkit::SidecarOptions;

use crate::fixture::unique;

#[tokio::test]
async fn is_204_without_a_body() {
    let sidecar = SidecarOptions::new(&unique("health")).start().await.unwrap();
    for path in ["/v1.0/healthz", "/v1.0/healthz/outbound"] {
        let reply = sidecar.get(path).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.text()), (204, String::new()), "{path}");
    }
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn names_the_application_when_asked() {
    let id = unique("health");
    let sidecar = SidecarOptions::new(&id).start().await.unwrap();
    assert_eq!(sidecar.get(&format!("/v1.0/healthz?appid={id}")).await.unwrap().status, 204);
    let other = sidecar.get("/v1.0/healthz?appid=other").await.unwrap();
    assert_eq!((other.status.as_u16(), other.error_code()), (500, "ERR_HEALTH_APPID_NOT_MATCH".to_owned()));
}

#[tokio::test]
async fn needs_no_api_token() {
    let options = SidecarOptions::new(&unique("health")).environment("DAPR_API_TOKEN", "letmein");
    let sidecar = options.start().await.unwrap();
    let refused = sidecar.get("/v1.0/metadata").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.text().trim().to_owned()), (401, "invalid api token".to_owned()));
    let admitted =
        sidecar.send(http::Method::GET, "/v1.0/metadata", &[("dapr-api-token", "letmein")], "").await.unwrap();
    assert_eq!(admitted.status, 200);
}
