//! PEM blocks: reads the ones of a text in order, writes one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

const LINE: usize = 64;

/// A block of a PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// What stands behind `BEGIN`.
    pub label: String,
    /// The decoded content.
    pub content: Vec<u8>,
}

/// The blocks of a text, in order; text around them is skipped.
///
/// # Errors
/// A block that does not end or whose content is not base64.
pub fn decode(text: &[u8]) -> Result<Vec<Block>, Error> {
    let text = String::from_utf8_lossy(text);
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = marker(line, "-----BEGIN ") {
            open = Some((label.to_owned(), String::new()));
        } else if let Some(label) = marker(line, "-----END ") {
            let (begun, body) = open.take().filter(|(begun, _)| begun == label).ok_or_else(|| {
                Error::Pem(format!("PEM: END {label} without its BEGIN; check that the file is complete"))
            })?;
            let content = STANDARD
                .decode(body)
                .map_err(|error| Error::Pem(format!("PEM: the block {begun} is not base64: {error}")))?;
            blocks.push(Block { label: begun, content });
        } else if let Some((_, body)) = &mut open
            && !line.contains(':')
        {
            body.push_str(line); // a line with a colon is a header of the old form
        }
    }
    match open {
        Some((label, _)) => {
            Err(Error::Pem(format!("PEM: the block {label} does not end; check that the file is complete")))
        }
        None => Ok(blocks),
    }
}

fn marker<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

/// One block with lines of 64 characters.
#[must_use]
pub fn encode(label: &str, content: &[u8]) -> String {
    let body = STANDARD.encode(content);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(LINE) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back() {
        let text = format!("# note\n{}\nbetween\n{}", encode("CERTIFICATE", &[7; 100]), encode("X", b"hi"));
        let blocks = decode(text.as_bytes()).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].label.as_str(), blocks[0].content.len()), ("CERTIFICATE", 100));
        assert_eq!((blocks[1].label.as_str(), &blocks[1].content[..]), ("X", &b"hi"[..]));
        assert!(decode(b"nothing").unwrap().is_empty());
    }

    #[test]
    fn broken_blocks_are_told() {
        assert!(decode(b"-----BEGIN A-----\nAAAA\n").is_err());
        assert!(decode(b"-----BEGIN A-----\n!!\n-----END A-----\n").is_err());
        assert!(decode(b"-----BEGIN A-----\nAAAA\n-----END B-----\n").is_err());
    }
}
