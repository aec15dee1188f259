//! Which ids have landed lately, and so whether rows may be taken for new.
//!
//! A row that is taken for new and is not costs its batch a second attempt and nothing else; one
//! that is new and not taken for it costs a look at the table's index.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::hash::BuildHasher;

use foldhash::{HashSet, HashSetExt, fast::RandomState};

/// How many ids a generation holds. Two of them take some 3 MB, which stays in a processor's cache.
const GENERATION: usize = 100_000;

/// How many batches in a row go without the attempt at most.
const LONGEST_PAUSE: u32 = 64;

/// What one sink task remembers of the ids that it landed.
///
/// Ids are remembered by 32 bits of a hash: of those that are new, one in some ten thousand is
/// suspected for nothing.
#[derive(Debug, Default)]
pub struct Recent {
    hasher: RandomState,
    newer: HashSet<u32>,
    older: HashSet<u32>,
    /// How many batches are to be written without relying on this.
    pause: u32,
    /// How many there will be the next time that it was wrong.
    next_pause: u32,
}

impl Recent {
    /// Whether to rely on this for the next batch: not for a while after it was wrong.
    pub(super) fn is_trusted(&mut self) -> bool {
        let is_trusted = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_trusted
    }

    /// Whether an id has landed as far as is remembered.
    pub(super) fn has(&self, id: &[u8]) -> bool {
        let fingerprint = self.fingerprint(id);
        self.newer.contains(&fingerprint) || self.older.contains(&fingerprint)
    }

    /// Remembers ids that are in the table by now.
    pub fn landed<'i>(&mut self, ids: impl Iterator<Item = &'i [u8]>) {
        for id in ids {
            if self.newer.len() >= GENERATION {
                self.older = std::mem::replace(&mut self.newer, HashSet::with_capacity(GENERATION));
            }
            let fingerprint = self.fingerprint(id);
            self.newer.insert(fingerprint);
        }
    }

    /// All rows that were taken for new were.
    pub(super) fn was_right(&mut self) {
        self.next_pause = self.next_pause.saturating_div(2);
    }

    /// One row was not new, or could not go that way for another reason. Where that keeps happening,
    /// the attempts get rare.
    pub(super) fn was_wrong(&mut self) {
        self.pause = self.next_pause.clamp(1, LONGEST_PAUSE);
        self.next_pause = self.pause.saturating_mul(2);
    }

    #[expect(clippy::cast_possible_truncation, reason = "a part of a hash is a hash")]
    fn fingerprint(&self, id: &[u8]) -> u32 {
        self.hasher.hash_one(id) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u64>) -> Vec<[u8; 8]> {
        numbers.map(u64::to_be_bytes).collect()
    }

    #[test]
    fn a_generation_of_ids_is_remembered_and_older_ones_are_not_for_ever() {
        let mut recent = Recent::default();
        let size = GENERATION as u64;
        for landed in [0..size, size..2 * size, 2 * size..3 * size] {
            recent.landed(ids(landed).iter().map(|id| &id[..]));
        }
        let known = |numbers| ids(numbers).iter().filter(|id| recent.has(&id[..])).count();
        assert_eq!(known(2 * size..3 * size), GENERATION);
        assert!(known(0..size) < GENERATION / 1_000);
    }

    #[test]
    fn attempts_get_rare_while_they_fail_and_frequent_again_after() {
        let mut recent = Recent::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(recent.is_trusted());
            recent.was_wrong();
            pauses
                .push(std::iter::repeat_with(|| recent.is_trusted()).position(|yes| yes).unwrap());
            // asked once more than it was paused
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        for _ in 0..8 {
            recent.was_right();
        }
        recent.was_wrong();
        assert!(!recent.is_trusted());
        assert!(recent.is_trusted());
    }
}
