//! Which buckets of the stream's aggregates a batch changes, noted in its transaction, so that
//! metrics are made anew of these alone, however late their events came.
//!
//! A bucket is noted also where its events had landed before; that costs work and changes nothing.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::{bucket::bucket, is_storable_instant};
use crate::{
    batch::Batch,
    contract::{Aggregate, Contract},
    failure::Failure,
    sql::{literal, quoted},
};

/// The writer that is no partition.
const ALONE: i32 = -1;

/// Notes the buckets of a batch's rows. Batches of different partitions do not wait for each other
/// here; the order keeps those of one from waiting in a circle.
pub(super) async fn note(
    connection: &mut PgConnection,
    contract: &Contract,
    batch: &Batch,
    writer: i32,
) -> Result<(), Failure> {
    let changed = changed(contract, batch);
    if changed.is_empty() {
        return Ok(());
    }
    let (tables, buckets): (Vec<&str>, Vec<i64>) = changed.into_iter().unzip();
    sqlx::query(
        "INSERT INTO aggregate_changes (aggregate, bucket, writer) \
         SELECT aggregate, to_timestamp(bucket), $3 \
         FROM unnest($1::text[], $2::bigint[]) AS changed (aggregate, bucket) \
         ON CONFLICT (aggregate, bucket, writer) DO UPDATE SET writer = excluded.writer",
    )
    .bind(tables)
    .bind(buckets)
    .bind(writer)
    .execute(connection)
    .await?;
    Ok(())
}

/// Each aggregate's table with the beginnings of the buckets.
fn changed<'c>(contract: &'c Contract, batch: &Batch) -> BTreeSet<(&'c str, i64)> {
    // many rows have few seconds
    let times = batch.rows.iter().flat_map(|row| std::iter::once(row).chain(&row.spares));
    let times = times.filter_map(|row| row.time);
    let seconds: BTreeSet<i64> = times.map(|time| time.div_euclid(1_000_000)).collect();
    let of = |aggregate: &'c Aggregate| {
        let width = i64::try_from(aggregate.every.duration().as_secs()).unwrap_or(i64::MAX);
        let buckets = seconds.iter().map(move |second| bucket(*second, width));
        // the table refuses the event of another
        let buckets =
            buckets.filter(|bucket| is_storable_instant(bucket.saturating_mul(1_000_000)));
        buckets.map(|bucket| (aggregate.table.as_str(), bucket))
    };
    contract.aggregates.iter().filter(|aggregate| aggregate.declared).flat_map(of).collect()
}

/// Notes all buckets of an aggregate of which nothing is known yet: neither metrics nor changes, as of one
/// that was there before there were any.
pub fn note_unless_known(aggregate: &Aggregate) -> String {
    let name = literal(&aggregate.table);
    let known = ["metrics", "aggregate_changes"]
        .map(|table| format!("EXISTS (SELECT FROM {table} WHERE aggregate = {name})"));
    let table = format!(
        "(SELECT * FROM {} WHERE NOT ({})) AS unknown",
        quoted(&aggregate.table),
        known.join(" OR ")
    );
    note_those_of(aggregate, &table)
}

/// Forgets metrics and changes of an aggregate that is made anew.
pub fn forget(aggregate: &Aggregate) -> String {
    let name = literal(&aggregate.table);
    ["metrics", "aggregate_changes"]
        .map(|table| format!("DELETE FROM {table} WHERE aggregate = {name};"))
        .join(" ")
}

/// Notes the buckets that are in another table, for who writes the stream alone.
pub(super) fn note_those_of(aggregate: &Aggregate, table: &str) -> String {
    let (name, bucket) = (literal(&aggregate.table), quoted(aggregate.bucket_column()));
    format!(
        "INSERT INTO aggregate_changes (aggregate, bucket, writer) \
         SELECT DISTINCT {name}, {bucket}, {ALONE} FROM {table} \
         ON CONFLICT (aggregate, bucket, writer) DO UPDATE SET writer = excluded.writer"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_where_postgres_begins_them() {
        assert_eq!(bucket(1_767_225_659, 60), 1_767_225_600);
        assert_eq!(bucket(1_767_225_600, 60), 1_767_225_600);
        assert_eq!(bucket(-1, 3_600), -3_600);
        // 2026-01-05 is a Monday
        assert_eq!(bucket(1_767_916_800, 7 * 86_400), 1_767_571_200);
    }
}
