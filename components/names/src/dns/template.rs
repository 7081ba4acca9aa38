//! The part of Go's `text/template` that makes names: fields of the request between `{{` and `}}`.
//!
//! *Source:* the original fills the template with its `ResolveRequest`: `ID`, `Namespace`, `Port`, and `Data`, which its runtime
//! leaves empty. *Invariant:* what is not understood is an error at the start, never a wrong name.

use pillion_contract::ResolveRequest;

/// What Go writes for a key that a map does not have.
const NO_VALUE: &str = "<no value>";

/// See the module text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    AppId,
    Namespace,
    Port,
}

impl Template {
    /// # Errors
    /// Says which action is not understood and which are.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trims = false;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, behind) = after
                .split_once("}}")
                .ok_or_else(|| format!("template {text:?}: an action is not closed: expected }}}} behind {{{{"))?;
            let before = if trims { before.trim_start() } else { before };
            let (action, before) = match action.strip_prefix("- ") {
                Some(action) => (action, before.trim_end()),
                None => (action, before),
            };
            let action = match action.strip_suffix(" -") {
                Some(action) => {
                    trims = true;
                    action
                }
                None => {
                    trims = false;
                    action
                }
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::of(action.trim()).ok_or_else(|| {
                format!(
                    "template {text:?}: {{{{{action}}}}} is not supported; expected {{{{.ID}}}}, {{{{.Namespace}}}}, {{{{.Port}}}} or {{{{.Data.<name>}}}}"
                )
            })?);
            rest = behind;
        }
        parts.push(Part::Text(if trims { rest.trim_start() } else { rest }.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    pub(super) fn fill(&self, request: &ResolveRequest, port: u16) -> String {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::AppId => name.push_str(&request.app_id),
                Part::Namespace => name.push_str(&request.namespace),
                Part::Port => name.push_str(&port.to_string()),
            }
        }
        name
    }
}

impl Part {
    fn of(action: &str) -> Option<Self> {
        let is_comment = action.starts_with("/*") && action.ends_with("*/");
        match action {
            ".ID" => Some(Self::AppId),
            ".Namespace" => Some(Self::Namespace),
            ".Port" => Some(Self::Port),
            _ if is_comment => Some(Self::Text(String::new())),
            _ => {
                let key = action.strip_prefix(".Data.")?;
                let is_name = !key.is_empty() && key.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
                is_name.then(|| Self::Text(NO_VALUE.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::question;

    #[test]
    fn fields_are_filled_in() {
        let cases = [
            ("{{.ID}}-dapr.{{.Namespace}}.svc:{{.Port}}", "shop-dapr.default.svc:50002"),
            ("{{ .ID }}.x", "shop.x"),
            ("a {{- .ID -}} b", "ashopb"),
            ("{{/* who */}}{{.ID}}", "shop"),
            ("{{.ID}}.{{.Data.region}}", "shop.<no value>"),
            ("fixed:1", "fixed:1"),
            ("", ""),
        ];
        for (text, wanted) in cases {
            assert_eq!(Template::parse(text).unwrap().fill(&question("shop"), 50_002), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let wanted = "template \"{{.Id}}\": {{.Id}} is not supported; expected {{.ID}}, {{.Namespace}}, {{.Port}} or {{.Data.<name>}}";
        assert_eq!(Template::parse("{{.Id}}").unwrap_err(), wanted);
        for text in ["{{.ID", "{{if .ID}}x{{end}}", "{{printf .ID}}", "{{.Data.}}", "{{}}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
