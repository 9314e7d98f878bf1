//! Which rows of a rollup stand for the same bucket and key.

use super::codes::Codes;
use super::group::CHUNK_ROWS;
use super::groups::Groups;
use crate::RollupRows;

/// One number a row, over all parts, which are of one rollup: rows of the same bucket and key have the same. Numbers are given from 0
/// in the order in which buckets and keys first occur.
pub fn number_rows(parts: &[RollupRows]) -> Vec<u32> {
    let stride = parts.first().map_or(0, |part| part.keys.len()) + 1;
    let (mut codes, mut groups) = (Codes::default(), Groups::new(stride));
    let mut numbers = Vec::with_capacity(parts.iter().map(RollupRows::len).sum());
    let mut chunk = Vec::new();
    for part in parts {
        let mut known = vec![Vec::new(); part.keys.len()];
        let rows: Vec<u32> = (0..part.len() as u32).collect();
        for rows in rows.chunks(CHUNK_ROWS) {
            chunk.clear();
            chunk.resize(rows.len() * stride, 0);
            for (key, row) in chunk.chunks_exact_mut(stride).zip(rows) {
                key[0] = part.bucket[*row as usize] as u64;
            }
            for (index, ((key, column), known)) in part.keys.iter().zip(&mut known).enumerate() {
                codes.write(Some(column.as_column()), key.kind(), rows, known, (&mut chunk, index + 1, stride));
            }
            numbers.extend(chunk.chunks_exact(stride).filter_map(|key| groups.find(key, usize::MAX)));
        }
    }
    numbers
}
