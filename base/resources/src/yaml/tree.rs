//! Builds the node tree from parser events, with limits for hostile input.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::quoted::{REPAIRS_MAX, repaired};
use super::{Chunk, Entry, Node, Scalar, SyntaxError, Value};

/// Nesting of lists and maps; deeper text is refused.
const DEPTH_MAX: usize = 100;
/// Nodes of one document, aliases counted as what they stand for.
const NODES_MAX: usize = 200_000;

/// A list or map that is not closed yet.
enum Open {
    List { items: Vec<Node>, line: usize, anchor: usize },
    Map { entries: Vec<Entry>, key: Option<(String, usize)>, line: usize, anchor: usize },
}

struct Builder {
    first_line: usize,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    parsed: Parsed,
}

/// A document and the keys that are given again in one map, which the first version of YAML readers let through.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// `None` when the text holds no document.
    pub(crate) root: Option<Node>,
    pub(crate) repeated: Vec<SyntaxError>,
}

/// Parses one chunk. A key that is given again in one map replaces the earlier one and is told in `repeated`.
///
/// # Errors
/// The first syntax error, with its line in the file. A second document in the chunk is an error too.
pub(crate) fn parse(chunk: Chunk<'_>) -> Result<Parsed, SyntaxError> {
    if let Some(error) = nested_too_deep(chunk) {
        return Err(error);
    }
    let mut text = Cow::Borrowed(chunk.text);
    let mut repairs = 0;
    'again: loop {
        let mut builder = Builder {
            first_line: chunk.line,
            stack: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            parsed: Parsed::default(),
        };
        for event in Parser::new_from_str(&text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    if repairs < REPAIRS_MAX
                        && let Some(better) = repaired(&text, &error)
                    {
                        repairs += 1;
                        text = Cow::Owned(better);
                        continue 'again;
                    }
                    let line = builder.line_of(error.marker().line());
                    return Err(Builder::error(line, error.info()));
                }
            };
            builder.take(event, span)?;
        }
        return Ok(builder.parsed);
    }
}

/// Counts open flow brackets before parsing, so that the parser's own recursion stays bounded.
fn nested_too_deep(chunk: Chunk<'_>) -> Option<SyntaxError> {
    let (mut depth, mut dashes_max) = (0usize, 0usize);
    for (number, line) in chunk.text.lines().enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        dashes_max = dashes_max.max(line.split_whitespace().take_while(|word| ["-", "?", ":"].contains(word)).count());
        if depth > 10 * DEPTH_MAX || dashes_max > DEPTH_MAX {
            return Some(Builder::error(chunk.line + number, format!("nested deeper than {DEPTH_MAX} levels")));
        }
    }
    None
}

impl Builder {
    fn line_of(&self, parser_line: usize) -> usize {
        self.first_line + parser_line.saturating_sub(1)
    }

    fn error(line: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError { line, path: String::new(), message: message.into() }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let line = self.line_of(span.start.line());
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.parsed.root.is_some() => {
                Err(Self::error(line, "a second document starts here without a --- line"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(anchor) => {
                let (node, size) = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| Self::error(line, "an alias refers to an anchor that is still open"))?;
                self.count(size, line)?;
                self.place(Node { line, value: node.value }, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, line)?;
                let resolved = resolve(&text, style, tag.as_deref());
                self.place(Node { line, value: Value::Scalar { resolved, text: text.into_owned() } }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(Open::List { items: Vec::new(), line, anchor }, line),
            Event::MappingStart(anchor, _) => {
                self.open(Open::Map { entries: Vec::new(), key: None, line, anchor }, line)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List { items, line, anchor }) => {
                    self.place(Node { line, value: Value::List(items) }, anchor)
                }
                Some(Open::Map { entries, line, anchor, .. }) => {
                    self.place(Node { line, value: Value::Map(entries) }, anchor)
                }
                None => Err(Self::error(line, "a list or map ends that never began")),
            },
        }
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(Self::error(line, format!("more than {NODES_MAX} values in one document")));
        }
        Ok(())
    }

    fn open(&mut self, open: Open, line: usize) -> Result<(), SyntaxError> {
        self.count(1, line)?;
        if self.stack.len() >= DEPTH_MAX {
            return Err(Self::error(line, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.stack.push(open);
        Ok(())
    }

    /// Path of a key of the innermost map.
    fn path(&self, key: &str) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match open {
                Open::List { items, .. } => path += &format!("[{}]", items.len()),
                Open::Map { key, .. } => path = join(&path, key.as_ref().map_or("", |(name, _)| name)),
            }
        }
        join(&path, key)
    }

    /// Puts a finished node into the innermost open list or map.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.stack.last_mut() else {
            self.parsed.root = Some(node);
            return Ok(());
        };
        match open {
            Open::List { items, .. } => items.push(node),
            Open::Map { entries, key, .. } => match key.take() {
                None => *key = Some(key_text(&node)?),
                Some((name, line)) => {
                    if let Some(error) = add(entries, name, line, node)? {
                        let path = self.path(&error.path);
                        self.parsed.repeated.push(SyntaxError { path, ..error });
                    }
                }
            },
        }
        Ok(())
    }
}

fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Scalar {
    match tag {
        Some(tag) if tag.suffix == "str" || tag.handle == "!" => Scalar::Text,
        _ if style == ScalarStyle::Plain => Scalar::resolve(text),
        _ => Scalar::Text,
    }
}

fn key_text(node: &Node) -> Result<(String, usize), SyntaxError> {
    match &node.value {
        Value::Scalar { resolved: Scalar::Bool(_) | Scalar::Null | Scalar::Text, text } => {
            Ok((text.clone(), node.line))
        }
        Value::Scalar { resolved, text } => Ok((resolved.canonical(text), node.line)),
        _ => Err(Builder::error(node.line, "a key must be a single word, not a list or map")),
    }
}

/// `parent.key`; an empty part is left out.
fn join(path: &str, key: &str) -> String {
    let dot = if path.is_empty() || key.is_empty() { "" } else { "." };
    format!("{path}{dot}{key}")
}

/// Adds an entry; the result says when the key was there already, with the key as its path.
fn add(entries: &mut Vec<Entry>, key: String, line: usize, value: Node) -> Result<Option<SyntaxError>, SyntaxError> {
    if key == "<<" {
        merge(entries, line, value)?;
        return Ok(None);
    }
    let repeated = match entries.iter().find(|entry| entry.key == key) {
        Some(first) if first.line > 0 => Some(SyntaxError {
            line,
            path: key.clone(),
            message: format!("the key {key:?} is given twice in one map (first on line {})", first.line),
        }),
        _ => None,
    };
    entries.retain(|entry| entry.key != key);
    entries.push(Entry { key, line, value });
    Ok(repeated)
}

/// `<<: *anchor`: keys that the map itself does not give. A line of 0 marks them as replaceable by own keys.
fn merge(entries: &mut Vec<Entry>, line: usize, value: Node) -> Result<(), SyntaxError> {
    let sources = match value.value {
        Value::Map(entries) => vec![entries],
        Value::List(items) => items
            .into_iter()
            .filter_map(|item| if let Value::Map(entries) = item.value { Some(entries) } else { None })
            .collect(),
        Value::Scalar { .. } => return Err(Builder::error(line, "<< needs a map to merge")),
    };
    for entry in sources.into_iter().flatten() {
        if !entries.iter().any(|existing| existing.key == entry.key) {
            entries.push(Entry { line: 0, ..entry });
        }
    }
    Ok(())
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Option<Node>, SyntaxError> {
        parse(Chunk { line: 11, text }).map(|parsed| parsed.root)
    }

    #[test]
    fn keeps_lines_of_the_file() {
        let node = tree("a:\n  - x\n  - b: 2\n").unwrap().unwrap();
        let Value::List(items) = &node.get("a").unwrap().value else { panic!("list") };
        assert_eq!((items[0].line, items[1].get("b").unwrap().line), (12, 13));
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let node = tree("base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\n").unwrap().unwrap();
        assert_eq!(node.get("own").unwrap().to_json().to_string(), r#"{"x":1,"y":3}"#);
    }

    #[test]
    fn quoted_numbers_are_text() {
        let node = tree("a: \"1\"\nb: '0777'\nc: !!str 5\nd: |\n  text\n").unwrap().unwrap();
        assert_eq!(node.to_json().to_string(), r#"{"a":"1","b":"0777","c":"5","d":"text\n"}"#);
    }

    #[test]
    fn lines_inside_of_quotes_are_indented_by_anything() {
        for text in [
            "a:\n  b: '{\n\t\"x\": 1,\n\t\t\"y\": 2\n  }'\n  c: 3\n",
            "a:\n  b: '{\n\"x\": 1,\n \t\"y\": 2\n}'\n  c: 3\n",
            "a:\n  b: \"{\n\\\"x\\\": 1,\n\t\\\"y\\\": 2\n}\"\n  c: 3\n",
        ] {
            let node = tree(text).unwrap().unwrap();
            let expected = r#"{"a":{"b":"{ \"x\": 1, \"y\": 2 }","c":3}}"#;
            assert_eq!(node.to_json().to_string(), expected, "{text}");
            let Value::Map(entries) = &node.get("a").unwrap().value else { panic!("map") };
            assert_eq!(entries[1].line, 10 + text.lines().count());
        }
        assert_eq!(tree("a:\n\tb: 1\n").unwrap_err().line, 12);
        assert!(tree(&format!("a:\n  b: '{}", "\n\tx".repeat(2 * REPAIRS_MAX))).is_err());
    }

    #[test]
    fn refuses_with_a_line() {
        let cases = [
            ("a: [1, 2\nb: 3\n", 12, ""),
            ("a: b: c\n", 11, ""),
            ("? [x]\n: 1\n", 11, "single word"),
            ("a: \"open\n", 0, ""),
        ];
        for (text, line, message) in cases {
            let error = tree(text).unwrap_err();
            assert!(error.message.contains(message), "{text:?}: {error:?}");
            assert!(line == 0 || error.line == line, "{text:?}: {error:?}");
        }
    }

    #[test]
    fn the_last_of_repeated_keys_wins_and_is_told() {
        let parsed = parse(Chunk { line: 1, text: "a: 1\nb: 2\na: 3\n" }).unwrap();
        assert_eq!(parsed.root.unwrap().to_json().to_string(), r#"{"a":3,"b":2}"#);
        let message = "the key \"a\" is given twice in one map (first on line 1)".to_owned();
        assert_eq!(parsed.repeated, [SyntaxError { line: 3, path: "a".to_owned(), message }]);
        let parsed = parse(Chunk { line: 1, text: "a:\n  - b: 1\n  - b: 2\n    b: 3\n" }).unwrap();
        assert_eq!(parsed.repeated[0].path, "a[1].b");
    }

    #[test]
    fn hostile_nesting_ends_in_an_error() {
        for text in ["[".repeat(100_000), "- ".repeat(50_000), "{a: ".repeat(20_000), "a:\n".repeat(3)] {
            let _ = tree(&text); // an error or a value, never a crash
        }
        assert!(tree(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn a_billion_laughs_end_early() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let previous = level - 1;
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{previous}"); 10].join(", ")));
        }
        assert!(tree(&text).unwrap_err().message.contains("more than"));
    }
}
