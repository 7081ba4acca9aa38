//! Errors of actors. *Source:* spec errors.md, Actors.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Actor:
    /// A transaction of an actor that is not active in this host.
    ACTOR_INSTANCE_MISSING =
        legacy("ERR_ACTOR_INSTANCE_MISSING", 400, GrpcCode::Internal, "actor instance is missing");
    /// No state store is marked for actors.
    ACTOR_RUNTIME_NOT_FOUND = legacy(
        "ERR_ACTOR_RUNTIME_NOT_FOUND",
        500,
        GrpcCode::Internal,
        "the state store is not configured to use the actor runtime. Have you set the - name: actorStateStore value: \"true\" in your state store component file?",
    );
    /// The call failed.
    ACTOR_INVOKE_METHOD =
        legacy("ERR_ACTOR_INVOKE_METHOD", 500, GrpcCode::Internal, "error invoke actor method: {}");
    /// A read of state failed.
    ACTOR_STATE_GET = legacy("ERR_ACTOR_STATE_GET", 500, GrpcCode::Internal, "error getting actor state: {}");
    /// A transaction failed.
    ACTOR_STATE_TRANSACTION_SAVE = legacy(
        "ERR_ACTOR_STATE_TRANSACTION_SAVE",
        500,
        GrpcCode::Internal,
        "error saving actor transaction state: {}",
    );
    /// A reminder was not made.
    ACTOR_REMINDER_CREATE =
        legacy("ERR_ACTOR_REMINDER_CREATE", 500, GrpcCode::Internal, "error creating actor reminder: {}");
    /// A reminder was not read.
    ACTOR_REMINDER_GET =
        legacy("ERR_ACTOR_REMINDER_GET", 500, GrpcCode::Internal, "error getting actor reminder: {}");
    /// A reminder was not deleted.
    ACTOR_REMINDER_DELETE =
        legacy("ERR_ACTOR_REMINDER_DELETE", 500, GrpcCode::Internal, "error deleting actor reminder: {}");
    /// A timer was not made.
    ACTOR_TIMER_CREATE =
        legacy("ERR_ACTOR_TIMER_CREATE", 500, GrpcCode::Internal, "error creating actor timer: {}");
    /// A reminder of a type that this app does not host.
    ACTOR_REMINDER_NON_HOSTED = legacy(
        "ERR_ACTOR_REMINDER_NON_HOSTED",
        403,
        GrpcCode::PermissionDenied,
        "operations on actor reminders are only possible on hosted actor types",
    );
    /// No such reminder.
    ACTOR_REMINDER_NOT_FOUND =
        legacy("ERR_ACTOR_REMINDER_NOT_FOUND", 404, GrpcCode::NotFound, "actor reminder not found: {}");
    /// A reminder of this name that may not be replaced.
    ACTOR_REMINDER_ALREADY_EXISTS = legacy(
        "ERR_ACTOR_REMINDER_ALREADY_EXISTS",
        409,
        GrpcCode::AlreadyExists,
        "actor reminder already exists: {}",
    );
    /// A type of the workflow engine, which apps may not call.
    ACTOR_TYPE_RESERVED = legacy(
        "ERR_ACTOR_TYPE_RESERVED",
        403,
        GrpcCode::PermissionDenied,
        "actor type {} is reserved for the Dapr workflow runtime; direct actor API access is not permitted",
    );
    /// No app to call.
    ACTOR_NO_APP_CHANNEL =
        legacy("ERR_ACTOR_NO_APP_CHANNEL", 400, GrpcCode::Unavailable, "app channel is not initialized");
    /// Re-entrant calls went too deep.
    ACTOR_STACK_DEPTH =
        legacy("ERR_ACTOR_STACK_DEPTH", 500, GrpcCode::ResourceExhausted, "maximum stack depth exceeded");
    /// No placement address was given.
    ACTOR_NO_PLACEMENT =
        legacy("ERR_ACTOR_NO_PLACEMENT", 400, GrpcCode::Unavailable, "placement service is not configured");
    /// The sidecar is shutting down.
    ACTOR_RUNTIME_CLOSED =
        legacy("ERR_ACTOR_RUNTIME_CLOSED", 503, GrpcCode::Unavailable, "actor runtime is closed");
    /// Kubernetes without `NAMESPACE`.
    ACTOR_NAMESPACE_REQUIRED = legacy(
        "ERR_ACTOR_NAMESPACE_REQUIRED",
        412,
        GrpcCode::FailedPrecondition,
        "actors must have a namespace configured when running in Kubernetes mode",
    );
    /// Nobody hosts the type.
    ACTOR_NO_ADDRESS =
        legacy("ERR_ACTOR_NO_ADDRESS", 404, GrpcCode::FailedPrecondition, "did not find address for actor '{}'");
}
