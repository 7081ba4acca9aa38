//! HTTP calls of blocks that are not built yet; see [`crate::absent`].

use pillion_core::error::{ApiError, table};
use serde_json::Value;

use super::front::{Incall, Shared};
use crate::absent::{self, Absent};

impl Shared {
    /// The error, after what the original looks at first. `first` is the component or job the path names.
    pub(super) async fn absent(&self, block: Absent, name: &str, first: &str, call: Incall) -> ApiError {
        let error = || block.error(name, first, self.api.info.as_ref());
        // Blocks whose bodies are no JSON.
        let has_json = match block {
            Absent::Crypto | Absent::Configuration | Absent::GetJob | Absent::DeleteJob => false,
            Absent::Actors => {
                matches!(name, "ExecuteActorStateTransaction" | "RegisterActorReminder" | "RegisterActorTimer")
            }
            _ => true,
        };
        if !has_json {
            return error();
        }
        let body = match self.whole(call.body).await {
            Ok(body) => body,
            Err(problem) => return ApiError::of(&table::BODY_READ, &[&problem]),
        };
        // Nothing at all is an empty message, but no list and no object of actors.
        let json =
            if body.is_empty() && block != Absent::Actors { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        let json: Value = match json {
            Ok(json) => json,
            Err(problem) => return ApiError::of(&table::MALFORMED_REQUEST, &[&problem]),
        };
        let is_set = |name: &str| json.get(name).is_some_and(|value| !value.is_null() && value != "");
        match block {
            Absent::TryLock => match Absent::check_expiry(seconds(&json), first) {
                Ok(()) => error(),
                Err(problem) => problem,
            },
            Absent::ScheduleJob if is_set("name") => {
                ApiError::of(&table::JOB_NAME, &[]).info(&[("appID", self.api.info.app_id())])
            }
            Absent::ScheduleJob if !["schedule", "dueTime", "due_time"].into_iter().any(is_set) => {
                absent::job_error(&table::JOB_SCHEDULE_EMPTY, self.api.info.as_ref())
            }
            _ => error(),
        }
    }
}

/// A number, or one in text, as the JSON of protobuf has both.
fn seconds(json: &Value) -> i64 {
    let value = json.get("expiryInSeconds").or_else(|| json.get("expiry_in_seconds")).unwrap_or(&Value::Null);
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}
