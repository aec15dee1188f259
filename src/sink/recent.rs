//! Which ids have landed lately, and so whether rows may be taken for new.
//!
//! A row that is taken for new and is not costs its batch a second attempt and nothing else; one
//! that is new and not taken for it costs a look at the table's index.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// How many ids share a line.
const IDS: usize = 16;

/// The newest first; 0 is none. A line of a processor's cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u32; IDS]);

/// How many lines there are. 1 MB remembers some 200,000 ids.
const LINES: usize = 16_384;

/// How many batches in a row go without the attempt at most.
const LONGEST_PAUSE: u32 = 64;

/// What one sink task remembers of the ids that it landed.
///
/// Ids are remembered by 32 bits of a hash, the newest of each line first: of those that are new, one
/// in some three hundred million is suspected for nothing.
#[derive(Debug)]
pub struct Recent {
    hasher: RandomState,
    lines: Vec<Line>,
    /// How many batches are to be written without relying on this.
    pause: u32,
    /// How many there will be the next time that it was wrong.
    next_pause: u32,
}

impl Default for Recent {
    fn default() -> Recent {
        let lines = vec![Line([0; IDS]); LINES];
        Recent { hasher: RandomState::default(), lines, pause: 0, next_pause: 0 }
    }
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
        let (line, fingerprint) = self.place(id);
        self.lines.get(line).is_some_and(|Line(known)| known.contains(&fingerprint))
    }

    /// Remembers ids that are in the table by now.
    pub fn landed<'i>(&mut self, ids: impl Iterator<Item = &'i [u8]>) {
        for id in ids {
            let (line, fingerprint) = self.place(id);
            if let Some(Line(known)) = self.lines.get_mut(line) {
                let last = known.iter().position(|id| *id == fingerprint).unwrap_or(IDS - 1);
                known.copy_within(..last, 1);
                known[0] = fingerprint;
            }
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

    /// An id's line, and what stands for it there: never 0, which stands for none.
    #[expect(clippy::cast_possible_truncation, reason = "parts of a hash are hashes")]
    fn place(&self, id: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(id);
        ((hash >> 32) as usize % LINES, (hash as u32).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u64>) -> Vec<[u8; 8]> {
        numbers.map(u64::to_be_bytes).collect()
    }

    #[test]
    fn ids_are_remembered_for_a_while_and_not_for_ever() {
        let mut recent = Recent::default();
        for landed in [0..100_000, 100_000..1_100_000, 1_100_000..1_200_000] {
            recent.landed(ids(landed).iter().map(|id| &id[..]));
        }
        let known = |numbers| ids(numbers).iter().filter(|id| recent.has(&id[..])).count();
        assert!(known(1_100_000..1_200_000) > 99_900);
        assert!(known(0..100_000) < 10);
        assert!(known(1_200_000..1_300_000) < 3);
    }

    #[test]
    fn an_id_that_comes_again_and_again_makes_no_other_forgotten() {
        let mut recent = Recent::default();
        recent.landed(ids(0..100_000).iter().map(|id| &id[..]));
        let same = ids(0..10_000);
        (0..100).for_each(|_| recent.landed(same.iter().map(|id| &id[..])));
        let known = ids(0..100_000).iter().filter(|id| recent.has(&id[..])).count();
        assert!(known > 99_900, "{known}");
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
