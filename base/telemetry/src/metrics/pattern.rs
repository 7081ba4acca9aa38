//! `http.pathMatching`: patterns in the form of Go's `ServeMux`, where the most specific one that fits wins.

use std::cmp::Ordering;

use super::path::normalize;

/// The beginning of paths that are service invocations.
const INVOKE: &str = "/v1.0/invoke/";

/// All patterns of a Configuration, most specific first.
#[derive(Debug)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    text: String,
    parts: Vec<Part>,
}

/// A segment of a pattern, most specific kind first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Literal(String),
    /// `{$}`: nothing more than the slash.
    End,
    /// `{name}`: one segment.
    One,
    /// `{name...}`, or the slash at the end of a pattern: whatever follows.
    Rest,
}

impl Patterns {
    /// Each pattern also holds for invocations of it on any app. `None` when there are none.
    pub(super) fn new(paths: &[String]) -> Option<Self> {
        if paths.is_empty() {
            return None;
        }
        let mut texts = Vec::with_capacity(paths.len() * 2);
        for path in paths {
            let path = normalize(path).into_owned();
            if !path.starts_with(INVOKE) {
                texts.push(format!("/v1.0/invoke/{{app_id}}/method{path}"));
            }
            texts.push(path);
        }
        texts.sort_unstable();
        texts.dedup();
        let mut patterns: Vec<Pattern> = texts.into_iter().map(Pattern::new).collect();
        patterns.sort_by(Pattern::specificity);
        Some(Self(patterns))
    }

    /// The text of the pattern a normalized path falls under.
    pub(super) fn find(&self, path: &str) -> Option<&str> {
        let found = self.0.iter().find(|pattern| pattern.fits(path));
        let is_subtree = found.is_none_or(|pattern| pattern.text.ends_with('/'));
        if is_subtree && !path.ends_with('/') {
            // Go's mux sends `/a` on to `/a/` where there is no pattern of its own, so that one holds for both.
            let slashed = |pattern: &&Pattern| pattern.text.strip_suffix('/').is_some_and(|text| text == path);
            if let Some(pattern) = self.0.iter().find(slashed) {
                return Some(&pattern.text);
            }
        }
        found.map(|pattern| pattern.text.as_str())
    }
}

impl Pattern {
    fn new(text: String) -> Self {
        let rest = text.strip_prefix('/').unwrap_or(&text);
        let mut parts: Vec<Part> = rest
            .split('/')
            .map(|segment| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some("$") => Part::End,
                Some(name) if name.ends_with("...") => Part::Rest,
                Some(_) => Part::One,
                None => Part::Literal(segment.to_owned()),
            })
            .collect();
        if let Some(last) = parts.last_mut()
            && *last == Part::Literal(String::new())
        {
            *last = Part::Rest;
        }
        Self { text, parts }
    }

    fn fits(&self, path: &str) -> bool {
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
        for part in &self.parts {
            match (part, segments.next()) {
                (Part::Rest, Some(_)) => return true,
                (Part::End, Some("")) => {}
                (Part::One, Some(segment)) if !segment.is_empty() => {}
                (Part::Literal(literal), Some(segment)) if literal == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }

    fn specificity(&self, other: &Self) -> Ordering {
        self.parts.cmp(&other.parts).then_with(|| self.text.cmp(&other.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(patterns: &[&str], path: &str) -> Option<String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Patterns::new(&patterns)?.find(path).map(str::to_owned)
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let patterns = ["/a/{x}", "/a/b", "/a/", "/", "/files/{rest...}", "/exact/{$}"];
        for (path, expected) in [
            ("/a/b", Some("/a/b")),
            ("/a/c", Some("/a/{x}")),
            ("/a/c/d", Some("/a/")),
            ("/a", Some("/a/")),
            ("/files/x/y", Some("/files/{rest...}")),
            ("/exact/", Some("/exact/{$}")),
            ("/exact/more", Some("/")),
            ("/other", Some("/")),
        ] {
            assert_eq!(find(&patterns, path).as_deref(), expected, "{path}");
        }
        assert_eq!(find(&["/a/{x}"], "/b"), None);
        assert_eq!(find(&[], "/b"), None);
    }
}
