//! W3C baggage: checked at the edge, passed on as it is.
//!
//! *Source:* the W3C Baggage grammar with the limits of the original's parser; spec metrics.md §5.2.

use std::fmt;

/// Longest header.
const BYTES_MAX: usize = 8192;
/// Longest pair with its properties.
const MEMBER_BYTES_MAX: usize = 4096;
/// Most pairs.
const MEMBERS_MAX: usize = 180;

/// Why a `baggage` header is refused; the text begins as the original's answers do.
#[derive(Debug, PartialEq, Eq)]
pub struct BaggageError(String);

impl fmt::Display for BaggageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid baggage header: {}", self.0)
    }
}

impl std::error::Error for BaggageError {}

/// Checks the value of a `baggage` header (several headers joined with commas).
///
/// # Errors
/// It is not a list of `key=value[;property]`, or longer than allowed.
pub fn check_baggage(value: &[u8]) -> Result<(), BaggageError> {
    if value.is_empty() {
        return Ok(());
    }
    if value.len() > BYTES_MAX {
        return Err(BaggageError(format!("baggage-string too large: {}", value.len())));
    }
    let mut count = 0;
    for member in value.split(|byte| *byte == b',') {
        count += 1;
        if count > MEMBERS_MAX {
            return Err(BaggageError(format!("too many list-members in baggage-string: more than {MEMBERS_MAX}")));
        }
        check_member(member)?;
    }
    Ok(())
}

fn check_member(member: &[u8]) -> Result<(), BaggageError> {
    let refuse = |what: &str| Err(BaggageError(format!("{what}: {:?}", String::from_utf8_lossy(member))));
    if member.len() > MEMBER_BYTES_MAX {
        return Err(BaggageError(format!("list-member too large: {}", member.len())));
    }
    let mut parts = member.split(|byte| *byte == b';');
    match parts.next().and_then(pair) {
        Some((key, Some(value))) if is_key(key) && is_value(value) => {}
        _ => return refuse("invalid baggage list-member"),
    }
    for property in parts {
        match pair(property) {
            Some((key, value)) if is_key(key) && value.is_none_or(is_value) => {}
            _ => return refuse("invalid baggage list-member property"),
        }
    }
    Ok(())
}

/// `key` or `key=value`, without spaces around.
fn pair(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => Some((text.get(..at)?.trim_ascii(), Some(text.get(at + 1..)?.trim_ascii()))),
        None => Some((text.trim_ascii(), None)),
    }
}

fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Only bytes of a header value that need no escape, and escapes that are whole.
fn is_value(value: &[u8]) -> bool {
    let plain = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
    value.iter().all(plain)
        && value
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'%')
            .all(|(at, _)| value.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_pairs_are_taken() {
        let full = "k=".to_owned() + &"v".repeat(4000);
        for good in ["", "key1=value1,key2=value2", " a = 1 ; p ; q=2 , b=", "k=%20x", "k=a=b", &full] {
            assert_eq!(check_baggage(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        let many = vec!["a=b"; MEMBERS_MAX + 1].join(",");
        let long = "k=".to_owned() + &"v".repeat(BYTES_MAX);
        for bad in ["invalid-baggage", "a=b,", "=b", "a b=c", "a=b c", "a=b;=c", "a=%2", "a=\"x\"", &many, &long] {
            let error = check_baggage(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("invalid baggage header: "), "{bad}: {error}");
        }
    }
}
