//! What Postgres says, all of one moment.

use std::collections::{BTreeMap, HashMap};

use anyhow::anyhow;
use futures::TryStreamExt;
use sqlx::{FromRow, PgConnection, Postgres, Row as _, Transaction};

use super::{
    copies::{Letter, Letters, PRINT, Print},
    figures::{DeadLetters, Entry, Gap, PartitionFigures, Place},
};
use crate::{
    aggregates::{self, Buckets},
    contract::Contract,
    sql::{begin_snapshot, quoted, unreadable},
};

/// The topics whose offsets a stream accounts for: the contract's, and those from before it was
/// renamed.
pub(super) async fn topics(
    connection: &mut PgConnection,
    contract: &Contract,
) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT $2 UNION SELECT topic FROM ledger WHERE stream = $1";
    let topics = sqlx::query_scalar(sql).bind(&contract.stream).bind(&contract.topic.name);
    topics.fetch_all(connection).await.map_err(unreadable)
}

/// Notes that a person knows of a stream's gaps.
pub(super) async fn accept_gaps(
    connection: &mut PgConnection,
    stream: &str,
) -> anyhow::Result<u64> {
    let sql =
        "UPDATE ledger_gaps SET accepted_at = now() WHERE stream = $1 AND accepted_at IS NULL";
    let accepted = sqlx::query(sql).bind(stream).execute(connection).await;
    accepted.map(|accepted| accepted.rows_affected()).map_err(unreadable)
}

/// A transaction that reads, and sees what was there when it began to.
pub(super) struct Snapshot<'c> {
    transaction: Transaction<'c, Postgres>,
}

impl Snapshot<'_> {
    pub(super) async fn begin(connection: &mut PgConnection) -> anyhow::Result<Snapshot<'_>> {
        let transaction = begin_snapshot(connection).await.map_err(unreadable)?;
        Ok(Snapshot { transaction })
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.transaction.commit().await.map_err(unreadable)
    }

    /// What the ledger and `dlq_events` say of each partition.
    pub(super) async fn partitions(
        &mut self,
        contract: &Contract,
    ) -> anyhow::Result<BTreeMap<Place, PartitionFigures>> {
        let mut partitions: BTreeMap<Place, PartitionFigures> = BTreeMap::new();
        let ledger = "SELECT topic, partition, ledger.* FROM ledger WHERE stream = $1";
        for (place, entry) in self.by_place::<Entry>(contract, ledger).await? {
            partitions.entry(place).or_default().ledger = Some(entry);
        }
        let dead_letters = "\
            SELECT topic, partition, count(*) AS count, count(*) FILTER (WHERE outside) AS outside, \
            min(\"offset\") FILTER (WHERE outside) AS outside_from, \
            max(\"offset\") FILTER (WHERE outside) AS outside_to \
            FROM (SELECT topic, partition, \"offset\", ledger.stream IS NULL \
                OR \"offset\" < first_offset OR \"offset\" >= next_offset AS outside \
                FROM dlq_events LEFT JOIN ledger USING (stream, topic, partition) \
                WHERE dlq_events.stream = $1) AS letter \
            GROUP BY topic, partition";
        for (place, letters) in self.by_place::<DeadLetters>(contract, dead_letters).await? {
            partitions.entry(place).or_default().dead_letters = letters;
        }
        Ok(partitions)
    }

    /// The gaps that the consumer found.
    pub(super) async fn gaps(&mut self, contract: &Contract) -> anyhow::Result<Vec<Gap>> {
        let sql = "SELECT *, accepted_at IS NOT NULL AS accepted FROM ledger_gaps \
                   WHERE stream = $1 ORDER BY topic, partition, first_offset";
        let gaps = sqlx::query_as(sql).bind(&contract.stream).fetch_all(&mut *self.transaction);
        gaps.await.map_err(unreadable)
    }

    /// How many rows have landed.
    pub(super) async fn rows(&mut self, contract: &Contract) -> anyhow::Result<i64> {
        let sql = format!("SELECT count(*) FROM {}", quoted(&contract.table));
        let count = sqlx::query_scalar(&sql).fetch_one(&mut *self.transaction);
        count.await.map_err(unreadable)
    }

    /// Each aggregate, held against the table.
    pub(super) async fn buckets(&mut self, contract: &Contract) -> anyhow::Result<Vec<Buckets>> {
        aggregates::compare(&mut self.transaction, contract).await.map_err(unreadable)
    }

    /// What tells one dead letter's copy from another's.
    pub(super) async fn letters(&mut self, contract: &Contract) -> anyhow::Result<Letters> {
        let sql = format!(
            "SELECT topic, partition, \"offset\", CASE WHEN purged_at IS NULL THEN {PRINT} END, NOT EXISTS (SELECT FROM dlq_outbox AS waiting \
             WHERE waiting.stream = letter.stream AND waiting.id = letter.id) \
             FROM dlq_events AS letter WHERE stream = $1 ORDER BY topic, partition"
        );
        let query = sqlx::query(&sql).bind(&contract.stream);
        let mut rows = query.fetch(&mut *self.transaction);
        let mut letters: Letters = BTreeMap::new();
        let mut current: Option<(Place, HashMap<i64, Letter>)> = None;
        while let Some(row) = rows.try_next().await.map_err(unreadable)? {
            let place: Place = (get(&row, 0)?, get(&row, 1)?);
            let print = get::<Option<Vec<u8>>>(&row, 3)?.map(Print::try_from).transpose();
            let print = print.map_err(|_| anyhow!("Postgres gave a digest of another length"))?;
            let letter = Letter::new(print, get(&row, 4)?);
            match &mut current {
                Some((at, of_partition)) if *at == place => {
                    of_partition.insert(get(&row, 2)?, letter);
                }
                _ => {
                    letters.extend(current.take());
                    current = Some((place, HashMap::from([(get(&row, 2)?, letter)])));
                }
            }
        }
        letters.extend(current);
        Ok(letters)
    }

    /// Rows that begin with topic and partition.
    async fn by_place<T: for<'r> FromRow<'r, sqlx::postgres::PgRow>>(
        &mut self,
        contract: &Contract,
        sql: &'static str,
    ) -> anyhow::Result<Vec<(Place, T)>> {
        let rows = sqlx::query(sql).bind(&contract.stream).fetch_all(&mut *self.transaction).await;
        let place = |row: &sqlx::postgres::PgRow| {
            Ok(((row.try_get(0)?, row.try_get(1)?), T::from_row(row)?))
        };
        rows.and_then(|rows| rows.iter().map(place).collect()).map_err(unreadable)
    }
}

fn get<'r, T>(row: &'r sqlx::postgres::PgRow, column: usize) -> anyhow::Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(unreadable)
}
