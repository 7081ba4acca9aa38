//! Broken manifests and the exact findings each gives.
//!
//! A corpus file holds cases: `>>> name`, the text of a manifest file, then one `<<< severity line: …` per expected finding.
//! `UPDATE_CORPUS=1` writes what is found now into the files; read the difference before you keep it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pillion_resources::{LoadOptions, validate_text};

const CASES_MIN: usize = 175;
const KNOWN_TYPES: [&str; 12] = [
    "state.in-memory",
    "state.sqlite",
    "state.redis",
    "pubsub.in-memory",
    "pubsub.redis",
    "pubsub.kafka",
    "bindings.cron",
    "bindings.http",
    "secretstores.local.file",
    "secretstores.local.env",
    "configuration.redis",
    "middleware.http.ratelimit",
];

#[derive(Default)]
struct Case {
    name: String,
    text: String,
    expected: Vec<String>,
}

fn cases(corpus: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in corpus.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix(">>> ") {
            cases.push(Case { name: name.trim().to_owned(), ..Case::default() });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        match line.strip_prefix("<<< ") {
            Some(expected) => case.expected.push(expected.trim_end().to_owned()),
            None => case.text.push_str(line),
        }
    }
    cases
}

fn findings(case: &Case) -> Vec<String> {
    let options = LoadOptions { known_types: KNOWN_TYPES.map(str::to_owned).to_vec(), ..LoadOptions::default() };
    let found = validate_text(Path::new("f.yaml"), &case.text, &options);
    found
        .iter()
        .map(|finding| {
            format!("{} {}", finding.severity, finding.to_string().trim_start_matches("f.yaml:").trim_start())
        })
        .collect()
}

fn corpus_files() -> Vec<PathBuf> {
    // Cargo's word at run time: with a build directory that clones share, the path compiled in may be another clone's.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
    let directory = Path::new(&own).join("tests/corpus");
    let entries = std::fs::read_dir(directory).expect("the corpus is beside this file");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

#[test]
fn every_broken_manifest_gives_its_findings() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    let (mut total, mut failures, mut names) = (0, String::new(), BTreeSet::new());
    for file in corpus_files() {
        let cases = cases(&std::fs::read_to_string(&file).unwrap());
        let mut rewritten = String::new();
        for case in &cases {
            total += 1;
            assert!(names.insert(case.name.clone()), "two cases are called {}", case.name);
            let found = findings(case);
            writeln!(
                rewritten,
                ">>> {}\n{}{}",
                case.name,
                case.text,
                found.iter().map(|line| format!("<<< {line}\n")).collect::<String>().trim_end()
            )
            .unwrap();
            assert!(!found.is_empty(), "{}: nothing was found", case.name);
            let advises = |line: &String| line.contains("; ");
            assert!(found.iter().all(advises), "{}: not all say what to do: {found:#?}", case.name);
            if found != case.expected {
                writeln!(failures, "{}:\n  expected {:#?}\n  found    {:#?}", case.name, case.expected, found).unwrap();
            }
        }
        if update {
            std::fs::write(&file, rewritten).unwrap();
        }
    }
    assert!(total >= CASES_MIN, "only {total} cases");
    assert!(update || failures.is_empty(), "{failures}");
}
