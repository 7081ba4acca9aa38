//! `validate`: every problem of a file or a directory, whatever kinds it holds and whichever app they are for.

use std::path::Path;

use crate::finding::{Finding, Severity};
use crate::load::{LoadOptions, Loader, go_text, read_text, yaml_files};
use crate::manifest::finding;

/// Checks a manifest file, or every `*.yaml` and `*.yml` of a directory together.
///
/// Duplicate names and unknown policies are looked for across the whole directory. An empty result means nothing was found.
pub fn validate_path(path: &Path, options: &LoadOptions) -> Vec<Finding> {
    let mut loader = Loader::new(options, true);
    if path.is_dir() {
        match yaml_files(path) {
            Ok(listing) => {
                if listing.files.is_empty() {
                    loader.add(finding(Severity::Warning, path, 0, "", "the directory holds no YAML file; nothing was checked", ""));
                }
                listing.findings.into_iter().for_each(|finding| loader.add(finding));
                for file in &listing.files {
                    validate_file(&mut loader, file);
                }
            }
            Err(error) => loader.add(finding(Severity::Error, path, 0, "", format!("cannot list the directory: {}", go_text(&error)), "")),
        }
    } else {
        validate_file(&mut loader, path);
    }
    loader.finish().findings
}

/// Checks the text of one file; `file` only names it in the findings.
pub fn validate_text(file: &Path, text: &str, options: &LoadOptions) -> Vec<Finding> {
    let mut loader = Loader::new(options, true);
    loader.text(file, text);
    loader.finish().findings
}

fn validate_file(loader: &mut Loader<'_>, file: &Path) {
    match read_text(file) {
        Ok(text) => loader.text(file, &text),
        Err(problem) => loader.add(*problem),
    }
}
