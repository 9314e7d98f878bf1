//! The nearest known name for a mistyped one.

/// Letters of a name for each edit that leaves it near. Names shorter than this are near to nothing else.
const LETTERS_PER_EDIT: usize = 3;

/// The candidate with the fewest edits, when it is near at all. Ties go to the first.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = name.chars().count() / LETTERS_PER_EDIT;
    let near = candidates.into_iter().map(|candidate| (edits(name, candidate), candidate));
    // A name that begins another one is near, however long the rest is: `query_time` for `query_time_max`.
    let near = near.filter(|(edits, candidate)| *edits <= allowed || (allowed > 0 && candidate.starts_with(name)));
    near.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replace = above[j] + usize::from(a[i] != b[j]);
            let mut best = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let keys = ["listen", "protocols", "sockets", "query_time_max"];
        for (typed, want) in [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("socket", Some("sockets")),
            ("query_time", Some("query_time_max")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys), want, "{typed}");
        }
    }
}
