//! Key search: SQL `LIKE` patterns and prefixes (behaviour of the state building block's KeysLike and DeleteWithPrefix).

use pillion_contract::{ComponentError, ErrorKind};

/// A parsed `LIKE` pattern.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Any,
    One,
    Char(char),
}

impl Pattern {
    /// Parses `%` (any text), `_` (one character) and backslash escapes; a backslash at the end stands for itself.
    ///
    /// # Errors
    /// `InvalidRequest` for an empty pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, ComponentError> {
        if text.is_empty() {
            return Err(ComponentError::new(ErrorKind::InvalidRequest, "keys like pattern cannot be empty"));
        }
        let mut parts = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => parts.push(Part::Char(chars.next().unwrap_or('\\'))),
                '%' if parts.last() == Some(&Part::Any) => {}
                '%' => parts.push(Part::Any),
                '_' => parts.push(Part::One),
                other => parts.push(Part::Char(other)),
            }
        }
        Ok(Self(parts))
    }

    /// Whether all of `text` matches; time is at most the product of both lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let parts = &self.0;
        let (mut rest, mut at) = (text.chars(), 0);
        // Where to go back to: the part after the last `%`, and the text it was first tried on.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            let step = match (parts.get(at), ahead.next()) {
                (Some(Part::Any), _) => {
                    at += 1;
                    retry = Some((at, rest.clone()));
                    continue;
                }
                (None, None) => return true,
                (Some(_), None) => return false,
                (Some(Part::One), Some(_)) => true,
                (Some(Part::Char(wanted)), Some(found)) => *wanted == found,
                (None, Some(_)) => false,
            };
            if step {
                at += 1;
                rest = ahead;
                continue;
            }
            let Some((part, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            at = *part;
            rest = from.clone();
        }
    }
}

/// Gives a prefix its closing `||`.
///
/// # Errors
/// `InvalidRequest` for an empty prefix.
pub(crate) fn normalise_prefix(prefix: &str) -> Result<String, ComponentError> {
    let bare = prefix.strip_suffix("||").unwrap_or(prefix);
    if bare.is_empty() {
        return Err(ComponentError::new(ErrorKind::InvalidRequest, "prefix is required"));
    }
    Ok(format!("{bare}||"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_like_sql() {
        let cases = [
            ("a", "a", true),
            ("a", "ab", false),
            ("%", "", true),
            ("%%", "xyz", true),
            ("a%c", "abbbc", true),
            ("a%c", "abbb", false),
            ("%b%b%", "abab", true),
            ("%ab", "aab", true),
            ("_", "ü", true),
            ("_", "", false),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("a\\_c", "abc", false),
            ("a\\\\", "a\\", true),
            ("a\\", "a\\", true),
            ("%a_", "xaay", true),
        ];
        for (pattern, text, wanted) in cases {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(text), wanted, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = Pattern::parse(&"%a".repeat(50)).unwrap();
        assert!(!pattern.matches(&"a".repeat(49)));
        assert!(!pattern.matches(&"b".repeat(20_000)));
    }
}
