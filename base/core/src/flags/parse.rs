//! Reads arguments against a table.

use std::collections::BTreeMap;

use super::value::Value;
use super::{Entry, Flag, FlagError, FlagSet, Kind, Parsed};

pub(super) fn parse(set: &FlagSet, arguments: impl Iterator<Item = String>) -> Result<Parsed, FlagError> {
    let mut parser = Parser {
        set,
        arguments,
        parsed: Parsed { values: defaults(set)?, positional: Vec::new(), before_dashes: None, warnings: Vec::new() },
    };
    parser.run()?;
    Ok(parser.parsed)
}

fn defaults(set: &FlagSet) -> Result<BTreeMap<&'static str, Entry>, FlagError> {
    let mut values = BTreeMap::new();
    for flag in set.flags() {
        let mut value = Value::zero(flag.kind);
        if !flag.default.is_empty() {
            value.put(flag.default, true).map_err(|reason| FlagError::value(flag, flag.default, reason))?;
        }
        let entry = Entry { flag: flag.clone(), value, given: false };
        values.insert(flag.name, entry);
    }
    Ok(values)
}

struct Parser<'a, I> {
    set: &'a FlagSet,
    arguments: I,
    parsed: Parsed,
}

impl<I: Iterator<Item = String>> Parser<'_, I> {
    fn run(&mut self) -> Result<(), FlagError> {
        while let Some(argument) = self.arguments.next() {
            if argument == "--" {
                self.parsed.before_dashes = Some(self.parsed.positional.len());
                self.parsed.positional.extend(self.arguments.by_ref());
            } else if let Some(long) = argument.strip_prefix("--") {
                self.long(&argument, long)?;
            } else if argument.len() > 1 && argument.starts_with('-') {
                self.single_dash(&argument)?;
            } else {
                self.parsed.positional.push(argument);
                if self.set.stop_at_positional {
                    self.parsed.positional.extend(self.arguments.by_ref());
                }
            }
        }
        Ok(())
    }

    fn long(&mut self, argument: &str, long: &str) -> Result<(), FlagError> {
        if long.starts_with(['-', '=']) {
            return Err(FlagError::Syntax { argument: argument.to_owned() });
        }
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let Some(flag) = self.set.long(name) else {
            return Err(if name == "help" { FlagError::Help } else { FlagError::unknown(self.set, name) });
        };
        let value = match value {
            Some(value) => value.to_owned(),
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => self.arguments.next().ok_or_else(|| FlagError::MissingValue { flag: format!("--{name}") })?,
        };
        self.set_flag(flag.name, &value)
    }

    fn single_dash(&mut self, argument: &str) -> Result<(), FlagError> {
        let group = &argument[1..];
        let name = group.split('=').next().unwrap_or(group);
        if self.set.single_dash_long && name.chars().count() > 1 {
            return self.long(argument, group);
        }
        self.letters(group)
    }

    /// `-abc`: letters of booleans, the last of which may take a value from the rest or the next argument.
    fn letters(&mut self, group: &str) -> Result<(), FlagError> {
        let mut rest = group;
        while let Some(letter) = rest.chars().next() {
            let after = &rest[letter.len_utf8()..];
            let Some(flag) = self.set.by_letter(letter) else {
                return Err(if letter == 'h' {
                    FlagError::Help
                } else {
                    FlagError::unknown_letter(self.set, letter, group)
                });
            };
            let name = flag.name;
            if let Some(value) = after.strip_prefix('=').filter(|_| after.len() > 1) {
                return self.set_flag(name, value);
            }
            if flag.kind == Kind::Bool {
                self.set_flag(name, "true")?;
                rest = after;
                continue;
            }
            if !after.is_empty() {
                return self.set_flag(name, after);
            }
            let value = self
                .arguments
                .next()
                .ok_or_else(|| FlagError::MissingValue { flag: format!("{letter:?} in -{group}") })?;
            return self.set_flag(name, &value);
        }
        Ok(())
    }

    fn set_flag(&mut self, name: &'static str, text: &str) -> Result<(), FlagError> {
        let Some(entry) = self.parsed.values.get_mut(name) else {
            return Err(FlagError::unknown(self.set, name));
        };
        if !entry.given && matches!(entry.value, Value::List(_)) {
            entry.value = Value::zero(entry.flag.kind); // the first value takes the place of the default
        }
        entry
            .value
            .put(text, entry.flag.kind != Kind::Repeated)
            .map_err(|reason| FlagError::value(&entry.flag, text, reason))?;
        if !entry.given {
            entry.given = true;
            self.parsed.warnings.extend(deprecation(&entry.flag));
        }
        Ok(())
    }
}

fn deprecation(flag: &Flag) -> Option<String> {
    flag.deprecated.map(|instead| format!("Flag --{} has been deprecated, {instead}", flag.name))
}
