//! `grpc-timeout`: how long a caller waits. Passed on as what is left of it, and kept by the proxy itself.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use pillion_runtime::resiliency::TIMEOUT_TEXT;
use tokio::time::Instant;
use tonic::Status;

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The protocol allows eight digits.
const DIGITS_MAX: u128 = 99_999_999;

/// When a call has to be over; `None` = never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deadline(pub(super) Option<Instant>);

impl Deadline {
    /// The deadline of a call that arrives now. A timeout that is not one counts as none; it is passed on unchanged for
    /// the app to judge.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let timeout = headers.get(GRPC_TIMEOUT).and_then(|value| parse(value.as_bytes()));
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Writes what is left into a request.
    pub(super) fn put(self, headers: &mut HeaderMap) {
        if let Some(end) = self.0 {
            headers.insert(GRPC_TIMEOUT, format(end.saturating_duration_since(Instant::now())));
        }
    }

    /// Waits for `work`, until the deadline at most.
    pub(super) async fn limit<T>(self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match self.0 {
            None => work.await,
            Some(end) => tokio::time::timeout_at(end, work).await.unwrap_or_else(|_| Err(exceeded())),
        }
    }
}

/// The status of a call that took too long.
pub(super) fn exceeded() -> Status {
    Status::deadline_exceeded(TIMEOUT_TEXT)
}

fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// The finest unit that fits; a time that is over is the shortest one there is.
fn format(left: Duration) -> HeaderValue {
    let units =
        [(left.as_nanos(), 'n'), (left.as_micros(), 'u'), (left.as_millis(), 'm'), (u128::from(left.as_secs()), 'S')];
    let (amount, unit) =
        units.into_iter().find(|(amount, _)| *amount <= DIGITS_MAX).unwrap_or((u128::from(left.as_secs() / 3600), 'H'));
    let text = format!("{}{unit}", amount.max(1));
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("1n")) // digits and a letter always are one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_written() {
        assert_eq!(parse(b"2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in [&b""[..], b"S", b"1", b"1x", b"-1S", b"123456789S"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        for (left, text) in [
            (Duration::ZERO, "1n"),
            (Duration::from_millis(3), "3000000n"),
            (Duration::from_secs(2), "2000000u"),
            (Duration::from_secs(200), "200000m"),
            (Duration::from_secs(200_000), "200000S"),
            (Duration::from_secs(400_000_000), "111111H"),
        ] {
            assert_eq!(format(left), text);
        }
    }

    #[tokio::test]
    async fn a_deadline_beyond_the_clock_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("99999999H"));
        let _ = Deadline::of(&headers); // does not panic, whatever the clock can hold
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("5S"));
        let deadline = Deadline::of(&headers);
        deadline.put(&mut headers);
        assert!(headers[GRPC_TIMEOUT].to_str().unwrap().ends_with('u'), "{headers:?}");
    }
}
