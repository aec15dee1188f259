//! Where a partition is read from: Kafka's committed offset, held against the ledger and against
//! what the topic still has.
//!
//! The ledger is written with the rows and so can't be ahead of them or behind. A committed offset
//! can: a database that was restored from a backup is behind it, and reading on from there would
//! lose what the backup does not have.

use std::{collections::BTreeMap, ops::Range};

use anyhow::anyhow;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use super::{frozen::unless_frozen, session};
use crate::{contract::Contract, failure::Failure, metrics, sql::for_work};

/// A partition that we were assigned, as Kafka sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// The first offset that the topic still has.
    pub low: i64,
    /// One behind the topic's last offset.
    pub high: i64,
}

/// What to do about offsets that Kafka deleted before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnGap {
    /// Record them in ledger_gaps, say so as an error, and go on behind them
    #[default]
    Skip,
    /// Stop the stream
    Stop,
}

/// Where one partition is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Beginning {
    at: i64,
    /// Offsets that nobody has read and that are gone.
    gap: Option<Range<i64>>,
}

/// Opens the account of partitions, and says from which offset each is to be read.
///
/// A gap is in the ledger once this returns; with [`OnGap::Stop`], or where the topic ends before
/// the ledger does, it is a failure that a person has to mend.
pub async fn begin(
    options: &PgConnectOptions,
    contract: &Contract,
    places: &[Place],
    on_gap: OnGap,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let options = for_work(options, &format!("sluicegate {} begin", contract.stream), "30s");
    let mut connection = PgConnection::connect_with(&options).await?;
    let pid = session(&mut connection).await?;
    let opening = open_accounts(&mut connection, contract, places, on_gap);
    unless_frozen(&options, &contract.stream, pid, opening).await
}

async fn open_accounts(
    connection: &mut PgConnection,
    contract: &Contract,
    places: &[Place],
    on_gap: OnGap,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut transaction = connection.begin().await?;
    let mut ledger = next_offsets(&mut transaction, contract, places, "").await?;
    let next = |ledger: &BTreeMap<i32, i64>, place: &Place| ledger.get(&place.partition).copied();
    let has_gap = |place| beginning(place, next(&ledger, place)).is_some_and(|it| it.gap.is_some());
    if places.iter().any(has_gap) {
        // the former owner of a partition may be writing just what seems to be missing
        ledger = next_offsets(&mut transaction, contract, places, "FOR UPDATE").await?;
    }
    let (mut begins, mut expired) = (BTreeMap::new(), 0);
    for place in places {
        let next = next(&ledger, place);
        let beginning =
            beginning(place, next).ok_or_else(|| topic_made_anew(contract, place, next))?;
        say(contract, place, next, &beginning);
        open_account(&mut transaction, contract, place.partition, beginning.at).await?;
        if let Some(gap) = beginning.gap {
            let lost = lost(contract, place.partition, &gap);
            if on_gap == OnGap::Stop {
                return Err(Failure::Contract(anyhow!(
                    "{lost}; start with --on-gap skip to record that and go on"
                )));
            }
            tracing::error!(stream = contract.stream, "{lost}; they are in ledger_gaps");
            expired += gap.end - gap.start;
            record_gap(&mut transaction, contract, place.partition, &gap).await?;
        }
        begins.insert(place.partition, beginning.at);
    }
    transaction.commit().await?;
    metrics::expired(&contract.stream, expired);
    Ok(begins)
}

/// Decides for one partition; none where the topic ends before the ledger's next offset.
fn beginning(place: &Place, ledger: Option<i64>) -> Option<Beginning> {
    let Place { committed, low, high, .. } = *place;
    if ledger.is_some_and(|next| next > high) {
        return None;
    }
    // behind the topic's end, it is of a topic of the past
    let committed = committed.filter(|committed| *committed <= high);
    let wanted = match (committed, ledger) {
        (Some(committed), Some(next)) => committed.min(next),
        (Some(committed), None) => committed,
        (None, _) => low,
    };
    let unread = ledger.or(committed).unwrap_or(low);
    Some(Beginning { at: wanted.max(low), gap: (unread < low).then_some(unread..low) })
}

async fn next_offsets(
    connection: &mut PgConnection,
    contract: &Contract,
    places: &[Place],
    lock: &'static str,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let sql = format!(
        "SELECT partition, next_offset FROM ledger WHERE stream = $1 AND topic = $2 \
         AND partition = ANY ($3) ORDER BY partition {lock}"
    );
    let rows = sqlx::query_as(&sql)
        .bind(&contract.stream)
        .bind(&contract.topic.name)
        .bind(places.iter().map(|place| place.partition).collect::<Vec<i32>>())
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().collect())
}

async fn open_account(
    connection: &mut PgConnection,
    contract: &Contract,
    partition: i32,
    first: i64,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO ledger (stream, topic, partition, first_offset, next_offset) \
         VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING",
    )
    .bind(&contract.stream)
    .bind(&contract.topic.name)
    .bind(partition)
    .bind(first)
    .execute(connection)
    .await?;
    Ok(())
}

/// An account that begins behind the gap, because there was none, is made to begin before it.
async fn record_gap(
    connection: &mut PgConnection,
    contract: &Contract,
    partition: i32,
    gap: &Range<i64>,
) -> Result<(), Failure> {
    for sql in [
        "INSERT INTO ledger_gaps (stream, topic, partition, first_offset, end_offset) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (stream, topic, partition, first_offset) \
         DO UPDATE SET end_offset = excluded.end_offset, accepted_at = NULL, found_at = now()",
        "UPDATE ledger SET first_offset = least(first_offset, $4), next_offset = $5, \
         expired = expired + $5 - $4, updated_at = now() \
         WHERE stream = $1 AND topic = $2 AND partition = $3",
    ] {
        sqlx::query(sql)
            .bind(&contract.stream)
            .bind(&contract.topic.name)
            .bind(partition)
            .bind(gap.start)
            .bind(gap.end)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn lost(contract: &Contract, partition: i32, gap: &Range<i64>) -> String {
    format!(
        "Kafka deleted offsets {} to {} of \"{}\" partition {partition} before they were read",
        gap.start,
        gap.end - 1,
        contract.topic.name
    )
}

fn say(contract: &Contract, place: &Place, ledger: Option<i64>, beginning: &Beginning) {
    let behind = |next| place.committed.is_some_and(|committed| next < committed);
    if let Some(next) = ledger.filter(|next| behind(*next)) {
        tracing::warn!(
            stream = contract.stream,
            topic = contract.topic.name,
            partition = place.partition,
            committed = place.committed,
            ledger = next,
            "the ledger is behind Kafka's committed offset, as after a restored backup; reading \
             again from offset {}",
            beginning.at
        );
    }
}

/// The old rows stay, and so does their account, under a name that Kafka does not have. Dead letters
/// go with it: those of the new topic have the same offsets.
fn topic_made_anew(contract: &Contract, place: &Place, next: Option<i64>) -> Failure {
    let (stream, topic) = (&contract.stream, &contract.topic.name);
    let (partition, high, next) = (place.partition, place.high, next.unwrap_or_default());
    let aside = ["ledger", "ledger_gaps", "dlq_events"].map(|table| {
        format!(
            "UPDATE {table} SET topic = '{topic}.until-{next}' WHERE stream = '{stream}' AND \
             topic = '{topic}';"
        )
    });
    Failure::Contract(anyhow!(
        "the ledger has seen all offsets up to {next} of \"{topic}\" partition {partition}, which \
         ends at {high}: the topic was made anew or cut short; give the stream another topic, or \
         make \"{}\" anew too if it has records, and put aside the account of what was read; run: {}",
        contract.dead_letter_topic.name,
        aside.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: i64) -> Option<Beginning> {
        Some(Beginning { at, gap: None })
    }

    fn behind_gap(gap: Range<i64>) -> Option<Beginning> {
        Some(Beginning { at: gap.end, gap: Some(gap) })
    }

    #[test]
    fn a_partition_begins_where_nothing_is_read_twice_needlessly_and_nothing_is_left_out() {
        for (committed, ledger, low, high, expected) in [
            (None, None, 0, 10, at(0)),
            (None, None, 5, 10, at(5)), // what was gone before we began is nobody's
            (None, Some(7), 0, 10, at(0)),
            (Some(4), None, 0, 10, at(4)),
            (Some(4), Some(4), 0, 10, at(4)),
            (Some(4), Some(7), 0, 10, at(4)), // a crash between the two commits
            (Some(7), Some(4), 0, 10, at(4)), // a restored database
            (Some(10), Some(10), 0, 10, at(10)),
            (Some(10), Some(10), 10, 10, at(10)), // all of it read, and then deleted
            (Some(4), Some(4), 6, 10, behind_gap(4..6)),
            (Some(4), Some(7), 6, 10, at(6)),
            (Some(8), Some(4), 6, 10, behind_gap(4..6)),
            (None, Some(4), 6, 10, behind_gap(4..6)),
            (Some(4), None, 6, 10, behind_gap(4..6)),
            (Some(40), None, 0, 10, at(0)), // committed for a topic of the same name
            (Some(4), Some(11), 0, 10, None),
            (None, Some(11), 0, 10, None),
        ] {
            let place = Place { partition: 0, committed, low, high };
            assert_eq!(beginning(&place, ledger), expected, "{place:?}, ledger {ledger:?}");
        }
    }
}
