//! Compares a document with the schema of its kind: every difference becomes a [`Finding`], the rest becomes JSON with the
//! schema's spelling, so that [`crate::decode`] cannot meet a wrong type.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pillion_core::duration;
use serde_json::{Map, Value as Json};

use crate::distance::{did_you_mean, nearest};
use crate::finding::{Finding, Severity};
use crate::schema::{Case, Field, NAME_VALUE, Shape};
use crate::yaml::{Node, Scalar, Value};

/// How scalars and keys of a file are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Resource manifests: keys without case, text fields take the JSON form of numbers (`1.10` is `1.1`).
    Manifest,
    /// Configuration files: keys with case, text fields keep the characters.
    Configuration,
}

/// Collects what is found in one document.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) file: PathBuf,
    pub(crate) dialect: Dialect,
    pub(crate) findings: Vec<Finding>,
    /// The document has a value of a wrong type, so it is skipped as a whole.
    pub(crate) unusable: bool,
    /// A field is unknown or missing: what the rules miss may be a consequence.
    slip: bool,
    lines: HashMap<String, usize>,
    document_line: usize,
}

impl Checker {
    pub(crate) fn new(file: &Path, dialect: Dialect, document_line: usize) -> Self {
        Checker {
            file: file.to_owned(),
            dialect,
            findings: Vec::new(),
            unusable: false,
            slip: false,
            lines: HashMap::new(),
            document_line,
        }
    }

    /// Line of a field or of its nearest parent that is there.
    pub(crate) fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return self.document_line,
            }
        }
    }

    /// Reports a problem of a field that was checked already.
    pub(crate) fn report(
        &mut self,
        severity: Severity,
        path: &str,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        let line = self.line(path);
        self.at(severity, line, path, message, suggestion);
    }

    /// Reports that something is not there, unless a misspelled or missing field explains that.
    pub(crate) fn report_absence(
        &mut self,
        severity: Severity,
        path: &str,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        if !self.slip {
            self.report(severity, path, message, suggestion);
        }
    }

    /// Whether a field is unknown or missing.
    pub(crate) fn has_slip(&self) -> bool {
        self.slip
    }

    fn at(
        &mut self,
        severity: Severity,
        line: usize,
        path: &str,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            file: self.file.clone(),
            line,
            field: path.to_owned(),
            message: message.into(),
            suggestion: suggestion.into(),
        });
    }

    fn wrong(&mut self, node: &Node, path: &str, expected: &str, suggestion: &str) -> Json {
        self.unusable = true;
        let message = format!("expected {expected}, found {}{}", node.describe(), self.consequence());
        self.at(Severity::Error, node.line, path, message, suggestion);
        Json::Null
    }

    /// What a wrong type means for the document; a Configuration stops the start instead.
    pub(crate) fn consequence(&self) -> &'static str {
        if self.dialect == Dialect::Manifest { " (the document is not loaded)" } else { "" }
    }

    /// Checks an object and returns its known fields; absent ones are left out.
    pub(crate) fn object(&mut self, node: &Node, path: &str, fields: &[Field]) -> Json {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => {
                let suggestion = self.object_hint(node, fields);
                return self.wrong(node, path, "a map", &suggestion);
            }
        };
        let mut out = Map::new();
        let mut meant: Vec<&str> = Vec::new();
        for entry in entries {
            let field = fields.iter().find(|field| field.name == entry.key);
            let folded = || fields.iter().find(|field| field.name.eq_ignore_ascii_case(&entry.key));
            let key_path = join(path, &entry.key);
            match field {
                Some(field) => self.take_field(&mut out, field, &entry.value, &key_path, entry.line),
                None => match folded().filter(|_| self.dialect == Dialect::Manifest) {
                    Some(field) => {
                        let suggestion = format!("write {}", field.name);
                        self.at(
                            Severity::Warning,
                            entry.line,
                            &key_path,
                            "the field is spelled with other capitals",
                            suggestion,
                        );
                        self.take_field(&mut out, field, &entry.value, &join(path, field.name), entry.line);
                    }
                    None => {
                        let absent =
                            |field: &&Field| field.required && !entries.iter().any(|entry| entry.key == field.name);
                        let required = nearest(&entry.key, fields.iter().filter(absent).map(|field| field.name));
                        meant.extend(required);
                        self.unknown_field(&entry.key, entry.line, &key_path, fields, required);
                    }
                },
            }
        }
        for field in fields
            .iter()
            .filter(|field| field.required && !out.contains_key(field.name) && !meant.contains(&field.name))
        {
            let line = self.lines.get(path).copied().unwrap_or(node.line);
            self.missing(field, line, path);
        }
        Json::Object(out)
    }

    fn object_hint(&self, node: &Node, fields: &[Field]) -> String {
        let names: Vec<&str> = fields.iter().take(4).map(|field| field.name).collect();
        match node.value {
            Value::List(_) => format!("remove the dash; the keys are {}", names.join(", ")),
            _ => format!("write keys such as {} below it", names.join(", ")),
        }
    }

    fn take_field(&mut self, out: &mut Map<String, Json>, field: &Field, node: &Node, path: &str, line: usize) {
        if out.contains_key(field.name) {
            self.at(
                Severity::Error,
                line,
                path,
                format!("{} is given twice with different capitals", field.name),
                "keep one of them",
            );
            return;
        }
        self.lines.insert(path.to_owned(), if line > 0 { line } else { node.line });
        if node.is_null() && !(field.required && one_required(&field.shape)) {
            return;
        }
        let value = self.value(node, path, &field.shape);
        let empty_text = value.as_str().is_some_and(str::is_empty);
        if field.required && empty_text {
            return;
        }
        out.insert(field.name.to_owned(), value);
    }

    /// `required` is the required field that was probably meant.
    fn unknown_field(&mut self, key: &str, line: usize, path: &str, fields: &[Field], required: Option<&str>) {
        self.slip = true;
        if let Some(name) = required {
            let message = format!("unknown field, and the required {name} is not given");
            let suggestion = if key == "routes" && name == "route" {
                "use apiVersion dapr.io/v2alpha1, or write route: with one path".to_owned()
            } else {
                format!("did you mean {name}?")
            };
            return self.at(Severity::Error, line, path, message, suggestion);
        }
        let suggestion =
            misplaced(key, path, fields).unwrap_or_else(|| did_you_mean(key, fields.iter().map(|field| field.name)));
        let suggestion = if suggestion.is_empty() {
            format!(
                "the fields here are {}",
                fields.iter().map(|field| field.name).take(16).collect::<Vec<_>>().join(", ")
            )
        } else {
            suggestion
        };
        self.at(Severity::Warning, line, path, "unknown field; it is ignored", suggestion);
    }

    fn missing(&mut self, field: &Field, line: usize, path: &str) {
        self.slip = true;
        let field_path = join(path, field.name);
        let line = self.lines.get(&field_path).copied().unwrap_or(line);
        let message = match field.shape {
            Shape::Word(words, _) => format!("required and not given; expected one of {}", words.join(", ")),
            Shape::Object(_) => "required and not given; expected a map".to_owned(),
            Shape::List(_) => "required and not given; expected a list".to_owned(),
            _ => "required and not given".to_owned(),
        };
        let nameless = field_path == "metadata" || field_path == "metadata.name";
        let message = if nameless { message + self.consequence() } else { message };
        self.at(Severity::Error, line, &field_path, message, format!("add {}: {}", field.name, example(field)));
    }

    fn value(&mut self, node: &Node, path: &str, shape: &Shape) -> Json {
        match shape {
            Shape::Any => node.to_json(),
            Shape::Text => self.text(node, path),
            Shape::Word(words, case) => self.word(node, path, words, *case),
            Shape::Bool => self.boolean(node, path),
            Shape::Integer(least, most) => self.integer(node, path, *least, *most),
            Shape::Duration => self.duration(node, path, duration::parse_go, "a duration such as 500ms, 5s or 1h30m"),
            Shape::PolicyDuration => self.duration(
                node,
                path,
                duration::parse_policy,
                "a duration such as 500ms, 5s or 1h30m, or a whole number of milliseconds",
            ),
            Shape::List(item) => self.list(node, path, item),
            Shape::Map(item) => self.map(node, path, item),
            Shape::Object(fields) => self.object(node, path, fields),
            Shape::HeaderItem => match &node.value {
                Value::Map(_) => self.value(node, path, &NAME_VALUE),
                _ => self.text(node, path),
            },
        }
    }

    fn text(&mut self, node: &Node, path: &str) -> Json {
        let Value::Scalar { resolved, text } = &node.value else {
            return self.wrong(node, path, "text", "write one text behind the colon");
        };
        if *resolved == Scalar::Text || self.dialect == Dialect::Configuration {
            return Json::String(text.clone());
        }
        let canonical = resolved.canonical(text);
        if canonical != *text && *resolved != Scalar::Null {
            let message = format!("{text} is YAML for {canonical:?}, which is what is read");
            self.at(
                Severity::Warning,
                node.line,
                path,
                message,
                format!("write \"{text}\" in quotes to keep it as it is"),
            );
        }
        Json::String(canonical)
    }

    fn word(&mut self, node: &Node, path: &str, words: &[&'static str], case: Case) -> Json {
        if !matches!(node.value, Value::Scalar { .. }) {
            return self.wrong(
                node,
                path,
                &format!("one of {}", words.join(", ")),
                "write one of them behind the colon",
            );
        }
        let value = self.text(node, path);
        let Some(text) = value.as_str() else { return value };
        let same = |word: &&str| {
            if case == Case::Ignored { word.eq_ignore_ascii_case(text) } else { *word == text }
        };
        if !text.is_empty() && !self.is_variable(text) && !words.iter().any(same) {
            let suggestion = or_else(did_you_mean(text, words.iter().copied()), || match nearest_start(text, words) {
                Some(word) => format!("did you mean {word}?"),
                None => "write one of them".to_owned(),
            });
            self.at(
                Severity::Error,
                node.line,
                path,
                format!("expected one of {}, found {text:?}", words.join(", ")),
                suggestion,
            );
        }
        value
    }

    /// A reference to an environment variable in a Configuration that is checked without being loaded.
    fn is_variable(&self, text: &str) -> bool {
        self.dialect == Dialect::Configuration && text.starts_with('$')
    }

    fn boolean(&mut self, node: &Node, path: &str) -> Json {
        match &node.value {
            Value::Scalar { resolved: Scalar::Bool(value), .. } => Json::Bool(*value),
            Value::Scalar { text, .. } if matches!(text.to_lowercase().as_str(), "true" | "false") => {
                self.wrong(node, path, "true or false", "remove the quotes")
            }
            Value::Scalar { text, .. } if self.is_variable(text) => Json::Null,
            Value::Scalar { text, .. } if text == "1" => self.wrong(node, path, "true or false", "write true"),
            Value::Scalar { text, .. } if text == "0" => self.wrong(node, path, "true or false", "write false"),
            _ => self.wrong(node, path, "true or false", "write true or false"),
        }
    }

    fn integer(&mut self, node: &Node, path: &str, least: i128, most: i128) -> Json {
        let value = match &node.value {
            Value::Scalar { resolved: Scalar::Integer(value), .. } => *value,
            Value::Scalar { resolved: Scalar::Float(value), .. } if value.fract() == 0.0 && value.abs() < 9e15 => {
                *value as i128
            }
            Value::Scalar { text, .. } if text.parse::<i64>().is_ok() => {
                return self.wrong(node, path, "a whole number", "remove the quotes");
            }
            Value::Scalar { text, .. } if self.is_variable(text) => return Json::Null,
            _ => return self.wrong(node, path, "a whole number", "write a number, without quotes and units"),
        };
        if value < least || value > most {
            let range = if most >= i128::from(i32::MAX) {
                format!("of {least} or more")
            } else {
                format!("from {least} to {most}")
            };
            let near = if value < least { least } else { most };
            let message = format!("expected a whole number {range}, found {value}");
            self.at(Severity::Error, node.line, path, message, format!("write for example {near}"));
        }
        match i64::try_from(value) {
            Ok(value) => Json::from(value),
            Err(_) => self.wrong(node, path, "a whole number of 64 bits", "write a smaller number"),
        }
    }

    fn duration<T>(&mut self, node: &Node, path: &str, parse: fn(&str) -> Result<T, String>, expected: &str) -> Json {
        if !matches!(node.value, Value::Scalar { .. }) {
            return self.wrong(node, path, expected, "write for example 5s behind the colon");
        }
        let value = self.text(node, path);
        if let Some(text) = value.as_str().filter(|text| !text.is_empty() && !self.is_variable(text))
            && parse(text).is_err()
        {
            let suggestion = match text.trim().parse::<u64>() {
                Ok(number) => format!("did you mean {number}s or {number}ms?"),
                Err(_) => or_else(duration_hint(text), || "write for example 5s".to_owned()),
            };
            self.at(Severity::Error, node.line, path, format!("expected {expected}, found {text:?}"), suggestion);
        }
        value
    }

    fn list(&mut self, node: &Node, path: &str, item: &Shape) -> Json {
        let Value::List(items) = &node.value else {
            let named = matches!(item, Shape::Object([Field { name: "name", .. }, Field { name: "value", .. }, ..]));
            let hint = if named {
                "write each entry as - name: with value: below it"
            } else if matches!(node.value, Value::Map(_)) {
                "put a dash before each item"
            } else {
                "write it as - item, or [item]"
            };
            return self.wrong(node, path, "a list", hint);
        };
        let mut out = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            let item_path = format!("{path}[{index}]");
            self.lines.insert(item_path.clone(), node.line);
            out.push(self.value(node, &item_path, item));
        }
        Json::Array(out)
    }

    fn map(&mut self, node: &Node, path: &str, item: &Shape) -> Json {
        let Value::Map(entries) = &node.value else {
            return self.wrong(node, path, "a map from names to values", "write it as name: value");
        };
        let mut out = Map::new();
        for entry in entries {
            let entry_path = join(path, &entry.key);
            self.lines.insert(entry_path.clone(), if entry.line > 0 { entry.line } else { entry.value.line });
            out.insert(entry.key.clone(), self.value(&entry.value, &entry_path, item));
        }
        Json::Object(out)
    }
}

fn or_else(text: String, other: impl FnOnce() -> String) -> String {
    if text.is_empty() { other() } else { text }
}

/// A word with the same first letters, for words that are too short for a distance.
fn nearest_start<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    let begin: String = text.chars().take(3).collect::<String>().to_lowercase();
    words.iter().copied().find(|word| begin.len() == 3 && word.to_lowercase().starts_with(&begin))
}

/// Whether exactly one field of an object is required, so that its absence can be told instead of the object's.
fn one_required(shape: &Shape) -> bool {
    matches!(shape, Shape::Object(fields) if fields.iter().filter(|field| field.required).count() == 1)
}

/// What could be written for a field.
fn example(field: &Field) -> String {
    let by_name = match field.name {
        "name" => "with a name",
        "type" => "with a type such as state.sqlite",
        "topic" | "pubsubname" | "storeName" => "with its name",
        "appId" | "appID" => "with the ID of an app",
        "route" | "path" => "with a path of the app such as /orders",
        "baseUrl" | "url" | "issuer" => "with a URL such as https://example.com",
        "namespace" => "with a namespace such as default",
        "trustDomain" => "with a trust domain such as public",
        "version" => "with a version such as v1",
        _ => "",
    };
    match field.shape {
        _ if !by_name.is_empty() => by_name.to_owned(),
        Shape::Word(words, _) => words.first().copied().unwrap_or_default().to_owned(),
        Shape::Object(fields) => {
            let names: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
            let names = if names.is_empty() { fields.iter().take(3).map(|field| field.name).collect() } else { names };
            format!("with {} below it", names.join(", "))
        }
        Shape::List(_) => "with an entry after a dash below it".to_owned(),
        _ => "with a value".to_owned(),
    }
}

/// Where a known field belongs that stands in a wrong place.
fn misplaced(key: &str, path: &str, fields: &[Field]) -> Option<String> {
    let has = |fields: &[Field], name: &str| fields.iter().any(|field| field.name == name);
    if has(fields, key) {
        return None;
    }
    if key == "route" && has(fields, "routes") {
        return Some("write routes with default: and the path, or use apiVersion dapr.io/v1alpha1".to_owned());
    }
    if path == join("spec", key) && ["scopes", "auth", "metadata"].contains(&key) {
        return Some(format!("{key} belongs beside spec, not below it"));
    }
    let holders: Vec<&str> = fields
        .iter()
        .filter(|field| matches!(field.shape, Shape::Object(inner) if has(inner, key)))
        .map(|field| field.name)
        .collect();
    (!holders.is_empty()).then(|| format!("put it under {}", holders.join(" or ")))
}

/// `5 s`, `5sec`, `1d` and their like.
fn duration_hint(text: &str) -> String {
    let squeezed: String = text.split_whitespace().collect::<String>().to_lowercase();
    let end = squeezed.find(|c: char| !c.is_ascii_digit()).unwrap_or(squeezed.len());
    let (number, unit) = squeezed.split_at(end);
    if number.is_empty() {
        return String::new();
    }
    match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => format!("did you mean {number}s?"),
        "m" | "min" | "mins" | "minute" | "minutes" => format!("did you mean {number}m?"),
        "h" | "hr" | "hrs" | "hour" | "hours" => format!("did you mean {number}h?"),
        "ms" | "msec" | "millis" | "milliseconds" => format!("did you mean {number}ms?"),
        "d" | "day" | "days" => match number.parse::<u64>() {
            Ok(days) => format!("days are not a unit; write {}h", days.saturating_mul(24)),
            Err(_) => String::new(),
        },
        _ => String::new(),
    }
}

/// `parent.key`, or the key alone at the top.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
