//! `validate`: every problem of a file or a directory, whatever kinds it holds and whichever app they are for.

use std::path::Path;

use crate::finding::{Finding, Severity};
use crate::load::{LoadOptions, Loader, go_text, read_text, yaml_files};
use crate::manifest::finding;
use crate::rules;

/// Checks a manifest file, or every `*.yaml` and `*.yml` of a directory together.
///
/// Duplicate names, unknown policies, pub/subs, secret stores and target components are looked for across the whole directory. An empty result means nothing was found.
pub fn validate_path(path: &Path, options: &LoadOptions) -> Vec<Finding> {
    let mut loader = Loader::new(options, true);
    if path.is_dir() {
        match yaml_files(path) {
            Ok(listing) => {
                if listing.files.is_empty() {
                    loader.add(finding(
                        Severity::Warning,
                        path,
                        0,
                        "",
                        "the directory holds no YAML file; nothing was checked",
                        "",
                    ));
                }
                listing.findings.into_iter().for_each(|finding| loader.add(finding));
                for file in &listing.files {
                    validate_file(&mut loader, file);
                }
                let mut loaded = loader.finish();
                loaded.findings.extend(rules::references(&loaded));
                return loaded.findings;
            }
            Err(error) => loader.add(finding(
                Severity::Error,
                path,
                0,
                "",
                format!("cannot list the directory: {}", go_text(&error)),
                "",
            )),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<String> {
        findings
            .iter()
            .map(|finding| {
                format!("{} {}", finding.severity, finding.to_string().rsplit('/').next().unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn a_directory_is_checked_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let store = |name: &str| {
            format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: state.x\n  metadata: [{{name: actorStateStore, value: \"true\"}}]\nauth: {{secretStore: secret}}\nscopes: [{name}, both]\n"
            )
        };
        let files = [
            ("a.yaml", store("one")),
            ("b.yaml", store("two").replace("auth: {secretStore: secret}\n", "")),
            ("c.yaml", "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: secrets}\nspec: {type: secretstores.x}\n".to_owned()),
            ("d.yaml", "apiVersion: dapr.io/v1alpha1\nkind: Subscription\nmetadata: {name: s}\nspec: {pubsubname: p, topic: t, route: /r}\n".to_owned()),
            ("e.yaml", "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec: {tracing: {stdout: $ON, samplingRate: \"1\"}}\n".to_owned()),
            ("f.yaml", "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: r}\nspec: {policies: {timeouts: {t: 1s}}, targets: {components: {oen: {outbound: {timeout: t}}}}}\n".to_owned()),
        ];
        for (name, text) in &files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        assert_eq!(
            lines(&validate_path(directory.path(), &LoadOptions::default())),
            [
                "error b.yaml:1: spec.metadata: two is a second actor state store besides one; only one is allowed; remove actorStateStore from one of them, or give them different scopes",
                "warning d.yaml:1: spec.pubsubname: there is no pubsub component named \"p\" in this directory; add it, or correct the name",
                "warning a.yaml:1: auth.secretStore: there is no secret store component named \"secret\" in this directory; did you mean secrets?",
                "warning f.yaml:1: spec.targets.components.oen: there is no component named \"oen\" in this directory; did you mean one?",
            ]
        );
    }

    #[test]
    fn a_file_alone_and_a_missing_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("any.txt");
        std::fs::write(&file, "retries: {a: {policy: constant}}\n").unwrap();
        assert_eq!(
            lines(&validate_path(&file, &LoadOptions::default())),
            ["warning any.txt:1: no kind; nothing was loaded; did you mean spec.policies.retries?"]
        );
        let missing = validate_path(&directory.path().join("no.yaml"), &LoadOptions::default());
        assert_eq!(
            lines(&missing),
            ["error no.yaml: cannot read the file: no such file or directory; check that it exists and may be read"]
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(validate_path(empty.path(), &LoadOptions::default())[0].message.contains("no YAML file"));
    }
}
