//! One row for each id of a batch.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
};

use crate::{batch::Row, contract::OnConflict};

/// Rows with distinct ids.
pub(super) struct Rows {
    on_conflict: OnConflict,
    rows: HashMap<Vec<u8>, Row>,
}

impl Rows {
    /// For a contract that keeps the first, or the newest.
    pub(super) fn new(on_conflict: OnConflict) -> Rows {
        Rows { on_conflict, rows: HashMap::new() }
    }

    /// Of two rows with one id the first stays, or the newer one where the contract says so. The
    /// other is kept for the case that the table refuses the one that stays.
    pub(super) fn add(&mut self, mut row: Row) {
        match self.rows.entry(row.id.clone()) {
            Entry::Vacant(entry) => _ = entry.insert(row),
            Entry::Occupied(mut entry) => {
                let kept = entry.get_mut();
                if self.on_conflict == OnConflict::Latest && row.time > kept.time {
                    std::mem::swap(kept, &mut row);
                    kept.spares = std::mem::take(&mut row.spares);
                }
                kept.spares.push(row);
            }
        }
    }

    /// By id, so that two sinks lock the same rows in one order.
    pub(super) fn sorted(self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.into_values().collect();
        if self.on_conflict == OnConflict::Latest {
            rows.iter_mut().for_each(|row| row.spares.sort_by_key(|spare| Reverse(spare.time)));
        }
        rows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        rows
    }
}
