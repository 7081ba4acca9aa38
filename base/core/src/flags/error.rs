//! What can be wrong with a command line, in the words of the flag library that scripts know.

use super::{Flag, FlagSet};

/// A command line that cannot be read.
///
/// *Source:* the texts before `; did you mean` are those of pflag 1.0, which `daprd` and the original `dapr` use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// `--help` or `-h`.
    #[error("pflag: help requested")]
    Help,
    /// No flag of this name. `argument` has its dashes.
    #[error("unknown flag: {argument}{}", suggestion_text(suggestion.as_deref()))]
    Unknown {
        /// As given, without a value.
        argument: String,
        /// The nearest long flag, with its dashes.
        suggestion: Option<String>,
    },
    /// No flag with this letter.
    #[error("unknown shorthand flag: {letter:?} in -{group}{}", suggestion_text(suggestion.as_deref()))]
    UnknownLetter {
        /// The letter.
        letter: char,
        /// The letters that were given together.
        group: String,
        /// A long flag that was probably meant, with its dashes.
        suggestion: Option<String>,
    },
    /// The flag is the last argument and takes a value. `flag` is `--name`, or `'a' in -a`.
    #[error("flag needs an argument: {flag}")]
    MissingValue {
        /// How the flag was given.
        flag: String,
    },
    /// The value does not suit the flag's kind.
    #[error("invalid argument {value:?} for {flag:?} flag: {reason}")]
    Value {
        /// The value as given.
        value: String,
        /// `--name` or `-n, --name`.
        flag: String,
        /// What was expected.
        reason: String,
    },
    /// Dashes without a name.
    #[error("bad flag syntax: {argument}")]
    Syntax {
        /// As given.
        argument: String,
    },
}

impl FlagError {
    pub(super) fn value(flag: &Flag, value: &str, reason: String) -> Self {
        let flag = match flag.short {
            Some(letter) => format!("-{letter}, --{}", flag.name),
            None => format!("--{}", flag.name),
        };
        Self::Value { value: value.to_owned(), flag, reason }
    }

    pub(super) fn unknown(set: &FlagSet, name: &str) -> Self {
        Self::Unknown { argument: format!("--{name}"), suggestion: near_flag(set, name) }
    }

    pub(super) fn unknown_letter(set: &FlagSet, letter: char, group: &str) -> Self {
        let name = group.split('=').next().unwrap_or(group);
        Self::UnknownLetter {
            letter,
            group: group.to_owned(),
            suggestion: (name.len() > 1).then(|| near_flag(set, name)).flatten(),
        }
    }
}

fn suggestion_text(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |flag| format!("; did you mean {flag}?"))
}

fn near_flag(set: &FlagSet, name: &str) -> Option<String> {
    let known = set.flags().iter().filter(|flag| !flag.hidden).map(|flag| flag.name);
    nearest(name, known).map(|name| format!("--{name}"))
}

pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > 100 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['_', '.'], "-");
    let wanted = plain(word);
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements to get from one word to the other; a swap of neighbours counts as one.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows: [Vec<usize>; 3] = [vec![0; right.len() + 1], (0..=right.len()).collect(), vec![0; right.len() + 1]];
    for row in 1..=left.len() {
        rows[2][0] = row;
        for column in 1..=right.len() {
            let same = left[row - 1] == right[column - 1];
            let mut best =
                (rows[1][column - 1] + usize::from(!same)).min(rows[1][column] + 1).min(rows[2][column - 1] + 1);
            if row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1] {
                best = best.min(rows[0][column - 2] + 1);
            }
            rows[2][column] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][right.len()]
}
