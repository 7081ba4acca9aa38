//! The functions of the language that `regorus` lacks and that need nothing but their arguments: `crypto.*`, `io.jwt.*`.
//!
//! *Source:* OPA 1.4 `v1/topdown`. *Invariant:* what OPA answers with an error is undefined here, which is what an error
//! becomes there outside its strict mode.

use regorus::{Engine, Value};

use crate::{digest, jwt, x509};

/// A function: arguments to a value; `None` is undefined.
type Function = fn(&[Value]) -> Option<Value>;

/// Name, number of arguments, function.
#[rustfmt::skip] // a table
const FUNCTIONS: &[(&str, u8, Function)] = &[
    ("crypto.md5",                      1, digest::md5),
    ("crypto.sha1",                     1, digest::sha1),
    ("crypto.sha256",                   1, digest::sha256),
    ("crypto.hmac.md5",                 2, digest::hmac_md5),
    ("crypto.hmac.sha1",                2, digest::hmac_sha1),
    ("crypto.hmac.sha256",              2, digest::hmac_sha256),
    ("crypto.hmac.sha512",              2, digest::hmac_sha512),
    ("crypto.hmac.equal",               2, digest::hmac_equal),
    ("crypto.x509.parse_certificates",  1, x509::parse_certificates),
    ("crypto.x509.parse_and_verify_certificates", 1, x509::parse_and_verify),
    ("crypto.x509.parse_and_verify_certificates_with_options", 2, x509::parse_and_verify_with_options),
    ("io.jwt.decode",                   1, jwt::decode),
    ("io.jwt.decode_verify",            2, jwt::decode_verify),
    ("io.jwt.verify_rs256",             2, |arguments| jwt::verify("RS256", arguments)),
    ("io.jwt.verify_rs384",             2, |arguments| jwt::verify("RS384", arguments)),
    ("io.jwt.verify_rs512",             2, |arguments| jwt::verify("RS512", arguments)),
    ("io.jwt.verify_ps256",             2, |arguments| jwt::verify("PS256", arguments)),
    ("io.jwt.verify_ps384",             2, |arguments| jwt::verify("PS384", arguments)),
    ("io.jwt.verify_ps512",             2, |arguments| jwt::verify("PS512", arguments)),
    ("io.jwt.verify_es256",             2, |arguments| jwt::verify("ES256", arguments)),
    ("io.jwt.verify_es384",             2, |arguments| jwt::verify("ES384", arguments)),
    ("io.jwt.verify_eddsa",             2, |arguments| jwt::verify("EdDSA", arguments)),
    ("io.jwt.verify_hs256",             2, |arguments| jwt::verify_secret("HS256", arguments)),
    ("io.jwt.verify_hs384",             2, |arguments| jwt::verify_secret("HS384", arguments)),
    ("io.jwt.verify_hs512",             2, |arguments| jwt::verify_secret("HS512", arguments)),
];

/// Makes the functions known to an engine.
///
/// # Errors
/// The engine has one of this name already.
pub(crate) fn register(engine: &mut Engine) -> Result<(), String> {
    for &(name, count, function) in FUNCTIONS {
        let extension = move |arguments: Vec<Value>| Ok(function(&arguments).unwrap_or(Value::Undefined));
        engine.add_extension(name.to_owned(), count, Box::new(extension)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// An argument that has to be a string.
pub(crate) fn text(arguments: &[Value], index: usize) -> Option<&str> {
    match arguments.get(index) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// A field of an object.
pub(crate) fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.as_object().ok()?.get(&Value::from(name))
}

/// A number of any size; what `Value` gives as `f64` has to fit it exactly.
pub(crate) fn number(value: &Value) -> Option<f64> {
    matches!(value, Value::Number(_)).then(|| value.to_string().parse().ok())?
}

/// Small hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
