//! What a plain scalar means.
//!
//! *Source:* the resolution of the YAML 1.1 reader behind Kubernetes manifests (booleans by word, `0777` octal, `_` in numbers).

use serde_json::{Number, Value};

/// The meaning of a scalar; text keeps its characters beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// Empty, `~` or `null`.
    Null,
    /// One of the YAML 1.1 words.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other finite number.
    Float(f64),
    /// Everything else.
    Text,
}

impl Scalar {
    /// Resolves a plain (unquoted, untagged) scalar.
    pub(crate) fn resolve(text: &str) -> Scalar {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                return Scalar::Bool(true);
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
                return Scalar::Bool(false);
            }
            _ => {}
        }
        if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
            return Scalar::Text;
        }
        let digits = text.replace('_', "");
        if let Some(integer) = integer(&digits) {
            return Scalar::Integer(integer);
        }
        if is_float(&digits)
            && let Ok(float) = digits.parse::<f64>()
            && float.is_finite()
        {
            return Scalar::Float(float);
        }
        Scalar::Text
    }

    /// The text a reader of strings gets: the characters for text, the JSON form for the others.
    pub(crate) fn canonical(self, text: &str) -> String {
        match self {
            Scalar::Null => String::new(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Float(value) => go_float(value),
            Scalar::Text => text.to_owned(),
        }
    }

    /// The scalar as JSON.
    pub(crate) fn to_json(self, text: &str) -> Value {
        match self {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Integer(_) | Scalar::Float(_) => {
                let canonical = self.canonical(text);
                canonical.parse::<Number>().map_or(Value::String(canonical), Value::Number)
            }
            Scalar::Text => Value::String(text.to_owned()),
        }
    }
}

/// Decimal, `0x`, `0o`, `0b`, and a leading zero for octal; within the range of i64 and u64.
fn integer(digits: &str) -> Option<i128> {
    let (negative, rest) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let lower = rest.to_ascii_lowercase();
    let (radix, body) = if let Some(body) = lower.strip_prefix("0x") {
        (16, body)
    } else if let Some(body) = lower.strip_prefix("0o") {
        (8, body)
    } else if let Some(body) = lower.strip_prefix("0b") {
        (2, body)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..)?)
    } else {
        (10, lower.as_str())
    };
    if body.is_empty() || body.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(body, radix).ok()?);
    let signed = if negative { -value } else { value };
    (signed >= i128::from(i64::MIN)).then_some(signed)
}

/// `[-+]?(digits[.digits] | .digits)([eE][-+]?digits)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_ok = all_digits(whole) && all_digits(part) && !(whole.is_empty() && part.is_empty());
    let exponent_ok = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    mantissa_ok && exponent_ok
}

/// A float as Go's JSON encoder writes it: no exponent between 1e-6 and 1e21.
fn go_float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_as_yaml_1_1() {
        let cases = [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("on", Scalar::Bool(true)),
            ("No", Scalar::Bool(false)),
            ("oN", Scalar::Text),
            ("42", Scalar::Integer(42)),
            ("-7", Scalar::Integer(-7)),
            ("0777", Scalar::Integer(511)),
            ("0o17", Scalar::Integer(15)),
            ("0x1F", Scalar::Integer(31)),
            ("0b11", Scalar::Integer(3)),
            ("1_000", Scalar::Integer(1000)),
            ("18446744073709551615", Scalar::Integer(18_446_744_073_709_551_615)),
            ("089", Scalar::Float(89.0)),
            ("1.5", Scalar::Float(1.5)),
            (".5", Scalar::Float(0.5)),
            ("1e3", Scalar::Float(1000.0)),
            ("1.2.3", Scalar::Text),
            ("10s", Scalar::Text),
            ("-", Scalar::Text),
            (".", Scalar::Text),
            ("2020-01-02", Scalar::Text),
        ];
        for (text, expected) in cases {
            assert_eq!(Scalar::resolve(text), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_become_their_json_text() {
        let cases = [
            ("1.0", "1"),
            ("1.10", "1.1"),
            ("0123", "83"),
            ("yes", "true"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("v1", "v1"),
        ];
        for (text, expected) in cases {
            assert_eq!(Scalar::resolve(text).canonical(text), expected, "{text}");
        }
    }
}
