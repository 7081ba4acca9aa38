//! Any YAML document with its lines, for readers of other files than manifests (run files).

use std::path::Path;

use crate::finding::{Finding, Severity};
use crate::manifest::finding;
use crate::yaml::{Node, parse, split};

/// Reads the first document of a text; `file` only names it in findings.
///
/// `None` when there is no document. Warnings tell of repeated keys (the last one counts) and of further documents, which are not read.
///
/// # Errors
/// The first place that is not YAML.
pub fn read_document(file: &Path, text: &str) -> Result<(Option<Node>, Vec<Finding>), Box<Finding>> {
    let mut chunks = split(text).into_iter().filter(|chunk| !chunk.is_blank());
    let Some(chunk) = chunks.next() else {
        return Ok((None, Vec::new()));
    };
    let parsed = parse(chunk).map_err(|error| {
        let message = format!("not valid YAML: {}", error.message);
        Box::new(finding(
            Severity::Error,
            file,
            error.line,
            "",
            message,
            "check indentation, colons and quotes near this line",
        ))
    })?;
    let mut findings: Vec<Finding> = parsed
        .repeated
        .into_iter()
        .map(|error| finding(Severity::Warning, file, error.line, &error.path, error.message, "remove one of them"))
        .collect();
    if let Some(next) = chunks.next() {
        let message = "only the first document of this file is read";
        findings.push(finding(Severity::Warning, file, next.line, "", message, "remove what follows the --- line"));
    }
    Ok((parsed.root, findings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_document_with_its_lines() {
        let (root, findings) =
            read_document(Path::new("dapr.yaml"), "# run\n---\nversion: 1\nversion: 2\n---\nx: 1\n").unwrap();
        assert!(root.is_some());
        let lines: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [4, 6]);
        assert_eq!(read_document(Path::new("f"), "# nothing\n").unwrap(), (None, Vec::new()));
        let error = read_document(Path::new("f"), "a: [1\nb: 2\n").unwrap_err();
        assert!(error.line > 0 && error.message.contains("not valid YAML"), "{error}");
    }
}
