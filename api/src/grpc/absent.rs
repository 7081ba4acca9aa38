//! Rpcs of blocks that are not built yet; see [`crate::absent`].

use http::Response;
use http_body_util::{BodyExt as _, Limited};
use pillion_core::error::{ApiError, table};
use pillion_proto::runtime::v1 as pb;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::status;
use crate::absent::{Absent, job_error};
use crate::runtime_info::RuntimeInfo;

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The block of a method of the service `Dapr`; `None` for one that is built, or unknown.
pub(super) fn block_of(method: &str) -> Option<Absent> {
    let stable = method.strip_suffix("Alpha1").unwrap_or(method);
    Some(match stable {
        "GetConfiguration" | "SubscribeConfiguration" => Absent::Configuration,
        "TryLock" => Absent::TryLock,
        "Unlock" => Absent::Unlock,
        "Encrypt" | "Decrypt" => Absent::Crypto,
        "SubtleGetKey" | "SubtleEncrypt" | "SubtleDecrypt" | "SubtleWrapKey" | "SubtleUnwrapKey" | "SubtleSign"
        | "SubtleVerify" => Absent::SubtleCrypto,
        "Converse" | "ConverseAlpha2" => Absent::Conversation,
        "ScheduleJob" => Absent::ScheduleJob,
        "GetJob" => Absent::GetJob,
        "DeleteJob" => Absent::DeleteJob,
        "DeleteJobsByPrefix" => Absent::DeleteJobs,
        "ListJobs" => Absent::ListJobs,
        "RegisterActorTimer"
        | "UnregisterActorTimer"
        | "RegisterActorReminder"
        | "UnregisterActorReminder"
        | "UnregisterActorRemindersByType"
        | "ListActorReminders"
        | "GetActorReminder"
        | "GetActorState"
        | "ExecuteActorStateTransaction"
        | "InvokeActor" => Absent::Actors,
        // Streams of actor events came with the original's 1.19.
        _ if stable.strip_suffix("Beta1").unwrap_or(stable).ends_with("Workflow") => Absent::Actors,
        _ => return None,
    })
}

/// The answer to a call of the service `Dapr`.
pub(super) async fn answer(
    block: Absent,
    method: &str,
    body: Body,
    info: &dyn RuntimeInfo,
    limit: usize,
) -> Response<Body> {
    let error = match block {
        Absent::TryLock => {
            let request = read::<pb::TryLockRequest>(body, limit).await;
            Absent::check_expiry(request.expiry_in_seconds.into(), &request.store_name)
                .err()
                .unwrap_or_else(|| block.error(method, &request.store_name, info))
        }
        Absent::Conversation => {
            // Both versions have the name at the same place.
            let request = read::<pb::ConversationRequest>(body, limit).await;
            block.error(method, &request.name, info)
        }
        Absent::ScheduleJob => match read::<pb::ScheduleJobRequest>(body, limit).await.job {
            None => job_error(&table::JOB_EMPTY, info),
            Some(job) if job.name.is_empty() => job_error(&table::JOB_NAME_EMPTY, info),
            Some(job) if job.schedule.is_none() && job.due_time.is_none() => {
                job_error(&table::JOB_SCHEDULE_EMPTY, info)
            }
            Some(job) => block.error(method, &job.name, info),
        },
        Absent::GetJob => named(read::<pb::GetJobRequest>(body, limit).await.name, block, method, info),
        Absent::DeleteJob => named(read::<pb::DeleteJobRequest>(body, limit).await.name, block, method, info),
        // A stream whose end may never come.
        Absent::Crypto => block.error(method, "", info),
        _ => {
            // Read, so that the caller is not stopped in the middle of its message.
            read::<()>(body, limit).await;
            block.error(method, "", info)
        }
    };
    status::from_api_error(&error).into_http()
}

fn named(name: String, block: Absent, method: &str, info: &dyn RuntimeInfo) -> ApiError {
    if name.is_empty() { job_error(&table::JOB_NAME_EMPTY, info) } else { block.error(method, &name, info) }
}

/// The answer to the end of a subscription to configuration; there is none.
pub(super) fn no_subscription(request: &pb::UnsubscribeConfigurationRequest) -> pb::UnsubscribeConfigurationResponse {
    let why = "subscription does not exist";
    let message = ApiError::of(&table::CONFIGURATION_UNSUBSCRIBE, &[&request.id, &why]).message;
    pb::UnsubscribeConfigurationResponse { ok: false, message }
}

/// The answer to a call that needs the workflow engine; `None` for the others, and when the engine is only missing here.
pub(super) fn answer_of_task_hub(method: &str, info: &dyn RuntimeInfo) -> Option<Response<Body>> {
    if info.control_plane_given().contains(&"placement") {
        return None;
    }
    let error = Absent::Actors.error(method, "", info);
    match method {
        "GetWorkItems" => {
            let text = format!("unable to establish work item stream at this time: {}", error.nested());
            Some(Status::unavailable(text).into_http())
        }
        "StartInstance"
        | "GetInstance"
        | "GetInstanceHistory"
        | "ListInstanceIDs"
        | "PurgeInstances"
        | "RaiseEvent"
        | "RerunWorkflowFromEvent"
        | "ResumeInstance"
        | "SuspendInstance"
        | "TerminateInstance"
        | "WaitForInstanceCompletion"
        | "WaitForInstanceStart" => Some(status::from_api_error(&error).into_http()),
        _ => None,
    }
}

/// The one message of a call; an empty one when it cannot be read, which is then refused for what it misses.
async fn read<M: Message + Default>(body: Body, limit: usize) -> M {
    let body = Limited::new(body, limit).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    body.get(PREFIX..).and_then(|message| M::decode(message).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_their_block() {
        for (method, block) in [
            ("GetConfigurationAlpha1", Some(Absent::Configuration)),
            ("TryLockAlpha1", Some(Absent::TryLock)),
            ("ConverseAlpha1", Some(Absent::Conversation)),
            ("ConverseAlpha2", Some(Absent::Conversation)),
            ("StartWorkflowBeta1", Some(Absent::Actors)),
            ("PurgeWorkflowAlpha1", Some(Absent::Actors)),
            ("ListJobsAlpha1", Some(Absent::ListJobs)),
            ("InvokeActor", Some(Absent::Actors)),
            ("InvokeService", None),
            ("GetStateAlpha1", None),
            ("Nothing", None),
        ] {
            assert_eq!(block_of(method), block, "{method}");
        }
    }
}
