//! One test for each row of the error table: what both APIs write for it, against literal values.
//!
//! Each line is: test, row, HTTP status, gRPC code, `errorCode`, `ErrorInfo.reason`, labels of the metric, details, message.
//! The values of a message are `a`, `b`, `c`. *Source:* spec errors.md §1, §2, §4.

use pillion_core::error::{ApiError, DetailKind, ErrorDetail, ErrorSpec, Shape, table};
use serde_json::{Value, json};

use crate::grpc::status;
use crate::http::respond;

/// The details a row has.
enum Details {
    Legacy,
    Basic,
    Rich(&'static [&'static str]),
}

use Details::{Basic, Legacy, Rich};

struct Expected {
    http: u16,
    grpc: tonic::Code,
    code: &'static str,
    reason: &'static str,
    metric: &'static str,
    details: Details,
    message: &'static str,
}

/// The error as a block makes it, with the same values in the details of every row.
fn sample(row: &'static ErrorSpec) -> ApiError {
    let mut error = ApiError::of(row, &[&"a", &"b", &"c"]);
    let Shape::Rich(kinds) = row.shape else { return error };
    for kind in kinds {
        error = match kind {
            DetailKind::BadRequest => error.with_detail(ErrorDetail::BadRequest(vec![("f".into(), "d".into())])),
            DetailKind::Help => error.with_detail(ErrorDetail::Help(vec![("d".into(), "u".into())])),
            DetailKind::ResourceInfo => error.resource("type", "name"),
            DetailKind::ErrorInfo => error.info(&[("k", "v")]),
        };
    }
    error
}

fn http_detail(name: &str, expected: &Expected) -> Value {
    let kind = format!("type.googleapis.com/google.rpc.{name}");
    match name {
        "BadRequest" => json!({"@type": kind, "field_violations": [{"field": "f", "description": "d"}]}),
        "Help" => json!({"@type": kind, "links": [{"description": "d", "url": "u"}]}),
        "ResourceInfo" => json!({
            "@type": kind, "resource_type": "type", "resource_name": "name", "owner": "", "description": expected.message,
        }),
        _ => json!({"@type": kind, "reason": expected.reason, "domain": "dapr.io", "metadata": {"k": "v"}}),
    }
}

fn check(row: &'static ErrorSpec, expected: &Expected) {
    let error = sample(row);
    let labels = error.metric_labels().map(|(code, category)| format!("{category} {code}"));
    assert_eq!(labels.unwrap_or_default(), expected.metric);

    let response = respond::error(&error);
    assert_eq!(response.status(), expected.http);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&response.into_body().as_full().expect("whole")).expect("JSON");
    let mut wanted = json!({"errorCode": expected.code, "message": expected.message});
    if let Rich(names) = expected.details {
        wanted["details"] = names.iter().map(|name| http_detail(name, expected)).collect();
    }
    assert_eq!(body, wanted);

    let status = status::from_api_error(&error);
    assert_eq!((status.code(), status.message()), (expected.grpc, expected.message));
    let details = status::details_of(&status);
    let names: Vec<&str> = details.iter().map(|any| any.type_url.rsplit('.').next().expect("a name")).collect();
    let (wanted, reason) = match expected.details {
        Legacy => (&[][..], ""),
        Basic => (&["ErrorInfo"][..], expected.code),
        Rich(names) => (names, expected.reason),
    };
    assert_eq!(names, wanted);
    let infos =
        details.iter().filter_map(|any| any.to_message::<pillion_proto::google::rpc::ErrorInfo>().ok().flatten());
    for info in infos {
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "dapr.io"));
    }
}

macro_rules! rows {
    ($($test:ident: $row:ident, $http:literal, $grpc:ident, $code:literal, $reason:literal, $metric:literal,
        $details:expr, $message:literal;)+) => {
        $(#[test]
        fn $test() {
            check(&table::$row, &Expected {
                http: $http,
                grpc: tonic::Code::$grpc,
                code: $code,
                reason: $reason,
                metric: $metric,
                details: $details,
                message: $message,
            });
        })+

        const TESTED: &[&ErrorSpec] = &[$(&table::$row),+];
    };
}

#[test]
fn every_row_has_a_test() {
    for row in table::ALL.iter().copied().flatten() {
        assert!(TESTED.contains(row), "{row:?}");
    }
}

rows! {
    // common
    bad_request: BAD_REQUEST, 400, InvalidArgument, "ERR_BAD_REQUEST", "", "common ERR_BAD_REQUEST", Legacy, "invalid request: a";
    body_read: BODY_READ, 400, InvalidArgument, "ERR_BODY_READ", "", "common ERR_BODY_READ", Legacy, "failed to read request body: a";
    malformed_request: MALFORMED_REQUEST, 400, InvalidArgument, "ERR_MALFORMED_REQUEST", "", "common ERR_MALFORMED_REQUEST", Legacy, "failed deserializing HTTP body: a";
    malformed_item: MALFORMED_ITEM, 400, InvalidArgument, "ERR_MALFORMED_REQUEST", "", "common ERR_MALFORMED_REQUEST", Legacy, "a";
    malformed_request_data: MALFORMED_REQUEST_DATA, 500, Internal, "ERR_MALFORMED_REQUEST_DATA", "", "common ERR_MALFORMED_REQUEST_DATA", Legacy, "can't serialize request data field: a";
    malformed_response: MALFORMED_RESPONSE, 500, Internal, "ERR_MALFORMED_RESPONSE", "", "service-invocation ERR_DIRECT_INVOKE", Legacy, "a";
    internal: INTERNAL, 500, Internal, "ERR_INTERNAL", "", "common ERR_INTERNAL", Legacy, "failed to encode response as JSON: a";
    api_unimplemented: API_UNIMPLEMENTED, 501, Unimplemented, "ERR_API_UNIMPLEMENTED", "", "common ERR_API_UNIMPLEMENTED", Legacy, "this API is currently not implemented";
    app_channel_nil: APP_CHANNEL_NIL, 500, Internal, "ERR_APP_CHANNEL_NIL", "", "", Legacy, "app channel is not initialized. cannot subscribe to configuration updates";
    generic: GENERIC, 500, Unknown, "ERROR", "", "", Legacy, "a";
    // health
    health_not_ready: HEALTH_NOT_READY, 500, Internal, "ERR_HEALTH_NOT_READY", "", "health ERR_HEALTH_NOT_READY", Legacy, "dapr is not ready: a";
    health_appid_not_match: HEALTH_APPID_NOT_MATCH, 500, Internal, "ERR_HEALTH_APPID_NOT_MATCH", "", "health ERR_HEALTH_APPID_NOT_MATCH", Legacy, "dapr app-id does not match";
    outbound_health_not_ready: OUTBOUND_HEALTH_NOT_READY, 500, Internal, "ERR_OUTBOUND_HEALTH_NOT_READY", "", "health ERR_OUTBOUND_HEALTH_NOT_READY", Legacy, "dapr outbound is not ready";
    // invocation
    direct_invoke: DIRECT_INVOKE, 500, Internal, "ERR_DIRECT_INVOKE", "", "service-invocation ERR_DIRECT_INVOKE", Legacy, "failed to invoke, id: a, err: b";
    direct_invoke_no_app_id: DIRECT_INVOKE_NO_APP_ID, 404, NotFound, "ERR_DIRECT_INVOKE", "", "service-invocation ERR_DIRECT_INVOKE", Legacy, "failed getting app id either from the URL path or the header dapr-app-id";
    direct_invoke_denied: DIRECT_INVOKE_DENIED, 403, Internal, "ERR_DIRECT_INVOKE", "", "service-invocation ERR_DIRECT_INVOKE", Legacy, "failed to invoke, id: a, err: b";
    direct_invoke_not_ready: DIRECT_INVOKE_NOT_READY, 500, Internal, "ERR_DIRECT_INVOKE", "", "service-invocation ERR_DIRECT_INVOKE", Legacy, "invoke API is not ready";
    // state
    state_store_not_configured: STATE_STORE_NOT_CONFIGURED, 500, FailedPrecondition, "ERR_STATE_STORE_NOT_CONFIGURED", "DAPR_STATE_NOT_CONFIGURED", "state ERR_STATE_STORE_NOT_CONFIGURED", Rich(&["ErrorInfo"]), "state store a is not configured";
    state_store_not_found: STATE_STORE_NOT_FOUND, 400, InvalidArgument, "ERR_STATE_STORE_NOT_FOUND", "DAPR_STATE_NOT_FOUND", "state ERR_STATE_STORE_NOT_FOUND", Rich(&["ErrorInfo"]), "state store a is not found";
    state_illegal_key: STATE_ILLEGAL_KEY, 400, InvalidArgument, "ERR_MALFORMED_REQUEST", "DAPR_STATE_ILLEGAL_KEY", "state ERR_MALFORMED_REQUEST", Rich(&["BadRequest", "ResourceInfo", "ErrorInfo"]), "input key/keyPrefix 'a' can't contain '||'";
    state_transactions_not_supported: STATE_TRANSACTIONS_NOT_SUPPORTED, 500, Unimplemented, "ERR_STATE_STORE_NOT_SUPPORTED", "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED", "state ERR_STATE_STORE_NOT_SUPPORTED", Rich(&["Help", "ResourceInfo", "ErrorInfo"]), "state store a doesn't support transactions";
    state_querying_not_supported: STATE_QUERYING_NOT_SUPPORTED, 500, Internal, "ERR_STATE_STORE_NOT_SUPPORTED", "DAPR_STATE_QUERYING_NOT_SUPPORTED", "state ERR_STATE_STORE_NOT_SUPPORTED", Rich(&["ResourceInfo", "ErrorInfo"]), "state store does not support querying";
    state_too_many_transactions: STATE_TOO_MANY_TRANSACTIONS, 400, InvalidArgument, "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", "DAPR_STATE_TOO_MANY_TRANSACTIONS", "state ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", Rich(&["ResourceInfo", "ErrorInfo"]), "the transaction contains a operations, which is more than what the state store supports: b";
    state_query: STATE_QUERY, 500, Internal, "ERR_STATE_QUERY", "DAPR_STATE_QUERY_FAILED", "state ERR_STATE_QUERY", Rich(&["ResourceInfo", "ErrorInfo"]), "state store a query failed: b";
    state_get: STATE_GET, 500, Internal, "ERR_STATE_GET", "", "state ERR_STATE_GET", Basic, "fail to get a from state store b: c";
    state_bulk_get: STATE_BULK_GET, 500, Unknown, "ERR_STATE_BULK_GET", "", "state ERR_STATE_BULK_GET", Legacy, "a";
    state_save: STATE_SAVE, 500, Internal, "ERR_STATE_SAVE", "", "state ERR_STATE_SAVE", Basic, "failed saving state in state store a: b";
    state_key_empty: STATE_KEY_EMPTY, 400, InvalidArgument, "ERR_STATE_SAVE", "", "state ERR_STATE_SAVE", Basic, "state key cannot be empty";
    state_delete: STATE_DELETE, 500, Internal, "ERR_STATE_DELETE", "", "state ERR_STATE_DELETE", Basic, "failed deleting state with key a: b";
    state_bulk_delete: STATE_BULK_DELETE, 500, Internal, "ERR_STATE_BULK_DELETE", "", "state ERR_STATE_BULK_DELETE", Basic, "failed deleting state in state store a: b";
    state_transaction: STATE_TRANSACTION, 500, Internal, "ERR_STATE_TRANSACTION", "", "state ERR_STATE_TRANSACTION", Basic, "error while executing state transaction: a";
    state_operation_not_supported: STATE_OPERATION_NOT_SUPPORTED, 400, Unimplemented, "ERR_NOT_SUPPORTED_STATE_OPERATION", "", "state ERR_NOT_SUPPORTED_STATE_OPERATION", Basic, "operation type a not supported";
    // pubsub
    pubsub_not_found: PUBSUB_NOT_FOUND, 404, InvalidArgument, "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND", "pubsub ERR_PUBSUB_NOT_FOUND", Rich(&["ErrorInfo"]), "pubsub a is not found";
    pubsub_gone: PUBSUB_GONE, 400, NotFound, "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_TEST_NOT_FOUND", "pubsub ERR_PUBSUB_NOT_FOUND", Rich(&["ResourceInfo", "ErrorInfo"]), "pubsub 'a' not found";
    pubsub_not_configured: PUBSUB_NOT_CONFIGURED, 400, FailedPrecondition, "ERR_PUBSUB_NOT_CONFIGURED", "DAPR_PUBSUB_NOT_CONFIGURED", "pubsub ERR_PUBSUB_NOT_CONFIGURED", Rich(&["ErrorInfo"]), "pubsub a is not configured";
    pubsub_name_empty: PUBSUB_NAME_EMPTY, 404, InvalidArgument, "ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY", "pubsub ERR_PUBSUB_EMPTY", Rich(&["ResourceInfo", "ErrorInfo"]), "pubsub name is empty";
    pubsub_topic_name_empty: PUBSUB_TOPIC_NAME_EMPTY, 404, InvalidArgument, "ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY", "pubsub ERR_TOPIC_NAME_EMPTY", Rich(&["ResourceInfo", "ErrorInfo"]), "topic is empty in pubsub a";
    pubsub_request_metadata: PUBSUB_REQUEST_METADATA, 400, InvalidArgument, "ERR_PUBSUB_REQUEST_METADATA", "DAPR_PUBSUB_METADATA_DESERIALIZATION", "pubsub ERR_PUBSUB_REQUEST_METADATA", Rich(&["ResourceInfo", "ErrorInfo"]), "failed deserializing metadata. Error: a";
    pubsub_forbidden: PUBSUB_FORBIDDEN, 403, PermissionDenied, "ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN", "pubsub ERR_PUBSUB_FORBIDDEN", Rich(&["ResourceInfo", "ErrorInfo"]), "topic a is not allowed for app id b";
    pubsub_publish_message: PUBSUB_PUBLISH_MESSAGE, 500, Internal, "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE", "pubsub ERR_PUBSUB_PUBLISH_MESSAGE", Rich(&["ResourceInfo", "ErrorInfo"]), "error when publishing to topic a in pubsub b: c";
    pubsub_cloud_event_creation: PUBSUB_CLOUD_EVENT_CREATION, 500, InvalidArgument, "ERR_PUBSUB_CLOUD_EVENTS_SER", "DAPR_PUBSUB_CLOUD_EVENT_CREATION", "pubsub ERR_PUBSUB_CLOUD_EVENTS_SER", Rich(&["ResourceInfo", "ErrorInfo"]), "cannot create cloudevent";
    pubsub_marshal_envelope: PUBSUB_MARSHAL_ENVELOPE, 400, InvalidArgument, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_ENVELOPE", "pubsub ERR_PUBSUB_EVENTS_SER", Rich(&["ResourceInfo", "ErrorInfo"]), "error when marshalling cloud event envelope for topic a pubsub b: c";
    pubsub_marshal_events: PUBSUB_MARSHAL_EVENTS, 400, InvalidArgument, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_EVENTS", "pubsub ERR_PUBSUB_EVENTS_SER", Rich(&["ResourceInfo", "ErrorInfo"]), "error marshaling events to bytes for topic a pubsub b. error: c";
    pubsub_unmarshal_events: PUBSUB_UNMARSHAL_EVENTS, 400, InvalidArgument, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_UNMARSHAL_EVENTS", "pubsub ERR_PUBSUB_EVENTS_SER", Rich(&["ResourceInfo", "ErrorInfo"]), "error when unmarshaling the request for topic a pubsub b: c";
    pubsub_outbox: PUBSUB_OUTBOX, 500, Internal, "ERR_PUBLISH_OUTBOX", "DAPR_PUBSUB_OUTBOX", "pubsub ERR_PUBLISH_OUTBOX", Rich(&["ErrorInfo"]), "error while publishing outbox message: a";
    // binding
    invoke_output_binding: INVOKE_OUTPUT_BINDING, 500, Internal, "ERR_INVOKE_OUTPUT_BINDING", "", "binding ERR_INVOKE_OUTPUT_BINDING", Basic, "error invoking output binding a: b";
    // secret
    secret_stores_not_configured: SECRET_STORES_NOT_CONFIGURED, 500, FailedPrecondition, "ERR_SECRET_STORES_NOT_CONFIGURED", "", "secret ERR_SECRET_STORES_NOT_CONFIGURED", Legacy, "secret store is not configured";
    secret_store_not_found: SECRET_STORE_NOT_FOUND, 401, InvalidArgument, "ERR_SECRET_STORE_NOT_FOUND", "", "secret ERR_SECRET_STORE_NOT_FOUND", Legacy, "failed finding secret store with key a";
    secret_permission_denied: SECRET_PERMISSION_DENIED, 403, PermissionDenied, "ERR_PERMISSION_DENIED", "", "secret ERR_PERMISSION_DENIED", Legacy, "access denied by policy to get a from b";
    secret_get: SECRET_GET, 500, Internal, "ERR_SECRET_GET", "", "secret ERR_SECRET_GET", Legacy, "failed getting secret with key a from secret store b: c";
    secret_bulk_get: SECRET_BULK_GET, 500, Internal, "ERR_SECRET_GET", "", "secret ERR_SECRET_GET", Legacy, "failed getting secrets from secret store a: b";
    // configuration
    configuration_store_not_configured: CONFIGURATION_STORE_NOT_CONFIGURED, 500, FailedPrecondition, "ERR_CONFIGURATION_STORE_NOT_CONFIGURED", "", "configuration ERR_CONFIGURATION_STORE_NOT_CONFIGURED", Basic, "configuration stores not configured";
    configuration_store_not_found: CONFIGURATION_STORE_NOT_FOUND, 400, InvalidArgument, "ERR_CONFIGURATION_STORE_NOT_FOUND", "", "configuration ERR_CONFIGURATION_STORE_NOT_FOUND", Basic, "configuration store a not found";
    configuration_get: CONFIGURATION_GET, 500, Internal, "ERR_CONFIGURATION_GET", "", "configuration ERR_CONFIGURATION_GET", Basic, "failed to get a from Configuration store b: c";
    configuration_subscribe: CONFIGURATION_SUBSCRIBE, 500, InvalidArgument, "ERR_CONFIGURATION_SUBSCRIBE", "", "configuration ERR_CONFIGURATION_SUBSCRIBE", Basic, "failed to subscribe a from Configuration store b: c";
    configuration_unsubscribe: CONFIGURATION_UNSUBSCRIBE, 500, Ok, "ERR_CONFIGURATION_UNSUBSCRIBE", "", "configuration ERR_CONFIGURATION_UNSUBSCRIBE", Legacy, "failed to unsubscribe to configuration request a: b";
    // crypto
    crypto_providers_not_configured: CRYPTO_PROVIDERS_NOT_CONFIGURED, 500, Internal, "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED", "", "crypto ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED", Legacy, "crypto providers not configured";
    crypto_provider_not_found: CRYPTO_PROVIDER_NOT_FOUND, 400, InvalidArgument, "ERR_CRYPTO_PROVIDER_NOT_FOUND", "", "crypto ERR_CRYPTO_PROVIDER_NOT_FOUND", Legacy, "crypto provider a not found";
    crypto_key: CRYPTO_KEY, 500, Internal, "ERR_CRYPTO_KEY", "", "crypto ERR_CRYPTO_KEY", Legacy, "failed to retrieve key a: b";
    crypto_operation: CRYPTO_OPERATION, 500, Internal, "ERR_CRYPTO", "", "crypto ERR_CRYPTO", Legacy, "failed to perform operation: a";
    // lock
    lock_store_not_configured: LOCK_STORE_NOT_CONFIGURED, 500, FailedPrecondition, "ERR_LOCK_STORE_NOT_CONFIGURED", "", "lock ERR_LOCK_STORE_NOT_CONFIGURED", Legacy, "lock store is not configured";
    lock_store_not_found: LOCK_STORE_NOT_FOUND, 400, InvalidArgument, "ERR_LOCK_STORE_NOT_FOUND", "", "lock ERR_LOCK_STORE_NOT_FOUND", Legacy, "lock store a not found";
    lock_resource_id_empty: LOCK_RESOURCE_ID_EMPTY, 400, InvalidArgument, "ERR_MALFORMED_REQUEST", "", "common ERR_MALFORMED_REQUEST", Legacy, "ResourceId is empty in lock store a";
    lock_owner_empty: LOCK_OWNER_EMPTY, 400, InvalidArgument, "ERR_MALFORMED_REQUEST", "", "common ERR_MALFORMED_REQUEST", Legacy, "LockOwner is empty in lock store a";
    lock_expiry_not_positive: LOCK_EXPIRY_NOT_POSITIVE, 400, InvalidArgument, "ERR_MALFORMED_REQUEST", "", "common ERR_MALFORMED_REQUEST", Legacy, "ExpiryInSeconds is not positive in lock store a";
    lock_try: LOCK_TRY, 500, Internal, "ERR_TRY_LOCK", "", "lock ERR_TRY_LOCK", Legacy, "failed to try acquiring lock: a";
    lock_unlock: LOCK_UNLOCK, 500, Internal, "ERR_UNLOCK", "", "lock ERR_UNLOCK", Legacy, "failed to release lock: a";
    // actor
    actor_instance_missing: ACTOR_INSTANCE_MISSING, 400, Internal, "ERR_ACTOR_INSTANCE_MISSING", "", "actor ERR_ACTOR_INSTANCE_MISSING", Legacy, "actor instance is missing";
    actor_runtime_not_found: ACTOR_RUNTIME_NOT_FOUND, 500, Internal, "ERR_ACTOR_RUNTIME_NOT_FOUND", "", "actor ERR_ACTOR_RUNTIME_NOT_FOUND", Legacy, "the state store is not configured to use the actor runtime. Have you set the - name: actorStateStore value: \"true\" in your state store component file?";
    actor_invoke_method: ACTOR_INVOKE_METHOD, 500, Internal, "ERR_ACTOR_INVOKE_METHOD", "", "actor ERR_ACTOR_INVOKE_METHOD", Legacy, "error invoke actor method: a";
    actor_state_get: ACTOR_STATE_GET, 500, Internal, "ERR_ACTOR_STATE_GET", "", "actor ERR_ACTOR_STATE_GET", Legacy, "error getting actor state: a";
    actor_state_transaction_save: ACTOR_STATE_TRANSACTION_SAVE, 500, Internal, "ERR_ACTOR_STATE_TRANSACTION_SAVE", "", "actor ERR_ACTOR_STATE_TRANSACTION_SAVE", Legacy, "error saving actor transaction state: a";
    actor_reminder_create: ACTOR_REMINDER_CREATE, 500, Internal, "ERR_ACTOR_REMINDER_CREATE", "", "actor ERR_ACTOR_REMINDER_CREATE", Legacy, "error creating actor reminder: a";
    actor_reminder_get: ACTOR_REMINDER_GET, 500, Internal, "ERR_ACTOR_REMINDER_GET", "", "actor ERR_ACTOR_REMINDER_GET", Legacy, "error getting actor reminder: a";
    actor_reminder_delete: ACTOR_REMINDER_DELETE, 500, Internal, "ERR_ACTOR_REMINDER_DELETE", "", "actor ERR_ACTOR_REMINDER_DELETE", Legacy, "error deleting actor reminder: a";
    actor_timer_create: ACTOR_TIMER_CREATE, 500, Internal, "ERR_ACTOR_TIMER_CREATE", "", "actor ERR_ACTOR_TIMER_CREATE", Legacy, "error creating actor timer: a";
    actor_reminder_non_hosted: ACTOR_REMINDER_NON_HOSTED, 403, PermissionDenied, "ERR_ACTOR_REMINDER_NON_HOSTED", "", "actor ERR_ACTOR_REMINDER_NON_HOSTED", Legacy, "operations on actor reminders are only possible on hosted actor types";
    actor_reminder_not_found: ACTOR_REMINDER_NOT_FOUND, 404, NotFound, "ERR_ACTOR_REMINDER_NOT_FOUND", "", "actor ERR_ACTOR_REMINDER_NOT_FOUND", Legacy, "actor reminder not found: a";
    actor_reminder_already_exists: ACTOR_REMINDER_ALREADY_EXISTS, 409, AlreadyExists, "ERR_ACTOR_REMINDER_ALREADY_EXISTS", "", "actor ERR_ACTOR_REMINDER_ALREADY_EXISTS", Legacy, "actor reminder already exists: a";
    actor_type_reserved: ACTOR_TYPE_RESERVED, 403, PermissionDenied, "ERR_ACTOR_TYPE_RESERVED", "", "actor ERR_ACTOR_TYPE_RESERVED", Legacy, "actor type a is reserved for the Dapr workflow runtime; direct actor API access is not permitted";
    actor_no_app_channel: ACTOR_NO_APP_CHANNEL, 400, Unavailable, "ERR_ACTOR_NO_APP_CHANNEL", "", "actor ERR_ACTOR_NO_APP_CHANNEL", Legacy, "app channel is not initialized";
    actor_stack_depth: ACTOR_STACK_DEPTH, 500, ResourceExhausted, "ERR_ACTOR_STACK_DEPTH", "", "actor ERR_ACTOR_STACK_DEPTH", Legacy, "maximum stack depth exceeded";
    actor_no_placement: ACTOR_NO_PLACEMENT, 400, Unavailable, "ERR_ACTOR_NO_PLACEMENT", "", "actor ERR_ACTOR_NO_PLACEMENT", Legacy, "placement service is not configured";
    actor_runtime_closed: ACTOR_RUNTIME_CLOSED, 503, Unavailable, "ERR_ACTOR_RUNTIME_CLOSED", "", "actor ERR_ACTOR_RUNTIME_CLOSED", Legacy, "actor runtime is closed";
    actor_namespace_required: ACTOR_NAMESPACE_REQUIRED, 412, FailedPrecondition, "ERR_ACTOR_NAMESPACE_REQUIRED", "", "actor ERR_ACTOR_NAMESPACE_REQUIRED", Legacy, "actors must have a namespace configured when running in Kubernetes mode";
    actor_no_address: ACTOR_NO_ADDRESS, 404, FailedPrecondition, "ERR_ACTOR_NO_ADDRESS", "", "actor ERR_ACTOR_NO_ADDRESS", Legacy, "did not find address for actor 'a'";
    // workflow
    workflow_get: WORKFLOW_GET, 500, Internal, "ERR_GET_WORKFLOW", "", "workflow ERR_GET_WORKFLOW", Legacy, "error while getting workflow info on instance 'a': b";
    workflow_start: WORKFLOW_START, 500, Internal, "ERR_START_WORKFLOW", "", "workflow ERR_START_WORKFLOW", Legacy, "error starting workflow 'a': b";
    workflow_pause: WORKFLOW_PAUSE, 500, Internal, "ERR_PAUSE_WORKFLOW", "", "workflow ERR_PAUSE_WORKFLOW", Legacy, "error pausing workflow a: b";
    workflow_resume: WORKFLOW_RESUME, 500, Internal, "ERR_RESUME_WORKFLOW", "", "workflow ERR_RESUME_WORKFLOW", Legacy, "error resuming workflow a: b";
    workflow_terminate: WORKFLOW_TERMINATE, 500, Internal, "ERR_TERMINATE_WORKFLOW", "", "workflow ERR_TERMINATE_WORKFLOW", Legacy, "error terminating workflow 'a': b";
    workflow_purge: WORKFLOW_PURGE, 500, Internal, "ERR_PURGE_WORKFLOW", "", "workflow ERR_PURGE_WORKFLOW", Legacy, "error purging workflow a: b";
    workflow_raise_event: WORKFLOW_RAISE_EVENT, 500, Internal, "ERR_RAISE_EVENT_WORKFLOW", "", "workflow ERR_RAISE_EVENT_WORKFLOW", Legacy, "error raising event on workflow 'a': b";
    workflow_instance_not_found: WORKFLOW_INSTANCE_NOT_FOUND, 404, NotFound, "ERR_INSTANCE_ID_NOT_FOUND", "", "workflow ERR_INSTANCE_ID_NOT_FOUND", Legacy, "unable to find workflow with the provided instance ID: a";
    workflow_instance_id_invalid: WORKFLOW_INSTANCE_ID_INVALID, 400, InvalidArgument, "ERR_INSTANCE_ID_INVALID", "", "workflow ERR_INSTANCE_ID_INVALID", Legacy, "workflow instance ID 'a' is invalid: only alphanumeric and underscore characters are allowed";
    workflow_instance_id_too_long: WORKFLOW_INSTANCE_ID_TOO_LONG, 400, InvalidArgument, "ERR_INSTANCE_ID_TOO_LONG", "", "workflow ERR_INSTANCE_ID_TOO_LONG", Legacy, "workflow instance ID exceeds the max length of a characters";
    workflow_instance_id_missing: WORKFLOW_INSTANCE_ID_MISSING, 400, InvalidArgument, "ERR_INSTANCE_ID_PROVIDED_MISSING", "", "workflow ERR_INSTANCE_ID_PROVIDED_MISSING", Legacy, "no instance ID was provided";
    workflow_name_missing: WORKFLOW_NAME_MISSING, 400, InvalidArgument, "ERR_WORKFLOW_NAME_MISSING", "", "workflow ERR_WORKFLOW_NAME_MISSING", Legacy, "workflow name is not configured";
    workflow_event_name_missing: WORKFLOW_EVENT_NAME_MISSING, 400, InvalidArgument, "ERR_WORKFLOW_EVENT_NAME_MISSING", "", "workflow ERR_WORKFLOW_EVENT_NAME_MISSING", Legacy, "missing workflow event name";
    workflow_app_id_invalid: WORKFLOW_APP_ID_INVALID, 400, InvalidArgument, "ERR_WORKFLOW_APP_ID_INVALID", "", "workflow ERR_WORKFLOW_APP_ID_INVALID", Legacy, "a";
    workflow_component_missing: WORKFLOW_COMPONENT_MISSING, 400, InvalidArgument, "ERR_WORKFLOW_COMPONENT_MISSING", "", "workflow ERR_WORKFLOW_COMPONENT_MISSING", Legacy, "no workflow component was provided";
    workflow_component_not_found: WORKFLOW_COMPONENT_NOT_FOUND, 400, InvalidArgument, "ERR_WORKFLOW_COMPONENT_NOT_FOUND", "", "workflow ERR_WORKFLOW_COMPONENT_NOT_FOUND", Legacy, "workflow component 'a' does not exist";
    // job
    job_schedule: JOB_SCHEDULE, 500, Internal, "DAPR_SCHEDULER_SCHEDULE_JOB", "DAPR_SCHEDULER_SCHEDULE_JOB", "job DAPR_SCHEDULER_SCHEDULE_JOB", Rich(&["ErrorInfo"]), "failed to schedule job due to: a";
    job_get: JOB_GET, 500, Internal, "DAPR_SCHEDULER_GET_JOB", "DAPR_SCHEDULER_GET_JOB", "job DAPR_SCHEDULER_GET_JOB", Rich(&["ErrorInfo"]), "failed to get job due to: a";
    job_list: JOB_LIST, 500, Internal, "DAPR_SCHEDULER_LIST_JOBS", "DAPR_SCHEDULER_LIST_JOBS", "job DAPR_SCHEDULER_LIST_JOBS", Rich(&["ErrorInfo"]), "failed to list jobs due to: a";
    job_delete: JOB_DELETE, 500, Internal, "DAPR_SCHEDULER_DELETE_JOB", "DAPR_SCHEDULER_DELETE_JOB", "job DAPR_SCHEDULER_DELETE_JOB", Rich(&["ErrorInfo"]), "failed to delete job due to: a";
    job_name: JOB_NAME, 400, InvalidArgument, "DAPR_SCHEDULER_JOB_NAME", "DAPR_SCHEDULER_JOB_NAME", "job DAPR_SCHEDULER_JOB_NAME", Rich(&["ErrorInfo"]), "Set the job name in the url only";
    job_name_empty: JOB_NAME_EMPTY, 400, InvalidArgument, "DAPR_SCHEDULER_JOB_NAME_EMPTY", "DAPR_SCHEDULER_JOB_NAME_EMPTY", "job DAPR_SCHEDULER_JOB_NAME_EMPTY", Rich(&["ErrorInfo"]), "Name is empty";
    job_schedule_empty: JOB_SCHEDULE_EMPTY, 400, InvalidArgument, "DAPR_SCHEDULER_SCHEDULE_EMPTY", "DAPR_SCHEDULER_SCHEDULE_EMPTY", "job DAPR_SCHEDULER_SCHEDULE_EMPTY", Rich(&["ErrorInfo"]), "Schedule is empty";
    job_empty: JOB_EMPTY, 400, InvalidArgument, "DAPR_SCHEDULER_EMPTY", "DAPR_SCHEDULER_EMPTY", "job DAPR_SCHEDULER_EMPTY", Rich(&["ErrorInfo"]), "Job is empty";
    // conversation
    conversation_not_found: CONVERSATION_NOT_FOUND, 400, InvalidArgument, "ERR_CONVERSATION_NOT_FOUND", "", "conversation ERR_CONVERSATION_NOT_FOUND", Legacy, "failed finding conversation component a";
    conversation_missing_inputs: CONVERSATION_MISSING_INPUTS, 400, InvalidArgument, "ERR_CONVERSATION_MISSING_INPUTS", "", "conversation ERR_CONVERSATION_MISSING_INPUTS", Legacy, "failed conversing with component a: missing inputs in request";
    conversation_invalid_parameters: CONVERSATION_INVALID_PARAMETERS, 400, InvalidArgument, "ERR_CONVERSATION_INVALID_PARMS", "", "conversation ERR_CONVERSATION_INVALID_PARMS", Legacy, "failed conversing with component a: invalid params";
    conversation_invoke: CONVERSATION_INVOKE, 500, Internal, "ERR_CONVERSATION_INVOKE", "", "conversation ERR_CONVERSATION_INVOKE", Legacy, "failed conversing with component a: b";
}
