//! Errors of jobs. Code and reason are the same. *Source:* spec errors.md, Jobs.

use crate::error::{Category, DetailKind, ErrorSpec, GrpcCode};

const INFO: &[DetailKind] = &[DetailKind::ErrorInfo];

rows! { Job:
    /// The scheduler did not take the job; its status counts where it has one.
    JOB_SCHEDULE = rich(
        "DAPR_SCHEDULER_SCHEDULE_JOB",
        "DAPR_SCHEDULER_SCHEDULE_JOB",
        500,
        GrpcCode::Internal,
        "failed to schedule job due to: {}",
        INFO,
    );
    /// A read failed.
    JOB_GET = rich(
        "DAPR_SCHEDULER_GET_JOB",
        "DAPR_SCHEDULER_GET_JOB",
        500,
        GrpcCode::Internal,
        "failed to get job due to: {}",
        INFO,
    );
    /// A list failed.
    JOB_LIST = rich(
        "DAPR_SCHEDULER_LIST_JOBS",
        "DAPR_SCHEDULER_LIST_JOBS",
        500,
        GrpcCode::Internal,
        "failed to list jobs due to: {}",
        INFO,
    );
    /// A delete failed.
    JOB_DELETE = rich(
        "DAPR_SCHEDULER_DELETE_JOB",
        "DAPR_SCHEDULER_DELETE_JOB",
        500,
        GrpcCode::Internal,
        "failed to delete job due to: {}",
        INFO,
    );
    /// The name is in the path and in the body.
    JOB_NAME = rich(
        "DAPR_SCHEDULER_JOB_NAME",
        "DAPR_SCHEDULER_JOB_NAME",
        400,
        GrpcCode::InvalidArgument,
        "Set the job name in the url only",
        INFO,
    );
    /// No name.
    JOB_NAME_EMPTY = rich(
        "DAPR_SCHEDULER_JOB_NAME_EMPTY",
        "DAPR_SCHEDULER_JOB_NAME_EMPTY",
        400,
        GrpcCode::InvalidArgument,
        "Name is empty",
        INFO,
    );
    /// No schedule.
    JOB_SCHEDULE_EMPTY = rich(
        "DAPR_SCHEDULER_SCHEDULE_EMPTY",
        "DAPR_SCHEDULER_SCHEDULE_EMPTY",
        400,
        GrpcCode::InvalidArgument,
        "Schedule is empty",
        INFO,
    );
    /// No job at all.
    JOB_EMPTY = rich(
        "DAPR_SCHEDULER_EMPTY",
        "DAPR_SCHEDULER_EMPTY",
        400,
        GrpcCode::InvalidArgument,
        "Job is empty",
        INFO,
    );
}
