//! The environment switches of the demo, parsed once at start. A value that is not understood stops
//! the service with the name of the variable and the accepted values.

use std::fmt;
use std::str::FromStr;

/// How the tenant service calls the notification service: `NOTIFY_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyMode {
    /// The caller of `POST /tenant` waits for the call (`sync`, the default).
    Sync,
    /// The caller gets its 201 at once and the call happens behind it (`async`).
    Async,
    /// No call at all (`none`).
    None,
}

/// How the sidecar is asked to call the notification service: `INVOKE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invoke {
    /// `POST /notification` with the header `dapr-app-id` (`header`, the default).
    Header,
    /// `POST /v1.0/invoke/notification-service/method/notification` (`path`).
    Path,
}

/// Where the notification service publishes: `PUBLISH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Through the sidecar (`dapr`, the default).
    Dapr,
    /// Nowhere (`none`): measures the call alone.
    None,
}

/// What the notification service publishes: `PAYLOAD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The whole tenant (`object`, the default).
    Object,
    /// The tenant's number alone (`int`).
    Int,
}

/// Where the tenant service keeps its tenants: `STORE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In its own memory (`memory`, the default).
    Memory,
    /// In the sidecar's state store `statestore` (`dapr`).
    Dapr,
}

/// A variable whose value is not one of the accepted ones.
#[derive(Debug, PartialEq, Eq)]
pub struct BadSwitch {
    variable: String,
    value: String,
    expected: String,
}

impl fmt::Display for BadSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, expected } = self;
        write!(f, "environment variable {variable} is {value:?}: expected {expected}")
    }
}

impl std::error::Error for BadSwitch {}

/// Picks the choice named by `value`; the first choice is the default for an unset or empty variable.
///
/// # Errors
/// [`BadSwitch`] when the value names none of the choices.
pub fn choose<T: Copy>(variable: &str, value: Option<&str>, choices: &[(&str, T)]) -> Result<T, BadSwitch> {
    let wanted = value.filter(|value| !value.is_empty());
    let found = match wanted {
        None => choices.first(),
        Some(wanted) => choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)),
    };
    found.map(|(_, choice)| *choice).ok_or_else(|| BadSwitch {
        variable: variable.to_owned(),
        value: wanted.unwrap_or_default().to_owned(),
        expected: choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
    })
}

/// Reads a variable as one of named choices, the first being the default.
///
/// # Errors
/// As [`choose`].
pub fn switch<T: Copy>(variable: &str, choices: &[(&str, T)]) -> Result<T, BadSwitch> {
    choose(variable, std::env::var(variable).ok().as_deref(), choices)
}

/// Reads a variable as a number, `default` when it is unset or empty.
///
/// # Errors
/// [`BadSwitch`] when the value is not a number of that type.
pub fn number<T: FromStr>(variable: &str, default: T) -> Result<T, BadSwitch> {
    match std::env::var(variable).ok().filter(|value| !value.is_empty()) {
        None => Ok(default),
        Some(value) => value.parse().map_err(|_| BadSwitch {
            variable: variable.to_owned(),
            value,
            expected: format!("a number ({})", std::any::type_name::<T>()),
        }),
    }
}

/// Reads a variable as text; an empty one counts as unset.
#[must_use]
pub fn text(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The sidecar's HTTP address, from `DAPR_HTTP_PORT` (3500 when unset, as every Dapr SDK assumes).
///
/// # Errors
/// [`BadSwitch`] when the variable is not a port number.
pub fn sidecar_url() -> Result<String, BadSwitch> {
    Ok(format!("http://127.0.0.1:{}", number::<u16>("DAPR_HTTP_PORT", 3500)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: &[(&str, NotifyMode)] =
        &[("sync", NotifyMode::Sync), ("async", NotifyMode::Async), ("none", NotifyMode::None)];

    #[test]
    fn the_first_choice_is_the_default() {
        assert_eq!(choose("NOTIFY_MODE", None, MODES), Ok(NotifyMode::Sync));
        assert_eq!(choose("NOTIFY_MODE", Some(""), MODES), Ok(NotifyMode::Sync));
        assert_eq!(choose("NOTIFY_MODE", Some("ASYNC"), MODES), Ok(NotifyMode::Async));
    }

    #[test]
    fn an_unknown_value_names_the_variable_and_the_choices() {
        let error = choose("NOTIFY_MODE", Some("later"), MODES).expect_err("not a choice");
        assert_eq!(error.to_string(), "environment variable NOTIFY_MODE is \"later\": expected sync, async, none");
    }
}
