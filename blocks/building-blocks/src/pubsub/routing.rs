//! Routing rules: CEL expressions over `event`, tried in order. *Source:* spec internals.md §9.2.

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};
use pillion_resources::types::RouteRule;

use super::envelope::CloudEvent;

/// The compiled rules of a subscription.
pub(super) struct Router {
    environment: Arc<Env>,
    rules: Vec<Rule>,
}

struct Rule {
    /// `None` = always.
    condition: Option<(Program, String)>,
    path: String,
}

impl Router {
    /// Compiles rules.
    ///
    /// # Errors
    /// Names the expression that is not one.
    pub(super) fn compile(rules: &[RouteRule]) -> Result<Self, String> {
        let environment = Arc::new(Env::stdlib());
        let rules = rules
            .iter()
            .map(|rule| {
                let text = rule.matches.trim();
                let condition = if text.is_empty() {
                    None
                } else {
                    let program = environment.compile(text).map_err(|error| {
                        format!("the match expression {text:?} of route {:?} is not valid: {error}", rule.path)
                    })?;
                    Some((program, text.to_owned()))
                };
                Ok(Rule { condition, path: rule.path.clone() })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { environment, rules })
    }

    /// The path for an event; `None` when no rule matches.
    ///
    /// # Errors
    /// A rule could not be evaluated, or its result is not a boolean.
    pub(super) fn route(&self, event: &CloudEvent) -> Result<Option<&str>, String> {
        let mut converted = None;
        for rule in &self.rules {
            let Some((program, text)) = &rule.condition else { return Ok(Some(&rule.path)) };
            let event = converted.get_or_insert_with(|| object(event)).clone();
            let mut context = Context::with_env(self.environment.clone());
            context.add_variable_from_value("event", event);
            match program.execute(&context) {
                Ok(Value::Bool(true)) => return Ok(Some(&rule.path)),
                Ok(Value::Bool(false)) => {}
                Ok(_) => return Err(format!("the result of match expression {text} was not a boolean")),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(None)
    }
}

fn object(map: &CloudEvent) -> Value {
    let entries: HashMap<Key, Value> =
        map.iter().map(|(key, item)| (Key::String(Arc::new(key.clone())), value(item))).collect();
    Value::Map(Map { map: Arc::new(entries) })
}

/// Numbers become doubles, as in the original, where expressions were written and tried.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(value).collect())),
        serde_json::Value::Object(map) => object(map),
    }
}
