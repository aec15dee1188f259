//! The account of every offset, kept in the transaction that the offsets' events are in.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use time::OffsetDateTime;

use super::storable_instant;
use crate::{
    batch::{Batch, Record},
    contract::Contract,
    failure::Failure,
};

/// How far clocks may differ that go right.
const AHEAD: Duration = Duration::from_secs(60);

/// What one batch adds to the ledger, by partition.
#[derive(Debug)]
pub(super) struct Account {
    partitions: BTreeMap<i32, Entry>,
}

/// One partition's part of a batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The offset that the ledger has not seen yet; those below it are redelivered.
    next: i64,
    /// One behind the last offset of the batch.
    end: i64,
    /// Records of the batch that are not redelivered.
    records: i64,
    inserted: i64,
    dead_lettered: i64,
    /// The newest event of the batch, by its own time.
    event_time: Option<OffsetDateTime>,
}

/// Whether anything valid of a stream has ever passed.
pub async fn has_landed(options: &PgConnectOptions, contract: &Contract) -> Result<bool, Failure> {
    let mut connection = PgConnection::connect_with(options).await?;
    let sql = "SELECT coalesce(sum(inserted + duplicate + replayed), 0) > 0 FROM ledger WHERE stream = $1";
    Ok(sqlx::query_scalar(sql).bind(&contract.stream).fetch_one(&mut connection).await?)
}

/// How a batch's records ended, redelivered ones left out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows that are new in the table.
    pub inserted: i64,
    /// Events that had landed, or had become a dead letter, before.
    pub duplicate: i64,
    /// Records that became dead letters.
    pub dead_lettered: i64,
    /// Offsets without a record.
    pub skipped: i64,
}

impl Account {
    /// Locks the ledger's rows of the batch's partitions, in order, and reads how far they are;
    /// none where one of them is behind `begins`, the offset from which the partition was read for
    /// this batch: what lies between is in no table.
    ///
    /// Two members that both believe they own a partition take turns here.
    pub(super) async fn open(
        connection: &mut PgConnection,
        contract: &Contract,
        records: &[Record],
        begins: &BTreeMap<i32, i64>,
    ) -> Result<Option<Account>, Failure> {
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT partition, next_offset FROM ledger WHERE stream = $1 AND topic = $2 \
             AND partition = ANY ($3) ORDER BY partition FOR UPDATE",
        )
        .bind(&contract.stream)
        .bind(&contract.topic.name)
        .bind(begins.keys().copied().collect::<Vec<i32>>())
        .fetch_all(connection)
        .await?;
        let entry = |next| Entry { next, end: next, ..Entry::default() };
        let mut account = Account {
            partitions: rows
                .into_iter()
                .map(|(partition, next)| (partition, entry(next)))
                .collect(),
        };
        let is_known = |(partition, begin): (&i32, &i64)| {
            account.partitions.get(partition).is_some_and(|entry| entry.next >= *begin)
        };
        if !begins.iter().all(is_known) {
            return Ok(None);
        }
        for record in records {
            if let Some(entry) = account.partitions.get_mut(&record.partition)
                && record.offset >= entry.next
            {
                entry.records += 1;
                entry.end = entry.end.max(record.offset.saturating_add(1));
            }
        }
        Ok(Some(account))
    }

    /// Locks the ledger's rows of dead letters' partitions, in order, as [`open`](Self::open) does: then
    /// neither waits for the other in a circle. Every offset counts.
    pub(super) async fn of_dead_letters(
        connection: &mut PgConnection,
        contract: &Contract,
        topic: &str,
        records: &[Record],
    ) -> Result<Account, Failure> {
        let partitions: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
        let locked: Vec<i32> = sqlx::query_scalar(
            "SELECT partition FROM ledger WHERE stream = $1 AND topic = $2 \
             AND partition = ANY ($3) ORDER BY partition FOR UPDATE",
        )
        .bind(&contract.stream)
        .bind(topic)
        .bind(partitions.into_iter().collect::<Vec<i32>>())
        .fetch_all(connection)
        .await?;
        let partitions = locked.into_iter().map(|partition| (partition, Entry::default()));
        Ok(Account { partitions: partitions.collect() })
    }

    /// Writes down what was replayed; gives how many rows were new.
    pub(super) async fn replayed(
        self,
        connection: &mut PgConnection,
        contract: &Contract,
        topic: &str,
    ) -> Result<i64, Failure> {
        let entries = || self.partitions.values();
        sqlx::query(
            "UPDATE ledger SET replayed = ledger.replayed + batch.inserted, \
             event_time = greatest(ledger.event_time, batch.event_time) \
             FROM unnest($3::int[], $4::bigint[], $5::timestamptz[]) \
             AS batch (partition, inserted, event_time) \
             WHERE ledger.stream = $1 AND ledger.topic = $2 AND ledger.partition = batch.partition",
        )
        .bind(&contract.stream)
        .bind(topic)
        .bind(self.partitions.keys().copied().collect::<Vec<i32>>())
        .bind(entries().map(|entry| entry.inserted).collect::<Vec<i64>>())
        .bind(entries().map(|entry| entry.event_time).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(entries().map(|entry| entry.inserted).sum())
    }

    /// The partition that counts an offset; none for one that was redelivered.
    pub(super) fn slot(&self, partition: i32, offset: i64) -> Option<i32> {
        let entry = self.partitions.get(&partition)?;
        (offset >= entry.next).then_some(partition)
    }

    /// Adds a dead letter, unless it was redelivered.
    pub(super) fn dead_lettered(&mut self, partition: i32, offset: i64) {
        let slot = self.slot(partition, offset);
        if let Some(entry) = slot.and_then(|partition| self.partitions.get_mut(&partition)) {
            entry.dead_lettered += 1;
        }
    }

    /// Adds rows that were really new.
    pub(super) fn inserted(&mut self, partition: i32, rows: i64) {
        if let Some(entry) = self.partitions.get_mut(&partition) {
            entry.inserted += rows;
        }
    }

    /// Notes how far the events of a batch have come by their own time. One whose clock runs ahead says
    /// nothing about others; where all of a partition's do, they are of now.
    pub(super) fn note_event_times(&mut self, batch: &Batch) {
        let now = OffsetDateTime::now_utc();
        let mut ahead = BTreeSet::new();
        for row in &batch.rows {
            let Some(record) = batch.records.get(row.record) else { continue };
            // what was redelivered has been noted
            if self.slot(record.partition, record.offset).is_none() {
                continue;
            }
            let Some(time) = row.time.and_then(storable_instant) else { continue };
            if time > now + AHEAD {
                ahead.insert(record.partition);
            } else if let Some(entry) = self.partitions.get_mut(&record.partition) {
                entry.event_time = entry.event_time.max(Some(time));
            }
        }
        for partition in ahead {
            if let Some(entry) = self.partitions.get_mut(&partition) {
                entry.event_time.get_or_insert(now);
            }
        }
    }

    /// Writes the account into the ledger.
    pub(super) async fn close(
        self,
        connection: &mut PgConnection,
        contract: &Contract,
    ) -> Result<Written, Failure> {
        let entries = || self.partitions.values();
        let of = |count: fn(&Entry) -> i64| entries().map(count).collect::<Vec<i64>>();
        sqlx::query(
            "UPDATE ledger SET next_offset = batch.ending, \
             inserted = ledger.inserted + batch.inserted, \
             duplicate = ledger.duplicate + batch.duplicate, \
             dead_lettered = ledger.dead_lettered + batch.dead_lettered, \
             skipped = ledger.skipped + batch.skipped, \
             event_time = greatest(ledger.event_time, batch.event_time), \
             event_seen_at = CASE WHEN batch.event_time IS NULL THEN event_seen_at ELSE now() END, \
             updated_at = now() \
             FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
             $8::bigint[], $9::timestamptz[]) \
             AS batch (partition, ending, inserted, duplicate, dead_lettered, skipped, event_time) \
             WHERE ledger.stream = $1 AND ledger.topic = $2 AND ledger.partition = batch.partition",
        )
        .bind(&contract.stream)
        .bind(&contract.topic.name)
        .bind(self.partitions.keys().copied().collect::<Vec<i32>>())
        .bind(of(|entry| entry.end))
        .bind(of(|entry| entry.inserted))
        .bind(of(Entry::duplicate))
        .bind(of(|entry| entry.dead_lettered))
        .bind(of(Entry::skipped))
        .bind(entries().map(|entry| entry.event_time).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        let sum = |count: fn(&Entry) -> i64| entries().map(count).sum();
        Ok(Written {
            inserted: sum(|entry| entry.inserted),
            duplicate: sum(Entry::duplicate),
            dead_lettered: sum(|entry| entry.dead_lettered),
            skipped: sum(Entry::skipped),
        })
    }
}

impl Entry {
    fn duplicate(&self) -> i64 {
        self.records - self.inserted - self.dead_lettered
    }

    fn skipped(&self) -> i64 {
        self.end - self.next - self.records
    }
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, more: Written) {
        self.inserted += more.inserted;
        self.duplicate += more.duplicate;
        self.dead_lettered += more.dead_lettered;
        self.skipped += more.skipped;
    }
}
