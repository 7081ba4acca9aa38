//! Calls of blocks that are not there: what a sidecar says in which nothing of the kind is configured.

use http::Method;
use pillion_testkit::SidecarOptions;

use crate::fixture::unique;

/// Verb, path, body, status, `errorCode`, message.
type Case = (Method, &'static str, &'static str, u16, &'static str, &'static str);

#[tokio::test]
async fn blocks_without_components_say_so() {
    let sidecar = SidecarOptions::new(&unique("absent")).start().await.unwrap();
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let none = "configuration stores not configured";
    let placement = "placement service is not configured";
    let lock = r#"{"resourceId": "r", "lockOwner": "o", "expiryInSeconds": 1}"#;
    let no_app = "failed getting app id either from the URL path or the header dapr-app-id";
    let job = "failed to get job due to: scheduler clients are disabled";
    let cases: Vec<Case> = vec![
        (get.clone(), "/v1.0/configuration/c", "", 500, "ERR_CONFIGURATION_STORE_NOT_CONFIGURED", none),
        (
            get.clone(),
            "/v1.0-alpha1/configuration/c/subscribe",
            "",
            500,
            "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
            none,
        ),
        (
            post.clone(),
            "/v1.0-alpha1/lock/l",
            lock,
            500,
            "ERR_LOCK_STORE_NOT_CONFIGURED",
            "lock store is not configured",
        ),
        (
            post.clone(),
            "/v1.0-alpha1/lock/l",
            "{}",
            400,
            "ERR_MALFORMED_REQUEST",
            "ExpiryInSeconds is not positive in lock store l",
        ),
        (
            post.clone(),
            "/v1.0-alpha1/unlock/l",
            "{}",
            500,
            "ERR_LOCK_STORE_NOT_CONFIGURED",
            "lock store is not configured",
        ),
        (
            put.clone(),
            "/v1.0-alpha1/crypto/c/encrypt",
            "x",
            500,
            "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED",
            "crypto providers not configured",
        ),
        (
            post.clone(),
            "/v1.0-alpha1/subtlecrypto/c/sign",
            "{}",
            501,
            "ERR_API_UNIMPLEMENTED",
            "this API is currently not implemented",
        ),
        (
            post.clone(),
            "/v1.0-alpha2/conversation/c/converse",
            "{}",
            400,
            "ERR_CONVERSATION_NOT_FOUND",
            "failed finding conversation component c",
        ),
        (get.clone(), "/v1.0/actors/t/1/state/k", "", 400, "ERR_ACTOR_NO_PLACEMENT", placement),
        (post.clone(), "/v1.0/workflows/dapr/w/start", "", 400, "ERR_ACTOR_NO_PLACEMENT", placement),
        (get.clone(), "/v1.0-beta1/workflows/dapr/i", "", 400, "ERR_ACTOR_NO_PLACEMENT", placement),
        (post.clone(), "/v1.0/workflows/dapr/i/other", "", 404, "ERR_DIRECT_INVOKE", no_app),
        (get, "/v1.0/jobs/j", "", 500, "DAPR_SCHEDULER_GET_JOB", job),
        (post.clone(), "/v1.0/jobs/j", "{}", 400, "DAPR_SCHEDULER_SCHEDULE_EMPTY", "Schedule is empty"),
        (
            post.clone(),
            "/v1.0-alpha1/jobs/j",
            r#"{"name": "j"}"#,
            400,
            "DAPR_SCHEDULER_JOB_NAME",
            "Set the job name in the url only",
        ),
        (
            delete,
            "/v1.0/jobs/j",
            "",
            500,
            "DAPR_SCHEDULER_DELETE_JOB",
            "failed to delete job due to: scheduler clients are disabled",
        ),
        (put, "/v1.0-alpha1/crypto/c/other", "", 404, "ERR_DIRECT_INVOKE", no_app),
    ];
    for (verb, path, body, status, code, message) in cases {
        let answer = sidecar.send(verb.clone(), path, &[], body).await.unwrap();
        let json = answer.json();
        assert_eq!(
            (answer.status.as_u16(), json["errorCode"].as_str(), json["message"].as_str()),
            (status, Some(code), Some(message)),
            "{verb} {path}"
        );
    }
}

#[tokio::test]
async fn words_of_no_consistency_are_refused() {
    let dir = pillion_testkit::ResourceDir::new().unwrap().with("state.yaml", crate::fixture::STATE).unwrap();
    let sidecar = SidecarOptions::new(&unique("absent")).resources(dir.path()).start().await.unwrap();
    let item = r#"[{"key": "k", "value": 1, "options": {"concurrency": "bad"}}]"#;
    let saved = sidecar.send(Method::POST, "/v1.0/state/mystore", &[], item).await.unwrap();
    assert_eq!(saved.status, 500);
    let text = "failed saving state in state store mystore: unrecognized concurrency model 'bad'";
    assert_eq!(
        (saved.json()["errorCode"].as_str(), saved.json()["message"].as_str()),
        (Some("ERR_STATE_SAVE"), Some(text))
    );
    let deleted = sidecar.send(Method::DELETE, "/v1.0/state/mystore/k?consistency=bad", &[], "").await.unwrap();
    let text = "failed deleting state with key k: unrecognized consistency model 'bad'";
    assert_eq!(
        (deleted.json()["errorCode"].as_str(), deleted.json()["message"].as_str()),
        (Some("ERR_STATE_DELETE"), Some(text))
    );
}
