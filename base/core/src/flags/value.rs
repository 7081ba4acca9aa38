//! Texts of the command line as typed values.

use std::time::Duration;

use super::Kind;
use crate::duration;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Text(String),
    Int(i64),
    Uint(u64),
    Duration(Duration),
    /// Also of a repeated flag, which does not split at commas.
    List(Vec<String>),
}

impl Value {
    pub(super) fn zero(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(false),
            Kind::Text => Self::Text(String::new()),
            Kind::Int => Self::Int(0),
            Kind::Uint => Self::Uint(0),
            Kind::Duration => Self::Duration(Duration::ZERO),
            Kind::List | Kind::Repeated => Self::List(Vec::new()),
        }
    }

    /// Takes a text; lists grow. `split` says whether commas separate.
    pub(super) fn put(&mut self, text: &str, split: bool) -> Result<(), String> {
        match self {
            Self::Bool(value) => *value = parse_bool(text)?,
            Self::Text(value) => text.clone_into(value),
            Self::Int(value) => *value = parse_int(text)?,
            Self::Uint(value) => *value = parse_uint(text)?,
            Self::Duration(value) => *value = parse_duration(text)?,
            Self::List(values) if split => values.extend(split_list(text)?),
            Self::List(values) => values.push(text.to_owned()),
        }
        Ok(())
    }
}

/// *Source:* the words of Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

enum NumberError {
    Syntax,
    Range,
}

fn describe(function: &str, text: &str, error: &NumberError) -> String {
    let what = match error {
        NumberError::Syntax => "invalid syntax",
        NumberError::Range => "value out of range",
    };
    format!("strconv.{function}: parsing {text:?}: {what}")
}

fn parse_int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let wide = magnitude(digits).map_err(|error| describe("ParseInt", text, &error))?;
    let signed = if negative { -i128::from(wide) } else { i128::from(wide) };
    i64::try_from(signed).map_err(|_| describe("ParseInt", text, &NumberError::Range))
}

fn parse_uint(text: &str) -> Result<u64, String> {
    magnitude(text).map_err(|error| describe("ParseUint", text, &error))
}

/// Digits with an optional base prefix; a leading `0` means octal; `_` may stand between digits of a prefixed number.
fn magnitude(text: &str) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits: String = digits.chars().filter(|letter| *letter != '_').collect();
    if digits.is_empty() || !digits.chars().all(|letter| letter.is_digit(base)) {
        return Err(NumberError::Syntax);
    }
    u64::from_str_radix(&digits, base).map_err(|_| NumberError::Range)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let positive = text.strip_prefix('-');
    match duration::parse_go(positive.unwrap_or(text)) {
        Ok(_) if positive.is_some() => Ok(Duration::ZERO),
        Ok(duration) => Ok(duration),
        Err(_) if text.parse::<f64>().is_ok() => Err(format!("time: missing unit in duration {text:?}")),
        Err(_) => Err(format!("time: invalid duration {text:?}")),
    }
}

/// Comma-separated texts; a text in double quotes keeps its commas, `""` inside it is one quote.
fn split_list(text: &str) -> Result<Vec<String>, String> {
    let mut items = Vec::new();
    if text.is_empty() {
        return Ok(items);
    }
    let mut rest = text;
    loop {
        let (item, next) =
            if let Some(quoted) = rest.strip_prefix('"') { quoted_item(quoted)? } else { plain_item(rest) };
        items.push(item);
        match next {
            Some(next) => rest = next,
            None => return Ok(items),
        }
    }
}

fn plain_item(text: &str) -> (String, Option<&str>) {
    match text.split_once(',') {
        Some((item, next)) => (item.to_owned(), Some(next)),
        None => (text.to_owned(), None),
    }
}

fn quoted_item(text: &str) -> Result<(String, Option<&str>), String> {
    let mut item = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or_else(|| "a double quote is not closed".to_owned())?;
        item.push_str(part);
        if let Some(more) = after.strip_prefix('"') {
            item.push('"');
            rest = more;
        } else if after.is_empty() {
            return Ok((item, None));
        } else {
            let next = after
                .strip_prefix(',')
                .ok_or_else(|| format!("expected a comma after the closing quote, found {after:?}"))?;
            return Ok((item, Some(next)));
        }
    }
}
