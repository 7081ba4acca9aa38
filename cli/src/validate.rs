//! `validate`: looks at resource files and run files, and tells everything that is wrong with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};
use pillion_resources::{Finding, LoadOptions, read_document, validate_path};
use serde_json::json;

use crate::command::{Command, Outcome, output_flag, wants_json};
use crate::console;
use crate::context::Context;
use crate::run::file;

pub(crate) const COMMAND: Command = Command {
    name: "validate",
    arguments: "[file or directory...] [flags]",
    about: "Check resource files and run files",
    details: "A directory with a dapr.yaml is checked as a run file together with the resource directories and Configurations it names;\n\
              in any other directory, every YAML file is checked. Without an argument, it is the current directory.\n\
              The exit code is 1 when there is an error.",
    examples: "  dapr validate\n  dapr validate ./components\n  dapr validate dapr.yaml -o json",
    flags: || {
        FlagSet::new()
            .with_all([output_flag(), Flag::new(Kind::Bool, "strict", "", "give the exit code 1 for warnings too")])
    },
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let json = wants_json(parsed)?;
    let paths: Vec<PathBuf> = parsed.positional().iter().map(PathBuf::from).collect();
    let paths = if paths.is_empty() { vec![PathBuf::from(".")] } else { paths };
    let findings = check(context, &paths);
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = findings.len() - errors;
    if json {
        console::output(&as_json(&findings));
    } else {
        findings.iter().for_each(|finding| console::output(&format!("{}: {finding}\n", finding.severity)));
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        match (errors, warnings) {
            (0, 0) => context.console.success(&format!("No problems found in {}", names.join(", "))),
            (0, _) => {
                context.console.warning(&format!("{}, no errors in {}", count(warnings, "warning"), names.join(", ")))
            }
            _ => context.console.failure(&format!(
                "{}, {} in {}",
                count(errors, "error"),
                count(warnings, "warning"),
                names.join(", ")
            )),
        }
    }
    Ok(u8::from(errors > 0 || (parsed.bool("strict") && warnings > 0)))
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn check(context: &Context, paths: &[PathBuf]) -> Vec<Finding> {
    let options = LoadOptions { known_types: (context.component_types)(), ..LoadOptions::default() };
    let mut findings = Vec::new();
    for path in paths {
        match run_file(path) {
            Some(file) => findings.extend(check_run_file(context, &file, &options)),
            None => findings.extend(validate_path(path, &options)),
        }
    }
    findings
}

/// The run file a path stands for.
fn run_file(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.join(file::FILE_NAME)).filter(|file| file.is_file());
    }
    if path.file_name().is_some_and(|name| name == file::FILE_NAME) && path.is_file() {
        return Some(path.to_owned());
    }
    let text = std::fs::read_to_string(path).ok()?;
    let (root, _) = read_document(path, &text).ok()?;
    root.filter(file::is_run_file).map(|_| path.to_owned())
}

/// A run file, and once each of the directories and files it names.
fn check_run_file(context: &Context, path: &Path, options: &LoadOptions) -> Vec<Finding> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(_) => return validate_path(path, options), // it tells why
    };
    let directory =
        std::fs::canonicalize(path).ok().and_then(|file| file.parent().map(Path::to_owned)).unwrap_or_default();
    let (run_file, mut findings) = file::read(path, &text, &directory, context.variable("HOME").map(Path::new));
    let named: BTreeSet<&PathBuf> =
        run_file.apps.iter().flat_map(|app| app.shared.resources.iter().chain(&app.shared.config)).collect();
    for named in named {
        findings.extend(validate_path(&shown(named, &directory, path), options));
    }
    findings
}

/// A path as short as the one the user gave.
fn shown(named: &Path, directory: &Path, run_file: &Path) -> PathBuf {
    match named.strip_prefix(directory) {
        Ok(rest) => run_file.parent().unwrap_or_else(|| Path::new("")).join(rest),
        Err(_) => named.to_owned(),
    }
}

fn as_json(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity.to_string(),
                "file": finding.file.display().to_string(),
                "line": finding.line,
                "field": finding.field,
                "message": finding.message,
                "suggestion": finding.suggestion,
            })
        })
        .collect();
    format!("{:#}\n", json!(list))
}
