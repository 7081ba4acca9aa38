//! When a schedule fires next.
//!
//! *Source:* the syntax and the meaning of days and daylight saving of `github.com/dapr/kit/cron`: five fields or six with the
//! second first, descriptors, `@every`, and `TZ=` or `CRON_TZ=` before them. *Invariant:* times are found in the zone of the
//! schedule, so that an hour that is left out does not fire, and one that comes twice fires twice.

use std::time::Duration;

use chrono::{
    DateTime, Datelike as _, Days, Local, LocalResult, Months, NaiveDate, TimeDelta, TimeZone, Timelike as _, Utc,
};
use chrono_tz::Tz;

use super::field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH, SECOND};
use pillion_core::duration::parse_go;

/// A schedule that finds nothing within this time never fires. *Source:* the original's limit of five years.
const HORIZON: Months = Months::new(60);

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// This long after it was started and after each time before.
    Every(Duration),
    /// At these times.
    At(Box<Times>),
}

/// Times of a calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    second: Field,
    minute: Field,
    hour: Field,
    day_of_month: Field,
    month: Field,
    day_of_week: Field,
    zone: Zone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    /// That of this machine.
    Local,
    Named(Tz),
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// Says what is wrong, without the schedule itself.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (zone, text) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            None => (Zone::Local, text.trim()),
            Some(rest) => {
                let (name, schedule) =
                    rest.split_once(' ').ok_or_else(|| format!("no schedule after the time zone {rest:?}"))?;
                (Zone::parse(name)?, schedule.trim())
            }
        };
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => match other.strip_prefix("@every ") {
                Some(text) => return Self::every(text),
                None if other.starts_with('@') => return Err(format!("unrecognized descriptor: {other}")),
                None => other,
            },
        };
        let mut fields: Vec<&str> = fields.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [second, minute, hour, day_of_month, month, day_of_week] = fields[..] else {
            return Err(format!("expected 5 to 6 fields, found {}: {}", fields.len(), fields.join(" ")));
        };
        Ok(Self::At(Box::new(Times {
            second: Field::parse(second, &SECOND)?,
            minute: Field::parse(minute, &MINUTE)?,
            hour: Field::parse(hour, &HOUR)?,
            day_of_month: Field::parse(day_of_month, &DAY_OF_MONTH)?,
            month: Field::parse(month, &MONTH)?,
            day_of_week: Field::parse(day_of_week, &DAY_OF_WEEK)?,
            zone,
        })))
    }

    fn every(text: &str) -> Result<Self, String> {
        let period =
            parse_go(text.trim()).map_err(|problem| format!("failed to parse duration @every {text}: {problem}"))?;
        if period.is_zero() {
            return Err("@every 0s would never stop; expected a duration of more than nothing".to_owned());
        }
        Ok(Self::Every(period))
    }
}

impl Zone {
    fn parse(name: &str) -> Result<Self, String> {
        match name {
            "Local" => Ok(Self::Local),
            "" => Ok(Self::Named(Tz::UTC)),
            name => name.parse().map(Self::Named).map_err(|error| format!("provided bad location {name}: {error}")),
        }
    }
}

impl Times {
    /// The first time after `after`; `None` when there is none for five years.
    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.zone {
            Zone::Local => self.next_in(&Local, after),
            Zone::Named(zone) => self.next_in(&zone, after),
        }
    }

    fn next_in<Z: TimeZone>(&self, zone: &Z, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut at = after.with_nanosecond(0)? + TimeDelta::seconds(1);
        let end = at.checked_add_months(HORIZON)?;
        while at <= end {
            let local = at.with_timezone(zone).naive_local();
            at = if !self.month.has(local.month()) {
                let next_month = local.date().with_day(1)?.checked_add_months(Months::new(1))?;
                begin_of(zone, next_month, at)
            } else if !self.has_day(local.date()) {
                begin_of(zone, local.date().checked_add_days(Days::new(1))?, at)
            } else if !self.hour.has(local.hour()) {
                at + TimeDelta::seconds(i64::from(3600 - local.minute() * 60 - local.second()))
            } else if !self.minute.has(local.minute()) {
                at + TimeDelta::seconds(i64::from(60 - local.second()))
            } else if !self.second.has(local.second()) {
                at + TimeDelta::seconds(1)
            } else {
                return Some(at);
            };
        }
        None
    }

    /// Where both fields for days are restricted, one of them is enough.
    fn has_day(&self, date: NaiveDate) -> bool {
        let of_month = self.day_of_month.has(date.day());
        let of_week = self.day_of_week.has(date.weekday().num_days_from_sunday());
        if self.day_of_month.is_any || self.day_of_week.is_any { of_month && of_week } else { of_month || of_week }
    }
}

/// The first moment of a day, which some zones begin after midnight; always after `at`.
fn begin_of<Z: TimeZone>(zone: &Z, day: NaiveDate, at: DateTime<Utc>) -> DateTime<Utc> {
    let later = at + TimeDelta::hours(1);
    for quarter in 0..24 * 4 {
        let Some(time) = day.and_hms_opt(quarter / 4, quarter % 4 * 15, 0) else { break };
        let begin = match zone.from_local_datetime(&time) {
            LocalResult::Single(begin) | LocalResult::Ambiguous(begin, _) => begin.with_timezone(&Utc),
            LocalResult::None => continue,
        };
        return if begin > at { begin } else { later };
    }
    later
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let Schedule::At(times) = Schedule::parse(schedule).unwrap() else { panic!("{schedule}") };
        let after = DateTime::parse_from_rfc3339(after).unwrap().with_timezone(&Utc);
        times.next(after).map_or("never".to_owned(), |next| next.format("%FT%TZ").to_string())
    }

    #[test]
    fn the_next_time_is_found() {
        for (schedule, after, found) in [
            ("TZ=UTC 0/15 * * * *", "2012-07-09T14:45:00Z", "2012-07-09T15:00:00Z"),
            ("TZ=UTC 20-35/15 * * * *", "2012-07-09T14:45:00Z", "2012-07-09T15:20:00Z"),
            ("TZ=UTC */15 * * * * *", "2012-07-09T14:45:01.5Z", "2012-07-09T14:45:15Z"),
            ("TZ=UTC 15/35 20-35/15 1/2 */2 * *", "2012-07-09T23:59:50Z", "2012-07-11T01:20:15Z"),
            ("TZ=UTC 0 0 * Feb Mon", "2012-07-09T14:45:00Z", "2013-02-04T00:00:00Z"),
            ("TZ=UTC 0 0 29 2 ?", "2012-07-09T14:45:00Z", "2016-02-29T00:00:00Z"),
            ("TZ=UTC 0 0 31 4 *", "2012-07-09T14:45:00Z", "never"),
            // Both fields for days: one of them is enough. A star with a step is no star.
            ("TZ=UTC 0 0 1,15 * sun", "2012-07-09T14:45:00Z", "2012-07-15T00:00:00Z"),
            ("TZ=UTC 0 0 */10 * sun", "2012-07-16T14:45:00Z", "2012-07-21T00:00:00Z"),
            ("TZ=UTC @weekly", "2012-07-09T14:45:00Z", "2012-07-15T00:00:00Z"),
            ("TZ=UTC @yearly", "2012-07-09T14:45:00Z", "2013-01-01T00:00:00Z"),
            ("TZ=UTC @hourly", "2012-07-09T14:00:00Z", "2012-07-09T15:00:00Z"),
            ("CRON_TZ=Asia/Tokyo 30 04 * * *", "2026-01-01T00:00:00Z", "2026-01-01T19:30:00Z"),
            // 02:30 is left out on this day, and comes twice on the other one.
            ("TZ=America/New_York 30 2 * * *", "2012-03-11T00:00:00-05:00", "2012-03-12T06:30:00Z"),
            ("TZ=America/New_York 30 1 * * *", "2012-11-04T01:30:00-04:00", "2012-11-04T06:30:00Z"),
            // Midnight does not exist on this day.
            ("TZ=America/Sao_Paulo 0 0 4 11 *", "2018-11-01T00:00:00Z", "2019-11-04T03:00:00Z"),
            ("TZ=America/Sao_Paulo 0 1 4 11 *", "2018-11-01T00:00:00Z", "2018-11-04T03:00:00Z"),
        ] {
            assert_eq!(next(schedule, after), found, "{schedule}");
        }
        assert_eq!(Schedule::parse("@every 1h30m").unwrap(), Schedule::Every(Duration::from_secs(5400)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (schedule, problem) in [
            ("", "expected 5 to 6 fields, found 0"),
            ("* * * *", "expected 5 to 6 fields, found 4"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x"),
            ("-1 * * * *", "failed to parse int from "),
            ("@never", "unrecognized descriptor: @never"),
            ("@every 5", "failed to parse duration @every 5"),
            ("@every 0s", "would never stop"),
            ("TZ=Nowhere/Land * * * * *", "provided bad location Nowhere/Land"),
            ("TZ=UTC", "no schedule after the time zone"),
        ] {
            let error = Schedule::parse(schedule).unwrap_err();
            assert!(error.contains(problem), "{schedule}: {error}");
        }
    }
}
