/// The candidate that `word` is most likely a misspelling of, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let edits_max = (word.chars().count() / 3).max(2);
    let scored = candidates.into_iter().map(|candidate| (edits(word, candidate), candidate));
    scored
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// How many characters have to be put in, taken out or replaced to turn one word into the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // What it costs to turn the characters seen so far into the first 0, 1, 2… of `to`.
    let mut costs: Vec<usize> = (0..=to.len()).collect();
    for (row, from) in from.chars().enumerate() {
        let mut next = vec![row + 1];
        for (to, pair) in to.iter().zip(costs.windows(2)) {
            let &[kept, put_in] = pair else { continue };
            let left = next.last().map_or(row + 1, |&cost| cost);
            next.push((kept + usize::from(from != *to)).min(put_in + 1).min(left + 1));
        }
        costs = next;
    }
    costs.last().map_or(0, |&cost| cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_insertions_removals_and_replacements() {
        for (from, to, expected) in
            [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("data-dir", "datadir", 1), ("ab", "", 2)]
        {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_what_is_near_is_proposed() {
        let names = ["data-dir", "log-level", "log-format"];
        assert_eq!(nearest("loglevel", names), Some("log-level"));
        assert_eq!(nearest("data-dri", names), Some("data-dir"));
        assert_eq!(nearest("heartbeat-interval", names), None);
    }
}
