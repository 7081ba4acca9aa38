//! Kubernetes quantities such as `4Mi`, used for body and buffer sizes.

/// Parses a Kubernetes quantity into bytes.
///
/// Accepts a decimal number with an optional suffix: `k M G T P` (powers of 1000) or `Ki Mi Gi Ti Pi` (powers of 1024).
/// Fractions round up to a whole byte.
///
/// # Errors
/// A text that names the value and the accepted form.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const SUFFIXES: [(&str, f64); 10] = [
        ("Ki", 1024.0),
        ("Mi", 1024.0 * 1024.0),
        ("Gi", 1024.0 * 1024.0 * 1024.0),
        ("Ti", 1024.0 * 1024.0 * 1024.0 * 1024.0),
        ("Pi", 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let trimmed = text.trim();
    let (digits, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| trimmed.strip_suffix(suffix).map(|digits| (digits, *factor)))
        .unwrap_or((trimmed, 1.0));
    let number: f64 = digits.parse().map_err(|_| {
        format!("invalid quantity {text:?}: expected a number with an optional suffix such as 4Mi, 512Ki or 1000")
    })?;
    if !number.is_finite() || number < 0.0 {
        return Err(format!("invalid quantity {text:?}: expected zero or more"));
    }
    Ok((number * factor).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn accepts_the_documented_forms() {
        let cases = [
            ("4Mi", 4 << 20),
            ("4Ki", 4096),
            ("1000", 1000),
            ("1k", 1000),
            ("1.5Ki", 1536),
            ("0", 0),
            ("2G", 2_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_others_by_name() {
        for text in ["", "Mi", "4MiB", "-1", "four"] {
            assert!(parse_bytes(text).unwrap_err().contains("quantity"), "{text}");
        }
    }
}
