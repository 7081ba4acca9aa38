//! `cargo xtask deny`: licences, sources, banned crates and TLS providers of all dependencies, against `deny.toml`.
//! Two major versions of one crate are reported and do not fail: they cost build time, not correctness.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::metadata::{Package, load, root};

/// The part of `deny.toml` that is read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rules {
    licenses: Vec<String>,
    banned: Vec<String>,
    tls_providers: Vec<String>,
    git_sources: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Lists every dependency that breaks a rule.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("usage: cargo xtask deny");
    }
    let path = root()?.join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let rules = Rules::parse(&text).with_context(|| format!("reading {}", path.display()))?;
    let packages = load()?;
    for line in duplicates(&packages) {
        println!("note: {line}");
    }
    let problems = check(&packages, &rules);
    if !problems.is_empty() {
        bail!("{} dependency problem(s):\n{}", problems.len(), problems.join("\n"));
    }
    println!("deny: {} packages, licences, sources and TLS provider as deny.toml wants them", packages.len());
    Ok(())
}

impl Rules {
    /// Reads the arrays of strings in `text`; that is all of TOML this file needs.
    ///
    /// # Errors
    /// A line that is none of comment, section or array, and an unknown key; with the line number.
    fn parse(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        let mut section = String::new();
        let mut open: Option<(String, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some((_, _, value)) = &mut open {
                value.push_str(line);
            } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                open = Some((format!("{section}.{}", key.trim()), number + 1, value.trim().to_owned()));
            } else if !line.is_empty() {
                bail!("line {}: expected a [section] or key = [\"…\"], found {line:?}", number + 1);
            }
            if let Some((key, first, value)) = open.take_if(|(_, _, value)| value.ends_with(']')) {
                let items =
                    strings(&value).with_context(|| format!("line {first}: {key} must be an array of strings"))?;
                match key.as_str() {
                    "licenses.allow" => rules.licenses = items,
                    "bans.deny" => rules.banned = items,
                    "bans.tls-providers" => rules.tls_providers = items,
                    "sources.allow-git" => rules.git_sources = items,
                    _ => bail!(
                        "line {first}: unknown key {key}; known are licenses.allow, bans.deny, bans.tls-providers, sources.allow-git"
                    ),
                }
            }
        }
        match open {
            Some((key, first, _)) => bail!("line {first}: the array of {key} has no end"),
            None => Ok(rules),
        }
    }
}

fn strings(array: &str) -> Option<Vec<String>> {
    let inner = array.strip_prefix('[')?.strip_suffix(']')?;
    let items = inner.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| Some(item.strip_prefix('"')?.strip_suffix('"')?.to_owned())).collect()
}

/// One line per problem.
fn check(packages: &[Package], rules: &Rules) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let Package { name, version, license, source, .. } = package;
        if license.is_empty() {
            problems.push(format!("{name} {version}: no licence in its manifest"));
        } else if !satisfied(license, &rules.licenses) {
            problems.push(format!(
                "{name} {version}: licence {license:?} cannot be met with the allowed ones; see [licenses] allow"
            ));
        }
        if rules.banned.contains(name) {
            problems.push(format!("{name} {version}: banned by [bans] deny"));
        }
        if let Some(address) = source.as_deref().and_then(|source| source.strip_prefix("git+"))
            && !rules.git_sources.iter().any(|allowed| address.starts_with(allowed.as_str()))
        {
            problems.push(format!("{name} {version}: comes from git ({address}); use a published version"));
        }
    }
    let present: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .filter(|name| rules.tls_providers.iter().any(|known| known == name))
        .collect();
    if present.len() != 1 {
        let found =
            if present.is_empty() { "none".to_owned() } else { present.into_iter().collect::<Vec<_>>().join(", ") };
        problems.push(format!("exactly one TLS provider is wanted, found {found}"));
    }
    problems
}

/// Crates present in more than one incompatible version.
fn duplicates(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(compatible(&package.version));
    }
    let several = versions.into_iter().filter(|(_, found)| found.len() > 1);
    several
        .map(|(name, found)| {
            format!(
                "{name} in {} incompatible versions: {}",
                found.len(),
                found.into_iter().collect::<Vec<_>>().join(", ")
            )
        })
        .collect()
}

/// The part of a version that decides compatibility: `1`, `0.4`, `0.0.3`.
fn compatible(version: &str) -> String {
    let parts: Vec<&str> = version.split(['.', '-', '+']).collect();
    let leading = parts.iter().take_while(|part| **part == "0").count();
    parts[..parts.len().min(leading + 1)].join(".")
}

/// Whether SPDX expression `text` can be met with `allowed`. `/` is the old spelling of OR; AND binds tighter than OR.
fn satisfied(text: &str, allowed: &[String]) -> bool {
    let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let found = either(&words, &mut at, allowed);
    found && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut found = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        found |= both(words, at, allowed);
    }
    found
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut found = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        found &= one(words, at, allowed);
    }
    found
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else {
        return false;
    };
    *at += 1;
    if *word == "(" {
        let found = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return found && closed;
    }
    let mut license = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        license = format!("{license} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&license)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::parse("[licenses]\nallow = [\n  \"MIT\", # fine\n  \"Apache-2.0 WITH LLVM-exception\",\n]\n[bans]\ntls-providers = [\"ring\", \"openssl\"]\ndeny = [\"smol\"]\n[sources]\nallow-git = []\n").unwrap()
    }

    fn package(name: &str, license: &str, source: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.to_owned(),
            source: source.map(str::to_owned),
            ..Package::default()
        }
    }

    #[test]
    fn expressions_are_evaluated() {
        let allowed = rules().licenses;
        for (text, wanted) in [
            ("MIT", true),
            ("MIT/GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("(MIT", false),
            ("MIT MIT", false),
        ] {
            assert_eq!(satisfied(text, &allowed), wanted, "{text}");
        }
    }

    #[test]
    fn each_rule_can_fail() {
        let ring = package("ring", "MIT", None);
        assert!(check(std::slice::from_ref(&ring), &rules()).is_empty());
        let problems = check(
            &[
                ring,
                package("openssl", "MIT", None),
                package("smol", "MIT", None),
                package("a", "", None),
                package("b", "GPL-3.0", None),
                package("c", "MIT", Some("git+https://x/y")),
            ],
            &rules(),
        )
        .join("\n");
        for part in [
            "found openssl, ring",
            "smol 1.0.0: banned",
            "a 1.0.0: no licence",
            "b 1.0.0: licence \"GPL-3.0\"",
            "c 1.0.0: comes from git",
        ] {
            assert!(problems.contains(part), "{part} not in\n{problems}");
        }
        assert!(check(&[], &rules())[0].contains("found none"));
    }

    #[test]
    fn duplicates_are_by_compatibility() {
        let version = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            ..Package::default()
        };
        let packages = [
            version("a", "1.0.0"),
            version("a", "1.2.0"),
            version("b", "0.3.1"),
            version("b", "0.4.0"),
            version("c", "0.0.1"),
            version("c", "0.0.2"),
        ];
        assert_eq!(
            duplicates(&packages),
            ["b in 2 incompatible versions: 0.3, 0.4", "c in 2 incompatible versions: 0.0.1, 0.0.2"]
        );
    }

    #[test]
    fn mistakes_in_the_file_are_located() {
        for (text, part) in [
            ("allow", "line 1"),
            ("[licenses]\nallow = [1]", "line 2"),
            ("[x]\ny = []", "unknown key x.y"),
            ("[bans]\ndeny = [", "no end"),
        ] {
            let error = format!("{:#}", Rules::parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
