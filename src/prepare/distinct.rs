//! One row for each id of a batch.

use std::cmp::Reverse;

use crate::{batch::Row, contract::OnConflict};

/// Rows with distinct ids, sorted by id. `bytes` holds the ids.
///
/// Of rows with one id the first stays, or the newest where the contract says so. The others are
/// kept for the case that the table refuses the one that stays.
pub(super) fn distinct(rows: Vec<Row>, bytes: &[u8], on_conflict: OnConflict) -> Vec<Row> {
    let id = |row: &Row| bytes.get(row.id.clone()).unwrap_or_default();
    let mut keyed: Vec<(u64, Row)> = rows.into_iter().map(|row| (prefix(id(&row)), row)).collect();
    keyed.sort_unstable_by(|(a_prefix, a), (b_prefix, b)| {
        a_prefix.cmp(b_prefix).then_with(|| id(a).cmp(id(b))).then(a.record.cmp(&b.record))
    });
    let mut distinct: Vec<Row> = Vec::with_capacity(keyed.len());
    for (_, row) in keyed {
        match distinct.last_mut() {
            Some(kept) if id(kept) == id(&row) => add(kept, row, on_conflict),
            _ => distinct.push(row),
        }
    }
    if on_conflict == OnConflict::Latest {
        distinct.iter_mut().for_each(|row| row.spares.sort_by_key(|spare| Reverse(spare.time)));
    }
    distinct
}

/// Adds a row that came later to the one with its id.
fn add(kept: &mut Row, mut row: Row, on_conflict: OnConflict) {
    if on_conflict == OnConflict::Latest && row.time > kept.time {
        std::mem::swap(kept, &mut row);
        kept.spares = std::mem::take(&mut row.spares);
    }
    kept.spares.push(row);
}

/// The first bytes of an id, which nearly always tell which of two comes first.
fn prefix(id: &[u8]) -> u64 {
    id.iter()
        .chain(std::iter::repeat(&0))
        .take(8)
        .fold(0, |prefix, byte| prefix << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of (id, time), numbered as they came.
    fn rows(events: &[(&str, i64)]) -> (Vec<Row>, Vec<u8>) {
        let mut bytes = Vec::new();
        let row = |(record, (id, time)): (usize, &(&str, i64))| {
            let start = bytes.len();
            bytes.extend_from_slice(id.as_bytes());
            let place = start..bytes.len();
            Row { record, columns: place.clone(), id: place, time: Some(*time), spares: vec![] }
        };
        let rows = events.iter().enumerate().map(row).collect();
        (rows, bytes)
    }

    fn records(rows: &[Row]) -> Vec<(usize, Vec<usize>)> {
        let spares = |row: &Row| row.spares.iter().map(|spare| spare.record).collect();
        rows.iter().map(|row| (row.record, spares(row))).collect()
    }

    #[test]
    fn rows_are_sorted_by_their_whole_id() {
        let (rows, bytes) =
            rows(&[("sensor-12b", 0), ("sensor-12", 0), ("a", 0), ("", 0), ("a\0", 0)]);
        let rows = distinct(rows, &bytes, OnConflict::Ignore);
        assert_eq!(rows.iter().map(|row| row.record).collect::<Vec<_>>(), [3, 2, 4, 1, 0]);
    }

    #[test]
    fn the_first_of_an_id_stays_and_the_others_wait_in_their_order() {
        let (rows, bytes) = rows(&[("b", 5), ("a", 1), ("b", 9), ("b", 7)]);
        let rows = distinct(rows, &bytes, OnConflict::Ignore);
        assert_eq!(records(&rows), [(1, vec![]), (0, vec![2, 3])]);
    }

    #[test]
    fn the_newest_of_an_id_stays_where_the_contract_says_so() {
        let (rows, bytes) = rows(&[("b", 5), ("b", 9), ("b", 7), ("b", 9)]);
        let rows = distinct(rows, &bytes, OnConflict::Latest);
        assert_eq!(records(&rows), [(1, vec![3, 2, 0])]);
    }
}
