//! What a policy may answer: a boolean, or an object with `allow`, `status_code` and `additional_headers`.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use regorus::Value;

use crate::metadata::is_status;

/// A decision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request goes on with these headers set.
    Allow(HeaderMap),
    /// The caller gets this status with these headers.
    Deny(StatusCode, HeaderMap),
}

impl Verdict {
    /// Reads the value of `data.http.allow`.
    ///
    /// # Errors
    /// A text: there is no value, or it has a wrong form.
    pub(crate) fn parse(value: &Value, default_status: StatusCode) -> Result<Self, String> {
        let fields = match value {
            Value::Bool(true) => return Ok(Self::Allow(HeaderMap::new())),
            Value::Bool(false) => return Ok(Self::Deny(default_status, HeaderMap::new())),
            Value::Object(_) => value,
            Value::Undefined => {
                return Err("received no results back from rego policy. Are you setting data.http.allow?".to_owned());
            }
            _ => return Err("got an invalid type back from rego policy. Only a boolean or map is valid".to_owned()),
        };
        let allow = match field(fields, "allow") {
            None => false,
            Some(Value::Bool(allow)) => *allow,
            Some(other) => return Err(format!("allow: expected a boolean, found {other}")),
        };
        let headers = match field(fields, "additional_headers") {
            None => HeaderMap::new(),
            Some(found) => headers(found)?,
        };
        let status = match field(fields, "status_code") {
            None => default_status,
            Some(found) => status(found)?,
        };
        Ok(if allow { Self::Allow(headers) } else { Self::Deny(status, headers) })
    }
}

/// A field that is there and not null.
fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let found = object.as_object().ok()?.get(&Value::from(name))?;
    (*found != Value::Null).then_some(found)
}

fn status(value: &Value) -> Result<StatusCode, String> {
    let number = value.as_u16().ok().filter(is_status);
    number
        .and_then(|number| StatusCode::from_u16(number).ok())
        .ok_or_else(|| format!("status_code: expected a number from 100 to 599, found {value}"))
}

fn headers(value: &Value) -> Result<HeaderMap, String> {
    let wrong = || format!("additional_headers: expected an object of strings, found {value}");
    let mut headers = HeaderMap::new();
    for (name, value) in value.as_object().map_err(|_| wrong())?.iter() {
        let name = name.as_string().map_err(|_| wrong())?;
        let value = value.as_string().map_err(|_| wrong())?;
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()));
        let (Ok(name), Ok(value)) = parsed else {
            return Err(format!("additional_headers: {name:?} with this value cannot be a header"));
        };
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Verdict, String> {
        Verdict::parse(&Value::from_json_str(json).unwrap(), StatusCode::FORBIDDEN)
    }

    #[test]
    fn forms() {
        let header = HeaderMap::from_iter([("x-key".parse().unwrap(), "abc".parse().unwrap())]);
        let none = HeaderMap::new;
        for (json, expected) in [
            ("true", Verdict::Allow(none())),
            ("false", Verdict::Deny(StatusCode::FORBIDDEN, none())),
            ("{}", Verdict::Deny(StatusCode::FORBIDDEN, none())),
            (r#"{"allow": true, "additional_headers": {"X-Key": "abc"}}"#, Verdict::Allow(header.clone())),
            (
                r#"{"status_code": 301, "additional_headers": {"x-key": "abc"}}"#,
                Verdict::Deny(StatusCode::MOVED_PERMANENTLY, header),
            ),
            (r#"{"allow": null, "status_code": null, "other": 1}"#, Verdict::Deny(StatusCode::FORBIDDEN, none())),
        ] {
            assert_eq!(parse(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn wrong_forms_name_the_field() {
        for (json, expected) in [
            ("1", "Only a boolean or map is valid"),
            (r#"[true]"#, "Only a boolean or map is valid"),
            (r#"{"allow": "yes"}"#, "allow: expected a boolean"),
            (r#"{"status_code": "301"}"#, "status_code: expected a number"),
            (r#"{"status_code": 30.5}"#, "status_code: expected a number"),
            (r#"{"status_code": 700}"#, "status_code: expected a number"),
            (r#"{"additional_headers": {"x": 1}}"#, "additional_headers: expected an object of strings"),
            (r#"{"additional_headers": {"a b": "c"}}"#, "cannot be a header"),
        ] {
            let found = parse(json).unwrap_err();
            assert!(found.contains(expected), "{json}: {found}");
        }
        assert!(Verdict::parse(&Value::Undefined, StatusCode::FORBIDDEN).unwrap_err().contains("data.http.allow"));
    }
}
