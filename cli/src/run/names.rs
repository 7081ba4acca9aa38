//! Application IDs for applications that were given none: two words.

use std::hash::{BuildHasher as _, RandomState};

const FIRST: [&str; 24] = [
    "amber", "brisk", "calm", "clever", "copper", "dusty", "eager", "early", "gentle", "golden", "hidden", "honest",
    "lively", "lucky", "mellow", "nimble", "patient", "plain", "quiet", "rapid", "silver", "steady", "sunny", "tidy",
];
const SECOND: [&str; 24] = [
    "acorn", "badger", "beacon", "birch", "bridle", "canyon", "cedar", "falcon", "ferry", "harbor", "heron", "lantern",
    "maple", "meadow", "otter", "pebble", "pine", "rider", "river", "saddle", "sparrow", "stable", "trail", "willow",
];

pub(super) fn random() -> String {
    let seed = RandomState::new().hash_one(std::process::id());
    pick(seed)
}

fn pick(seed: u64) -> String {
    let word = |list: &[&'static str; 24], part: u64| list[(part % 24) as usize];
    format!("{}-{}", word(&FIRST, seed), word(&SECOND, seed >> 32))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_lower_case_words() {
        let name = super::random();
        let words: Vec<&str> = name.split('-').collect();
        assert_eq!(words.len(), 2);
        assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'));
        assert_ne!(super::pick(1), super::pick(1 << 32));
    }
}
