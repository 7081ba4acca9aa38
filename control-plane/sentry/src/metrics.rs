//! The metrics of sentry, in the Prometheus text form. *Source:* spec metrics.md, "sentry"; the help texts are the original's.
//!
//! A metric that never happened is not printed, as in the original.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, StatusCode, header};

use crate::http_server::{Answer, answer};

/// What sentry counts. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    requests: AtomicU64,
    signed: AtomicU64,
    failed: AtomicU64,
    own_failed: AtomicU64,
    issuer_changed: AtomicU64,
    issuer_expiry: AtomicU64,
}

impl Metrics {
    /// A request for a certificate came in.
    pub(crate) fn request(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// It was answered with a certificate, or not.
    pub(crate) fn answered(&self, signed: bool) {
        let counter = if signed { &self.0.signed } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Sentry could not make its own certificate.
    pub(crate) fn own_certificate_failed(&self) {
        self.0.own_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The issuer was made or exchanged.
    pub(crate) fn issuer_changed(&self) {
        self.0.issuer_changed.fetch_add(1, Ordering::Relaxed);
    }

    /// When the issuer's certificate ends.
    pub(crate) fn issuer_expires(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.0.issuer_expiry.store(seconds, Ordering::Relaxed);
    }

    /// The answer of the metrics server.
    pub(crate) fn respond(&self) -> Answer {
        let mut response = answer(StatusCode::OK, &self.text());
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn text(&self) -> String {
        let numbers = &self.0;
        let mut text = String::new();
        let mut add = |name: &str, labels: &str, kind: &str, help: &str, value: &AtomicU64| {
            let value = value.load(Ordering::Relaxed);
            if value > 0 {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "# HELP dapr_sentry_{name} {help}\n# TYPE dapr_sentry_{name} {kind}\ndapr_sentry_{name}{labels} {}",
                    number(value)
                );
            }
        };
        let help = "The number of errors occurred when signing the CSR.";
        add("cert_sign_failure_total", "{reason=\"sign\"}", "counter", help, &numbers.failed);
        let help = "The number of CSRs received.";
        add("cert_sign_request_received_total", "", "counter", help, &numbers.requests);
        let help = "The number of certificates issuances that have succeeded.";
        add("cert_sign_success_total", "", "counter", help, &numbers.signed);
        let help = "The number of issuer cert updates, when issuer cert or key is changed";
        add("issuercert_changed_total", "", "counter", help, &numbers.issuer_changed);
        let help = "The unix timestamp, in seconds, when issuer/root cert will expire.";
        add("issuercert_expiry_timestamp", "", "gauge", help, &numbers.issuer_expiry);
        let help = "The number of server TLS certificate issuance failures.";
        add("servercert_issue_failed_total", "{reason=\"\"}", "counter", help, &numbers.own_failed);
        text
    }
}

/// A number as Go prints it: with an exponent from a million on.
fn number(value: u64) -> String {
    if value < 1_000_000 {
        return value.to_string();
    }
    let digits = value.to_string();
    let exponent = digits.len() - 1;
    let rest = digits[1..].trim_end_matches('0');
    let point = if rest.is_empty() { "" } else { "." };
    format!("{}{point}{rest}e+{exponent:02}", &digits[..1])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_happened_is_printed() {
        let metrics = Metrics::default();
        assert_eq!(metrics.text(), "");
        metrics.request();
        metrics.answered(false);
        metrics.issuer_expires(UNIX_EPOCH + Duration::from_secs(1_795_704_000));
        let text = metrics.text();
        assert!(text.contains("\ndapr_sentry_cert_sign_request_received_total 1\n"), "{text}");
        assert!(text.contains("\ndapr_sentry_cert_sign_failure_total{reason=\"sign\"} 1\n"), "{text}");
        assert!(text.contains("\ndapr_sentry_issuercert_expiry_timestamp 1.795704e+09\n"), "{text}");
        assert!(!text.contains("success"), "{text}");
    }

    #[test]
    fn numbers_look_like_those_of_go() {
        assert_eq!(number(999_999), "999999");
        assert_eq!(number(1_000_000), "1e+06");
        assert_eq!(number(12_345_678_901), "1.2345678901e+10");
    }
}
