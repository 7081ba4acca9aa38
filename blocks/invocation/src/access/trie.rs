//! Operations of a policy, found by path.
//!
//! *Job:* keep one value per operation name and find the one for a path. *Neighbours:* [`super::rules`] puts in and asks.
//! *Invariant:* the search goes down one way and never turns back: of the names on a level the first that fits counts, in
//! the order they were put in, and the first value met on the way down is the answer. A name therefore also covers all paths
//! below it. Surprising, but what rules were written for. *Source:* the original's `pkg/config/acl_trie.go`.

/// One segment, or none at all, at the end of a path.
const ONE: &str = "*";
/// Any number of segments, at least one unless it ends the name.
const ANY: &str = "**";

/// Values by operation name.
#[derive(Debug)]
pub(super) struct Trie<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    segment: Box<str>,
    kind: Kind,
    data: Option<T>,
    children: Vec<Self>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    One,
    Any,
    /// With a `*` for any characters somewhere.
    Pattern,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::new("") }
    }
}

/// The segments of a name or path; a leading slash makes no difference.
fn segments(path: &str) -> std::str::Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

impl<T> Trie<T> {
    /// Puts a value in. The first one for a name stays; tells whether it was this one.
    pub(super) fn put(&mut self, name: &str, data: T) -> bool {
        let mut node = &mut self.root;
        for segment in segments(name) {
            let index = node.children.iter().position(|child| *child.segment == *segment).unwrap_or_else(|| {
                node.children.push(Node::new(segment));
                node.children.len() - 1
            });
            node = &mut node.children[index];
        }
        let first = node.data.is_none();
        if first {
            node.data = Some(data);
        }
        first
    }

    /// The value for a path.
    pub(super) fn find(&self, path: &str) -> Option<&T> {
        let mut node = &self.root;
        let mut segments = segments(path).peekable();
        while let Some(segment) = segments.next() {
            let end = segments.peek().is_none();
            node = node.child(segment, end)?;
            // `*` in the path itself can lead to a node that is only for the end.
            if let Some(data) = node.data.as_ref().filter(|_| end || node.kind != Kind::One) {
                return Some(data);
            }
        }
        node.child(ONE, true)?.data.as_ref()
    }

    /// Names that are never the answer, with the one that stands before them.
    pub(super) fn hidden(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for child in &self.root.children {
            child.hidden_below("", None, &mut found);
        }
        found
    }
}

impl<T> Node<T> {
    fn new(segment: &str) -> Self {
        let kind = match segment {
            ONE => Kind::One,
            ANY => Kind::Any,
            other if other.contains('*') => Kind::Pattern,
            _ => Kind::Text,
        };
        Self { segment: segment.into(), kind, data: None, children: Vec::new() }
    }

    fn child(&self, segment: &str, end: bool) -> Option<&Self> {
        self.children.iter().find(|child| {
            *child.segment == *segment
                || match child.kind {
                    Kind::Text => false,
                    Kind::One => end,
                    Kind::Any => true,
                    Kind::Pattern => fits(&child.segment, segment),
                }
        })
    }

    fn hidden_below(&self, above: &str, by: Option<&str>, found: &mut Vec<(String, String)>) {
        let name = format!("{above}/{}", self.segment);
        if let Some(by) = by.filter(|_| self.data.is_some()) {
            found.push((name.clone(), by.to_owned()));
        }
        let hides = self.data.is_some() || self.kind == Kind::One;
        let by = by.or(Some(name.as_str()).filter(|_| hides));
        for child in &self.children {
            child.hidden_below(&name, by, found);
        }
    }
}

/// Whether a text has the form of a pattern, in which `*` is any characters or none.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last `*` takes one more character.
    let mut again: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut again {
                Some((star, taken)) => {
                    *taken += 1;
                    (p, t) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
