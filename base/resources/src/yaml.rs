//! YAML with line numbers: a file's documents, and a tree of nodes for each.
//!
//! Scalars follow YAML 1.1 (`yes`, `0777`, `1_000`), because that is what manifests were written for.

#[cfg(test)]
mod properties;
mod quoted;
mod scalar;
mod tree;

pub use scalar::Scalar;
pub(crate) use tree::parse;

/// A value and the line it starts on.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// 1-based line in the file.
    pub line: usize,
    /// What it holds.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A scalar with its text as written.
    Scalar {
        /// What a plain scalar means; quoted ones are text.
        resolved: Scalar,
        /// As written, without quotes.
        text: String,
    },
    /// Items in order.
    List(Vec<Node>),
    /// Entries in order; keys are unique.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As text, whatever its kind.
    pub key: String,
    /// 1-based line in the file.
    pub line: usize,
    /// What stands behind the colon.
    pub value: Node,
}

/// Text that is not YAML, or a key that is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    /// Path of a repeated key; empty for text that is not YAML.
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Node {
    /// Value of a key of a map; `None` for other nodes.
    #[cfg(test)]
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Whether this is an absent or empty value.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar { resolved: Scalar::Null, .. })
    }

    /// What this is, for messages: `a list`, `the text "x"`.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Scalar { resolved, text } => match resolved {
                Scalar::Null => "nothing".to_owned(),
                Scalar::Bool(_) => format!("the boolean {text}"),
                Scalar::Integer(_) | Scalar::Float(_) => format!("the number {text}"),
                Scalar::Text => format!("the text {:?}", shorten(text)),
            },
        }
    }

    /// The value as JSON, as an encoder of the same data in Go writes it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
            ),
            Value::Scalar { resolved, text } => resolved.to_json(text),
        }
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 {
        return text.to_owned();
    }
    text.chars().take(37).chain("...".chars()).collect()
}

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// 1-based line of its first character.
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

impl Chunk<'_> {
    /// Whether it holds only blank lines, comments and markers.
    pub(crate) fn is_blank(&self) -> bool {
        self.text
            .lines()
            .map(str::trim)
            .all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
    }

    /// 1-based line of the first line with content; the chunk's line when there is none.
    pub(crate) fn first_content_line(&self) -> usize {
        let blank = |line: &str| line.is_empty() || line.starts_with('#') || line == "---";
        self.text.lines().position(|line| !blank(line.trim())).map_or(self.line, |skipped| self.line + skipped)
    }
}

/// Splits a file at lines that start with `---`; such a first line stays in the first chunk.
///
/// *Source:* the manifest loader's separator is a newline followed by `---`; the rest of that line is dropped.
pub(crate) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let (mut position, mut line) = (0, 1);
    for piece in text.split_inclusive('\n') {
        if position > 0 && piece.starts_with("---") {
            chunks.push(Chunk { line: start_line, text: &text[start..position] });
            start = position + piece.len();
            start_line = line + 1;
        }
        position += piece.len();
        line += 1;
    }
    chunks.push(Chunk { line: start_line, text: &text[start..] });
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_separator_lines_and_counts_lines() {
        let text = "---\na: 1\n--- # two\nb: 2\nc: ---\n---\n# only a comment\n";
        let chunks: Vec<(usize, &str)> = split(text).into_iter().map(|chunk| (chunk.line, chunk.text)).collect();
        assert_eq!(chunks, [(1, "---\na: 1\n"), (4, "b: 2\nc: ---\n"), (7, "# only a comment\n")]);
        assert!(split(text)[2].is_blank());
        assert_eq!(split(text)[0].first_content_line(), 2);
    }

    #[test]
    fn a_separator_without_a_line_end_still_separates() {
        assert_eq!(split("a: 1\r\n---").len(), 2);
        assert_eq!(split("").len(), 1);
    }

    #[test]
    fn json_follows_go() {
        let node = parse(Chunk { line: 1, text: "b: 1.0\na: yes\nc: 0777\nd: [x, ~, 1e21, 1_000, 1.5]\n" })
            .unwrap()
            .root
            .unwrap();
        assert_eq!(node.to_json().to_string(), r#"{"a":true,"b":1,"c":511,"d":["x",null,1e+21,1000,1.5]}"#);
    }
}
