//! `metrics.rules`: patterns that rewrite label values before they are counted. *Source:* spec metrics.md §1.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

/// The rewriting of one label: each pattern in turn is replaced by its text, which may use `$1`.
type Replacements = Arc<[(Regex, String)]>;

/// All rules of a sidecar, by metric and label.
#[derive(Clone, Debug, Default)]
pub struct Rules(HashMap<(String, String), Replacements>);

/// The rules of the labels of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelRules(Vec<(&'static str, Replacements)>);

impl Rules {
    /// Adds the rules of a metric's label: (replacement, pattern) pairs.
    ///
    /// # Errors
    /// A pattern that is no regular expression, with the reason.
    pub fn add(&mut self, metric: &str, label: &str, patterns: &[(String, String)]) -> Result<(), String> {
        let mut compiled = Vec::with_capacity(patterns.len());
        for (replacement, pattern) in patterns {
            let regex = Regex::new(pattern)
                .map_err(|error| format!("failed to compile regex for rule {metric}/{label}/{replacement}: {error}"))?;
            compiled.push((regex, replacement.clone()));
        }
        self.0.insert((canonical(metric), label.to_owned()), compiled.into());
        Ok(())
    }

    /// The rules for a table, which shares its labels between metrics: those of its first metric that has any.
    pub(super) fn of(&self, metrics: &[&str], labels: &'static [&'static str]) -> LabelRules {
        if self.0.is_empty() {
            return LabelRules::default();
        }
        let found = labels.iter().filter_map(|label| {
            let rule = metrics.iter().find_map(|metric| self.0.get(&(canonical(metric), (*label).to_owned())))?;
            Some((*label, rule.clone()))
        });
        LabelRules(found.collect())
    }
}

impl LabelRules {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn apply<'a>(&self, labels: &[&str], values: &[&'a str]) -> Vec<Cow<'a, str>> {
        let mut rewritten: Vec<Cow<'a, str>> = values.iter().map(|value| Cow::Borrowed(*value)).collect();
        for (name, replacements) in &self.0 {
            let Some(value) = labels.iter().position(|label| label == name).and_then(|index| rewritten.get_mut(index))
            else {
                continue;
            };
            if value.is_empty() {
                continue; // an empty value is no value
            }
            for (pattern, replacement) in replacements.iter() {
                *value = Cow::Owned(pattern.replace_all(value, replacement.as_str()).into_owned());
            }
        }
        rewritten
    }
}

/// A metric's name as rules are compared: without `dapr_`, `_` and `/` the same.
fn canonical(metric: &str) -> String {
    metric.strip_prefix("dapr_").unwrap_or(metric).replace(['/', '.'], "_")
}
