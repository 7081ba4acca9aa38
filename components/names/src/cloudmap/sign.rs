//! Signature version 4 of AWS.
//!
//! *Source:* AWS General Reference, "Signature Version 4 signing process"; the tests are its published examples. *Invariant:*
//! every header of the request at the time of signing is signed.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request};
use pillion_core::secret::Secret;
use ring::{digest, hmac};
use time::OffsetDateTime;
use time::macros::format_description;

/// Who signs.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) access_key: String,
    pub(super) secret_key: Secret<String>,
    /// Of temporary keys.
    pub(super) session_token: Option<Secret<String>>,
}

/// For what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) now: SystemTime,
}

/// Adds the headers of a signature.
///
/// # Errors
/// For keys that no header can carry.
pub(super) fn sign(request: &mut Request<Bytes>, keys: &Keys, scope: Scope<'_>) -> Result<(), String> {
    let now = OffsetDateTime::from(scope.now);
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = now.format(format).map_err(|error| error.to_string())?;
    let day = time.get(..8).unwrap_or_default();
    let header = |text: &str| HeaderValue::from_str(text).map_err(|_| "the AWS keys contain a line break".to_owned());
    let authority = request.uri().authority().map_or("", |authority| authority.as_str()).to_owned();
    let headers = request.headers_mut();
    headers.insert(HOST, header(&authority)?);
    headers.insert("x-amz-date", header(&time)?);
    if let Some(token) = &keys.session_token {
        let mut token = header(token.expose())?;
        token.set_sensitive(true);
        headers.insert("x-amz-security-token", token);
    }
    let mut lines: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned()))
        .collect();
    lines.sort_unstable();
    let signed = lines.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let written: String = lines.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    // What is sent has a plain path and no query, so that nothing is left to encode or to sort.
    let canonical = format!(
        "{}\n{}\n{}\n{written}\n{signed}\n{}",
        request.method(),
        request.uri().path(),
        request.uri().query().unwrap_or_default(),
        hex(digest::digest(&digest::SHA256, request.body()).as_ref()),
    );
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{place}\n{canonical}");
    let mut key = format!("AWS4{}", keys.secret_key.expose()).into_bytes();
    for part in [day, scope.region, scope.service, "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &to_sign));
    let text = format!(
        "AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={signed}, Signature={signature}",
        keys.access_key
    );
    let text = header(&text)?;
    request.headers_mut().insert(AUTHORIZATION, text);
    Ok(())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::Method;

    use super::*;

    #[test]
    fn the_published_examples_come_out() {
        let keys = Keys {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: None,
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_440_938_160); // 2015-08-30 12:36:00
        let scope = Scope { region: "us-east-1", service: "service", now };
        let cases = [
            (Method::GET, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (Method::POST, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ];
        for (method, signature) in cases {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = "https://example.amazonaws.com/".parse().unwrap();
            *request.method_mut() = method;
            sign(&mut request, &keys, scope).unwrap();
            let wanted = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
            );
            assert_eq!(request.headers()[AUTHORIZATION], wanted);
        }
    }
}
