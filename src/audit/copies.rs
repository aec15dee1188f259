//! Dead letters and their copies, matched by where the record was.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use crate::contract::Contract;

/// How many copies without a dead letter are remembered by their place.
const MOST_UNKNOWN: usize = 10_000;

/// What stands for a key and a value.
pub(super) type Print = [u8; 16];

/// What `dlq_events` has of a dead letter. There may be many, and all are in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    /// None where it was purged.
    print: Option<Print>,
    pub(super) published: bool,
    copied: bool,
    differs: bool,
}

/// The dead letters of a partition, by offset.
pub(super) type Letters = BTreeMap<(String, i32), HashMap<i64, Letter>>;

/// A copy, as the dead-letter topic has it.
#[derive(Debug)]
pub(super) struct Copy<'c> {
    pub(super) stream: &'c str,
    pub(super) topic: &'c str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) print: Print,
    /// Whether it was there before the snapshot, and so its dead letter too.
    pub(super) settled: bool,
}

/// Dead letters, and what has been seen of their copies.
#[derive(Debug)]
pub(super) struct Copies {
    stream: String,
    topic: String,
    letters: Letters,
    compared: Compared,
    unknown: BTreeMap<(String, i32), Vec<i64>>,
}

/// How it came out.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Copies on the topic, repeats among them.
    pub(super) copies: i64,
    /// Records on the topic that are no copies of ours.
    pub(super) foreign: i64,
    /// Dead letters.
    pub(super) letters: i64,
    /// Dead letters that are no longer in the outbox.
    pub(super) published: i64,
    /// Dead letters that are still in it.
    pub(super) waiting: i64,
    /// Copies without a dead letter.
    pub(super) unknown: i64,
    /// Whether the topic still has all that was ever copied to it.
    pub(super) kept: bool,
    /// Neither in the outbox nor on the topic.
    pub(super) missing: Vec<Stretch>,
    /// With another key or value on the topic than in the table.
    pub(super) differing: Vec<Stretch>,
    /// Where the records were whose copies have no dead letter.
    pub(super) unknown_at: Vec<Stretch>,
}

/// Dead letters that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) count: i64,
}

impl Letter {
    pub(super) fn new(print: Option<Print>, published: bool) -> Letter {
        Letter { print, published, copied: false, differs: false }
    }
}

impl Copies {
    /// Nothing seen yet.
    pub(super) fn new(contract: &Contract, letters: Letters) -> Copies {
        Copies {
            stream: contract.stream.clone(),
            topic: contract.topic.name.clone(),
            letters,
            compared: Compared::default(),
            unknown: BTreeMap::new(),
        }
    }

    /// A record that says nothing of whose copy it is.
    pub(super) fn see_foreign(&mut self) {
        self.compared.foreign += 1;
    }

    pub(super) fn see(&mut self, copy: &Copy<'_>) {
        if copy.stream != self.stream {
            return self.see_foreign();
        }
        self.compared.copies += 1;
        let place = (copy.topic.to_owned(), copy.partition);
        let of_partition = self.letters.get_mut(&place);
        match of_partition.and_then(|letters| letters.get_mut(&copy.offset)) {
            Some(letter) => {
                letter.copied = true;
                letter.differs |= letter.print.is_some_and(|print| print != copy.print);
            }
            None if copy.settled => {
                self.compared.unknown += 1;
                if self.unknown.values().map(Vec::len).sum::<usize>() < MOST_UNKNOWN {
                    self.unknown.entry(place).or_default().push(copy.offset);
                }
            }
            None => {}
        }
    }

    /// All copies have been seen; `kept` says whether the topic still has all of them.
    pub(super) fn compared(self, kept: bool) -> Compared {
        let Copies { letters, mut compared, unknown, topic: current, .. } = self;
        compared.kept = kept;
        for ((topic, partition), letters) in letters {
            let mut sorted: Vec<(i64, Letter)> = letters.into_iter().collect();
            sorted.sort_unstable_by_key(|(offset, _)| *offset);
            let all = || sorted.iter().map(|(_, letter)| letter);
            let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            let published = count(all().filter(|letter| letter.published).count());
            compared.letters += count(sorted.len());
            compared.published += published;
            compared.waiting += count(sorted.len()) - published;
            let stretches = |is_one: fn(&Letter) -> bool| {
                let marked = sorted.iter().map(|(offset, letter)| (*offset, is_one(letter)));
                stretches(&topic, partition, marked)
            };
            compared.differing.extend(stretches(|letter| letter.differs));
            // before the stream's topic had another name the dead-letter topic may have had too
            if topic == current {
                let missing = stretches(|letter| {
                    letter.print.is_some() && letter.published && !letter.copied
                });
                compared.missing.extend(missing);
            }
        }
        for ((topic, partition), mut offsets) in unknown {
            offsets.sort_unstable();
            offsets.dedup();
            let mut marked = Vec::new();
            for offset in offsets {
                if marked.last().is_some_and(|(last, _): &(i64, bool)| offset > last + 1) {
                    marked.push((offset - 1, false));
                }
                marked.push((offset, true));
            }
            compared.unknown_at.extend(stretches(&topic, partition, marked));
        }
        compared
    }
}

/// Joins those that are marked and follow one another.
fn stretches(
    topic: &str,
    partition: i32,
    offsets: impl IntoIterator<Item = (i64, bool)>,
) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut open = false;
    for (offset, marked) in offsets {
        match stretches.last_mut().filter(|_| open && marked) {
            Some(last) => {
                last.to = offset;
                last.count += 1;
            }
            None if marked => {
                let topic = topic.to_owned();
                stretches.push(Stretch { topic, partition, from: offset, to: offset, count: 1 });
            }
            None => {}
        }
        open = marked;
    }
    stretches
}

/// What [`PRINT`] gives. Nothing at all is told from no bytes.
pub(super) fn print(key: Option<&[u8]>, value: Option<&[u8]>) -> Print {
    let mut whole = Sha256::new();
    for part in [key, value] {
        match part {
            None => whole.update([0]),
            Some(bytes) => {
                whole.update([1]);
                whole.update(Sha256::digest(bytes));
            }
        }
    }
    let digest: [u8; 32] = whole.finalize().into();
    let mut print = Print::default();
    print.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    print
}

/// The same, by Postgres, so that dead letters need not be sent to be compared.
pub(super) const PRINT: &str = "substr(sha256(\
    CASE WHEN key IS NULL THEN '\\x00'::bytea ELSE '\\x01'::bytea || sha256(key) END || \
    CASE WHEN payload IS NULL THEN '\\x00'::bytea ELSE '\\x01'::bytea || sha256(payload) END), \
    1, 16)";

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (&str, i32) = ("t", 0);

    fn copies(letters: &[(i64, bool)]) -> Copies {
        let letter = |(offset, published): &(i64, bool)| {
            (*offset, Letter::new(Some(print(None, Some(b"value"))), *published))
        };
        let letters = letters.iter().map(letter).collect();
        Copies {
            stream: "readings".into(),
            topic: PLACE.0.into(),
            letters: BTreeMap::from([((PLACE.0.to_owned(), PLACE.1), letters)]),
            compared: Compared::default(),
            unknown: BTreeMap::new(),
        }
    }

    fn copy(offset: i64) -> Copy<'static> {
        Copy {
            stream: "readings",
            topic: PLACE.0,
            partition: PLACE.1,
            offset,
            print: print(None, Some(b"value")),
            settled: true,
        }
    }

    fn stretch(from: i64, to: i64, count: i64) -> Stretch {
        Stretch { topic: PLACE.0.to_owned(), partition: PLACE.1, from, to, count }
    }

    #[test]
    fn a_copy_may_be_there_more_than_once_but_not_never() {
        let mut copies = copies(&[(3, true), (5, true), (7, true), (9, true), (11, false)]);
        copies.see(&copy(7));
        copies.see(&copy(7));
        let compared = copies.compared(true);
        assert_eq!((compared.copies, compared.published, compared.waiting), (2, 4, 1));
        assert_eq!(compared.missing, [stretch(3, 5, 2), stretch(9, 9, 1)]);
        assert_eq!((compared.differing.len(), compared.unknown_at.len()), (0, 0));
    }

    #[test]
    fn a_copy_has_the_key_and_the_value_of_its_dead_letter() {
        let mut copies = copies(&[(3, true)]);
        copies.see(&Copy { print: print(Some(b""), Some(b"value")), ..copy(3) });
        copies.see(&copy(3));
        assert_eq!(copies.compared(true).differing, [stretch(3, 3, 1)]);
    }

    #[test]
    fn a_copy_without_a_dead_letter_counts_only_if_it_was_there_before_the_snapshot() {
        let mut copies = copies(&[]);
        for offset in [8, 4, 5, 4] {
            copies.see(&copy(offset));
        }
        copies.see(&Copy { settled: false, ..copy(6) });
        let compared = copies.compared(true);
        assert_eq!(compared.unknown, 4);
        assert_eq!(compared.unknown_at, [stretch(4, 5, 2), stretch(8, 8, 1)]);
    }

    #[test]
    fn what_others_wrote_to_the_topic_is_theirs() {
        let mut copies = copies(&[]);
        copies.see_foreign();
        copies.see(&Copy { stream: "others", ..copy(1) });
        let compared = copies.compared(true);
        assert_eq!((compared.foreign, compared.copies, compared.unknown), (2, 0, 0));
    }

    #[test]
    fn nothing_and_no_bytes_are_not_the_same() {
        let some = |bytes: &'static [u8]| Some(bytes);
        let prints = [
            print(None, None),
            print(some(b""), None),
            print(None, some(b"")),
            print(some(b""), some(b"")),
            print(some(b"a"), some(b"b")),
            print(some(b"ab"), some(b"")),
        ];
        let distinct: std::collections::BTreeSet<_> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
    }
}
