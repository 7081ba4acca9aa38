//! The tenant: what a caller sends, what travels between the services, and its identifier.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The body of `POST /tenant`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewTenant {
    /// Must not be blank.
    #[serde(default)]
    pub name: String,
    /// Must hold an `@` with something on both sides.
    #[serde(default)]
    pub email_id: String,
    /// Tenants without one get no SMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// A tenant as the services pass it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Decimal digits, below 2^53, so that it survives every JSON number type.
    pub id: String,
    /// The tenant's name.
    pub name: String,
    /// Where the e-mail goes.
    pub email_id: String,
    /// Where the SMS goes, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

impl NewTenant {
    /// Checks the fields and gives the tenant its id.
    ///
    /// # Errors
    /// A sentence for the caller: which field, and what was expected.
    pub fn accept(self, id: String) -> Result<Tenant, String> {
        if self.name.trim().is_empty() {
            return Err("name: expected a non-empty text".to_owned());
        }
        match self.email_id.split_once('@') {
            Some((local, domain)) if !local.is_empty() && !domain.is_empty() => {}
            _ => {
                return Err(format!("emailId: expected an address such as a@b.c, got {:?}", self.email_id));
            }
        }
        let phone = self.phone.filter(|phone| !phone.trim().is_empty());
        Ok(Tenant { id, name: self.name, email_id: self.email_id, phone })
    }
}

/// Hands out increasing tenant numbers that do not repeat after a restart: a million per second of start time.
#[derive(Debug)]
pub struct Numbers(AtomicU64);

impl Numbers {
    /// Numbers that begin at the present second.
    #[must_use]
    pub fn from_now() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(AtomicU64::new(since_epoch.as_secs() * 1_000_000))
    }

    /// The next number as an id.
    pub fn next_id(&self) -> String {
        self.0.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Tenant, String> {
        serde_json::from_str::<NewTenant>(body).expect("JSON of the test").accept("1".to_owned())
    }

    #[test]
    fn a_tenant_needs_a_name_and_an_address() {
        assert!(parse(r#"{"emailId":"a@b.c"}"#).expect_err("no name").starts_with("name: "));
        assert!(parse(r#"{"name":"Acme","emailId":"@"}"#).expect_err("no address").starts_with("emailId: "));
        let tenant = parse(r#"{"name":"Acme","emailId":"a@b.c","phone":" "}"#).expect("complete");
        assert_eq!(tenant.phone, None, "a blank phone is no phone");
        assert_eq!(serde_json::to_string(&tenant).expect("JSON"), r#"{"id":"1","name":"Acme","emailId":"a@b.c"}"#);
    }

    #[test]
    fn ids_increase_and_stay_exact_in_a_double() {
        let numbers = Numbers::from_now();
        let (first, second) = (numbers.next_id(), numbers.next_id());
        let number = |id: &str| id.parse::<u64>().expect("digits");
        assert_eq!(number(&second), number(&first) + 1);
        assert!(number(&second) < 1 << 53);
    }
}
