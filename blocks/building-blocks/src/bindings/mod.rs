//! Bindings: what the app asks of outside systems, and what outside systems ask of the app.
//!
//! *Job:* everything between a front or the app on one side and a binding on the other. *Neighbours:* the fronts call
//! [`OutputBindings`]; `sidecar` feeds, starts and stops [`InputBindings`]; the app is reached through [`EventSink`].
//! *Invariant:* an event is answered with success only after the app took it; while an input binding closes its events are refused, so
//! that the system behind gives them again.

mod answer;
mod discovery;
mod input;
mod output;
mod sink;
#[cfg(test)]
mod tests;

pub use discovery::AppBindings;
pub use input::{InputBindings, InputSettings};
pub use output::{InvokeFailure, OutputBindings};
pub use sink::{AppSink, AppSinkParts, EventSink};

/// Whether a component with this `direction` is used in this one, `input` or `output`. *Source:* the original: without the field in
/// both.
pub fn has_direction(field: Option<&str>, direction: &str) -> bool {
    field.is_none_or(|field| names_direction(field, direction))
}

fn names_direction(field: &str, direction: &str) -> bool {
    field.split(',').any(|word| word.trim().eq_ignore_ascii_case(direction))
}
