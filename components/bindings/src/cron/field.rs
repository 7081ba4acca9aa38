//! One field of a schedule: the numbers it names.
//!
//! *Source:* the syntax of `github.com/dapr/kit/cron`, which is that of robfig/cron.

/// What may stand in a field.
pub(super) struct Range {
    pub(super) min: u32,
    pub(super) max: u32,
    /// Names of the numbers from `min` on.
    names: &'static [&'static str],
}

pub(super) const SECOND: Range = Range { min: 0, max: 59, names: &[] };
pub(super) const MINUTE: Range = Range { min: 0, max: 59, names: &[] };
pub(super) const HOUR: Range = Range { min: 0, max: 23, names: &[] };
pub(super) const DAY_OF_MONTH: Range = Range { min: 1, max: 31, names: &[] };
pub(super) const MONTH: Range = Range {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Sunday is 0.
pub(super) const DAY_OF_WEEK: Range =
    Range { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// A set of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n: n is in it.
    bits: u64,
    /// It was written as a star: of the two fields for days the other one decides.
    pub(super) is_any: bool,
}

impl Field {
    /// Reads a list of numbers, names, ranges and steps.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub(super) fn parse(text: &str, range: &Range) -> Result<Self, String> {
        let mut field = Self { bits: 0, is_any: false };
        for part in text.split(',') {
            let (first, last, step, is_any) = parse_part(part, range)?;
            field.is_any |= is_any;
            for number in (first..=last).step_by(step) {
                field.bits |= 1 << number;
            }
        }
        Ok(field)
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.bits >> number & 1 == 1
    }
}

fn parse_part(part: &str, range: &Range) -> Result<(u32, u32, usize, bool), String> {
    let (numbers, step) = match part.split_once('/') {
        None => (part, None),
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {part}")),
        Some((numbers, step)) => (numbers, Some(step)),
    };
    let is_star = matches!(numbers, "*" | "?");
    let (first, last) = match numbers.split_once('-') {
        _ if is_star => (range.min, range.max),
        // N/step means from N to the end.
        None => {
            let first = number(numbers, range)?;
            (first, if step.is_some() { range.max } else { first })
        }
        Some((_, last)) if last.contains('-') => return Err(format!("too many hyphens: {part}")),
        Some((first, last)) => (number(first, range)?, number(last, range)?),
    };
    let step = match step {
        None => 1,
        Some(step) => {
            step.parse::<usize>().map_err(|error| format!("failed to parse int from {step}: {error}: {part}"))?
        }
    };
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if first < range.min {
        return Err(format!("beginning of range ({first}) below minimum ({}): {part}", range.min));
    }
    if last > range.max {
        return Err(format!("end of range ({last}) above maximum ({}): {part}", range.max));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
    }
    Ok((first, last, step, is_star && step == 1))
}

fn number(text: &str, range: &Range) -> Result<u32, String> {
    let named = range.names.iter().zip(range.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
    match named {
        Some((_, number)) => Ok(number),
        None => text.parse().map_err(|error| format!("failed to parse int from {text}: {error}")),
    }
}
