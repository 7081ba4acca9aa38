//! Errors of workflows. *Source:* spec errors.md, Workflow.

use crate::error::{Category, ErrorSpec, GrpcCode};

rows! { Workflow:
    /// A read failed.
    WORKFLOW_GET = legacy(
        "ERR_GET_WORKFLOW",
        500,
        GrpcCode::Internal,
        "error while getting workflow info on instance '{}': {}",
    );
    /// A start failed.
    WORKFLOW_START = legacy("ERR_START_WORKFLOW", 500, GrpcCode::Internal, "error starting workflow '{}': {}");
    /// A pause failed.
    WORKFLOW_PAUSE = legacy("ERR_PAUSE_WORKFLOW", 500, GrpcCode::Internal, "error pausing workflow {}: {}");
    /// A resumption failed.
    WORKFLOW_RESUME = legacy("ERR_RESUME_WORKFLOW", 500, GrpcCode::Internal, "error resuming workflow {}: {}");
    /// A termination failed.
    WORKFLOW_TERMINATE =
        legacy("ERR_TERMINATE_WORKFLOW", 500, GrpcCode::Internal, "error terminating workflow '{}': {}");
    /// A purge failed.
    WORKFLOW_PURGE = legacy("ERR_PURGE_WORKFLOW", 500, GrpcCode::Internal, "error purging workflow {}: {}");
    /// An event was not raised.
    WORKFLOW_RAISE_EVENT =
        legacy("ERR_RAISE_EVENT_WORKFLOW", 500, GrpcCode::Internal, "error raising event on workflow '{}': {}");
    /// No such instance.
    WORKFLOW_INSTANCE_NOT_FOUND = legacy(
        "ERR_INSTANCE_ID_NOT_FOUND",
        404,
        GrpcCode::NotFound,
        "unable to find workflow with the provided instance ID: {}",
    );
    /// An instance id with other characters than allowed.
    WORKFLOW_INSTANCE_ID_INVALID = legacy(
        "ERR_INSTANCE_ID_INVALID",
        400,
        GrpcCode::InvalidArgument,
        "workflow instance ID '{}' is invalid: only alphanumeric and underscore characters are allowed",
    );
    /// An instance id that is too long.
    WORKFLOW_INSTANCE_ID_TOO_LONG = legacy(
        "ERR_INSTANCE_ID_TOO_LONG",
        400,
        GrpcCode::InvalidArgument,
        "workflow instance ID exceeds the max length of {} characters",
    );
    /// No instance id.
    WORKFLOW_INSTANCE_ID_MISSING =
        legacy("ERR_INSTANCE_ID_PROVIDED_MISSING", 400, GrpcCode::InvalidArgument, "no instance ID was provided");
    /// No workflow named.
    WORKFLOW_NAME_MISSING =
        legacy("ERR_WORKFLOW_NAME_MISSING", 400, GrpcCode::InvalidArgument, "workflow name is not configured");
    /// No event named.
    WORKFLOW_EVENT_NAME_MISSING =
        legacy("ERR_WORKFLOW_EVENT_NAME_MISSING", 400, GrpcCode::InvalidArgument, "missing workflow event name");
    /// A target app id that is none. Only in the original's 1.19.
    WORKFLOW_APP_ID_INVALID = legacy("ERR_WORKFLOW_APP_ID_INVALID", 400, GrpcCode::InvalidArgument, "{}");
    /// No component named; not in use since workflows have no components.
    WORKFLOW_COMPONENT_MISSING = legacy(
        "ERR_WORKFLOW_COMPONENT_MISSING",
        400,
        GrpcCode::InvalidArgument,
        "no workflow component was provided",
    );
    /// No such component; not in use since workflows have no components.
    WORKFLOW_COMPONENT_NOT_FOUND = legacy(
        "ERR_WORKFLOW_COMPONENT_NOT_FOUND",
        400,
        GrpcCode::InvalidArgument,
        "workflow component '{}' does not exist",
    );
}
