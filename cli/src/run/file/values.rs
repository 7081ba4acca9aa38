//! Single values of a run file; what does not fit becomes a finding with the place, what was expected and what was found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pillion_core::flags::nearest;
use pillion_resources::{Entry, Finding, Node, Scalar, Severity, Value};

/// Collects the findings of one file.
pub(super) struct Reader<'a> {
    file: &'a Path,
    base: PathBuf,
    home: Option<&'a Path>,
    findings: &'a mut Vec<Finding>,
}

/// The key as the table spells it.
pub(super) fn known_key(key: &str, known: &[&'static str]) -> Option<&'static str> {
    known.iter().find(|name| **name == key).copied()
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a Path, base: &Path, home: Option<&'a Path>, findings: &'a mut Vec<Finding>) -> Self {
        Self { file, base: base.to_owned(), home, findings }
    }

    /// What relative paths are relative to.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn set_base(&mut self, base: &Path) {
        self.base = base.to_owned();
    }

    pub(super) fn error(&mut self, line: usize, field: &str, message: impl Into<String>, suggestion: &str) {
        self.add(Severity::Error, line, field, message.into(), suggestion.to_owned());
    }

    /// A key that says nothing. *Source:* the original ignores it without a word.
    pub(super) fn unknown(&mut self, entry: &Entry, place: &str, known: &[&str]) {
        let suggestion = match nearest(&entry.key, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => "remove it".to_owned(),
        };
        let field = if place.is_empty() { entry.key.clone() } else { format!("{place}.{}", entry.key) };
        self.add(Severity::Warning, entry.line, &field, "no such key; it is ignored".to_owned(), suggestion);
    }

    fn add(&mut self, severity: Severity, line: usize, field: &str, message: String, suggestion: String) {
        self.findings.push(Finding {
            severity,
            file: self.file.to_owned(),
            line,
            field: field.to_owned(),
            message,
            suggestion,
        });
    }

    fn wrong(&mut self, node: &Node, field: &str, expected: &str, suggestion: &str) {
        self.error(node.line, field, format!("expected {expected}, found {}", node.describe()), suggestion);
    }

    pub(super) fn map<'n>(&mut self, node: &'n Node, field: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ => {
                self.wrong(node, field, "a map", "");
                None
            }
        }
    }

    pub(super) fn text(&mut self, entry: &Entry, field: &str) -> Option<String> {
        match &entry.value.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => {
                self.wrong(&entry.value, field, "a text", "");
                None
            }
        }
    }

    pub(super) fn int(&mut self, entry: &Entry, field: &str) -> Option<i64> {
        let number = match &entry.value.value {
            Value::Scalar { resolved: Scalar::Integer(number), .. } => i64::try_from(*number).ok(),
            Value::Scalar { text, .. } => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(&entry.value, field, "a whole number", "");
        }
        number
    }

    /// *Source:* zero and less mean that none was chosen.
    pub(super) fn port(&mut self, entry: &Entry, field: &str) -> Option<u16> {
        let number = self.int(entry, field)?;
        match u16::try_from(number.max(0)) {
            Ok(port) => Some(port).filter(|port| *port > 0),
            Err(_) => {
                self.wrong(&entry.value, field, "a port from 1 to 65535", "");
                None
            }
        }
    }

    pub(super) fn bool(&mut self, entry: &Entry, field: &str) -> Option<bool> {
        let value = match &entry.value.value {
            Value::Scalar { resolved: Scalar::Bool(value), .. } => Some(*value),
            Value::Scalar { text, .. } if text == "true" || text == "false" => Some(text == "true"),
            _ => None,
        };
        if value.is_none() {
            self.wrong(&entry.value, field, "true or false", "");
        }
        value
    }

    /// A Kubernetes quantity, as it stands.
    pub(super) fn quantity(&mut self, entry: &Entry, field: &str) -> Option<String> {
        let text = self.text(entry, field).filter(|text| !text.is_empty())?;
        match pillion_core::quantity::parse_bytes(&text) {
            Ok(_) => Some(text),
            Err(error) => {
                self.error(entry.value.line, field, error, "");
                None
            }
        }
    }

    /// A number in a fixed unit, the older form of a quantity.
    pub(super) fn number_of(&mut self, entry: &Entry, field: &str, unit: &str) -> Option<String> {
        self.int(entry, field).filter(|number| *number > 0).map(|number| format!("{number}{unit}"))
    }

    /// A path, made absolute; it need not exist.
    pub(super) fn path(&mut self, entry: &Entry, field: &str) -> Option<PathBuf> {
        let text = self.text(entry, field).filter(|text| !text.is_empty())?;
        Some(self.absolute(&text))
    }

    pub(super) fn directory(&mut self, entry: &Entry, field: &str) -> Option<PathBuf> {
        let path = self.path(entry, field)?;
        if path.is_dir() {
            return Some(path);
        }
        self.missing(&entry.value, field, &path, "directory");
        None
    }

    pub(super) fn file(&mut self, entry: &Entry, field: &str) -> Option<PathBuf> {
        let path = self.path(entry, field)?;
        if path.is_file() {
            return Some(path);
        }
        self.missing(&entry.value, field, &path, "file");
        None
    }

    /// One directory or a list of them. *Source:* the documentation shows both shapes.
    pub(super) fn directories(&mut self, entry: &Entry, field: &str) -> Vec<PathBuf> {
        let nodes = match &entry.value.value {
            Value::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        let mut paths = Vec::new();
        for node in nodes.iter().filter(|node| !node.is_null()) {
            let Value::Scalar { text, .. } = &node.value else {
                self.wrong(node, field, "a directory", "");
                continue;
            };
            let path = self.absolute(text);
            if path.exists() {
                paths.push(path);
            } else {
                self.missing(node, field, &path, "directory");
            }
        }
        paths
    }

    fn missing(&mut self, node: &Node, field: &str, path: &Path, what: &str) {
        if path.is_relative() {
            return; // relative to a directory that is not there, which was told
        }
        let message = format!("the {what} {} does not exist", path.display());
        let suggestion = format!("create it, or correct the path; it is relative to {}", self.base.display());
        self.error(node.line, field, message, &suggestion);
    }

    /// Without `.` and `..` where that is safe, so that the same place has the same text.
    fn absolute(&self, text: &str) -> PathBuf {
        let path = match (text.strip_prefix("~/"), self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.base.join(text),
        };
        std::fs::canonicalize(&path).unwrap_or(path)
    }

    pub(super) fn command(&mut self, entry: &Entry, field: &str) -> Vec<String> {
        let Value::List(nodes) = &entry.value.value else {
            self.wrong(&entry.value, field, "a list", "write it as in command: [\"node\", \"app.js\"]");
            return Vec::new();
        };
        let mut words = Vec::new();
        for node in nodes {
            match &node.value {
                Value::Scalar { text, .. } => words.push(text.clone()),
                _ => self.wrong(node, field, "a text", ""),
            }
        }
        words
    }

    pub(super) fn variables(&mut self, entry: &Entry, field: &str) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for entry in self.map(&entry.value, field).unwrap_or_default() {
            if let Some(value) = self.text(entry, &format!("{field}.{}", entry.key)) {
                let empty = entry.value.is_null();
                variables.insert(entry.key.clone(), if empty { String::new() } else { value });
            }
        }
        variables
    }
}
