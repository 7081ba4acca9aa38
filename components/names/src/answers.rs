//! What was found lately.
//!
//! *Job:* addresses by request, each for the same time. *Invariant:* a request that is asked for all the time is looked up once
//! per that time: one caller renews an answer that has ended while the others still use it, for as long
//! again at most and no longer than [`GRACE`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pillion_contract::ResolveRequest;

/// How long an ended answer is used while somebody renews it.
const GRACE: Duration = Duration::from_secs(5);
/// Apps remembered at most; beyond it every question is looked up.
const APPS_MAX: usize = 4096;

/// See the module text.
pub(crate) struct Answers {
    keep_for: Duration,
    found: Mutex<HashMap<ResolveRequest, Answer>>,
}

struct Answer {
    addresses: Vec<String>,
    ends: Instant,
    is_renewing: bool,
}

impl Answers {
    /// Answers are kept for this time unless they say otherwise.
    pub(crate) fn new(keep_for: Duration) -> Self {
        Self { keep_for, found: Mutex::default() }
    }

    /// The answer to use; `None` asks the caller to look it up.
    pub(crate) fn get(&self, request: &ResolveRequest) -> Option<Vec<String>> {
        let mut found = self.found.lock();
        let answer = found.get_mut(request)?;
        let now = Instant::now();
        let usable = answer.ends > now
            || (std::mem::replace(&mut answer.is_renewing, true) && answer.ends + self.keep_for.min(GRACE) > now);
        usable.then(|| answer.addresses.clone())
    }

    /// Remembers an answer.
    pub(crate) fn put(&self, request: &ResolveRequest, addresses: &[String]) {
        self.put_for(request, addresses, self.keep_for);
    }

    /// Remembers an answer for a time of its own, but no longer than others.
    pub(crate) fn put_for(&self, request: &ResolveRequest, addresses: &[String], keep_for: Duration) {
        let now = Instant::now();
        let mut found = self.found.lock();
        if found.len() >= APPS_MAX && !found.contains_key(request) {
            found.retain(|_, answer| answer.ends > now);
        }
        if found.len() < APPS_MAX || found.contains_key(request) {
            let ends = now + keep_for.min(self.keep_for);
            found.insert(request.clone(), Answer { addresses: addresses.to_vec(), ends, is_renewing: false });
        }
    }

    /// Forgets an answer: an address in it did not work, or looking it up again failed.
    pub(crate) fn forget(&self, request: &ResolveRequest) {
        self.found.lock().remove(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(app_id: &str) -> ResolveRequest {
        ResolveRequest { app_id: app_id.to_owned(), namespace: "default".to_owned() }
    }

    #[test]
    fn one_caller_renews_an_ended_answer() {
        let answers = Answers::new(Duration::from_millis(20));
        let (shop, found) = (request("shop"), ["a:1".to_owned()]);
        assert_eq!(answers.get(&shop), None);
        answers.put(&shop, &found);
        assert_eq!(answers.get(&shop).as_deref(), Some(&found[..]));
        std::thread::sleep(Duration::from_millis(25));
        assert_eq!(answers.get(&shop), None, "the first one looks it up");
        assert_eq!(answers.get(&shop).as_deref(), Some(&found[..]), "the others go on");
        answers.put(&shop, &["b:1".to_owned()]);
        assert_eq!(answers.get(&shop).unwrap(), ["b:1"]);
        answers.forget(&shop);
        assert_eq!(answers.get(&shop), None);
        answers.put_for(&shop, &found, Duration::ZERO);
        assert_eq!(answers.get(&shop), None, "an answer may end before others");
    }

    #[test]
    fn the_number_of_apps_has_a_limit() {
        let answers = Answers::new(Duration::from_secs(60));
        for index in 0..=APPS_MAX {
            answers.put(&request(&index.to_string()), &[]);
        }
        assert_eq!(answers.found.lock().len(), APPS_MAX);
        answers.put(&request("0"), &["x:1".to_owned()]);
        assert_eq!(answers.get(&request("0")).unwrap(), ["x:1"], "a known one is renewed all the same");
    }
}
