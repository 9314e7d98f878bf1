//! The known name that a misspelt one was most likely meant to be.

/// The nearest of the known names, when one is near enough: at most a third of its letters, rounded up, differ.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(64).collect();
    let (distance, near) = known.map(|k| (edits(&name, &k.chars().collect::<Vec<_>>()), k)).min()?;
    (distance <= near.chars().count().div_ceil(3)).then_some(near)
}

/// Letters to insert, remove or replace (Levenshtein).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_find_their_neighbour_and_strange_ones_none() {
        let known = || ["period", "limit", "nas_id"].into_iter();
        assert_eq!(nearest("peroid", known()), Some("period"));
        assert_eq!(nearest("limits", known()), Some("limit"));
        assert_eq!(nearest("nasid", known()), Some("nas_id"));
        assert_eq!(nearest("banana", known()), None);
        assert_eq!(nearest("", known()), None);
    }
}
