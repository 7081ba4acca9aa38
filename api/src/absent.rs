//! What calls of blocks that are not built yet are told.
//!
//! *Job:* the errors the original gives when nothing of the kind is configured, which is the case here whatever the manifests
//! say. *Neighbours:* `http::absent` and `grpc::absent` check what the original checks before, and write the answers.
//! *Invariant:* a caller whose sidecar was given the service behind a block is told that the block is missing instead.

use pillion_core::error::{ApiError, ErrorSpec, table};

use crate::runtime_info::RuntimeInfo;

/// A block, and what of it is called where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Actors and workflows, which need the placement service.
    Actors,
    Configuration,
    Conversation,
    Crypto,
    /// The original too is built without it.
    SubtleCrypto,
    TryLock,
    Unlock,
    ScheduleJob,
    GetJob,
    DeleteJob,
    DeleteJobs,
    ListJobs,
}

impl Absent {
    /// The error of a call of `target`, the component or job; `name` is what the call itself is named.
    pub(crate) fn error(self, name: &str, target: &str, info: &dyn RuntimeInfo) -> ApiError {
        let given = |service: &str| info.control_plane_given().contains(&service);
        match self {
            Self::Actors if given("placement") => not_built(name),
            Self::Actors => ApiError::of(&table::ACTOR_NO_PLACEMENT, &[]),
            Self::Configuration => ApiError::of(&table::CONFIGURATION_STORE_NOT_CONFIGURED, &[]),
            Self::Conversation => ApiError::of(&table::CONVERSATION_NOT_FOUND, &[&target]),
            Self::Crypto => ApiError::of(&table::CRYPTO_PROVIDERS_NOT_CONFIGURED, &[]),
            Self::SubtleCrypto => ApiError::of(&table::API_UNIMPLEMENTED, &[]),
            Self::TryLock | Self::Unlock => ApiError::of(&table::LOCK_STORE_NOT_CONFIGURED, &[]),
            Self::ScheduleJob | Self::GetJob | Self::DeleteJob | Self::DeleteJobs | Self::ListJobs
                if given("scheduler") =>
            {
                not_built(name)
            }
            Self::ScheduleJob => no_scheduler(&table::JOB_SCHEDULE, info),
            Self::GetJob => no_scheduler(&table::JOB_GET, info),
            Self::DeleteJob | Self::DeleteJobs => no_scheduler(&table::JOB_DELETE, info),
            Self::ListJobs => no_scheduler(&table::JOB_LIST, info),
        }
    }

    /// A request for a lock that no store would take.
    pub(crate) fn check_expiry(seconds: i64, store: &str) -> Result<(), ApiError> {
        if seconds > 0 { Ok(()) } else { Err(ApiError::of(&table::LOCK_EXPIRY_NOT_POSITIVE, &[&store])) }
    }
}

/// A request for a job that no scheduler would take.
pub(crate) fn job_error(row: &'static ErrorSpec, info: &dyn RuntimeInfo) -> ApiError {
    ApiError::of(row, &[]).info(&[("appID", info.app_id()), ("namespace", info.namespace())])
}

fn no_scheduler(row: &'static ErrorSpec, info: &dyn RuntimeInfo) -> ApiError {
    let error = ApiError::of(row, &[&"scheduler clients are disabled"]);
    error.info(&[("appID", info.app_id()), ("namespace", info.namespace())])
}

fn not_built(name: &str) -> ApiError {
    ApiError::new(&table::API_UNIMPLEMENTED, format!("{name} is not supported by this version of the sidecar yet"))
}
