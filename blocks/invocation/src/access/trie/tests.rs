//! The trie against cases of the original's documentation and against a reference written in another way.

use proptest::prelude::*;

use super::*;

fn trie(names: &[&'static str]) -> Trie<&'static str> {
    let mut trie = Trie::default();
    for name in names {
        trie.put(name, *name);
    }
    trie
}

#[test]
fn names_and_wildcards() {
    let rules = trie(&["/op1", "op2/", "/op3/a/*", "/op7/a/b/*", "/op7/a/b/c/f", "/op7/a/b*", "/op7/c/**", "/x/*y/z"]);
    for (path, name) in [
        ("/op1", Some("/op1")),
        ("op1", Some("/op1")),
        ("/op1/below", Some("/op1")),
        ("/op11", None),
        ("/op2/", Some("op2/")),
        ("/op2", None),
        ("/op3/a", Some("/op3/a/*")),
        ("/op3/a/b", Some("/op3/a/*")),
        ("/op3/a/b/c", None),
        ("/op3", None),
        ("/op7/a/b", Some("/op7/a/b/*")),
        ("/op7/a/b/c", Some("/op7/a/b/*")),
        // The first way that fits is the way: `/op7/a/b` leads to its `*` before `c` is looked for at the end.
        ("/op7/a/b/c/f", Some("/op7/a/b/c/f")),
        ("/op7/a/bc", Some("/op7/a/b*")),
        ("/op7/a/bc/d", Some("/op7/a/b*")),
        ("/op7/c/x", Some("/op7/c/**")),
        ("/op7/c/x/y/z", Some("/op7/c/**")),
        ("/op7/c", Some("/op7/c/**")),
        ("/x/yy/z", Some("/x/*y/z")),
        ("/x/yz/z", None),
        ("/", None),
        ("", None),
    ] {
        assert_eq!(rules.find(path).copied(), name, "{path}");
    }
}

#[test]
fn the_root_and_everything() {
    assert_eq!(trie(&["/"]).find(""), Some(&"/"));
    assert_eq!(trie(&["/"]).find("/a"), None);
    assert_eq!(trie(&["/*"]).find("/a"), Some(&"/*"));
    assert_eq!(trie(&["/*"]).find("/a/b"), None);
    assert_eq!(trie(&["/**"]).find("/a/b"), Some(&"/**"));
    assert_eq!(trie(&["**", "/a"]).find("/a"), Some(&"**"), "the first that fits");
    assert_eq!(trie(&["/a", "**"]).find("/a"), Some(&"/a"));
    assert_eq!(trie(&["/*/x"]).find("/a/x"), None, "`*` is for the end only");
}

#[test]
fn what_never_counts_is_told() {
    let mut names = trie(&["/a/b", "/a", "/x/*/y", "/p*/q", "/p*"]);
    assert!(!names.put("/a", "again"));
    let hidden = names.hidden();
    let shown: Vec<(&str, &str)> = hidden.iter().map(|(name, by)| (name.as_str(), by.as_str())).collect();
    assert_eq!(shown, [("/a/b", "/a"), ("/x/*/y", "/x/*"), ("/p*/q", "/p*")]);
}

/// All that is left of a path is decided by the names that begin with the segments taken so far, in the order of their
/// first mention; without any tree.
fn reference(names: &[String], path: &str) -> Option<usize> {
    fn cut(text: &str) -> Vec<String> {
        let rooted = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
        rooted.split('/').skip(1).map(str::to_owned).collect()
    }
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => matches(rest, text) || (!text.is_empty() && matches(pattern, &text[1..])),
            ([a, pattern @ ..], [b, text @ ..]) => a == b && matches(pattern, text),
            _ => false,
        }
    }
    let choose = |taken: &[String], segment: &str, end: bool| -> Option<Vec<String>> {
        let below =
            names.iter().map(|name| cut(name)).filter(|name| name.len() > taken.len() && name.starts_with(taken));
        for name in below {
            let candidate = name[taken.len()].clone();
            let fits = candidate == segment
                || match candidate.as_str() {
                    "*" => end,
                    "**" => true,
                    pattern => {
                        let chars = |text: &str| text.chars().collect::<Vec<_>>();
                        pattern.contains('*') && matches(&chars(pattern), &chars(segment))
                    }
                };
            if fits {
                return Some([taken, &[candidate]].concat());
            }
        }
        None
    };
    let data = |taken: &[String]| names.iter().position(|name| cut(name) == taken);
    let path = cut(path);
    let mut taken: Vec<String> = Vec::new();
    for (index, segment) in path.iter().enumerate() {
        let end = index + 1 == path.len();
        taken = choose(&taken, segment, end)?;
        match data(&taken) {
            Some(_) if !end && taken.last().is_some_and(|last| last == "*") => {}
            Some(found) => return Some(found),
            None => {}
        }
    }
    data(&choose(&taken, "*", true)?)
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{1,2}",
        1 => Just("*".to_owned()),
        1 => Just("**".to_owned()),
        2 => "[ab*]{1,4}",
        1 => Just(String::new()),
    ]
}

fn path() -> impl Strategy<Value = String> {
    (any::<bool>(), prop::collection::vec(segment(), 1..5))
        .prop_map(|(rooted, segments)| if rooted { "/" } else { "" }.to_owned() + &segments.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn as_the_reference(names in prop::collection::vec(path(), 0..8), paths in prop::collection::vec(path(), 1..12)) {
        let mut trie = Trie::default();
        for (index, name) in names.iter().enumerate() {
            trie.put(name, index);
        }
        for path in paths {
            prop_assert_eq!(trie.find(&path).copied(), reference(&names, &path), "{:?} in {:?}", path, names);
        }
    }

    #[test]
    fn a_pattern_fits_as_a_regular_expression_would(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
        // Greedy by parts: each part is looked for after the one before, the first and the last are bound to the ends.
        let parts: Vec<&str> = pattern.split('*').collect();
        let expected = if let [whole] = parts[..] {
            whole == text
        } else {
            let (first, last) = (parts[0], parts[parts.len() - 1]);
            let mut rest = text.strip_prefix(first);
            for part in &parts[1..parts.len() - 1] {
                rest = rest.and_then(|rest| rest.find(part).map(|at| &rest[at + part.len()..]));
            }
            rest.is_some_and(|rest| rest.ends_with(last))
        };
        prop_assert_eq!(fits(&pattern, &text), expected);
    }
}
