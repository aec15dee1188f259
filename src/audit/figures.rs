//! What was read of a stream, for [`judge`](super::judge) to judge.

use std::collections::BTreeMap;

use super::copies::Compared;
use crate::aggregates::Buckets;

/// A topic and one of its partitions.
pub(super) type Place = (String, i32);

/// All of one stream.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) stream: String,
    /// The contract's topic; the ledger may know of others, from before it was renamed.
    pub(super) topic: String,
    pub(super) dead_letter_topic: String,
    pub(super) table: String,
    /// Those that Kafka, the ledger, `ledger_gaps` or `dlq_events` know of.
    pub(super) partitions: BTreeMap<Place, PartitionFigures>,
    pub(super) gaps: Vec<Gap>,
    /// Rows of the table.
    pub(super) rows: i64,
    pub(super) buckets: Vec<Buckets>,
    pub(super) copies: Compared,
}

/// All of one partition.
#[derive(Debug, Default)]
pub(super) struct PartitionFigures {
    /// None where Kafka has no such partition.
    pub(super) log: Option<Log>,
    pub(super) ledger: Option<Entry>,
    pub(super) dead_letters: DeadLetters,
}

/// What Kafka says of a partition.
#[derive(Debug, Default, Clone)]
pub(super) struct Log {
    /// Where it began before the snapshot.
    pub(super) unread_below: i64,
    /// Where it began after the snapshot.
    pub(super) low: i64,
    /// Where it ended before the snapshot.
    pub(super) ready: i64,
    /// Where it ended after the snapshot.
    pub(super) high: i64,
    /// What the consumer group had committed before the snapshot.
    pub(super) committed: Option<i64>,
    /// The first record from `unread_head` on.
    pub(super) head: Option<i64>,
    /// The first record from `unread_tail` on.
    pub(super) tail: Option<i64>,
}

/// A row of the ledger.
#[derive(Debug, Default, Clone, sqlx::FromRow)]
pub(super) struct Entry {
    pub(super) first_offset: i64,
    pub(super) next_offset: i64,
    pub(super) inserted: i64,
    pub(super) duplicate: i64,
    pub(super) dead_lettered: i64,
    /// Dead letters that landed after all.
    pub(super) replayed: i64,
    pub(super) skipped: i64,
    pub(super) expired: i64,
}

/// What `dlq_events` has of a partition.
#[derive(Debug, Default, Clone, sqlx::FromRow)]
pub(super) struct DeadLetters {
    pub(super) count: i64,
    /// Those whose offset the ledger does not account for, the first and the last of them.
    pub(super) outside: i64,
    pub(super) outside_from: Option<i64>,
    pub(super) outside_to: Option<i64>,
}

/// A row of `ledger_gaps`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Gap {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) first_offset: i64,
    pub(super) end_offset: i64,
    pub(super) accepted: bool,
}

impl PartitionFigures {
    /// Where the log begins, if the ledger does not begin there too.
    pub(super) fn unread_head(&self, log: &Log) -> Option<i64> {
        let first = self.ledger.as_ref().map_or(log.ready, |entry| entry.first_offset);
        (log.low < first.min(log.high)).then_some(log.low)
    }

    /// Where the ledger ends, if the log does not end there too.
    pub(super) fn unread_tail(&self, log: &Log) -> Option<i64> {
        let entry = self.ledger.as_ref()?;
        (entry.next_offset < log.ready).then_some(entry.next_offset.max(log.low))
    }
}

impl Entry {
    /// How many offsets it accounts for.
    pub(super) fn offsets(&self) -> i64 {
        self.next_offset.saturating_sub(self.first_offset)
    }

    /// How many offsets its counts make; none where one of them is below zero.
    pub(super) fn counted(&self) -> Option<i64> {
        [self.inserted, self.duplicate, self.dead_lettered, self.skipped, self.expired]
            .into_iter()
            .try_fold(0, |sum: i64, count| Some(sum.saturating_add(count)).filter(|_| count >= 0))
    }
}
