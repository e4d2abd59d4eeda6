//! The nearest known word to one that is not known, for messages that end in "did you mean".
//!
//! It compares words and refuses to know what they name.

/// The candidate closest to `word`, if it is close enough that a person may have meant it.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = fold(word);
    let allowed = (word.len() / 3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case, dashes and underscores are what people confuse most; they do not count.
fn fold(word: &str) -> Vec<char> {
    word.chars().take(64).filter(|c| !matches!(c, '-' | '_' | ' ' | '.')).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(from != to)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant_and_nothing_far_fetched() {
        let keys = ["drop_params", "num_retries", "request_timeout", "rpm"];
        assert_eq!(nearest("drop_param", keys), Some("drop_params"));
        assert_eq!(nearest("dorp_params", keys), Some("drop_params"));
        assert_eq!(nearest("requestTimeout", keys), Some("request_timeout"));
        assert_eq!(nearest("prm", keys), Some("rpm"));
        assert_eq!(nearest("callbacks", keys), None);
        assert_eq!(nearest("RPM", ["rpm", "tpm"]), Some("rpm"));
        assert_eq!(nearest("b", ["a", "c"]), None);
        assert_eq!(nearest("", keys), None);
    }
}
