//! Flags that are read and change nothing: told by name instead of passed over in silence.
//!
//! *Job:* check the values of such flags as the original does, and say which were given. *Neighbours:* [`super`] asks here while
//! it reads the command line; the sidecar logs what it gets. *Invariant:* a row leaves [`UNUSED`] in the same change that builds
//! what the flag is for.

use pillion_core::flags::Parsed;

use super::{Mode, OptionsError};

const ACTORS: &str = "actors are not supported by this version yet";
const KUBERNETES: &str = "it is for --mode=kubernetes only";
const NOTHING: &str = "it has no effect, as in Dapr";
const SCHEDULER: &str = "jobs and reminders are not supported by this version yet";

/// What a sidecar in Kubernetes does not have, unless told to do without it.
const BUILTIN_STORE: &str = "the built-in secret store kubernetes is not supported by this version yet: the secrets API has no \
     store of this name; secrets that resources refer to come from the operator all the same. \
     --disable-builtin-k8s-secret-store says that this is meant";
const FILES: &str = "the flag --resources-path is not used: in Kubernetes the resources come from the operator";

/// Flags without effect and why. Those of placement and scheduler addresses have a line of their own in the log.
const UNUSED: [(&str, &str); 6] = [
    ("control-plane-address", KUBERNETES),
    ("disable-builtin-k8s-secret-store", KUBERNETES),
    ("scheduler-job-streams", SCHEDULER),
    ("actors-disseminate-timeout", ACTORS),
    ("actors-service", NOTHING),
    ("reminders-service", NOTHING),
];

/// Checks values that are not used yet, so that a command line does not get worse with a later version.
///
/// # Errors
/// A value that no version can use.
pub(super) fn check(flags: &Parsed) -> Result<(), OptionsError> {
    let invalid = |text: &str| Err(OptionsError::Invalid(text.to_owned()));
    if flags.uint("scheduler-job-streams") == 0 {
        return invalid("invalid value for 'scheduler-job-streams': 0; expected 1 or more");
    }
    if flags.duration("actors-disseminate-timeout").is_zero() {
        return invalid("invalid value for 'actors-disseminate-timeout': expected a duration above zero, such as 30s");
    }
    Ok(())
}

/// A sentence for each given flag that is deprecated or changes nothing; an empty value asks for nothing.
pub(super) fn notices(flags: &Parsed, mode: Mode) -> Vec<String> {
    let asked = |name: &str| match name {
        "disable-builtin-k8s-secret-store" => flags.bool(name),
        "scheduler-job-streams" | "actors-disseminate-timeout" => true,
        text => !flags.text(text).is_empty(),
    };
    let is_kubernetes = mode == Mode::Kubernetes;
    let unused =
        UNUSED.iter().filter(|(name, why)| flags.given(name) && asked(name) && !(is_kubernetes && *why == KUBERNETES));
    let builtin = (is_kubernetes && !flags.bool("disable-builtin-k8s-secret-store")).then(|| BUILTIN_STORE.to_owned());
    let files = (is_kubernetes && !flags.list("resources-path").is_empty()).then(|| FILES.to_owned());
    let told = unused.map(|(name, why)| format!("the flag --{name} is not used: {why}"));
    flags.warnings().iter().cloned().chain(told).chain(builtin).chain(files).collect()
}
