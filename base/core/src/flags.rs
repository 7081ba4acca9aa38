//! Command-line flags as a value: a table of flags, parsed into typed values, rendered as help.
//!
//! *Job:* one parser for `daprd` and the `dapr` commands, with the syntax and error texts of the flag library that their users and
//! scripts know. *Neighbours:* [`parse`](FlagSet::parse) reads arguments, `value` turns texts into values, `usage` writes the help.
//! *Invariant:* nothing here reads the process; arguments and environment values are passed in, and a table is never changed by parsing.

mod error;
mod parse;
#[cfg(test)]
mod tests;
mod usage;
mod value;

use std::collections::BTreeMap;
use std::time::Duration;

pub use error::FlagError;
use value::Value;

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag`, `--flag=true`, `--flag=0`; never takes the next argument.
    Bool,
    /// Any text.
    Text,
    /// Signed whole number; `0x`, `0o`, `0b` and `_` are understood.
    Int,
    /// As [`Kind::Int`], zero or more.
    Uint,
    /// Go duration such as `500ms` or `1h30m`; a negative one reads as zero.
    Duration,
    /// Texts separated by commas; repeating the flag adds to the list. `"a,b"` in double quotes is one text.
    List,
    /// One text for each time the flag is given, commas included.
    Repeated,
}

/// One row of a [`FlagSet`].
#[derive(Clone, Debug)]
pub struct Flag {
    /// Long name without dashes.
    pub name: &'static str,
    /// Letter of the short form.
    pub short: Option<char>,
    /// What its value is.
    pub kind: Kind,
    /// Value when the flag is not given, as a user would write it; empty = the kind's zero value.
    pub default: &'static str,
    /// One sentence for the help; a word in backquotes names the value there.
    pub help: &'static str,
    /// Left out of the help.
    pub hidden: bool,
    /// Why not to use it any more; giving the flag adds a warning to [`Parsed::warnings`].
    pub deprecated: Option<&'static str>,
}

impl Flag {
    /// A visible flag without a short form.
    #[must_use]
    pub const fn new(kind: Kind, name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { name, short: None, kind, default, help, hidden: false, deprecated: None }
    }

    /// With a short form.
    #[must_use]
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// Without a line in the help.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Hidden, and with a warning when given.
    #[must_use]
    pub const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self.hidden = true;
        self
    }
}

/// A table of flags and how arguments are read.
#[derive(Clone, Debug, Default)]
pub struct FlagSet {
    flags: Vec<Flag>,
    single_dash_long: bool,
    stop_at_positional: bool,
}

impl FlagSet {
    /// An empty table: long names take two dashes, flags may stand between positional arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a flag. A later flag of the same name replaces the earlier one.
    #[must_use]
    pub fn with(mut self, flag: Flag) -> Self {
        self.flags.retain(|existing| existing.name != flag.name);
        self.flags.push(flag);
        self
    }

    /// Adds several flags.
    #[must_use]
    pub fn with_all(self, flags: impl IntoIterator<Item = Flag>) -> Self {
        flags.into_iter().fold(self, Self::with)
    }

    /// Reads `-app-id x` as `--app-id x`, as `daprd` does. A single letter stays a short form.
    #[must_use]
    pub fn single_dash_long(mut self) -> Self {
        self.single_dash_long = true;
        self
    }

    /// Treats everything from the first positional argument on as positional.
    #[must_use]
    pub fn stop_at_positional(mut self) -> Self {
        self.stop_at_positional = true;
        self
    }

    /// The rows, in the order they were added.
    #[must_use]
    pub fn flags(&self) -> &[Flag] {
        &self.flags
    }

    /// Reads the arguments (without the program's name).
    ///
    /// # Errors
    /// The first argument that cannot be read; `--help` and `-h` are [`FlagError::Help`] unless the table has its own flag for them.
    pub fn parse<I>(&self, arguments: I) -> Result<Parsed, FlagError>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        parse::parse(self, arguments.into_iter().map(Into::into))
    }

    /// The help lines of all visible flags, aligned, each ending in a line break.
    #[must_use]
    pub fn usage(&self) -> String {
        usage::usage(self)
    }

    fn long(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().find(|flag| flag.name == name)
    }

    fn by_letter(&self, letter: char) -> Option<&Flag> {
        self.flags.iter().find(|flag| flag.short == Some(letter))
    }
}

/// The values of one command line.
///
/// Asking for a flag that is not in the table, or for another kind, is a mistake in the program: it fails in debug builds and
/// gives the zero value in release builds.
#[derive(Clone, Debug)]
pub struct Parsed {
    values: BTreeMap<&'static str, Entry>,
    positional: Vec<String>,
    before_dashes: Option<usize>,
    warnings: Vec<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    flag: Flag,
    value: Value,
    given: bool,
}

impl Parsed {
    /// Whether the flag stood on the command line, whatever its value.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|entry| entry.given)
    }

    /// Names of the flags that stood on the command line, sorted.
    pub fn given_names(&self) -> impl Iterator<Item = &'static str> {
        self.values.iter().filter(|(_, entry)| entry.given).map(|(name, _)| *name)
    }

    /// Value of a [`Kind::Bool`].
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Bool(value)) => *value,
            other => mismatch(name, other, false),
        }
    }

    /// Value of a [`Kind::Text`].
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Some(Value::Text(value)) => value,
            other => mismatch(name, other, ""),
        }
    }

    /// Value of a [`Kind::Int`].
    #[must_use]
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Int(value)) => *value,
            other => mismatch(name, other, 0),
        }
    }

    /// Value of a [`Kind::Uint`].
    #[must_use]
    pub fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Uint(value)) => *value,
            other => mismatch(name, other, 0),
        }
    }

    /// Value of a [`Kind::Duration`].
    #[must_use]
    pub fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Duration(value)) => *value,
            other => mismatch(name, other, Duration::ZERO),
        }
    }

    /// Values of a [`Kind::List`] or [`Kind::Repeated`].
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::List(values)) => values,
            other => mismatch(name, other, &[]),
        }
    }

    /// Arguments that are no flags, in order; those after `--` included.
    #[must_use]
    pub fn positional(&self) -> &[String] {
        &self.positional
    }

    /// How many positional arguments stood before `--`; `None` when there was no `--`.
    #[must_use]
    pub fn positional_before_dashes(&self) -> Option<usize> {
        self.before_dashes
    }

    /// Sentences about deprecated flags that were given.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Gives a flag another default, for example from an environment variable. A flag that was given keeps its value.
    ///
    /// # Errors
    /// [`FlagError::Value`] when the text does not suit the flag's kind.
    pub fn set_default(&mut self, name: &str, text: &str) -> Result<(), FlagError> {
        if let Some(entry) = self.values.get_mut(name).filter(|entry| !entry.given) {
            entry.value = Value::zero(entry.flag.kind);
            entry.value.put(text, true).map_err(|reason| FlagError::value(&entry.flag, text, reason))?;
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|entry| &entry.value)
    }
}

fn mismatch<T>(name: &str, found: Option<&Value>, zero: T) -> T {
    debug_assert!(false, "flag --{name} was asked for as another kind than {found:?}");
    zero
}

/// The known word nearest to `word`, when it is near enough to be a slip of the hand.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    error::nearest(word, known)
}
