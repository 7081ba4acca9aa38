//! Calls of a state store under its outbound policy.
//!
//! *Invariant:* an operation that succeeded is not sent again because another one of its batch failed, where sending it
//! twice would be told apart: its ETag is stale after the first time.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pillion_contract::{ComponentError, Concurrency, DeleteRequest, ErrorKind, SetRequest, StateStore};
use pillion_runtime::resiliency::{ComponentKind, Failure, FailureClass, Policies, Policy, PolicyError};

/// A component's error; a stale or malformed ETag does not get better.
struct StoreFailure(ComponentError);

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Failure for StoreFailure {
    fn class(&self) -> FailureClass {
        match self.0.kind {
            ErrorKind::ETagMismatch | ErrorKind::ETagInvalid => FailureClass::Permanent,
            _ => FailureClass::Retriable,
        }
    }
}

/// Runs one call of a store under the policy of its component.
///
/// # Errors
/// The component's last error, or an error with the text of the policy.
pub(super) async fn guarded<T, Fut>(
    policies: &Policies,
    store: &str,
    call: impl Fn() -> Fut,
) -> Result<T, ComponentError>
where
    Fut: Future<Output = Result<T, ComponentError>>,
{
    match policy(policies, store) {
        None => call().await,
        Some(policy) => under(&policy, call).await,
    }
}

/// Writes several items; a retry repeats only what failed.
///
/// # Errors
/// As [`guarded`], with the first error.
pub(super) async fn bulk_set(
    policies: &Policies,
    store: &str,
    component: &dyn StateStore,
    requests: &[SetRequest],
) -> Result<(), ComponentError> {
    let conditional = |request: &SetRequest| request.etag.is_some() || request.concurrency == Concurrency::FirstWrite;
    match policy(policies, store) {
        None => component.bulk_set(requests).await,
        Some(policy) if policy.has_retries() && requests.iter().any(conditional) => {
            one_by_one(&policy, requests, |request| component.set(request)).await
        }
        Some(policy) => under(&policy, || component.bulk_set(requests)).await,
    }
}

/// Deletes several items; a retry repeats only what failed.
///
/// # Errors
/// As [`guarded`], with the first error.
pub(super) async fn bulk_delete(
    policies: &Policies,
    store: &str,
    component: &dyn StateStore,
    requests: &[DeleteRequest],
) -> Result<(), ComponentError> {
    match policy(policies, store) {
        None => component.bulk_delete(requests).await,
        Some(policy) if policy.has_retries() && requests.iter().any(|request| request.etag.is_some()) => {
            one_by_one(&policy, requests, |request| component.delete(request)).await
        }
        Some(policy) => under(&policy, || component.bulk_delete(requests)).await,
    }
}

fn policy(policies: &Policies, store: &str) -> Option<Arc<Policy>> {
    policies.component_outbound(store, ComponentKind::Statestore)
}

async fn under<T, Fut>(policy: &Policy, call: impl Fn() -> Fut) -> Result<T, ComponentError>
where
    Fut: Future<Output = Result<T, ComponentError>>,
{
    let attempt = |_| {
        let call = call();
        async move { call.await.map_err(StoreFailure) }
    };
    policy.run(attempt).await.map_err(to_component_error)
}

fn to_component_error(error: PolicyError<StoreFailure>) -> ComponentError {
    let kind = if matches!(error, PolicyError::Timeout) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
    error.into_error(|text| StoreFailure(ComponentError::new(kind, text))).0
}

/// What an operation of many left over after an attempt.
struct Progress<'a, R> {
    pending: Vec<&'a R>,
    /// The first error that no retry mends.
    hopeless: Option<ComponentError>,
}

async fn one_by_one<'a, R, Fut>(
    policy: &Policy,
    requests: &'a [R],
    call: impl Fn(&'a R) -> Fut,
) -> Result<(), ComponentError>
where
    Fut: Future<Output = Result<(), ComponentError>>,
{
    let progress = Mutex::new(Progress { pending: requests.iter().collect(), hopeless: None });
    let attempt = |_| {
        let (progress, call) = (&progress, &call);
        async move {
            let pending = progress.lock().pending.clone();
            let mut first = None;
            for request in pending {
                let Err(error) = call(request).await.map_err(StoreFailure) else {
                    progress.lock().pending.retain(|other| !std::ptr::eq(*other, request));
                    continue;
                };
                if error.class() == FailureClass::Permanent {
                    let mut progress = progress.lock();
                    progress.pending.retain(|other| !std::ptr::eq(*other, request));
                    progress.hopeless.get_or_insert(error.0);
                } else {
                    first.get_or_insert(error);
                }
            }
            match first {
                Some(error) => Err(error),
                None => progress.lock().hopeless.take().map_or(Ok(()), |error| Err(StoreFailure(error))),
            }
        }
    };
    policy.run(attempt).await.map_err(to_component_error)
}
