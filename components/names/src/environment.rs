//! The variables of the process, read once when a component is made, so that tests can give their own.

use std::collections::HashMap;

/// See the module text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(HashMap<String, String>);

impl Environment {
    /// The variables of this process with one of these beginnings.
    pub(crate) fn of_process(prefixes: &[&str]) -> Self {
        let wanted = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let pairs = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let wanted = pairs.filter(|(name, _)| wanted(name));
        Self(wanted.filter_map(|(name, value)| Some((name, value.into_string().ok()?))).collect())
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
