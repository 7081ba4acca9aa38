//! Go-style durations (`1h2m3.5s`, `500ms`), the form of every duration on the command line and in manifests.

use std::time::Duration;

/// Parses a non-negative Go duration.
///
/// # Errors
/// A text that names the value and the accepted form; a bare number other than `0` is refused, as Go refuses it.
pub fn parse_go(text: &str) -> Result<Duration, String> {
    let invalid =
        || format!("invalid duration {text:?}: expected a number with a unit, for example 500ms, 5s or 1h30m");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        nanos += number * factor;
        rest = next;
    }
    if nanos > 9.2e18 {
        return Err(invalid());
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Parses a duration of a resiliency policy: a Go duration, or a bare integer in milliseconds.
///
/// # Errors
/// As [`parse_go`].
pub fn parse_policy(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<u64>() {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => parse_go(text.trim()),
    }
}

/// Renders a duration as Go does (`5s`, `500ms`, `1m30s`, `0s`).
pub fn format_go(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, divisor) = match nanos {
            0..=999 => ("ns", 1),
            1_000..=999_999 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{unit}", fraction(nanos, divisor));
    }
    let seconds = nanos / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut out = String::new();
    if hours > 0 {
        out.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        out.push_str(&format!("{minutes}m"));
    }
    out.push_str(&fraction(nanos - (hours * 3600 + minutes * 60) * 1_000_000_000, 1_000_000_000));
    out.push('s');
    out
}

fn fraction(nanos: u128, divisor: u128) -> String {
    let (whole, part) = (nanos / divisor, nanos % divisor);
    if part == 0 {
        return whole.to_string();
    }
    let digits = divisor.ilog10() as usize;
    let part = format!("{part:0digits$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_renders_like_go() {
        let cases = [
            ("5s", 5_000, "5s"),
            ("1m30s", 90_000, "1m30s"),
            ("1.5h", 5_400_000, "1h30m0s"),
            ("500ms", 500, "500ms"),
            ("0", 0, "0s"),
            ("1500ms", 1_500, "1.5s"),
        ];
        for (text, millis, rendered) in cases {
            let parsed = parse_go(text).unwrap();
            assert_eq!(parsed, Duration::from_millis(millis), "{text}");
            assert_eq!(format_go(parsed), rendered, "{text}");
        }
    }

    #[test]
    fn refuses_other_texts() {
        for text in ["", "5", "s", "5x", "-1s", "1h-2m", "1..5s"] {
            assert!(parse_go(text).is_err(), "{text}");
        }
    }

    #[test]
    fn policy_durations_take_bare_milliseconds() {
        assert_eq!(parse_policy("250"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_policy("2s"), Ok(Duration::from_secs(2)));
    }
}
