//! Continuation lines of quoted text, which manifests indent with tabs or not at all.
//!
//! *Job:* change such lines so that the parser takes them; what stands in front of their first word is no part of the text.
//! *Neighbours:* `tree` parses again with the result. *Invariant:* the number of lines stays the same, and so do all values.
//! *Source:* the YAML reader behind Kubernetes manifests has no rule for the indentation inside of quotes, YAML 1.2 has one.

use saphyr_parser::ScanError;

/// Repairs of one document, each of at least one line.
pub(super) const REPAIRS_MAX: usize = 256;
/// Indentation that is given at most.
const INDENT_MAX: usize = 1_000;
/// The parser's words for a tab, with the place of the tab.
const TAB: &str = "tab cannot be used as indentation";
/// The parser's words for too few spaces, with the place of the opening quote.
const SHALLOW: &str = "invalid indentation in quoted scalar";

/// The text with the refused lines indented; `None` when the error is about something else.
pub(super) fn repaired(text: &str, error: &ScanError) -> Option<String> {
    let line = error.marker().line();
    let lines = match error.info() {
        TAB => line..=line,
        SHALLOW => line + 1..=line + breaks_inside(text, error.marker().index()),
        _ => return None,
    };
    let indent = text.lines().map(|line| line.len() - line.trim_start().len()).max().unwrap_or_default() + 2;
    let indent = " ".repeat(indent.min(INDENT_MAX));
    let mut repaired = String::with_capacity(text.len() + indent.len());
    for (index, piece) in text.split_inclusive('\n').enumerate() {
        if lines.contains(&(index + 1)) {
            repaired.push_str(&indent);
            repaired.push_str(piece.trim_start_matches([' ', '\t']));
        } else {
            repaired.push_str(piece);
        }
    }
    Some(repaired)
}

/// Line breaks between the quote at a character and the one that closes it.
fn breaks_inside(text: &str, start: usize) -> usize {
    let mut characters = text.chars().skip(start).peekable();
    let quote = characters.next();
    let mut breaks = 0;
    while let Some(character) = characters.next() {
        match character {
            '\n' => breaks += 1,
            '\\' if quote == Some('"') => {
                breaks += usize::from(characters.next() == Some('\n'));
            }
            '\'' if quote == Some('\'') && characters.peek() == Some(&'\'') => {
                characters.next();
            }
            _ if Some(character) == quote => break,
            _ => {}
        }
    }
    breaks
}
