//! "Did you mean": the nearest known word by edit distance.

/// Returns the known word nearest to `word`, when it is near enough to be a slip of the hand.
///
/// Case differences cost nothing; a word longer than 100 characters has no suggestion.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > 100 {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (lower.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|candidate| (edit_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let limit = if common_prefix(&lower, candidate) >= 5 { allowed.max(3) } else { allowed };
            *distance <= limit && *distance < candidate.chars().count()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean X?`, or nothing when no known word is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |candidate| format!("did you mean {candidate}?"))
}

fn common_prefix(lower: &str, candidate: &str) -> usize {
    lower.chars().zip(candidate.to_lowercase().chars()).take_while(|(left, right)| left == right).count()
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours cost one each.
fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut current = vec![row];
        for column in 1..=right.len() {
            let replace = previous[column - 1] + usize::from(left[row - 1] != right[column - 1]);
            let mut best = replace.min(previous[column] + 1).min(current[column - 1] + 1);
            let swapped =
                row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1];
            if swapped {
                best = best.min(before[column - 2] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let known = ["metadata", "version", "type", "ignoreErrors", "initTimeout"];
        let cases = [
            ("metdata", Some("metadata")),
            ("verison", Some("version")),
            ("ignoreerrors", Some("ignoreErrors")),
            ("typ", Some("type")),
            ("initTime", Some("initTimeout")),
            ("banana", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn counts_a_swap_as_one() {
        assert_eq!(edit_distance("stauts", "status"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
    }
}
