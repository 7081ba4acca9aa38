//! The domain of the cluster around this process, from its resolver.

/// The domain of the first search entry `svc.<domain>` of a `resolv.conf`.
pub(crate) fn of_resolver(text: &str) -> Option<&str> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("search"));
    lines
        .flat_map(str::split_whitespace)
        .find_map(|entry| entry.strip_prefix("svc."))
        .filter(|domain| !domain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::of_resolver;

    #[test]
    fn the_search_list_tells_the_domain() {
        let text = "nameserver 10.0.0.10\nsearch dapr-system.svc.corp.example svc.corp.example corp.example\n";
        assert_eq!(of_resolver(text), Some("corp.example"));
        assert_eq!(of_resolver("nameserver 10.0.0.10\nsearch lan\n"), None);
    }
}
